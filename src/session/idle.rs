//! When a byte of a session last moved, and how bytes inside the kernel are seen to move.
//!
//! A byte has moved when the peer's kernel has acknowledged it, which can be long after it was
//! written: a slow reader leaves megabytes in a send queue. So a session that falls silent after a
//! write looks at its send queues. Each look that finds them shorter is a movement, seen at most one
//! pause late. The pause grows with the time since the write: [`LOOK_PAUSE`] at first, later almost
//! the twentieth part of that time. A session therefore looks at most 36 times a second, fewer than
//! 250 times in half an hour of silence, and never again once its queues are empty. A few bytes,
//! which any receive window has room for, moved when they were written: TCP acknowledges them late.
//!
//! The clock is never early. It is late by one pause and two ticks of the wheel at most:
//! `max(50 ms, 1/20 of the time that the bytes took)`, which the constants prove.

use std::time::{Duration, Instant};

use crate::limits::{
    DELAYED_ACK_MAX, LATE_MAX, LOOK_AFTER, LOOK_MARGIN, LOOK_PAUSE, LOOK_SHARE, TICK, WATCH_BYTES,
};

/// Measures how long a session has been idle.
#[derive(Clone, Copy, Debug)]
pub struct IdleClock {
    /// When a byte was last seen to move. It may be too late, never too early.
    last_moved: Instant,
    queues: Queues,
}

/// The two send queues of a session, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queues {
    /// `written` bytes went in since they were last seen empty; 0: they are empty, or unknown.
    Unseen { written: u32 },
    /// They held bytes at the last look.
    Watched {
        /// How many.
        queued: u32,
        /// So little was written that it went out at once.
        little: bool,
        /// When the relay last wrote to one of them.
        written_at: Instant,
        /// When to look again.
        look_at: Instant,
    },
}

impl IdleClock {
    /// Starts the clock.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { last_moved: now, queues: Queues::Unseen { written: 0 } }
    }

    /// Notes that bytes have moved, of which `written` bytes went into a send queue.
    pub fn note_movement(&mut self, written: u64, now: Instant) {
        debug_assert!(now >= self.last_moved);
        let before = match self.queues {
            Queues::Unseen { written } => written,
            Queues::Watched { queued, .. } => queued.max(WATCH_BYTES),
        };
        let written = before.saturating_add(u32::try_from(written).unwrap_or(u32::MAX));
        self.last_moved = now;
        self.queues = Queues::Unseen { written };
    }

    /// Notes that a FIN was queued behind the bytes: it makes a send queue one longer, and is no byte
    /// that moved.
    pub fn note_fin(&mut self) {
        match &mut self.queues {
            Queues::Unseen { written: 0 } => {}
            Queues::Unseen { written: count } | Queues::Watched { queued: count, .. } => {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Returns when the owner must call [`look`](Self::look) or find the session idle.
    #[must_use]
    pub fn deadline(&self, timeout: Duration) -> Instant {
        let idle = self.last_moved + timeout;
        match self.queues {
            Queues::Unseen { written: 0 } => idle,
            Queues::Unseen { .. } => idle.min(self.last_moved + LOOK_AFTER),
            Queues::Watched { look_at, .. } => idle.min(look_at),
        }
    }

    /// Returns whether a look can tell more than is known.
    #[must_use]
    pub fn wants_look(&self) -> bool {
        self.queues != Queues::Unseen { written: 0 }
    }

    /// Notes the bytes that the send queues hold. `None`: the kernel does not say, so the last byte
    /// that was seen to move counts.
    pub fn look(&mut self, queued: Option<u32>, now: Instant) {
        debug_assert!(now >= self.last_moved);
        let (written_at, little) = match self.queues {
            Queues::Unseen { written } => (self.last_moved, written < WATCH_BYTES),
            Queues::Watched { written_at, little, .. } => (written_at, little),
        };
        let is_late_acknowledgement = little && now < written_at + DELAYED_ACK_MAX;
        let watched = |queued| {
            let share = now.saturating_duration_since(written_at) / LOOK_SHARE;
            let pause = share.saturating_sub(LOOK_MARGIN).max(LOOK_PAUSE);
            Queues::Watched { queued, little, written_at, look_at: now + pause }
        };
        (self.last_moved, self.queues) = match (queued, self.queues) {
            (None, _) => (self.last_moved, Queues::Unseen { written: 0 }),
            (Some(0), _) if is_late_acknowledgement => (self.last_moved, Queues::Unseen { written: 0 }),
            (Some(0), _) => (now, Queues::Unseen { written: 0 }),
            // All that was written is still there, or all that was there.
            (Some(queued), Queues::Unseen { written }) if queued >= written => {
                (self.last_moved, watched(queued))
            }
            (Some(queued), Queues::Watched { queued: before, .. }) if queued == before => {
                (self.last_moved, watched(queued))
            }
            (Some(queued), _) => (now, watched(queued)),
        };
    }

    /// Returns whether bytes stood still in the send queues at the last look.
    #[must_use]
    pub fn saw_bytes_queued(&self) -> bool {
        matches!(self.queues, Queues::Watched { .. })
    }

    /// Returns whether no byte has moved for `timeout`.
    #[must_use]
    pub fn is_idle(&self, timeout: Duration, now: Instant) -> bool {
        now >= self.last_moved + timeout
    }

    /// Returns the time since a byte was last seen to move.
    #[must_use]
    pub fn idle_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_moved)
    }
}

// A movement is seen a pause and a tick after it, and the timer that follows fires a tick late, with
// one millisecond of epoll each.
const _: () = assert!(LOOK_PAUSE.as_millis() + 2 * (TICK.as_millis() + 1) <= LATE_MAX.as_millis());
const _: () = assert!(LOOK_AFTER.as_millis() <= LOOK_PAUSE.as_millis());
const _: () = assert!(LOOK_MARGIN.as_millis() == 2 * (TICK.as_millis() + 1));

//! The time when a byte of a session last moved, here or inside the kernel.
//!
//! A byte has moved when the peer's kernel has acknowledged it, which can be long after it was
//! written: a slow reader leaves megabytes in a send queue. So a session that falls silent after a
//! write looks at its send queues. A look that finds them shorter has seen a movement, at most one
//! pause late. The pause grows with the time since the write: [`LOOK_PAUSE`] at first, later almost
//! a twentieth of that time. A session therefore looks at most 36 times a second, fewer than 250
//! times in half an hour of silence, and never again once its queues are empty. A few bytes, which
//! fit any receive window, count as moved when they were written, because their ACK may be delayed.
//!
//! The clock is never early, and late by at most one pause and two ticks of the wheel. That is
//! `max(50 ms, 1/20 of the time that the bytes took)`, as the assertions at the end show.

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
    /// No look has shown their length since the last write. They hold at most `written` bytes; 0: they are
    /// empty, or unknown.
    Unseen { written: u32 },
    /// They held bytes at the last look.
    Watched {
        /// Their number.
        queued: u32,
        /// Fewer than [`WATCH_BYTES`] were written, so they were sent at once.
        little: bool,
        /// When the relay last wrote to one of them.
        written_at: Instant,
        /// When to look again.
        look_at: Instant,
    },
}

impl IdleClock {
    /// Returns a clock that starts now.
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

    /// Notes that a FIN was queued. It counts as one byte in a send queue, but is no byte that moved.
    pub fn note_fin(&mut self) {
        match &mut self.queues {
            Queues::Unseen { written: 0 } => {}
            Queues::Unseen { written: count } | Queues::Watched { queued: count, .. } => {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Returns when the owner must call [`look`](Self::look), or end the session as idle.
    #[must_use]
    #[inline]
    pub fn deadline(&self, timeout: Duration) -> Instant {
        let idle = self.last_moved + timeout;
        match self.queues {
            Queues::Unseen { written: 0 } => idle,
            Queues::Unseen { .. } => idle.min(self.last_moved + LOOK_AFTER),
            Queues::Watched { look_at, .. } => idle.min(look_at),
        }
    }

    /// Returns whether a look at the send queues can show a movement.
    #[must_use]
    pub fn wants_look(&self) -> bool {
        self.queues != Queues::Unseen { written: 0 }
    }

    /// Notes the number of bytes in the send queues. `None`: the kernel does not say, so only movements
    /// seen by the relay count.
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
            // No byte has left the queues since the write, or since the last look.
            (Some(queued), Queues::Unseen { written }) if queued >= written => {
                (self.last_moved, watched(queued))
            }
            (Some(queued), Queues::Watched { queued: before, .. }) if queued == before => {
                (self.last_moved, watched(queued))
            }
            (Some(queued), _) => (now, watched(queued)),
        };
    }

    /// Returns whether the send queues held bytes at the last look, and no byte has moved since.
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

// A movement is seen at most a pause and a tick late, and the timer that follows fires at most a tick
// late. epoll may add a millisecond to each.
const _: () = assert!(LOOK_PAUSE.as_millis() + 2 * (TICK.as_millis() + 1) <= LATE_MAX.as_millis());
const _: () = assert!(LOOK_AFTER.as_millis() <= LOOK_PAUSE.as_millis());
const _: () = assert!(LOOK_MARGIN.as_millis() == 2 * (TICK.as_millis() + 1));

//! The abort of a session: one side's connection is dead, and the living side gets the last bytes from it.

use std::mem;
use std::time::Instant;

use crate::limits::{ABORT_GRACE, ABORT_LOOK};
use crate::session::channel::{Ends, Step};
use crate::session::connecting::Connecting;
use crate::session::ended::Cause;
use crate::session::stream::{Readiness, Stream};
use crate::session::turn::{Timeouts, Turn, Verdict, share};
use crate::session::{Channels, Direction, Phase, Session, Side};

/// The delivery of the bytes that a dead side had sent. The session ends when the living side's
/// kernel has acknowledged all of them, or when the grace passes without an acknowledgement.
#[derive(Debug)]
pub(super) struct Abort {
    pub(super) dead: Side,
    pub(super) channels: Channels,
    /// When a byte was last written to the living side, or last seen acknowledged.
    moved_at: Instant,
    /// The length of the living side's send queue at the last look; `None`: unknown.
    queued: Option<u32>,
    pub(super) look_at: Instant,
}

impl<S: Stream> Session<S> {
    /// Begins to abort, because the connection of `dead` has failed, and delivers its last bytes.
    #[cold]
    pub(super) fn abort(&mut self, dead: Side, cause: Cause, errno: i32, turn: &mut Turn<'_>) -> Verdict {
        self.blame(cause, Some(errno));
        if let Some(Direction { channel, from, .. }) = self.direction(dead) {
            channel.cut();
            // Bytes may be left to read, whether the kernel reported them or not.
            from.note(Readiness { readable: true, marked: true, ..Readiness::default() });
        }
        // The living side's bytes have nowhere to go.
        if let Some(Direction { channel, .. }) = self.direction(!dead) {
            channel.discard(turn.pipes);
        }
        self.phase = match mem::replace(&mut self.phase, Phase::Connecting(Connecting::new(turn.now))) {
            Phase::Relaying(channels) => {
                Phase::Aborting(Abort { dead, channels, moved_at: turn.now, queued: None, look_at: turn.now })
            }
            other => other,
        };
        self.deliver_remains(turn)
    }

    /// Delivers the bytes that the dead side had sent. The session waits until the living side's kernel
    /// has acknowledged them, because the reset that follows drops the rest.
    #[cold]
    pub(super) fn deliver_remains(&mut self, turn: &mut Turn<'_>) -> Verdict {
        let Phase::Aborting(Abort { dead, .. }) = self.phase else { return Verdict::End };
        let share = share(turn.beside_interactive);
        let Some(Direction { channel, from, to, .. }) = self.direction(dead) else { return Verdict::End };
        let (moved, delivered) = (channel.movement(), channel.delivered());
        let step = channel.pump(Ends { from, to, pipes: turn.pipes, share, last: false });
        let written = channel.delivered() - delivered;
        turn.moved += channel.movement() - moved;
        turn.delivered[(!dead).index()] += written;
        let queued = to.stream().unacknowledged();
        // If the living side has died as well, no more bytes arrive there.
        let arrives = queued != Some(0) && to.pending_error().is_none();
        match step {
            Step::ReadFailed(_) | Step::WriteFailed(_) => return Verdict::End,
            Step::Closed if !arrives => return Verdict::End,
            Step::Closed | Step::Again | Step::Waiting => {}
        }
        let Phase::Aborting(abort) = &mut self.phase else { return Verdict::End };
        let acknowledged = matches!((abort.queued, queued), (Some(before), Some(left)) if left < before);
        if written > 0 || acknowledged {
            abort.moved_at = turn.now;
        }
        abort.queued = queued;
        abort.look_at = turn.now + ABORT_LOOK;
        match step {
            _ if turn.now >= abort.gives_up_at(turn.timeouts) => Verdict::End,
            Step::Again => Verdict::Again,
            _ => Verdict::Wait,
        }
    }
}

impl Abort {
    /// Returns the end of the grace.
    pub(super) fn gives_up_at(&self, timeouts: Timeouts) -> Instant {
        self.moved_at + ABORT_GRACE.min(timeouts.idle)
    }
}

//! One session: a requester, a target, the two channels between them, and how it ends.
//!
//! A session connects, relays, and, where one of its sockets failed, spends a short while ending:
//! what the dead side had sent is delivered before the living side is told by a reset. Everything
//! here works on any [`Stream`] and on a given `now`; sockets, timers and the log are the relay's.

pub mod buffer;
pub mod channel;
pub mod ended;
pub mod pipes;
pub mod socket;
pub mod stream;

use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits::{
    ABORT_CHECK, ABORT_GRACE, BYTES_BESIDE_MESSAGES, BYTES_PER_TURN, KERNEL_QUEUE_SETTLE, KERNEL_QUEUE_WATCH,
};
use crate::session::buffer::Buffer;
use crate::session::channel::{Channel, Step};
use crate::session::ended::{Cause, Ended, Identity, Live, Serial, Summary};
use crate::session::pipes::Pipes;
use crate::session::socket::Socket;
use crate::session::stream::{Connect, Readiness, Stream};
use crate::sys::outq::KernelQueue;

/// The two ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected to the relay.
    Requester,
    /// Whom the relay connected to.
    Target,
}

impl std::ops::Not for Side {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Requester => Self::Target,
            Self::Target => Self::Requester,
        }
    }
}

/// The timeouts of every session.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connect to the target.
    pub connect: Duration,
    /// For a session in which no byte moves.
    pub idle: Duration,
}

/// What all sessions share while they work.
#[derive(Debug)]
pub struct Shared {
    /// The pipes of bulk streams.
    pub pipes: Pipes,
    /// How bytes inside the kernel are seen to move.
    pub queue: KernelQueue,
    /// Where every session's bytes go.
    pub target: SocketAddr,
    /// The same for every session.
    pub timeouts: Timeouts,
    /// Messages have passed of late, and streams are not to keep the next ones waiting.
    pub beside_messages: bool,
    /// Bytes that have gone into and out of all channels.
    pub moved: u64,
}

impl Shared {
    /// Bytes that one channel may take in this turn, and all streams together.
    #[must_use]
    pub fn share(&self) -> usize {
        if self.beside_messages { BYTES_BESIDE_MESSAGES } else { BYTES_PER_TURN }
    }
}

/// What a session wants after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be called when one of its sockets or its deadline is ready.
    Wait,
    /// To be called again in the next turn, events or not.
    Again,
    /// To be made ready for relaying: the target has answered.
    Connected,
    /// To be ended, with [`Session::end`].
    End,
}

/// A session over two streams.
#[derive(Debug)]
pub struct Session<S> {
    serial: Serial,
    address: SocketAddr,
    requester: Socket<S>,
    target: Socket<S>,
    phase: Phase,
    started: Instant,
    /// When a byte was last seen to move; in the phase `Ending`, when that began.
    last_moved: Instant,
    /// Whether and how the kernel's queues are being watched.
    watch: Watch,
    /// What ended the session, or will; the first cause stays.
    cause: Option<Cause>,
    /// The error number behind the cause; 0: none.
    errno: i32,
}

#[derive(Debug)]
enum Phase {
    /// The target has not answered yet. What the requester sends waits in its socket.
    Connecting,
    /// Bytes move.
    Relaying(Channels),
    /// This side's connection is dead. What it sent is being delivered to the other side, which has
    /// [`ABORT_GRACE`] to take it.
    Ending(Side, Channels),
}

#[derive(Debug)]
struct Channels {
    /// Requester to target.
    to_target: Channel,
    /// Target to requester.
    to_requester: Channel,
}

/// A channel with the sockets that it joins.
struct Direction<'a, S> {
    channel: &'a mut Channel,
    from: &'a mut Socket<S>,
    to: &'a mut Socket<S>,
    /// The opposite channel has ended.
    last: bool,
}

/// Bytes that were written may still wait inside the kernel for a slow reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// So many bytes were written since the queues were last seen empty: nothing to watch yet.
    Off { written: u32 },
    /// Much was written; the queues are looked at once the session falls silent.
    Due,
    /// The queues held so many bytes when they were last looked at, which was for so many times
    /// since a byte moved.
    On { queued: u32, looks: u32 },
}

impl<S: Stream> Session<S> {
    /// A session whose connect has begun.
    #[must_use]
    pub fn new(serial: Serial, address: SocketAddr, requester: S, target: S, now: Instant) -> Self {
        Self {
            serial,
            address,
            requester: Socket::accepted(requester),
            target: Socket::connecting(target),
            phase: Phase::Connecting,
            started: now,
            last_moved: now,
            watch: Watch::Off { written: 0 },
            cause: None,
            errno: 0,
        }
    }

    /// Who the session is, given where its bytes go.
    #[must_use]
    pub fn identity(&self, target: SocketAddr) -> Identity {
        Identity { serial: self.serial, requester: self.address, target }
    }

    /// The address that the requester connected from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket of one side.
    pub fn socket(&mut self, side: Side) -> &mut Socket<S> {
        match side {
            Side::Requester => &mut self.requester,
            Side::Target => &mut self.target,
        }
    }

    /// Whether either channel carries a stream, and no messages.
    #[must_use]
    pub fn streams(&self) -> bool {
        match &self.phase {
            Phase::Connecting => false,
            Phase::Relaying(channels) | Phase::Ending(_, channels) => {
                channels.to_target.streams() || channels.to_requester.streams()
            }
        }
    }

    /// Notes what the kernel reported of one side.
    pub fn note(&mut self, side: Side, readiness: Readiness) {
        self.socket(side).note(readiness);
    }

    /// Starts relaying. The first bytes that the target gets are `preface`.
    ///
    /// # Errors
    /// The cause, if the memory for a buffer of `buf` bytes cannot be had.
    pub fn start_relaying(&mut self, buf: usize, preface: &[u8], now: Instant) -> Result<(), Cause> {
        debug_assert!(matches!(self.phase, Phase::Connecting));
        let buffer = |side, preface| Buffer::new(buf, preface).map_err(|_| Cause::NoBuffer(side));
        let to_target = Channel::new(buffer(Side::Requester, preface)?);
        let to_requester = Channel::new(buffer(Side::Target, &[])?);
        self.phase = Phase::Relaying(Channels { to_target, to_requester });
        self.last_moved = now;
        Ok(())
    }

    /// Names the cause of the session's end, unless one is known already.
    pub fn blame(&mut self, cause: Cause, errno: Option<i32>) {
        if self.cause.is_none() {
            (self.cause, self.errno) = (Some(cause), errno.unwrap_or(0));
        }
    }

    /// Does what the noted readiness allows.
    pub fn work(&mut self, now: Instant, shared: &mut Shared) -> Verdict {
        match &self.phase {
            Phase::Connecting => self.connect(),
            Phase::Relaying(_) => self.relay(now, shared),
            Phase::Ending(dead, ..) => self.deliver_last_words(*dead, now, shared),
        }
    }

    /// When [`expire`](Self::expire) is to be called.
    #[must_use]
    pub fn deadline(&self, timeouts: Timeouts) -> Instant {
        let (limit, pause) = match &self.phase {
            Phase::Connecting => return self.started + timeouts.connect,
            Phase::Relaying(_) => (timeouts.idle, look_pause(timeouts)),
            Phase::Ending(..) => (ABORT_GRACE, ABORT_CHECK),
        };
        let look = match self.watch {
            Watch::Off { .. } => limit,
            Watch::Due => KERNEL_QUEUE_SETTLE,
            Watch::On { looks, .. } => pause * looks,
        };
        self.last_moved + look.min(limit)
    }

    /// Looks at the deadline, which may have moved since the timer was armed.
    pub fn expire(&mut self, now: Instant, shared: &mut Shared) -> Verdict {
        if now < self.deadline(shared.timeouts) {
            return Verdict::Wait;
        }
        match &self.phase {
            Phase::Connecting => self.time_out(Cause::ConnectTimeout),
            Phase::Relaying(_) => {
                self.watch_kernel_queues(now, shared);
                if now < self.last_moved + shared.timeouts.idle {
                    return Verdict::Wait;
                }
                self.time_out(Cause::IdleTimeout);
            }
            Phase::Ending(dead, _) if now < self.last_moved + ABORT_GRACE => {
                return self.deliver_last_words(*dead, now, shared);
            }
            Phase::Ending(..) => {}
        }
        Verdict::End
    }

    /// Even if one side had ended before, the timeout is the cause: the session would have gone on.
    fn time_out(&mut self, cause: Cause) {
        (self.cause, self.errno) = (Some(cause), 0);
    }

    /// Closes both connections and says how the session ended. The one way in which sessions end.
    #[must_use]
    pub fn end(mut self, now: Instant, shared: &mut Shared) -> Ended {
        let summary = self.summary(now);
        for side in [Side::Requester, Side::Target] {
            if self.was_cut(side, &mut shared.queue) {
                self.socket(side).stream_mut().reset_on_close();
            }
        }
        for side in [Side::Requester, Side::Target] {
            if let Some(Direction { channel, .. }) = self.direction(side) {
                channel.discard(&mut shared.pipes);
            }
        }
        // Only a relay that stops ends a session without a cause, and it does not log that.
        let cause = self.cause.unwrap_or(Cause::IdleTimeout);
        Ended { identity: self.identity(shared.target), cause, summary }
    }

    /// Whether the stream to this side lacks its end, so that a clean close would be a lie: one of
    /// the sides failed, or bytes for this side are known to be left behind.
    fn was_cut(&mut self, side: Side, queue: &mut KernelQueue) -> bool {
        match self.phase {
            Phase::Connecting => return side == Side::Requester,
            Phase::Ending(..) => return true,
            Phase::Relaying(_) => {}
        }
        let stalled = matches!(self.watch, Watch::On { .. });
        let Some(Direction { channel, from, to, .. }) = self.direction(!side) else { return false };
        let left_in_kernel = |queue| to.stream().unacknowledged(queue).is_some_and(|queued| queued > 0);
        !channel.has_ended()
            && (channel.holds_bytes() || from.is_readable() || stalled && left_in_kernel(queue))
    }

    /// A line of the status.
    #[must_use]
    pub fn live(&self, now: Instant, target: SocketAddr) -> Live {
        let phase = match self.phase {
            Phase::Connecting => "connecting",
            Phase::Relaying(_) => "relaying",
            Phase::Ending(..) => "ending",
        };
        let idle = now.saturating_duration_since(self.last_moved);
        Live { identity: self.identity(target), phase, summary: self.summary(now), idle }
    }

    fn summary(&self, now: Instant) -> Summary {
        let (to_target, to_requester) = match &self.phase {
            Phase::Connecting => (0, 0),
            Phase::Relaying(channels) | Phase::Ending(_, channels) => {
                (channels.to_target.delivered(), channels.to_requester.delivered())
            }
        };
        let duration = now.saturating_duration_since(self.started);
        let errno = Some(self.errno).filter(|&errno| errno != 0);
        Summary { to_target, to_requester, duration, errno }
    }

    /// The channel that reads from `side`, while there are channels.
    fn direction(&mut self, side: Side) -> Option<Direction<'_, S>> {
        let Self { phase, requester, target, .. } = self;
        let (Phase::Relaying(channels) | Phase::Ending(_, channels)) = phase else { return None };
        let Channels { to_target, to_requester } = channels;
        Some(match side {
            Side::Requester => {
                Direction { channel: to_target, from: requester, to: target, last: to_requester.has_ended() }
            }
            Side::Target => {
                Direction { channel: to_requester, from: target, to: requester, last: to_target.has_ended() }
            }
        })
    }

    fn connect(&mut self) -> Verdict {
        if !self.target.is_writable() {
            return Verdict::Wait;
        }
        match self.target.connect_state() {
            Connect::Pending => Verdict::Wait,
            Connect::Done => Verdict::Connected,
            Connect::Failed(errno) => {
                self.blame(Cause::TargetRefused, Some(errno));
                Verdict::End
            }
        }
    }

    fn relay(&mut self, now: Instant, shared: &mut Shared) -> Verdict {
        let mut steps = [Step::Waiting; 2];
        for (step, side) in steps.iter_mut().zip([Side::Requester, Side::Target]) {
            *step = self.move_from(side, now, shared);
            let (dead, cause, errno) = match *step {
                Step::ReadFailed(errno) => (side, Cause::ReadClosure(side), errno),
                Step::WriteFailed(errno) => (!side, Cause::WriteClosure(!side), errno),
                _ => continue,
            };
            return self.abort(dead, cause, errno, now, shared);
        }
        match steps {
            [Step::Ended, Step::Ended] => Verdict::End,
            _ if steps.contains(&Step::Again) => Verdict::Again,
            _ => Verdict::Wait,
        }
    }

    /// Lets the channel that reads from `side` do what it can.
    fn move_from(&mut self, side: Side, now: Instant, shared: &mut Shared) -> Step {
        let Some(Direction { channel, from, to, last }) = self.direction(side) else { return Step::Ended };
        let (before, share) = (channel.movement(), shared.share());
        if channel.streams() {
            to.limit_unsent(shared.beside_messages);
        }
        let mut step = channel.pump(from, to, &mut shared.pipes, share, last);
        let moved = channel.movement().saturating_sub(before);
        let stuck = channel.holds_bytes();
        // A report that cannot be followed is followed by more of them: they are muted.
        if !stuck {
            from.set_muted(false);
        } else if moved == 0 && from.is_readable() {
            from.set_muted(true);
        }
        // A channel that does not read does not meet a reset.
        if (stuck && step == Step::Waiting || step == Step::Ended)
            && let Some(errno) = from.failure()
        {
            step = Step::ReadFailed(errno);
        }
        if channel.saw_end() {
            self.blame(Cause::ReadClosure(side), None);
        }
        if moved > 0 {
            shared.moved += moved;
            self.note_movement(moved, now);
        }
        step
    }

    fn note_movement(&mut self, moved: u64, now: Instant) {
        self.last_moved = now;
        let before = match self.watch {
            Watch::Off { written } => written,
            Watch::Due | Watch::On { .. } => KERNEL_QUEUE_WATCH,
        };
        let written = before.saturating_add(u32::try_from(moved).unwrap_or(u32::MAX));
        self.watch = if written < KERNEL_QUEUE_WATCH { Watch::Off { written } } else { Watch::Due };
    }

    /// One side's connection is dead: what it sent is delivered first.
    fn abort(&mut self, dead: Side, cause: Cause, errno: i32, now: Instant, shared: &mut Shared) -> Verdict {
        self.blame(cause, Some(errno));
        if let Some(Direction { channel, from, to, .. }) = self.direction(dead) {
            channel.cut();
            // What the living side still sends goes nowhere.
            to.set_muted(true);
            // Whatever is left to read must be looked for, reported or not.
            from.note(Readiness { readable: true, marked: true, ..Readiness::default() });
        }
        if let Some(Direction { channel, .. }) = self.direction(!dead) {
            channel.discard(&mut shared.pipes);
        }
        self.phase = match mem::replace(&mut self.phase, Phase::Connecting) {
            Phase::Relaying(channels) => Phase::Ending(dead, channels),
            other => other,
        };
        self.last_moved = now;
        self.watch = Watch::Off { written: 0 };
        self.deliver_last_words(dead, now, shared)
    }

    /// Delivers what the dead side had sent; ends once the other side's kernel has it all.
    fn deliver_last_words(&mut self, dead: Side, now: Instant, shared: &mut Shared) -> Verdict {
        let Some(Direction { channel, from, to, .. }) = self.direction(dead) else { return Verdict::End };
        let share = shared.share();
        match channel.pump(from, to, &mut shared.pipes, share, false) {
            Step::Again => return Verdict::Again,
            Step::Waiting => return Verdict::Wait,
            Step::ReadFailed(_) | Step::WriteFailed(_) => return Verdict::End,
            Step::Ended => {}
        }
        // The reset that follows drops what the other side's kernel has not got yet.
        let queued = to.stream().unacknowledged(&mut shared.queue).unwrap_or(0);
        if queued == 0 {
            return Verdict::End;
        }
        let waited = now.saturating_duration_since(self.last_moved);
        let looks = u32::try_from(waited.as_nanos() / ABORT_CHECK.as_nanos()).unwrap_or(u32::MAX - 1) + 1;
        self.watch = Watch::On { queued, looks };
        Verdict::Wait
    }

    /// Looks whether bytes move inside the kernel, where much was written and nothing moves here.
    fn watch_kernel_queues(&mut self, now: Instant, shared: &mut Shared) {
        if matches!(self.watch, Watch::Off { .. }) {
            return;
        }
        let requester = self.requester.stream().unacknowledged(&mut shared.queue).unwrap_or(0);
        let target = self.target.stream().unacknowledged(&mut shared.queue).unwrap_or(0);
        self.watch = match (requester.saturating_add(target), self.watch) {
            (0, Watch::On { .. }) => {
                self.last_moved = now;
                Watch::Off { written: 0 }
            }
            (0, _) => Watch::Off { written: 0 },
            (queued, Watch::On { queued: before, looks }) if before == queued => {
                Watch::On { queued, looks: looks.saturating_add(1) }
            }
            (queued, _) => {
                self.last_moved = now;
                Watch::On { queued, looks: 1 }
            }
        };
    }
}

/// The time between two looks into the kernel's queues: often enough that a reader which stops is
/// told from a slow one soon after.
fn look_pause(timeouts: Timeouts) -> Duration {
    (timeouts.idle / 16).max(KERNEL_QUEUE_SETTLE)
}

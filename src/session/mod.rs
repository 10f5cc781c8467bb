//! One session: a requester, a target, the two channels between them, and its end.
//!
//! A session connects and relays. If one of its sockets fails, it aborts: it delivers the bytes that the
//! dead side had sent, and then resets the living side. Everything here works on any [`Stream`] and on a
//! given `now`. Sockets, timers and the log belong to the floors above.

mod abort;
pub mod buffer;
pub mod channel;
pub mod connecting;
pub mod ended;
pub mod idle;
pub mod pipes;
mod side;
pub mod socket;
pub mod stream;
pub mod turn;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::session::abort::Abort;
use crate::session::buffer::Buffers;
use crate::session::channel::{Channel, Ends, Step};
use crate::session::connecting::Connecting;
use crate::session::ended::{Cause, Ended, Identity, Live, Progress, Summary, Unreached};
use crate::session::idle::IdleClock;
use crate::session::pipes::Pipes;
pub use crate::session::side::Side;
use crate::session::socket::Socket;
use crate::session::stream::{Readiness, Stream};
use crate::session::turn::{Timeouts, Turn, Verdict, share};

/// A session over two streams.
#[derive(Debug)]
pub struct Session<S> {
    identity: Identity,
    /// The relay's end of the connection to the target; `None`: the pool has noted none.
    own_end: Option<SocketAddr>,
    requester: Socket<S>,
    /// `None`: the session waits for a target. A session that relays has one.
    target: Option<Socket<S>>,
    phase: Phase,
    started: Instant,
    idle: IdleClock,
    /// The event that ended the session, or will; the first one stays.
    cause: Option<Cause>,
    /// The error number behind the cause; 0: none.
    errno: i32,
}

#[derive(Debug)]
enum Phase {
    /// No target has answered yet. The requester's bytes wait in its socket.
    Connecting(Connecting),
    /// Bytes move.
    Relaying(Channels),
    /// One side's connection is dead.
    Aborting(Abort),
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
    /// The opposite channel is closed.
    last: bool,
}

impl<S: Stream> Session<S> {
    /// Returns a session whose connect to `target` has begun. Without a target, it waits for one.
    #[must_use]
    pub fn new(identity: Identity, requester: S, target: Option<S>, now: Instant) -> Self {
        Self {
            identity,
            own_end: None,
            requester: Socket::accepted(requester),
            target: target.map(Socket::connecting),
            phase: Phase::Connecting(Connecting::new(now)),
            started: now,
            idle: IdleClock::new(now),
            cause: None,
            errno: 0,
        }
    }

    /// Notes the relay's end of the connection to the target, or that there is none.
    pub fn note_own_end(&mut self, end: Option<SocketAddr>) {
        self.own_end = end;
    }

    /// Returns the noted end of the connection to the target; `None`: none is noted.
    #[must_use]
    pub fn own_end(&self) -> Option<SocketAddr> {
        self.own_end
    }

    /// Returns the session's serial number and addresses.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the socket of one side; `None`: there is no connection to a target yet.
    pub fn socket(&mut self, side: Side) -> Option<&mut Socket<S>> {
        match side {
            Side::Requester => Some(&mut self.requester),
            Side::Target => self.target.as_mut(),
        }
    }

    /// Returns the requester's stream.
    pub fn requester(&self) -> &S {
        self.requester.stream()
    }

    /// Returns the time since the session was allocated.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Returns whether the traffic of either channel is bulk.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        self.channels()
            .is_some_and(|channels| channels.to_target.is_bulk() || channels.to_requester.is_bulk())
    }

    /// Returns the number of pipes that the session holds.
    #[must_use]
    pub fn pipes_held(&self) -> usize {
        self.channels().map_or(0, |channels| {
            usize::from(channels.to_target.holds_pipe()) + usize::from(channels.to_requester.holds_pipe())
        })
    }

    /// Notes a report of the kernel on one side.
    pub fn note(&mut self, side: Side, readiness: Readiness) {
        if let Some(socket) = self.socket(side) {
            socket.note(readiness);
        }
    }

    /// Starts relaying. The target gets `preface` first.
    ///
    /// # Errors
    /// The cause, if there is no memory for a buffer.
    pub fn start_relaying(
        &mut self,
        buffers: &mut Buffers,
        preface: &[u8],
        now: Instant,
    ) -> Result<(), Cause> {
        debug_assert!(matches!(self.phase, Phase::Connecting(_)) && self.target.is_some());
        let mut buffer = |side, preface| buffers.take(preface).map_err(|_| Cause::NoBuffer(side));
        let to_target = Channel::new(buffer(Side::Requester, preface)?);
        let to_requester = Channel::new(buffer(Side::Target, &[])?);
        self.phase = Phase::Relaying(Channels { to_target, to_requester });
        self.idle = IdleClock::new(now);
        Ok(())
    }

    /// Records the cause of the session's end, unless one is known already.
    pub fn blame(&mut self, cause: Cause, errno: Option<i32>) {
        if self.cause.is_none() {
            (self.cause, self.errno) = (Some(cause), errno.unwrap_or(0));
        }
    }

    /// Does all that the latched readiness allows.
    pub fn work(&mut self, turn: &mut Turn<'_>) -> Verdict {
        debug_assert!(turn.now >= self.started);
        match &self.phase {
            Phase::Connecting(_) => self.connect(),
            Phase::Relaying(_) => self.relay(turn),
            Phase::Aborting(_) => self.deliver_remains(turn),
        }
    }

    /// Returns when the owner must call [`expire`](Self::expire).
    #[must_use]
    pub fn deadline(&self, timeouts: Timeouts) -> Instant {
        match &self.phase {
            Phase::Connecting(Connecting { since, .. }) => *since + timeouts.connect,
            Phase::Relaying(_) => self.idle.deadline(timeouts.idle),
            Phase::Aborting(abort) => abort.look_at.min(abort.gives_up_at(timeouts)),
        }
    }

    /// Works as if every report had come, because some may still be unread.
    pub fn catch_up(&mut self, turn: &mut Turn<'_>) -> Verdict {
        for side in Side::BOTH {
            self.note(side, Readiness::UNKNOWN);
        }
        self.work(turn)
    }

    /// Acts on the deadline, which may have moved since the timer was armed.
    pub fn expire(&mut self, turn: &mut Turn<'_>) -> Verdict {
        let Turn { now, timeouts, .. } = *turn;
        if now < self.deadline(timeouts) {
            return Verdict::Wait;
        }
        match &self.phase {
            Phase::Connecting(_) => {
                Verdict::Unreached(Unreached { cause: Cause::ConnectTimeout, errno: None })
            }
            Phase::Relaying(_) => {
                if self.idle.wants_look() {
                    let queued = self.bytes_queued();
                    self.idle.look(queued, now);
                }
                if !self.idle.is_idle(timeouts.idle, now) {
                    return Verdict::Wait;
                }
                // This is the cause even if one side sent EOF before, because the session would have gone on.
                (self.cause, self.errno) = (Some(Cause::IdleTimeout), 0);
                Verdict::End
            }
            Phase::Aborting(_) => self.deliver_remains(turn),
        }
    }

    /// Closes both connections and returns the facts. Every session that ends by itself ends here.
    #[must_use]
    pub fn end(self, pipes: &mut Pipes, buffers: &mut Buffers, now: Instant) -> Ended {
        debug_assert!(self.cause.is_some());
        let summary = self.summary(now);
        let idle = self.cause == Some(Cause::IdleTimeout);
        let cause = self.cause.unwrap_or(Cause::IdleTimeout);
        let identity = self.identity;
        self.close(idle, pipes, buffers);
        Ended { identity, cause, summary }
    }

    /// Closes both connections, because the relay stops. This cuts each stream whose EOF was not passed on.
    pub fn stop(self, pipes: &mut Pipes, buffers: &mut Buffers) {
        self.close(false, pipes, buffers);
    }

    /// Closes both connections, and resets each side whose stream was cut.
    fn close(mut self, idle: bool, pipes: &mut Pipes, buffers: &mut Buffers) {
        for side in Side::BOTH {
            if self.was_cut(side, idle)
                && let Some(socket) = self.socket(side)
            {
                socket.stream_mut().reset_on_close();
            }
        }
        for side in Side::BOTH {
            if let Some(Direction { channel, .. }) = self.direction(side) {
                channel.discard(pipes);
            }
        }
        if let Phase::Relaying(channels) | Phase::Aborting(Abort { channels, .. }) = self.phase {
            buffers.put_back(channels.to_target.into_buffer());
            buffers.put_back(channels.to_requester.into_buffer());
        }
    }

    /// Returns whether the stream to this side was cut, so that a clean close would be a lie. A stream is
    /// complete if its EOF was passed on. At the idle timeout, it is also complete if no byte of it is left
    /// here or in the kernel.
    fn was_cut(&mut self, side: Side, idle: bool) -> bool {
        if !matches!(self.phase, Phase::Relaying(_)) {
            return true;
        }
        let bytes_stand_still = self.idle.saw_bytes_queued();
        let Some(Direction { channel, from, to, .. }) = self.direction(!side) else { return true };
        let is_left = || {
            channel.holds_bytes()
                || from.is_readable()
                || bytes_stand_still && to.stream().unacknowledged() != Some(0)
        };
        !channel.is_closed() && (!idle || is_left())
    }

    /// Returns what the status shows of the session.
    #[must_use]
    pub fn live(&self, now: Instant) -> Live {
        let phase = match self.phase {
            Phase::Connecting(_) => Progress::Connecting,
            Phase::Relaying(_) => Progress::Relaying,
            Phase::Aborting(_) => Progress::Ending,
        };
        Live { identity: self.identity, phase, summary: self.summary(now), idle: self.idle.idle_for(now) }
    }

    fn summary(&self, now: Instant) -> Summary {
        let (to_target, to_requester) = self
            .channels()
            .map_or((0, 0), |channels| (channels.to_target.delivered(), channels.to_requester.delivered()));
        let duration = self.age(now);
        let errno = Some(self.errno).filter(|&errno| errno != 0);
        Summary { to_target, to_requester, duration, errno }
    }

    fn channels(&self) -> Option<&Channels> {
        match &self.phase {
            Phase::Connecting(_) => None,
            Phase::Relaying(channels) | Phase::Aborting(Abort { channels, .. }) => Some(channels),
        }
    }

    /// Returns the channel that reads from `side`; `None`: the session does not relay yet.
    fn direction(&mut self, side: Side) -> Option<Direction<'_, S>> {
        let Self { phase, requester, target, .. } = self;
        let (Phase::Relaying(channels) | Phase::Aborting(Abort { channels, .. })) = phase else {
            return None;
        };
        let Channels { to_target, to_requester } = channels;
        let target = target.as_mut()?;
        Some(match side {
            Side::Requester => {
                Direction { channel: to_target, from: requester, to: target, last: to_requester.is_closed() }
            }
            Side::Target => {
                Direction { channel: to_requester, from: target, to: requester, last: to_target.is_closed() }
            }
        })
    }

    // ----- relaying

    fn relay(&mut self, turn: &mut Turn<'_>) -> Verdict {
        let (mut closed, mut verdict) = (0, Verdict::Wait);
        for side in Side::BOTH {
            match self.move_from(side, turn) {
                Step::ReadFailed(errno) => return self.abort(side, Cause::ReadClosure(side), errno, turn),
                Step::WriteFailed(errno) => {
                    return self.abort(!side, Cause::WriteClosure(!side), errno, turn);
                }
                Step::Closed => closed += 1,
                Step::Again => verdict = Verdict::Again,
                Step::Waiting => {}
            }
        }
        if closed == Side::BOTH.len() { Verdict::End } else { verdict }
    }

    /// Pumps the channel that reads from `side`.
    fn move_from(&mut self, side: Side, turn: &mut Turn<'_>) -> Step {
        let share = share(turn.beside_interactive);
        let Some(Direction { channel, from, to, last }) = self.direction(side) else { return Step::Closed };
        // A shortcut to the same result, because most turns bring bytes for one channel only.
        if channel.waits_for_bytes(from) {
            return Step::Waiting;
        }
        let (moved, delivered) = (channel.movement(), channel.delivered());
        let was_closed = channel.is_closed();
        if channel.is_bulk() {
            to.limit_unsent(turn.beside_interactive);
        }
        let mut step = channel.pump(Ends { from, to, pipes: turn.pipes, share, last });
        let (moved, written) = (channel.movement() - moved, channel.delivered() - delivered);
        // A channel that is not reading never sees ECONNRESET, so ask for the pending error. Once both
        // channels are closed, an error no longer matters, because both streams were delivered whole.
        if (channel.holds_bytes() && step == Step::Waiting || step == Step::Closed && !last)
            && let Some(errno) = from.pending_error()
        {
            step = Step::ReadFailed(errno);
        }
        let sent_fin = channel.is_closed() && !was_closed;
        if channel.has_read_eof() {
            self.blame(Cause::ReadClosure(side), None);
        }
        if moved > 0 {
            turn.moved += moved;
            turn.delivered[(!side).index()] += written;
            self.idle.note_movement(written, turn.now);
        }
        if sent_fin {
            self.idle.note_fin();
        }
        step
    }

    /// Returns the bytes in both send queues; `None`: the length of one is unknown.
    fn bytes_queued(&self) -> Option<u32> {
        let requester = self.requester.stream().unacknowledged()?;
        Some(requester.saturating_add(self.target.as_ref()?.stream().unacknowledged()?))
    }
}

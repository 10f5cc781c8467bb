//! All sessions, and the scheduler that runs them: which ones work in a turn, for how long, and which expire.
//!
//! The pool makes no system call of its own. It runs over any [`Stream`] and asks its [`Host`] for
//! the rest, so a simulated world drives the same code as the relay.
//!
//! In a turn its owner notes reports, then calls [`Pool::work`] and [`Pool::expire`], and only then
//! opens new sessions. Slots are freed before they are given out, so no report reaches a session
//! that it was not meant for.

pub(crate) mod own;
pub(crate) mod queues;
mod reach;
pub(crate) mod slots;
pub(crate) mod sources;
pub(crate) mod totals;
pub(crate) mod wheel;

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use crate::limits::{EXPIRES_PER_TURN, INTERACTIVE_BYTES_PER_TURN, INTERACTIVE_LINGER, TICK};
use crate::pool::queues::{Queues, Traffic};
use crate::pool::slots::Slots;
use crate::pool::totals::Counts;
use crate::pool::wheel::Wheel;
use crate::session::buffer::Buffers;
use crate::session::connecting::Tried;
use crate::session::ended::{Cause, Destination, Ended, Identity, Unreached};
use crate::session::pipes::Pipes;
use crate::session::stream::{Readiness, Stream};
use crate::session::turn::{Timeouts, Turn, Verdict, share};
use crate::session::{Session, Side};

/// The pool's view of its owner: the relay, or a simulated world.
pub trait Host<S> {
    /// Registers a session's socket, whose readiness is reported from now on.
    ///
    /// # Errors
    /// The socket cannot be registered.
    fn watch(&mut self, key: usize, side: Side, stream: &mut S) -> io::Result<()>;

    /// Returns the relay's end of the connection to a target; `None`: the system does not say.
    fn own_end(&mut self, target: &S) -> Option<SocketAddr>;

    /// Begins to connect a session to another target. The one that it could not reach is added to `tried`.
    /// `unreached` is `None` if the session waited for its target's address.
    ///
    /// # Errors
    /// There is no other target. The session ends for the returned reason.
    fn next_target(
        &mut self,
        session: Identity,
        unreached: Option<Unreached>,
        tried: &mut Tried,
    ) -> Result<Next<S>, Unreached>;

    /// Notes that a session's target has answered.
    fn connected(&mut self, session: Identity);

    /// Notes that both channels of a session are ready.
    fn relaying(&mut self, session: Identity);

    /// Returns the first bytes that the target gets.
    fn preface(&mut self, identity: Identity, requester: &S) -> Vec<u8>;

    /// Notes the end of a session. Both of its connections are closed by now.
    fn ended(&mut self, ended: Ended);
}

/// The next step of a session that has no target yet.
#[derive(Debug)]
pub enum Next<S> {
    /// A connect to this address has begun.
    Connecting(S, SocketAddr),
    /// The session waits for the address of this target, which is not known yet.
    Waiting(Destination),
}

/// The size of a pool, and the terms of its sessions.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Slots.
    pub sessions: usize,
    /// Bytes of each of a session's two buffers.
    pub buf: usize,
    /// The timeouts of every session.
    pub timeouts: Timeouts,
    /// Sessions that one source may have; `None`: any number.
    pub max_per_source: Option<usize>,
    /// Bytes that all pipes together may hold; 0: every byte is copied.
    pub pipe_bytes: usize,
}

/// When the pool needs its owner again, whether or not events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// At once: sessions are queued.
    Now,
    /// At this time at the latest.
    At(Instant),
    /// Never.
    Never,
}

/// A timer of the pool's owner, kept in the same wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The absolute timeout.
    Absolute,
    /// The end of a pause in accepting.
    Accept,
    /// The next deadline of a status connection.
    Status,
}

/// All sessions, by key. A key is given out again once its session is gone.
#[derive(Debug)]
pub struct Pool<S> {
    slots: Slots<S>,
    queues: Queues,
    /// A timer for each session, by key, then those of the owner.
    wheel: Wheel,
    pipes: Pipes,
    buffers: Buffers,
    settings: Settings,
    /// The key of the session that last carried interactive traffic, and the time; `None`: none has yet.
    last_interactive: Option<(usize, Instant)>,
    /// A session has ended since the last [`take_freed`](Self::take_freed).
    freed: bool,
    /// The counts since the start.
    pub counts: Counts,
}

impl<S: Stream> Pool<S> {
    /// Returns an empty pool. Everything is allocated here but the sessions' buffers and the table of own ends.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        let timers = settings.sessions + Timer::ALL.len();
        Self {
            slots: Slots::new(settings.sessions, settings.max_per_source),
            queues: Queues::new(settings.sessions),
            wheel: Wheel::new(timers, now),
            pipes: Pipes::new(settings.pipe_bytes),
            buffers: Buffers::new(settings.buf),
            settings,
            last_interactive: None,
            freed: false,
            counts: Counts::default(),
        }
    }

    /// Returns the sessions.
    #[must_use]
    pub fn slots(&self) -> &Slots<S> {
        &self.slots
    }

    /// Returns the queues of the sessions that can go on.
    #[must_use]
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Returns the number of bytes delivered without entering the process.
    #[must_use]
    pub fn bytes_spliced(&self) -> u64 {
        self.pipes.bytes_spliced()
    }

    /// Returns the pipes of all sessions.
    pub fn pipes(&mut self) -> &mut Pipes {
        &mut self.pipes
    }

    /// Returns whether a session has ended since the last call. It freed a slot, descriptors and memory.
    pub fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    /// Returns when the pool needs its owner again.
    #[must_use]
    pub fn wakes_at(&self) -> Wake {
        if !self.queues.are_empty() {
            return Wake::Now;
        }
        self.wheel.next().map_or(Wake::Never, Wake::At)
    }

    /// Arms a timer of the owner. It fires early if `at` is beyond the reach of the wheel.
    pub fn arm(&mut self, timer: Timer, at: Instant) {
        self.wheel.arm(self.index(timer), at);
    }

    /// Disarms a timer of the owner.
    pub fn disarm(&mut self, timer: Timer) {
        self.wheel.disarm(self.index(timer));
    }

    /// Returns whether no timer is due at `now`, neither of a session nor of the owner. It may return false
    /// although none is.
    #[must_use]
    pub fn is_quiet(&self, now: Instant) -> bool {
        self.wheel.is_quiet(now)
    }

    /// Disarms a timer of the owner and returns true, if it is due.
    pub fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        self.wheel.take_due(self.index(timer), now)
    }

    fn index(&self, timer: Timer) -> usize {
        self.settings.sessions + timer as usize
    }

    // ----- a session's life

    /// Notes a report on one side of a session, and queues the session.
    pub fn note(&mut self, key: usize, side: Side, readiness: Readiness) {
        if let Some(session) = self.slots.get_mut(key) {
            session.note(side, readiness);
            self.enqueue(key);
        }
    }

    #[inline]
    fn enqueue(&mut self, key: usize) {
        if let Some(session) = self.slots.get(key) {
            let traffic = if session.is_bulk() { Traffic::Bulk } else { Traffic::Interactive };
            self.queues.push(key, traffic);
        }
    }

    /// Lets the queued sessions work: interactive ones first, then bulk ones. The bytes of a turn are bounded
    /// for each kind. Sessions that the turn does not reach stay queued, in front of all others.
    pub fn work(&mut self, now: Instant, host: &mut impl Host<S>) {
        let mut moved = 0;
        let (interactive, bulk) = (self.queues.len(Traffic::Interactive), self.queues.len(Traffic::Bulk));
        for _ in 0..interactive {
            if moved >= INTERACTIVE_BYTES_PER_TURN {
                break;
            }
            let Some(key) = self.queues.pop(Traffic::Interactive) else { break };
            moved += self.work_on(key, now, host);
            self.last_interactive = Some((key, now));
        }
        // Each byte moves twice, in and out.
        let enough = 2 * share(self.interactive_lingers(now)) as u64;
        let mut moved = 0;
        for _ in 0..bulk {
            if moved >= enough {
                break;
            }
            let Some(key) = self.queues.pop(Traffic::Bulk) else { break };
            moved += self.work_on(key, now, host);
        }
    }

    /// Lets one session work, and returns the bytes that moved. A session whose target has just answered
    /// relays in the same turn, because the requester's first bytes have usually arrived by then.
    fn work_on(&mut self, key: usize, now: Instant, host: &mut impl Host<S>) -> u64 {
        let (verdict, moved) = self.with_turn(key, now, Session::work);
        self.settle(key, verdict, now, host);
        if verdict == Verdict::Connected && self.queues.contains(key) {
            self.queues.remove(key);
            return self.work_on(key, now, host);
        }
        moved
    }

    /// Calls one session on the terms of this turn, and counts the bytes that it delivered.
    fn with_turn(
        &mut self,
        key: usize,
        now: Instant,
        call: impl FnOnce(&mut Session<S>, &mut Turn<'_>) -> Verdict,
    ) -> (Verdict, u64) {
        let beside_interactive = self.interactive_lingers(now);
        let mut turn = Turn::new(now, self.settings.timeouts, &mut self.pipes, beside_interactive);
        let Some(session) = self.slots.get_mut(key) else { return (Verdict::Wait, 0) };
        let verdict = call(session, &mut turn);
        self.counts.add_delivered(turn.delivered);
        (verdict, turn.moved)
    }

    /// Returns whether interactive traffic passed lately. A session that is bulk by now does not count,
    /// because its stream only paused.
    fn interactive_lingers(&self, now: Instant) -> bool {
        self.last_interactive.is_some_and(|(key, at)| {
            now < at + INTERACTIVE_LINGER && !self.slots.get(key).is_some_and(Session::is_bulk)
        })
    }

    /// Acts on a session's verdict, and updates its timer.
    fn settle(&mut self, key: usize, verdict: Verdict, now: Instant, host: &mut impl Host<S>) {
        match verdict {
            Verdict::End => return self.end(key, now, host),
            Verdict::Unreached(unreached) => {
                if let Err(unreached) = self.next_target(key, Some(unreached), now, host) {
                    return self.fail(key, unreached, now, host);
                }
            }
            Verdict::Connected => {
                if let Err(cause) = self.start_relaying(key, now, host) {
                    return self.fail(key, Unreached { cause, errno: None }, now, host);
                }
                self.enqueue(key);
            }
            Verdict::Again => self.enqueue(key),
            Verdict::Wait => {}
        }
        // Only an earlier deadline touches the wheel. A later one is found when the timer fires.
        self.wheel.arm_by(key, self.slots[key].deadline(self.settings.timeouts));
    }

    fn start_relaying(&mut self, key: usize, now: Instant, host: &mut impl Host<S>) -> Result<(), Cause> {
        let session = &mut self.slots[key];
        let identity = session.identity();
        self.counts.connects.add(session.age(now));
        host.connected(identity);
        let preface = host.preface(identity, session.requester());
        session.start_relaying(&mut self.buffers, &preface, now)?;
        host.relaying(identity);
        Ok(())
    }

    /// Frees a slot. Every session that ends by itself ends here.
    fn end(&mut self, key: usize, now: Instant, host: &mut impl Host<S>) {
        self.wheel.disarm(key);
        self.queues.remove(key);
        let ended = self.slots.remove(key).end(&mut self.pipes, &mut self.buffers, now);
        self.counts.add_ended(&ended);
        self.freed = true;
        host.ended(ended);
        debug_assert!(!self.queues.contains(key) && self.slots.get(key).is_none());
    }

    /// Lets the sessions that are due expire. With `more_events`, some reports may still be unread.
    pub fn expire(&mut self, now: Instant, more_events: bool, host: &mut impl Host<S>) {
        for _ in 0..EXPIRES_PER_TURN {
            let Some(key) = self.wheel.expire(now) else { break };
            debug_assert!(key < self.settings.sessions, "the owner takes its own timers first");
            // No session is called idle while its bytes are unread. If a report may be waiting, the session
            // tries its sockets at once, with the smaller share of a turn.
            let is_behind = more_events || self.queues.contains(key);
            let (verdict, _) = self.with_turn(key, now, |session, turn| {
                if is_behind && session.deadline(turn.timeouts) <= now {
                    turn.beside_interactive = true;
                    match session.catch_up(turn) {
                        Verdict::Wait => {}
                        verdict => return verdict,
                    }
                }
                session.expire(turn)
            });
            self.settle(key, verdict, now, host);
        }
    }

    /// Ends all sessions, because the relay stops.
    pub fn stop(&mut self) {
        for session in self.slots.drain() {
            session.stop(&mut self.pipes, &mut self.buffers);
        }
    }

    /// Checks the invariants of the pool, at every slot.
    ///
    /// # Panics
    /// An invariant is broken.
    pub fn check(&self) {
        let mut pipes = 0;
        for (key, session) in self.slots.iter_from(0) {
            pipes += session.pipes_held();
            let deadline = session.deadline(self.settings.timeouts);
            // The wheel rounds up by a tick, and a timer that fires one tick late is not armed again.
            let armed = self.wheel.deadline(key);
            assert!(
                armed.is_some_and(|armed| armed <= deadline + 2 * TICK),
                "the timer of session {key} is armed for {armed:?}, its deadline is {deadline:?}"
            );
        }
        self.slots.check();
        let queued = (0..self.settings.sessions).filter(|&key| self.queues.contains(key));
        let live = queued.filter(|&key| self.slots.get(key).is_some()).count();
        let listed = self.queues.len(Traffic::Interactive) + self.queues.len(Traffic::Bulk);
        assert_eq!(live, listed, "each queued key is in one queue and has a session");
        assert_eq!(pipes, self.pipes.held(), "each pipe that is lent is held by a channel");
    }
}

impl Timer {
    const ALL: [Self; 3] = [Self::Absolute, Self::Accept, Self::Status];
}

//! Sessions that connect: to their first target, and to the next one if that is not reached.

use std::time::Instant;

use crate::limits::WAITING_SLOTS_PER_TURN;
use crate::pool::{Host, Next, Pool};
use crate::session::ended::{Cause, Unreached};
use crate::session::stream::Stream;
use crate::session::turn::Verdict;
use crate::session::{Session, Side};

impl<S: Stream> Pool<S> {
    /// Takes a slot for a session whose connect has begun, or failed to begin. The pool must not be full.
    pub fn open(
        &mut self,
        session: Session<S>,
        begun: Result<(), Unreached>,
        now: Instant,
        host: &mut impl Host<S>,
    ) {
        debug_assert!(!self.slots.is_full());
        let watches_for_loops = self.slots.watches_for_loops();
        let key = self.slots.insert(session);
        debug_assert!(!self.queues.contains(key) && self.wheel.deadline(key).is_none());
        let watched = match begun {
            Ok(()) => self.watch_target(key, watches_for_loops, host),
            Err(unreached) => self.next_target(key, Some(unreached), now, host),
        };
        let watched = watched
            .and_then(|()| self.watch(key, Side::Requester, Cause::RelayNotStarted(Side::Requester), host));
        match watched {
            Ok(()) => self.settle(key, Verdict::Wait, now, host),
            Err(unreached) => self.fail(key, unreached, now, host),
        }
    }

    /// Lets a session go on to another target. `unreached` is `None` if it waited for its target's address.
    ///
    /// The old socket is closed before there is a new one. So the session never has three descriptors, and
    /// the poll instance has dropped the old socket before the new one is registered under its token. The
    /// reports of this turn on the old socket were noted before the pool began to work.
    ///
    /// # Errors
    /// The reason for the end of the session, which has no other target.
    #[cold]
    pub(super) fn next_target(
        &mut self,
        key: usize,
        unreached: Option<Unreached>,
        now: Instant,
        host: &mut impl Host<S>,
    ) -> Result<(), Unreached> {
        // Only a failed connect, or no answer in time, sends a session on. Any other failure is the relay's own.
        let is_own =
            |unreached: &Unreached| !matches!(unreached.cause, Cause::TargetRefused | Cause::ConnectTimeout);
        if let Some(unreached) = unreached.filter(is_own) {
            return Err(unreached);
        }
        self.slots.forget_own_end(key);
        let session = &mut self.slots[key];
        let mut tried = session.leave_target();
        match host.next_target(session.identity(), unreached, &mut tried)? {
            Next::Connecting(stream, target) => session.retarget(stream, target, tried, now),
            Next::Waiting(target) => session.wait_for(target, tried, now),
        }
        let watches_for_loops = self.slots.watches_for_loops();
        self.watch_target(key, watches_for_loops, host)
    }

    /// Lets the sessions that wait for the address of a target look for one again, in some slots from `first`
    /// on. Returns the first slot of the next turn; `None`: all sessions have looked.
    pub fn look_again(&mut self, first: usize, now: Instant, host: &mut impl Host<S>) -> Option<usize> {
        let end = self.settings.sessions.min(first + WAITING_SLOTS_PER_TURN);
        for key in first..end {
            if self.slots.get(key).is_some_and(Session::waits_for_target) {
                match self.next_target(key, None, now, host) {
                    Ok(()) => self.settle(key, Verdict::Wait, now, host),
                    Err(unreached) => self.fail(key, unreached, now, host),
                }
            }
        }
        (end < self.settings.sessions).then_some(end)
    }

    /// Registers the target's socket, if the session has one. With `watches_for_loops`, notes the relay's end
    /// of the connection.
    fn watch_target(
        &mut self,
        key: usize,
        watches_for_loops: bool,
        host: &mut impl Host<S>,
    ) -> Result<(), Unreached> {
        let Some(socket) = self.slots[key].socket(Side::Target) else { return Ok(()) };
        if watches_for_loops && let Some(end) = host.own_end(socket.stream()) {
            self.slots.note_own_end(key, end);
        }
        self.watch(key, Side::Target, Cause::ConnectNotStarted, host)
    }

    fn watch(
        &mut self,
        key: usize,
        side: Side,
        cause: Cause,
        host: &mut impl Host<S>,
    ) -> Result<(), Unreached> {
        let Some(socket) = self.slots[key].socket(side) else { return Ok(()) };
        host.watch(key, side, socket.stream_mut()).map_err(|error| Unreached::new(cause, &error))
    }

    /// Ends a session that cannot begin to relay.
    #[cold]
    pub(super) fn fail(&mut self, key: usize, unreached: Unreached, now: Instant, host: &mut impl Host<S>) {
        self.slots[key].blame(unreached.cause, unreached.errno);
        self.end(key, now, host);
    }
}

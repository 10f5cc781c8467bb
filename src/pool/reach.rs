//! Sessions on their way to a target: the first one, and the next where that one was not reached.

use std::time::Instant;

use crate::pool::{Host, Pool};
use crate::session::ended::{Cause, Unreached};
use crate::session::stream::Stream;
use crate::session::turn::Verdict;
use crate::session::{Session, Side};

impl<S: Stream> Pool<S> {
    /// Takes a slot for a session whose connect has begun, or failed to begin. The pool must not be
    /// full.
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
            Err(unreached) => self.next_target(key, unreached, now, host),
        };
        let watched = watched
            .and_then(|()| self.watch(key, Side::Requester, Cause::RelayNotStarted(Side::Requester), host));
        match watched {
            Ok(()) => self.settle(key, Verdict::Wait, now, host),
            Err(unreached) => self.fail(key, unreached, now, host),
        }
    }

    /// Lets a session go on to another target.
    ///
    /// The old socket is closed before there is a new one. So the session never has three descriptors, and
    /// the poll instance has forgotten the old socket when the new one is registered under its token.
    /// What it reported in this turn was noted before the pool began to work.
    ///
    /// # Errors
    /// The reason for the end of the session, which has no other target.
    #[cold]
    pub(super) fn next_target(
        &mut self,
        key: usize,
        unreached: Unreached,
        now: Instant,
        host: &mut impl Host<S>,
    ) -> Result<(), Unreached> {
        // Only the target's own word, or its silence, sends a session on.
        if !matches!(unreached.cause, Cause::TargetRefused | Cause::ConnectTimeout) {
            return Err(unreached);
        }
        self.slots.forget_own_end(key);
        let session = &mut self.slots[key];
        let mut tried = session.leave_target();
        let (stream, target) = host.next_target(session.identity(), unreached, &mut tried)?;
        session.retarget(stream, target, tried, now);
        let watches_for_loops = self.slots.watches_for_loops();
        self.watch_target(key, watches_for_loops, host)
    }

    /// Has the target's socket watched, if the session has a target.
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

//! The terms on which a session works, and its wish afterwards.

use std::time::{Duration, Instant};

use crate::limits::{SHARE, SHARE_BESIDE_INTERACTIVE};
use crate::session::ended::Unreached;
use crate::session::pipes::Pipes;

/// The timeouts of every session.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connect to the target.
    pub connect: Duration,
    /// For a session in which no byte moves.
    pub idle: Duration,
}

/// The terms on which a session works in a turn, and what it has moved.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The time of the turn.
    pub now: Instant,
    /// The timeouts of every session.
    pub timeouts: Timeouts,
    /// The pipes of all sessions.
    pub pipes: &'a mut Pipes,
    /// Interactive traffic passed lately, so bulk traffic must not keep the next of it waiting.
    pub beside_interactive: bool,
    /// Bytes that have gone into and out of the session's channels.
    pub moved: u64,
    /// Bytes delivered to each side, by `Side::index`.
    pub delivered: [u64; 2],
}

impl<'a> Turn<'a> {
    /// Returns the terms for one session; nothing has moved yet.
    #[must_use]
    pub fn new(now: Instant, timeouts: Timeouts, pipes: &'a mut Pipes, beside_interactive: bool) -> Self {
        Self { now, timeouts, pipes, beside_interactive, moved: 0, delivered: [0; 2] }
    }
}

/// Returns the bytes that one channel may take in a turn.
#[must_use]
pub fn share(beside_interactive: bool) -> usize {
    if beside_interactive { SHARE_BESIDE_INTERACTIVE } else { SHARE }
}

/// A session's wish after it has worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be called when one of its sockets or its deadline is ready.
    Wait,
    /// To be called again in the next turn, events or not.
    Again,
    /// To be made ready for relaying: the target has answered.
    Connected,
    /// To be given another target, or to be ended where there is no other: this one was not reached.
    Unreached(Unreached),
    /// To be ended, with `Session::end`.
    End,
}

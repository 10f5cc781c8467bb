//! The terms on which a session works in a turn, and its verdict afterwards.

use std::time::{Duration, Instant};

use crate::limits::{SHARE, SHARE_BESIDE_INTERACTIVE};
use crate::session::ended::Unreached;
use crate::session::pipes::Pipes;

/// The timeouts of every session.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// The longest time that a connect to a target may take.
    pub connect: Duration,
    /// The longest time that a session may go without moving a byte.
    pub idle: Duration,
}

/// The terms on which a session works in a turn, and the bytes that it has moved.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The time of the turn.
    pub now: Instant,
    /// The timeouts of every session.
    pub timeouts: Timeouts,
    /// The pipes of all sessions.
    pub pipes: &'a mut Pipes,
    /// Interactive traffic passed lately, so bulk traffic must not delay more of it.
    pub beside_interactive: bool,
    /// Bytes that went into the session's channels, plus those that went out.
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

/// A session's request to its owner, after it has worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Work when a report or the deadline comes.
    Wait,
    /// Work again in the next turn, whether or not a report comes.
    Again,
    /// Start relaying, because the target has answered.
    Connected,
    /// Find another target, or end the session if there is none. This one was not reached.
    Unreached(Unreached),
    /// End the session, with `Session::end`.
    End,
}

//! Which target a session tries first, and which one next.
//!
//! The targets have an order. A session tries each of them once at most: first those that do not rest,
//! then those that do, because an unlikely target is better than none. A target that could not be reached
//! rests for a second, and twice as long each further time. After the rest one session tries the target,
//! while the others go on as if it rested.
//!
//! Time is an argument, and nothing here makes a system call.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::limits::{TARGET_REST_MAX, TARGET_REST_MIN, TARGET_TRIAL_MAX, TARGETS_MAX};
use crate::session::connecting::Tried;
use crate::session::ended::{Cause, Unreached};

/// The targets of a relay, in the order in which they are tried. A target's place is its index.
#[derive(Debug)]
pub struct Choice {
    targets: Vec<TargetState>,
}

/// The state of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetState {
    /// Its address.
    pub address: SocketAddr,
    /// The connects that failed since the start, by [`Failure`].
    pub failures: [u64; Failure::ALL.len()],
    standing: Standing,
}

/// Whether sessions go to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// They do.
    Up,
    /// The last connect failed. Until then the target has rested for `rest`.
    Resting { until: Instant, rest: Duration },
    /// The rest is over, and one session tries the target. If that session has no result by then, another
    /// one may try.
    Trial { until: Instant, rest: Duration },
}

/// The kinds of failed connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The target's host refused it.
    Refused,
    /// No answer came in time.
    Expired,
    /// The network or a filter reported that the target cannot be reached.
    Unreachable,
    /// This host could not begin it, which says nothing about the target.
    Own,
}

impl Failure {
    /// All kinds, in the order of [`TargetState::failures`].
    pub const ALL: [Self; 4] = [Self::Refused, Self::Expired, Self::Unreachable, Self::Own];

    /// Returns the word for the kind in a status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Unreachable => "unreachable",
            Self::Own => "own",
        }
    }
}

/// Errors that this host alone causes.
const OWN: [Errno; 9] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOBUFS,
    Errno::NOMEM,
    Errno::ADDRNOTAVAIL,
    Errno::ADDRINUSE,
    Errno::AGAIN,
    Errno::AFNOSUPPORT,
    Errno::NODEV,
];

impl From<Unreached> for Failure {
    fn from(unreached: Unreached) -> Self {
        let is = |error: &Errno| unreached.errno == Some(error.raw_os_error());
        match unreached.cause {
            Cause::ConnectTimeout => Self::Expired,
            Cause::ConnectNotStarted => Self::Own,
            _ if is(&Errno::CONNREFUSED) => Self::Refused,
            _ if is(&Errno::TIMEDOUT) => Self::Expired,
            _ if OWN.iter().any(is) => Self::Own,
            _ => Self::Unreachable,
        }
    }
}

impl Choice {
    /// Returns the choice between these targets, each of them once. All of them are up.
    #[must_use]
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let up = |address| TargetState { address, failures: [0; Failure::ALL.len()], standing: Standing::Up };
        let mut targets: Vec<TargetState> = Vec::new();
        for address in addresses {
            if targets.iter().all(|target| target.address != address) {
                targets.push(up(address));
            }
        }
        debug_assert!(targets.len() <= TARGETS_MAX);
        Self { targets }
    }

    /// Returns the targets, in their order.
    #[must_use]
    pub fn targets(&self) -> &[TargetState] {
        &self.targets
    }

    /// Returns whether a session that could not reach a target may find another one.
    #[must_use]
    pub fn has_alternatives(&self) -> bool {
        self.targets.len() > 1
    }

    /// Returns the target for a session that has tried some already; `None`: there is no other.
    pub fn next(&mut self, tried: Tried, now: Instant) -> Option<SocketAddr> {
        let mut untried = (0..self.targets.len()).filter(|&place| !tried.contains(place));
        let first = untried.clone().next()?;
        let open = untried.find(|&place| self.targets[place].standing.is_open(now));
        let target = &mut self.targets[open.unwrap_or(first)];
        if let Standing::Resting { until, rest } | Standing::Trial { until, rest } = target.standing
            && until <= now
        {
            target.standing = Standing::Trial { until: now + TARGET_TRIAL_MAX, rest };
        }
        Some(target.address)
    }

    /// Notes that a session could not reach a target, and adds the target to those that it has tried.
    /// Returns whether the target rests from now on and did not before.
    pub fn failed(&mut self, address: SocketAddr, failure: Failure, tried: &mut Tried, now: Instant) -> bool {
        let Some(place) = self.place(address) else { return false };
        tried.add(place);
        let target = &mut self.targets[place];
        target.failures[failure as usize] += 1;
        let standing = target.standing;
        target.standing = standing.after(failure, now);
        standing == Standing::Up && target.is_resting()
    }

    /// Notes that a target has answered. Returns whether it rested before.
    pub fn answered(&mut self, address: SocketAddr) -> bool {
        let Some(place) = self.place(address) else { return false };
        let target = &mut self.targets[place];
        let was_resting = target.is_resting();
        target.standing = Standing::Up;
        was_resting
    }

    fn place(&self, address: SocketAddr) -> Option<usize> {
        self.targets.iter().position(|target| target.address == address)
    }
}

impl TargetState {
    /// Returns whether the last connect has failed, so that sessions try other targets first.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.standing != Standing::Up
    }

    /// Returns the failed connects of each kind, by the kind's name.
    pub fn named_failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Failure::ALL.into_iter().map(Failure::name).zip(self.failures)
    }

    /// Returns `up` or `resting`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        if self.is_resting() { "resting" } else { "up" }
    }
}

impl Standing {
    /// Returns whether a session may go to the target now, before it has tried the others.
    fn is_open(self, now: Instant) -> bool {
        match self {
            Self::Up => true,
            Self::Resting { until, .. } | Self::Trial { until, .. } => until <= now,
        }
    }

    /// Returns the standing after a failed connect. A failure during a rest does not make the rest longer:
    /// that connect had begun before, as many do when a target dies under load.
    fn after(self, failure: Failure, now: Instant) -> Self {
        let rested = |rest| Self::Resting { until: now + rest, rest };
        match self {
            // The target was not tried, so another session may try it at once.
            Self::Trial { rest, .. } if failure == Failure::Own => Self::Resting { until: now, rest },
            _ if failure == Failure::Own => self,
            Self::Up => rested(TARGET_REST_MIN),
            Self::Resting { until, .. } if now < until => self,
            Self::Resting { rest, .. } | Self::Trial { rest, .. } => rested(TARGET_REST_MAX.min(2 * rest)),
        }
    }
}

#[cfg(test)]
mod tests;

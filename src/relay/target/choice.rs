//! Which target a session tries first, and which one next.
//!
//! The targets have an order. A session tries each of their addresses at most once: first those that do not
//! rest, then those that do, because an unlikely target is better than none. An address that could not be
//! reached rests for a second. Each further failure doubles the rest, up to a limit. After the rest, one
//! session tries the address, and for the others it still rests.
//!
//! Time is an argument, and nothing here makes a system call.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::limits::{ADDRESSES_TRIED_MAX, TARGET_REST_MAX, TARGET_REST_MIN, TARGET_TRIAL_MAX};
use crate::session::connecting::Tried;
use crate::session::ended::{Cause, Destination, Unreached};

/// The targets of a relay, in the order in which they are tried, each at all of its addresses.
#[derive(Debug)]
pub struct Choice {
    targets: Vec<TargetState>,
}

/// The state of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetState {
    /// Its address or its name, as on the command line. No other target has the same.
    pub target: Destination,
    /// Its index on the command line.
    index: usize,
    /// The failed connects since the start, by [`Failure`], to any address that the target has had.
    pub failures: [u64; Failure::ALL.len()],
    /// Its addresses, in the order in which they are tried; only the name while none is known.
    pub addresses: Vec<AddressState>,
}

/// The state of one address of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressState {
    /// The address, or the name while none is known.
    pub address: Destination,
    /// Its place in [`Tried`].
    place: usize,
    standing: Standing,
}

/// Whether sessions try an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// They do.
    Up,
    /// The last connect failed. The address rests until this time, for `rest` in all.
    Resting { until: Instant, rest: Duration },
    /// The lookup of the name failed, or a wait for it expired. A session waits for its address only if no other
    /// target is left.
    Unknown,
    /// The rest is over, and one session tries the address. If it has no result by this time, another one may
    /// try. `rest` is the last rest.
    Trial { until: Instant, rest: Duration },
}

/// The kinds of failed connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A refusal by the target's host.
    Refused,
    /// No answer in time.
    Expired,
    /// A report by the network or a filter that the target cannot be reached.
    Unreachable,
    /// An error of this host, which says nothing about the target.
    Own,
}

impl Failure {
    /// All kinds, in the order of [`TargetState::failures`].
    pub const ALL: [Self; 4] = [Self::Refused, Self::Expired, Self::Unreachable, Self::Own];

    /// Returns the word for the kind in the status.
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
    /// Returns the choice between these targets, without duplicates. All of them are up.
    #[must_use]
    pub fn new(targets: impl IntoIterator<Item = Destination>) -> Self {
        let mut states: Vec<TargetState> = Vec::new();
        for (index, target) in targets.into_iter().enumerate() {
            if states.iter().all(|state| state.target != target) {
                let addresses = vec![AddressState::up(target, index * ADDRESSES_TRIED_MAX)];
                states.push(TargetState { target, index, failures: [0; Failure::ALL.len()], addresses });
            }
        }
        Self { targets: states }
    }

    /// Replaces the addresses of a name. Addresses that it had before keep their state. An empty list changes
    /// nothing.
    pub fn resolved(&mut self, index: usize, addresses: &[SocketAddr]) {
        let target = self.targets.iter_mut().find(|target| target.index == index);
        let Some(target) = target.filter(|_| !addresses.is_empty()) else { return };
        let known = std::mem::take(&mut target.addresses);
        let kept = |address: SocketAddr| known.iter().find(|state| state.address == address.into());
        let taken: Vec<_> = addresses.iter().filter_map(|&address| Some(kept(address)?.place)).collect();
        let first = index * ADDRESSES_TRIED_MAX;
        let free = (first..first + ADDRESSES_TRIED_MAX).filter(|place| !taken.contains(place));
        // Sessions may have tried the address that had a place before, so places that none had come first.
        let (used, unused): (Vec<_>, Vec<_>) =
            free.partition(|&place| known.iter().any(|state| state.place == place));
        let mut free = unused.into_iter().chain(used);
        let states = addresses.iter().filter_map(|&address| match kept(address) {
            Some(known) => Some(*known),
            None => Some(AddressState::up(address.into(), free.next()?)),
        });
        target.addresses.extend(states);
    }

    /// Notes that the lookup of a name has failed. While no address is known, sessions try other targets first.
    pub fn not_resolved(&mut self, index: usize) {
        let Some(target) = self.targets.iter_mut().find(|target| target.index == index) else { return };
        for state in target.addresses.iter_mut().filter(|state| state.address.address().is_none()) {
            state.standing = Standing::Unknown;
        }
    }

    /// Returns the targets, in their order.
    #[must_use]
    pub fn targets(&self) -> &[TargetState] {
        &self.targets
    }

    /// Returns the addresses of all targets, in their order.
    pub fn addresses(&self) -> impl Iterator<Item = &AddressState> {
        self.targets.iter().flat_map(|target| &target.addresses)
    }

    /// Returns the known addresses of one target, by its index.
    pub fn addresses_of(&self, index: usize) -> impl Iterator<Item = SocketAddr> {
        let target = self.targets.iter().find(move |target| target.index == index);
        let states = target.map_or(&[][..], |target| &target.addresses);
        states.iter().filter_map(|state| state.address.address())
    }

    /// Returns whether a session that could not reach an address may have another one to try.
    #[must_use]
    pub fn has_alternatives(&self) -> bool {
        self.addresses().nth(1).is_some()
    }

    /// Returns the next target for a session that has tried some already; `None`: it has tried all.
    pub fn next(&mut self, tried: Tried, now: Instant) -> Option<Destination> {
        let mut resting = None;
        for state in self.addresses_mut() {
            if tried.contains(state.place) {
                continue;
            }
            if state.standing.is_open(now) {
                return Some(state.choose(now));
            }
            resting.get_or_insert(state);
        }
        resting.map(|state| state.choose(now))
    }

    /// Notes that a session could not reach a target, and adds the target to those that it has tried.
    /// Returns whether the target rests from now on and did not before.
    #[cold]
    pub fn failed(&mut self, target: Destination, failure: Failure, tried: &mut Tried, now: Instant) -> bool {
        let mut is_news = false;
        // Two names can have the same address.
        for TargetState { failures, addresses, .. } in &mut self.targets {
            for state in addresses.iter_mut().filter(|state| state.address == target) {
                tried.add(state.place);
                failures[failure as usize] += 1;
                let standing = state.standing;
                state.standing = match target {
                    Destination::Address(_) => standing.after(failure, now),
                    Destination::Name(..) => Standing::Unknown,
                };
                is_news |= standing == Standing::Up && state.is_resting();
            }
        }
        is_news
    }

    /// Returns the index of the target with this address, if a session has tried all of the target's addresses;
    /// `None`: some are untried, or no target has this address any more.
    #[must_use]
    pub fn is_spent(&self, target: Destination, tried: Tried) -> Option<usize> {
        let has_it = |state: &TargetState| state.addresses.iter().any(|state| state.address == target);
        let state = self.targets.iter().find(|state| has_it(state))?;
        state.addresses.iter().all(|state| tried.contains(state.place)).then_some(state.index)
    }

    /// Notes that a target has answered. Returns whether it rested before.
    pub fn answered(&mut self, target: Destination) -> bool {
        let mut was_resting = false;
        for state in self.addresses_mut() {
            if state.address == target {
                was_resting |= state.is_resting();
                state.standing = Standing::Up;
            }
        }
        was_resting
    }

    fn addresses_mut(&mut self) -> impl Iterator<Item = &mut AddressState> {
        self.targets.iter_mut().flat_map(|target| &mut target.addresses)
    }
}

impl TargetState {
    /// Returns whether the last connect to each of its addresses has failed, so that sessions try other
    /// targets first.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.addresses.iter().all(AddressState::is_resting)
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

impl AddressState {
    fn up(address: Destination, place: usize) -> Self {
        Self { address, place, standing: Standing::Up }
    }

    /// Returns the address for a session. If a rest is over, that session's connect is the trial.
    fn choose(&mut self, now: Instant) -> Destination {
        if let Standing::Resting { until, rest } | Standing::Trial { until, rest } = self.standing
            && until <= now
        {
            self.standing = Standing::Trial { until: now + TARGET_TRIAL_MAX, rest };
        }
        self.address
    }

    /// Returns whether the last connect has failed, so that sessions try other addresses first.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.standing != Standing::Up
    }
}

impl Standing {
    /// Returns whether a session may try the address now, before it has tried the others.
    fn is_open(self, now: Instant) -> bool {
        match self {
            Self::Up => true,
            Self::Unknown => false,
            Self::Resting { until, .. } | Self::Trial { until, .. } => until <= now,
        }
    }

    /// Returns the standing after a failed connect. A failure during a rest does not make the rest longer,
    /// because that connect began before it, as many do when a target dies under load.
    fn after(self, failure: Failure, now: Instant) -> Self {
        let rested = |rest| Self::Resting { until: now + rest, rest };
        match self {
            // The address was not tried, so another session may try it at once.
            Self::Trial { rest, .. } if failure == Failure::Own => Self::Resting { until: now, rest },
            _ if failure == Failure::Own => self,
            Self::Unknown => self,
            Self::Up => rested(TARGET_REST_MIN),
            Self::Resting { until, .. } if now < until => self,
            Self::Resting { rest, .. } | Self::Trial { rest, .. } => rested(TARGET_REST_MAX.min(2 * rest)),
        }
    }
}

#[cfg(test)]
mod tests;

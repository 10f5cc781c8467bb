//! A session that connects: it waits for its target's answer, and may go on to another target.

use std::net::SocketAddr;
use std::time::Instant;

use crate::limits::TARGETS_MAX;
use crate::session::ended::{Cause, Destination, Unreached};
use crate::session::socket::Socket;
use crate::session::stream::{Connect, Stream};
use crate::session::turn::Verdict;
use crate::session::{Phase, Session};

/// The addresses that a session could not reach, by their places among those of all targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried(u64);

impl Tried {
    /// Adds a place, which must be below [`TARGETS_MAX`].
    pub fn add(&mut self, place: usize) {
        debug_assert!(place < TARGETS_MAX);
        self.0 |= 1 << place;
    }

    /// Returns whether a place was added.
    #[must_use]
    pub fn contains(self, place: usize) -> bool {
        self.0 >> place & 1 == 1
    }
}

// Each place has a bit.
const _: () = assert!(TARGETS_MAX <= u64::BITS as usize);

/// The search for a target that answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connecting {
    /// When the connect to this target began, or the wait for its address.
    pub(super) since: Instant,
    pub(super) tried: Tried,
}

impl Connecting {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, tried: Tried::default() }
    }
}

impl<S: Stream> Session<S> {
    /// Closes the socket to a target that was not reached. Returns the addresses tried before it.
    pub fn leave_target(&mut self) -> Tried {
        if let Some(mut target) = self.target.take() {
            target.stream_mut().reset_on_close();
        }
        match self.phase {
            Phase::Connecting(Connecting { tried, .. }) => tried,
            _ => Tried::default(),
        }
    }

    /// Goes on to another target, to which a connect has begun. The new socket starts without the readiness
    /// of the old one.
    pub fn retarget(&mut self, stream: S, address: SocketAddr, tried: Tried, now: Instant) {
        debug_assert!(self.target.is_none() && matches!(self.phase, Phase::Connecting(_)));
        self.identity.target = address.into();
        self.target = Some(Socket::connecting(stream));
        self.phase = Phase::Connecting(Connecting { since: now, tried });
    }

    /// Waits for the address of a target. A session that already waits for it keeps its deadline.
    pub fn wait_for(&mut self, target: Destination, tried: Tried, now: Instant) {
        debug_assert!(self.target.is_none() && target.address().is_none());
        if self.identity.target != target {
            self.identity.target = target;
            self.phase = Phase::Connecting(Connecting { since: now, tried });
        }
    }

    /// Returns whether the session waits for the address of its target.
    #[must_use]
    pub fn waits_for_target(&self) -> bool {
        self.target.is_none() && matches!(self.phase, Phase::Connecting(_))
    }

    pub(super) fn connect(&mut self) -> Verdict {
        let Some(target) = self.target.as_mut().filter(|target| target.is_writable()) else {
            return Verdict::Wait;
        };
        match target.connect_state() {
            Connect::Pending => Verdict::Wait,
            Connect::Done => Verdict::Connected,
            Connect::Failed(errno) => {
                Verdict::Unreached(Unreached { cause: Cause::TargetRefused, errno: Some(errno) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use mio::net::TcpStream;

    use super::*;
    use crate::session::Timeouts;
    use crate::session::ended::{Identity, Serial};

    #[test]
    fn a_session_that_waits_for_another_target_has_the_whole_timeout_for_it() {
        const SECOND: Duration = Duration::from_secs(1);
        let (one, other) = (Destination::Name("one", 80), Destination::Name("other", 80));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let requester = listener.local_addr().unwrap();
        let stream = TcpStream::connect(requester).unwrap();
        let start = Instant::now();
        let mut session =
            Session::new(Identity { serial: Serial::MIN, requester, target: one }, stream, None, start);
        let timeouts = Timeouts { connect: 3 * SECOND, idle: SECOND };
        session.wait_for(one, Tried::default(), start + SECOND);
        assert_eq!(session.deadline(timeouts), start + 3 * SECOND);
        session.wait_for(other, Tried::default(), start + SECOND);
        assert_eq!((session.identity().target, session.deadline(timeouts)), (other, start + 4 * SECOND));
    }

    #[test]
    fn only_the_places_that_were_added_are_tried() {
        let mut tried = Tried::default();
        tried.add(0);
        tried.add(TARGETS_MAX - 1);
        let places: Vec<_> = (0..TARGETS_MAX).filter(|&place| tried.contains(place)).collect();
        assert_eq!(places, [0, TARGETS_MAX - 1]);
    }
}

//! What the relay has seen of each of its targets.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::session::ended::{Cause, Ended};

/// A target, and how connects to it went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TargetHealth {
    pub(crate) address: SocketAddr,
    /// The last connect has succeeded, or there was none yet.
    pub(crate) is_up: bool,
    /// Connects that have failed, by [`Failure`].
    failed: [u64; Failure::ALL.len()],
}

/// Why a connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Refused,
    Timeout,
    Unreachable,
    /// The reason is on this side: no port, no permission.
    Local,
}

impl Failure {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Refused, "refused"),
        (Self::Timeout, "timeout"),
        (Self::Unreachable, "unreachable"),
        (Self::Local, "local"),
    ];

    /// Returns why the connect of a session failed; `None`: it did not.
    fn of(ended: &Ended) -> Option<Self> {
        match ended.cause {
            Cause::ConnectTimeout => Some(Self::Timeout),
            Cause::TargetRefused => Some(Self::from_errno(ended.summary.errno.unwrap_or(0))),
            _ => None,
        }
    }

    fn from_errno(errno: i32) -> Self {
        match io::Error::from_raw_os_error(errno).kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Self::Refused,
            ErrorKind::TimedOut => Self::Timeout,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Self::Unreachable,
            _ => Self::Local,
        }
    }
}

/// Notes that a target has answered.
#[cold]
pub(crate) fn note_connected(targets: &mut [TargetHealth], address: SocketAddr) {
    targets.iter_mut().filter(|target| target.address == address).for_each(TargetHealth::note_connected);
}

/// Notes the end of a session.
#[cold]
pub(crate) fn note_ended(targets: &mut [TargetHealth], ended: &Ended) {
    if let Some(target) = targets.iter_mut().find(|target| target.address == ended.identity.target) {
        target.note_ended(ended);
    }
}

impl TargetHealth {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, is_up: true, failed: [0; Failure::ALL.len()] }
    }

    /// Notes that the target has answered.
    fn note_connected(&mut self) {
        self.is_up = true;
    }

    /// Notes the end of a session with this target.
    fn note_ended(&mut self, ended: &Ended) {
        let Some(failure) = Failure::of(ended) else { return };
        self.failed[failure as usize] += 1;
        // A reason on this side says nothing about the target.
        self.is_up &= failure == Failure::Local;
    }

    /// Returns each reason with the number of connects that failed for it.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Failure::ALL.into_iter().zip(self.failed).map(|((_, reason), count)| (reason, count))
    }
}

#[cfg(test)]
mod tests {
    use nix::libc::{EADDRNOTAVAIL, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EPERM, ETIMEDOUT};

    use super::*;
    use crate::session::ended::{Identity, Serial, Summary};

    #[test]
    fn a_target_is_down_after_a_failure_of_its_own_until_it_answers() {
        let address = "192.0.2.7:80".parse().unwrap();
        let identity = Identity { serial: Serial::MIN, requester: address, target: address };
        let mut target = TargetHealth::new(address);
        let cases = [
            (Cause::TargetRefused, ECONNREFUSED, Some("refused"), false),
            (Cause::TargetRefused, EHOSTUNREACH, Some("unreachable"), false),
            (Cause::TargetRefused, ENETUNREACH, Some("unreachable"), false),
            (Cause::TargetRefused, ETIMEDOUT, Some("timeout"), false),
            (Cause::ConnectTimeout, 0, Some("timeout"), false),
            (Cause::TargetRefused, EADDRNOTAVAIL, Some("local"), true),
            (Cause::TargetRefused, EPERM, Some("local"), true),
            (Cause::IdleTimeout, 0, None, true),
        ];
        for (cause, errno, reason, is_up) in cases {
            let before: Vec<_> = target.failures().collect();
            let summary = Summary { errno: Some(errno), ..Summary::default() };
            target.note_connected();
            target.note_ended(&Ended { identity, cause, summary });
            let counted = target.failures().zip(before).find(|(now, before)| now != before);
            assert_eq!(counted.map(|((reason, _), _)| reason), reason, "{cause:?} {errno}");
            assert_eq!(target.is_up, is_up, "{cause:?} {errno}");
        }
    }
}

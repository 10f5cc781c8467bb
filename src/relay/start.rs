//! What must hold before a relay starts: a clock, addresses that make sense here, and limits that
//! are high enough.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::limits::{OWN_DESCRIPTORS, PIPES, TICK};
use crate::log::message::Message;
use crate::pool::slots::Pool;
use crate::sys::clock_resolution;
use crate::sys::net::{can_be_bound, canonical, is_broadcast, is_own};

/// Checks everything that can be checked before a socket is bound.
///
/// # Errors
/// Message 1, 112 or 114.
pub(crate) fn check(config: &Config) -> Result<(), Message> {
    check_clock(clock_resolution())?;
    let invalid = |option, given: &dyn ToString, allowed: &str| {
        Err(Message::InvalidOption(option, given.to_string(), allowed.to_owned()))
    };
    if let Some(bind) = config.bind.filter(|bind| is_broadcast(bind.ip())) {
        return invalid("--bind", &bind, "an address to listen on, not that of a broadcast");
    }
    if let Some(source) = config.source.filter(|source| !can_be_bound(source.at(0))) {
        return invalid("--source", &source, "an address of this host");
    }
    if config.sessions.is_some() {
        Needs::of(config).check()?;
    }
    Ok(())
}

/// Checks that the target is not the relay's own listener at `listen`.
///
/// # Errors
/// Message 113.
pub(crate) fn check_target(config: &Config, listen: SocketAddr) -> Result<(), Message> {
    if reaches(config.target, listen) { Err(Message::OwnListener(config.target)) } else { Ok(()) }
}

/// Returns whether a connection to `target` would reach a listener at `listen`.
fn reaches(target: SocketAddr, listen: SocketAddr) -> bool {
    let listen = canonical(listen);
    if target.port() != listen.port() {
        return false;
    }
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => target.is_ipv4() && is_own(target),
        IpAddr::V6(ip) if ip.is_unspecified() => is_own(target),
        _ => target == listen,
    }
}

/// Checks that the wheel's ticks can be told apart.
fn check_clock(resolution: Duration) -> Result<(), Message> {
    if resolution > TICK { Err(Message::ClockTooCoarse) } else { Ok(()) }
}

/// What a pool needs at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) sessions: usize,
    pub(crate) descriptors: u64,
    pub(crate) bytes: u64,
}

impl Needs {
    /// Returns the needs of the pool that `config` describes.
    pub(crate) fn of(config: &Config) -> Self {
        let (sessions, session_bytes) = (config.pool(), Pool::session_bytes(config));
        let descriptors = 2 * sessions + 2 * PIPES + OWN_DESCRIPTORS;
        Self { sessions, descriptors: descriptors as u64, bytes: (sessions * session_bytes) as u64 }
    }

    /// Whether the limits of the process can give that.
    ///
    /// # Errors
    /// Message 114.
    pub(crate) fn check(self) -> Result<(), Message> {
        let Self { sessions, descriptors, bytes } = self;
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        if descriptors > most {
            let need = format!("{descriptors} descriptors, and the limit is {most}");
            return Err(Message::PoolTooLarge(sessions, need));
        }
        for resource in [Resource::As, Resource::Data] {
            let most = getrlimit(resource).current.unwrap_or(u64::MAX);
            if bytes > most {
                let need = format!("{} KiB of memory, and the limit is {} KiB", bytes / 1024, most / 1024);
                return Err(Message::PoolTooLarge(sessions, need));
            }
        }
        Ok(())
    }

    /// Raises the soft limit of descriptors as far as it is needed and may go.
    ///
    /// # Errors
    /// Message 104, where not all sessions will have theirs.
    pub(crate) fn raise_descriptor_limit(self) -> Result<(), Message> {
        let limit = raise_descriptor_limit(self.descriptors);
        let enough = limit.saturating_sub(OWN_DESCRIPTORS as u64) / 2;
        if enough < self.sessions as u64 {
            return Err(Message::DescriptorLimit(limit, enough, self.sessions));
        }
        Ok(())
    }
}

/// Raises the soft limit towards `wanted`; the limit that is in force then.
fn raise_descriptor_limit(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let raised = wanted.min(maximum.unwrap_or(u64::MAX));
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => raised,
        Err(_) => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_refused_only_if_ticks_cannot_be_told_apart() {
        for resolution in [Duration::ZERO, Duration::from_nanos(1), TICK] {
            assert_eq!(check_clock(resolution), Ok(()));
        }
        assert_eq!(check_clock(TICK + Duration::from_nanos(1)), Err(Message::ClockTooCoarse));
    }

    #[test]
    fn a_target_leads_back_only_to_the_own_port_on_an_own_address() {
        let cases = [
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.3.2.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:81", "0.0.0.0:80", false),
            ("192.0.2.1:80", "0.0.0.0:80", false),
            ("[::1]:80", "0.0.0.0:80", false),
            ("[::1]:80", "[::]:80", true),
            ("127.0.0.1:80", "[::]:80", true),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("[fe80::1%2]:80", "[fe80::1%2]:80", true),
            ("[fe80::1%2]:80", "[fe80::1%3]:80", false),
        ];
        for (target, listen, expected) in cases {
            let reached = reaches(target.parse().unwrap(), listen.parse().unwrap());
            assert_eq!(reached, expected, "{target} from {listen}");
        }
    }
}

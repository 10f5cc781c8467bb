//! The place where the status is served, as the command line takes it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::error::ConfigError;
use crate::config::host::Host;
use crate::config::setters::invalid;
use crate::config::{Config, decimal};
use crate::limits::STATUS_PATH_BYTES;

/// The places that `--status` takes.
pub(crate) const STATUS_TAKES: &str = "a port of 127.0.0.1, an address with a port such as 192.0.2.9:9100, or a path with a / for a Unix socket";

/// A place to serve the status. Needs the feature `status`: without it, no value of this type exists.
///
/// `Display` writes text that parses to the same place. A bare port is on 127.0.0.1, so an address that other
/// hosts can reach must be spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// The text is not a place to serve the status. Needs the feature `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidStatusAddress;

impl fmt::Display for InvalidStatusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {STATUS_TAKES}")
    }
}

impl std::error::Error for InvalidStatusAddress {}

impl FromStr for StatusAddress {
    type Err = InvalidStatusAddress;

    #[inline(never)]
    fn from_str(text: &str) -> Result<Self, InvalidStatusAddress> {
        let place = if text.contains('/') { Some(Self::Unix(text.into())) } else { tcp(text) };
        place.filter(Self::can_be_served_on).ok_or(InvalidStatusAddress)
    }
}

fn tcp(text: &str) -> Option<StatusAddress> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
    let port = decimal(port)?;
    // An IPv6 address needs brackets, because its colons hide where the port begins.
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').filter(|host| host.contains(':'))?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some(StatusAddress::Tcp(host.parse::<Host>().ok()?.at(port)))
}

impl fmt::Display for StatusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address @ SocketAddr::V4(_)) => address.fmt(f),
            Self::Tcp(address) => write!(f, "[{}]:{}", Host::from(*address), address.port()),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Config {
    /// Returns where the status is served. None: it is not served. Needs the feature `status`.
    #[must_use]
    pub fn status(&self) -> Option<&StatusAddress> {
        self.status.as_ref()
    }

    /// Serves a status page, metrics and JSON there, over HTTP: `--status`. None: does not serve the status. Needs
    /// the feature `status`.
    ///
    /// # Errors
    /// No connection could reach it: a multicast or broadcast address, a link-local one without its zone, or port 0.
    /// Or the path has no slash, has white space or control characters, is longer than 103 bytes, or is not UTF-8.
    pub fn set_status(&mut self, place: Option<StatusAddress>) -> Result<&mut Self, ConfigError> {
        if let Some(place) = place.as_ref().filter(|place| !place.can_be_served_on()) {
            return Err(invalid("--status", place, STATUS_TAKES.into()));
        }
        self.status = place;
        Ok(self)
    }
}

impl StatusAddress {
    /// Returns the TCP address. None: the place is a path.
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Returns whether the status can be served there, and the place is one word of a command line.
    pub(crate) fn can_be_served_on(&self) -> bool {
        match self {
            Self::Tcp(address) => address.port() != 0 && Host::from(*address).can_be_listened_on(),
            Self::Unix(path) => path.to_str().is_some_and(|path| {
                let is_plain = |letter: char| !letter.is_whitespace() && !letter.is_control();
                path.contains('/') && path.len() <= STATUS_PATH_BYTES && path.chars().all(is_plain)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_port_is_on_loopback_and_any_other_address_is_spelled_out() {
        for (text, written) in [
            ("9100", "127.0.0.1:9100"),
            ("192.0.2.9:9100", "192.0.2.9:9100"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::]:65535", "[::]:65535"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
            ("[::ffff:192.0.2.9]:80", "192.0.2.9:80"),
            ("./status", "./status"),
            ("/run/tcprelay/8080", "/run/tcprelay/8080"),
        ] {
            let place: StatusAddress = text.parse().unwrap();
            assert_eq!(place.to_string(), written);
            assert_eq!(written.parse(), Ok(place));
        }
    }

    #[test]
    fn a_place_that_cannot_be_reached_or_is_not_one_word_is_refused() {
        let long = format!("/{}", "p".repeat(STATUS_PATH_BYTES));
        assert!(long[1..].parse::<StatusAddress>().is_err() && long[..103].parse::<StatusAddress>().is_ok());
        for text in [
            "",
            "0",
            "65536",
            "+80",
            ":80",
            "127.0.0.1:",
            "127.0.0.1:0",
            "127.0.0.1",
            "localhost:9100",
            "::1:80",
            "[::1]",
            "[127.0.0.1]:80",
            "[::1:80",
            "224.0.0.1:80",
            "[fe80::1]:80",
            "status",
            "/run/a b",
            "/run/a\nb",
            &long,
        ] {
            assert_eq!(text.parse::<StatusAddress>(), Err(InvalidStatusAddress), "{text:?}");
        }
    }
}

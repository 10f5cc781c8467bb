//! The options on the way that packets take: the source address, the interfaces and the marks of packets.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::config::Config;
use crate::config::error::ConfigError;
use crate::config::host::{Host, InvalidHost};
use crate::config::setters::invalid;
use crate::limits::DSCP_MAX;
use crate::sys::net::is_interface;

/// The value of `--source` that stands for the requester's own address.
const REQUESTER: &str = "requester";
/// The values that the interface options take.
pub(crate) const INTERFACE_TAKES: &str = "an interface of this host: see 'ip link'";
/// The values that `--dscp` takes.
pub(crate) const DSCP_TAKES: &str = "a number from 0 to 63";

/// The interfaces, and the marks of packets. None: the system chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// `--source-interface`, by name.
    pub(crate) source_interface: Option<String>,
    /// `--bind-interface`, by name.
    pub(crate) bind_interface: Option<String>,
    /// `--mark`.
    pub(crate) mark: Option<NonZeroU32>,
    /// `--dscp`.
    pub(crate) dscp: Option<u8>,
}

/// The address that connections to the target come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An address of this host.
    Host(Host),
    /// The requester's own address, with a port that the system chooses.
    Requester,
}

/// Converts an address of this host.
impl<T: Into<Host>> From<T> for Source {
    fn from(host: T) -> Self {
        Self::Host(host.into())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Requester => f.write_str(REQUESTER),
        }
    }
}

/// Parses a value of `--source`.
impl FromStr for Source {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if text == REQUESTER { Ok(Self::Requester) } else { text.parse().map(Self::Host) }
    }
}

impl Source {
    /// Returns the local address of a connection made for `requester`. Its port is 0: the system chooses.
    pub(crate) fn of(self, requester: SocketAddr) -> SocketAddr {
        match self {
            Self::Host(host) => host.at(0),
            Self::Requester => Host::from(requester).at(0),
        }
    }
}

impl Config {
    /// Sets the address that connections to the target come from: `--source`. None: the system chooses.
    ///
    /// # Errors
    /// It is not the address of one host, or it is of the other address family than the target.
    pub fn set_source(&mut self, source: Option<Source>) -> Result<&mut Self, ConfigError> {
        if let Some(Source::Host(host)) = source {
            let suits = self.target.is_ipv4().is_none_or(|ipv4| host.ip().is_ipv4() == ipv4);
            if !host.can_be_connected_to() || !suits {
                return Err(invalid("--source", &host, self.source_taken()));
            }
        }
        self.source = source;
        Ok(self)
    }

    /// Returns the values that `--source` takes.
    pub(crate) fn source_taken(&self) -> String {
        if self.target.is_ipv4().is_none() {
            return format!("an address of this host, or {REQUESTER}");
        }
        let family = self.target_family();
        format!("one {family} address of this host, as <trg host> is {family}, or {REQUESTER}")
    }

    /// Returns the name of the target's address family.
    pub(crate) fn target_family(&self) -> &'static str {
        if self.target.is_ipv4() == Some(true) { "IPv4" } else { "IPv6" }
    }

    /// Reaches the target through this interface only: `--source-interface`. None: the system chooses.
    ///
    /// # Errors
    /// This host has no interface of this name.
    pub fn set_source_interface(&mut self, name: Option<&str>) -> Result<&mut Self, ConfigError> {
        self.way.source_interface = interface("--source-interface", name)?;
        Ok(self)
    }

    /// Listens on this interface only: `--bind-interface`. None: on all of them.
    ///
    /// # Errors
    /// This host has no interface of this name.
    pub fn set_bind_interface(&mut self, name: Option<&str>) -> Result<&mut Self, ConfigError> {
        self.way.bind_interface = interface("--bind-interface", name)?;
        Ok(self)
    }

    /// Marks the packets to the target, for routing and netfilter rules: `--mark`. None: no mark.
    pub fn set_mark(&mut self, mark: Option<NonZeroU32>) -> &mut Self {
        self.way.mark = mark;
        self
    }

    /// Sets the DSCP of the packets to both sides, 0 to 63: `--dscp`. None: the system's default.
    ///
    /// # Errors
    /// It is out of this range.
    pub fn set_dscp(&mut self, dscp: Option<u8>) -> Result<&mut Self, ConfigError> {
        if let Some(dscp) = dscp.filter(|&dscp| dscp > DSCP_MAX) {
            return Err(invalid("--dscp", &dscp, DSCP_TAKES.into()));
        }
        self.way.dscp = dscp;
        Ok(self)
    }

    /// Returns the interface through which the target is reached. None: the system chooses.
    #[must_use]
    pub fn source_interface(&self) -> Option<&str> {
        self.way.source_interface.as_deref()
    }

    /// Returns the interface that the relay listens on. None: all of them.
    #[must_use]
    pub fn bind_interface(&self) -> Option<&str> {
        self.way.bind_interface.as_deref()
    }

    /// Returns the mark of packets to the target. None: no mark.
    #[must_use]
    pub fn mark(&self) -> Option<NonZeroU32> {
        self.way.mark
    }

    /// Returns the DSCP of packets to both sides. None: the system's default.
    #[must_use]
    pub fn dscp(&self) -> Option<u8> {
        self.way.dscp
    }
}

fn interface(option: &'static str, name: Option<&str>) -> Result<Option<String>, ConfigError> {
    match name {
        Some(name) if !is_interface(name) => Err(invalid(option, &name, INTERFACE_TAKES.into())),
        name => Ok(name.map(String::from)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    /// Returns the option that was refused, and its value.
    fn refusal<T>(set: Result<T, ConfigError>) -> (&'static str, String) {
        match set.map(|_| ()) {
            Err(ConfigError::Option { option, given, .. }) => (option, given),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_source_and_a_target_are_of_one_family() {
        let mut config = Config::new(([127, 0, 0, 1], 0).into(), ([192, 0, 2, 7], 80)).unwrap();
        config.set_source(Some(IpAddr::from(Ipv4Addr::LOCALHOST).into())).unwrap();
        let of_another_family: SocketAddr = "[2001:db8::7]:80".parse().unwrap();
        assert_eq!(refusal(config.set_target(of_another_family)).0, "--source");
        assert_eq!(config.target().address(), Some(([192, 0, 2, 7], 80).into()));
        let other_family: IpAddr = Ipv6Addr::LOCALHOST.into();
        assert_eq!(refusal(config.set_source(Some(other_family.into()))), ("--source", "::1".into()));
        // A requester may be of either family.
        config.set_source(Some(Source::Requester)).unwrap().set_target(of_another_family).unwrap();
    }
}

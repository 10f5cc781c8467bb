//! A host as the command line takes it: an address, or the name of a target.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use crate::resolve::Name;
use crate::sys::net::interface_index;

/// An IPv4 or IPv6 address. A link-local IPv6 address means nothing without its zone, the interface
/// that it is on: `fe80::1%eth0`, by name or by index. No other address has one.
///
/// An IPv4-mapped address becomes an IPv4 address. `Display` writes the zone as an index, and its text parses to
/// the same host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    ip: IpAddr,
    /// The interface's index; 0: the address has no zone.
    zone: u32,
}

/// The text is not an address, its zone is missing or unknown, or it has a zone and is not link-local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHost;

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no address, or a link-local one without its zone, as in fe80::1%eth0")
    }
}

impl std::error::Error for InvalidHost {}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let (address, zone) = match text.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (text, None),
        };
        let ip = address.parse::<IpAddr>().map_err(|_| InvalidHost)?.to_canonical();
        let zone = match zone {
            Some(zone) if is_link_local(ip) => interface_index(zone).ok_or(InvalidHost)?,
            None if !is_link_local(ip) => 0,
            _ => return Err(InvalidHost),
        };
        Ok(Self { ip, zone })
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

impl From<SocketAddr> for Host {
    fn from(address: SocketAddr) -> Self {
        let zone = match address {
            SocketAddr::V6(address) if address.ip().is_unicast_link_local() => address.scope_id(),
            _ => 0,
        };
        Self { ip: address.ip().to_canonical(), zone }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self { ip: ip.to_canonical(), zone: 0 }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)?;
        if self.zone == 0 { Ok(()) } else { write!(f, "%{}", self.zone) }
    }
}

impl Host {
    /// Returns the bare address.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.ip
    }

    /// Returns whether a connection to the address can reach one host.
    #[must_use]
    pub fn can_be_connected_to(self) -> bool {
        self.can_be_listened_on() && !self.ip.is_unspecified()
    }

    /// Returns whether a connection can arrive at the address.
    #[must_use]
    pub fn can_be_listened_on(self) -> bool {
        let has_its_zone = (self.zone != 0) == is_link_local(self.ip);
        has_its_zone && !self.ip.is_multicast() && !matches!(self.ip, IpAddr::V4(ip) if ip.is_broadcast())
    }

    /// Returns the socket address of a port on this host.
    #[must_use]
    pub fn at(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.zone).into(),
        }
    }
}

/// The host of a target: an address, or with `--resolve` a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetHost {
    /// An address.
    Address(Host),
    /// A name. The relay looks up its addresses.
    Name(Name),
}

impl TargetHost {
    /// Returns the address, unless it is a name.
    #[must_use]
    pub fn address(&self) -> Option<Host> {
        match self {
            Self::Address(host) => Some(*host),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(host) => host.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the name and the index of the loopback interface.
    fn zone() -> (&'static str, u32) {
        ["lo", "lo0"].into_iter().find_map(|name| Some((name, interface_index(name)?))).unwrap()
    }

    #[test]
    fn a_link_local_address_has_its_zone_by_name_or_index_and_is_written_with_the_index() {
        let (name, index) = zone();
        let by_name: Host = format!("fe80::1%{name}").parse().unwrap();
        let written = format!("fe80::1%{index}");
        assert_eq!(by_name.to_string(), written);
        assert_eq!(written.parse(), Ok(by_name));
        let SocketAddr::V6(address) = by_name.at(80) else { panic!() };
        assert_eq!((address.port(), address.scope_id()), (80, index));
        assert_eq!(Host::from(SocketAddr::V6(address)), by_name);
    }

    #[test]
    fn other_addresses_have_no_zone_and_a_mapped_one_is_ipv4() {
        for (text, written) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::", "::"),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!(host.to_string(), written);
            assert_eq!(written.parse(), Ok(host));
        }
    }

    #[test]
    fn a_zone_that_is_missing_unknown_or_out_of_place_is_refused() {
        let (name, index) = zone();
        let misplaced = ["192.0.2.1", "2001:db8::1", "::1", "::", "::ffff:192.0.2.1", "ff02::1"];
        for address in misplaced {
            assert_eq!(format!("{address}%{name}").parse::<Host>(), Err(InvalidHost), "{address}");
            assert_eq!(format!("{address}%{index}").parse::<Host>(), Err(InvalidHost), "{address}");
        }
        for text in
            ["fe80::1", "fe80::1%", "fe80::1%0", "fe80::1%no-such-if", "febf::1", "fe80::1%4294967296"]
        {
            assert_eq!(text.parse::<Host>(), Err(InvalidHost), "{text}");
        }
        assert_eq!(format!("fe80::1%{name}%{name}").parse::<Host>(), Err(InvalidHost));
        assert_eq!(format!("[fe80::1%{name}]").parse::<Host>(), Err(InvalidHost));
    }
}

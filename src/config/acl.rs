//! The access list: the `<ACL>` argument and the entries of `--allow` and `--deny`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::decimal;

/// One entry of an access list.
///
/// Its text is `ANY` in any case, or `ip/mask` with a prefix length or, for IPv4, a dotted mask. Parsing clears
/// the host bits, so an entry is a whole network. `Display` writes the shortest form that parses to the same entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Every address.
    Any,
    /// The addresses of one network.
    Net(IpNet),
}

/// The text is not an entry of an access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidEntry;

impl fmt::Display for InvalidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "neither ANY nor a network such as 10.0.0.0/8; one address is 192.0.2.7/32 or 2001:db8::7/128",
        )
    }
}

impl std::error::Error for InvalidEntry {}

impl FromStr for Entry {
    type Err = InvalidEntry;

    fn from_str(text: &str) -> Result<Self, InvalidEntry> {
        if text.eq_ignore_ascii_case("ANY") {
            return Ok(Self::Any);
        }
        let (address, mask) = text.split_once('/').ok_or(InvalidEntry)?;
        let net = match address.parse().map_err(|_| InvalidEntry)? {
            IpAddr::V4(address) => v4_net(address, mask).map(IpNet::V4),
            IpAddr::V6(address) => v6_net(address, mask).map(IpNet::V6),
        };
        Ok(net.ok_or(InvalidEntry)?.into())
    }
}

fn v4_net(address: Ipv4Addr, mask: &str) -> Option<Ipv4Net> {
    match mask.parse() {
        Ok(mask) => Ipv4Net::with_netmask(address, mask).ok(),
        Err(_) => Ipv4Net::new(address, decimal(mask)?).ok(),
    }
}

fn v6_net(address: Ipv6Addr, mask: &str) -> Option<Ipv6Net> {
    Ipv6Net::new(address, decimal(mask)?).ok()
}

/// Returns the IPv4 network that a network of IPv4-mapped addresses stands for. Others stay as they are.
fn canonical_net(net: Ipv6Net) -> IpNet {
    let mapped = net.addr().to_ipv4_mapped().zip(net.prefix_len().checked_sub(96));
    let v4 = mapped.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    v4.map_or(IpNet::V6(net), IpNet::V4)
}

/// Converts a network: clears its host bits, and turns IPv4-mapped addresses into IPv4.
impl From<IpNet> for Entry {
    fn from(net: IpNet) -> Self {
        let net = match net {
            IpNet::V4(_) => net,
            IpNet::V6(net) => canonical_net(net),
        };
        Self::Net(net.trunc())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("ANY"),
            Self::Net(net) => net.fmt(f),
        }
    }
}

impl Entry {
    /// Returns the entry as a whole network. An entry that a caller made may have host bits.
    pub(crate) fn whole(self) -> Self {
        match self {
            Self::Any => self,
            Self::Net(net) => net.into(),
        }
    }

    /// Returns whether the entry covers `address`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Net(net) => net.contains(&address.to_canonical()),
        }
    }
}

/// The whole access list. An entry that denies overrides every entry that admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// The `<ACL>` argument first, then each `--allow`.
    pub(crate) admit: Vec<Entry>,
    /// Each `--deny`.
    pub(crate) deny: Vec<Entry>,
}

impl Acl {
    /// Returns the entries that admit: `<ACL>`, then each `--allow`.
    #[must_use]
    pub fn admitted(&self) -> &[Entry] {
        &self.admit
    }

    /// Returns the entries that deny.
    #[must_use]
    pub fn denied(&self) -> &[Entry] {
        &self.deny
    }

    /// Returns whether a requester at `address` may connect. IPv4-mapped addresses count as IPv4.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let named = |entries: &[Entry]| entries.iter().any(|entry| entry.contains(address));
        !named(&self.deny) && named(&self.admit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_network_is_written_the_same_way() {
        let cases = [
            ("any", "ANY"),
            ("aNy", "ANY"),
            ("192.168.100.0/24", "192.168.100.0/24"),
            ("192.168.100.7/24", "192.168.100.0/24"),
            ("192.168.100.30/255.255.255.255", "192.168.100.30/32"),
            ("192.168.100.30/255.255.254.0", "192.168.100.0/23"),
            ("1.2.3.4/0.0.0.0", "0.0.0.0/0"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("10.0.0.1/08", "10.0.0.0/8"),
            ("2001:db8::7/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3/95", "::fffe:0:0/95"),
        ];
        for (text, canonical) in cases {
            let entry: Entry = text.parse().unwrap_or_else(|_| panic!("{text} was refused"));
            assert_eq!(entry.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(entry), "{canonical}");
        }
    }

    #[test]
    fn malformed_entries_are_refused() {
        for text in [
            "",
            "/",
            "ANY ",
            " ANY",
            "ANYONE",
            "1.2.3.4",
            "1.2.3.4/",
            "/24",
            "1.2.3.4/33",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "1.2.3.4/ 8",
            "1.2.3.4/255.0.255.0",
            "1.2.3.4/0.0.0.255",
            "1.2.3/24",
            "01.2.3.4/8",
            "1.2.3.4/8/8",
            "1.2.3.4/8,5.6.7.8/8",
            "1.2.3.4/8 5.6.7.8/8",
            "::1/129",
            "::1/255.0.0.0",
            "::1",
            "[::1]/128",
            "1.2.3.4/999999999999999999999999999999",
            "1.2.3.4/255.255.255.256",
            "localhost/8",
        ] {
            assert_eq!(text.parse::<Entry>(), Err(InvalidEntry), "{text:?}");
        }
    }

    #[test]
    fn a_mapped_requester_is_matched_as_ipv4() {
        let net: Entry = "10.0.0.0/8".parse().unwrap();
        assert!(net.contains(ip("10.9.9.9")));
        assert!(net.contains(ip("::ffff:10.9.9.9")));
        assert!(!net.contains(ip("::ffff:11.9.9.9")));
        assert!(!net.contains(ip("11.0.0.0")));
        let six: Entry = "::/0".parse().unwrap();
        assert!(six.contains(ip("::1")));
        assert!(!six.contains(ip("::ffff:10.9.9.9")));
    }

    #[test]
    fn a_deny_overrides_the_entries_that_admit() {
        let entries = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let acl = Acl { admit: entries(&["10.0.0.0/8", "::1/128"]), deny: entries(&["10.1.0.0/16"]) };
        assert!(acl.admits(ip("10.2.0.1")));
        assert!(acl.admits(ip("::1")));
        assert!(!acl.admits(ip("10.1.0.1")));
        assert!(!acl.admits(ip("::ffff:10.1.0.1")));
        assert!(!acl.admits(ip("192.0.2.1")));
    }
}

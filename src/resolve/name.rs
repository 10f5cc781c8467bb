//! Host names: their syntax, and the addresses that a name may have.

use std::fmt;
use std::net::IpAddr;

use crate::limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX};

/// A host name of valid syntax.
///
/// `Display` writes the text that was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The labels with dots between them, as they were written.
    text: String,
    /// Whether a trailing dot exempts the name from the search domains.
    absolute: bool,
}

/// The text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName;

impl Name {
    /// Parses a name: labels of letters, digits, hyphens and underscores, with dots between them.
    /// A trailing dot makes it absolute.
    ///
    /// # Errors
    /// A label or the name is empty or too long, a label begins with a hyphen or has another character, or the last
    /// label has only digits, which is a mistyped IPv4 address.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let (text, absolute) = match text.strip_suffix('.') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let is_label = |label: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && !label.starts_with('-')
                && label.bytes().all(allowed)
        };
        let last = text.rsplit('.').next().unwrap_or(text);
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() > NAME_BYTES_MAX || is_number || !text.split('.').all(is_label) {
            return Err(InvalidName);
        }
        Ok(Self { text: text.into(), absolute })
    }

    /// Returns this name inside `domain`. None: that would be too long.
    #[must_use]
    pub fn inside(&self, domain: &Self) -> Option<Self> {
        let text = format!("{}.{}", self.text, domain.text);
        (text.len() <= NAME_BYTES_MAX).then_some(Self { text, absolute: true })
    }

    /// Returns whether the name is exempt from the search domains.
    #[must_use]
    pub fn is_absolute(&self) -> bool {
        self.absolute
    }

    /// Returns the number of dots between the labels.
    #[must_use]
    pub fn dots(&self) -> usize {
        self.labels().count() - 1
    }

    /// Returns the labels, each of 1 to 63 bytes.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.text.split('.')
    }

    /// Returns whether `text` is this name, ignoring case.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        text.strip_suffix('.').unwrap_or(text).eq_ignore_ascii_case(&self.text)
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no host name")
    }
}

impl std::error::Error for InvalidName {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.absolute { "." } else { "" })
    }
}

/// Adds an address that a relay can connect to, unless it is there already or its family has `most_of_family`.
///
/// Unspecified, multicast, broadcast, link-local and IPv4-mapped addresses are left out. An unspecified address
/// would mean this machine, a link-local one needs a zone, and an IPv4-mapped one belongs to the other family.
pub(super) fn keep(addresses: &mut Vec<IpAddr>, address: IpAddr, most_of_family: usize) {
    let usable = match address {
        IpAddr::V4(four) => !(four.is_unspecified() || four.is_multicast() || four.is_broadcast()),
        IpAddr::V6(six) => {
            let special = six.is_unspecified() || six.is_multicast() || six.is_unicast_link_local();
            !special && six.to_ipv4_mapped().is_none()
        }
    };
    let of_family = addresses.iter().filter(|kept| kept.is_ipv4() == address.is_ipv4()).count();
    if usable && of_family < most_of_family && !addresses.contains(&address) {
        addresses.push(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_hyphens_underscores_and_dots() {
        let longest = [&"a".repeat(63)[..], &"b".repeat(63), &"c".repeat(63), &"d".repeat(61)].join(".");
        for text in ["db", "DB-1.example", "_x._tcp.example.org.", "1.a", "x", "a1.b2", "a-", &longest] {
            assert_eq!(Name::parse(text).map(|name| name.to_string()), Ok(text.into()));
        }
        assert!(Name::parse(&format!("{longest}.")).is_ok(), "the trailing dot does not count");
        let long_label = "a".repeat(64);
        let too_long = format!("{longest}d");
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "a b",
            "a/b",
            "a:1",
            "ä",
            "1",
            "1.2.3",
            "a.1",
            "a.1.",
            "a\n",
            "a\0",
            "*",
            "-",
            "a.-b",
            &long_label,
            &too_long,
        ] {
            assert_eq!(Name::parse(text), Err(InvalidName), "{text:?}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_connected_to_are_left_out() {
        let mut kept = Vec::new();
        for text in [
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "fe80::1",
            "::ffff:192.0.2.1",
            "10.0.0.1",
        ] {
            keep(&mut kept, text.parse().unwrap(), 2);
        }
        assert_eq!(kept, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn the_addresses_of_each_family_are_limited() {
        let mut kept = Vec::new();
        for text in ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "::2", "::3", "::4"] {
            keep(&mut kept, text.parse().unwrap(), 2);
        }
        let texts: Vec<_> = kept.iter().map(IpAddr::to_string).collect();
        assert_eq!(texts, ["10.0.0.1", "10.0.0.2", "::2", "::3"]);
    }
}

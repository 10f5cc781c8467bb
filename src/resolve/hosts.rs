//! The hosts file: names whose addresses need no server.

use std::net::IpAddr;

use crate::limits::NAME_ADDRESSES_MAX;
use crate::resolve::name::{Name, keep};

/// Returns the addresses that the text of a hosts file gives to a name, in the file's order.
///
/// A line has an address and its names; `#` begins a comment. Malformed lines are skipped.
#[must_use]
pub fn addresses(text: &str, name: &Name) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_ascii_whitespace();
        let address = words.next().and_then(|word| word.parse().ok());
        if let Some(address) = address.filter(|_| words.any(|word| name.is(word))) {
            keep(&mut found, address, NAME_ADDRESSES_MAX);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# 10.0.0.9 db\n127.0.0.1\tlocalhost\n\n10.0.0.1 db.example db # db2\n\
                        10.0.0.2 DB\r\nnonsense db\n10.0.0.1 db db\n::1 localhost db\n10.0.0.3";

    #[test]
    fn a_name_has_the_addresses_of_all_its_lines() {
        let find = |name: &str| -> Vec<String> {
            addresses(TEXT, &Name::parse(name).unwrap()).iter().map(IpAddr::to_string).collect()
        };
        assert_eq!(find("db"), ["10.0.0.1", "10.0.0.2", "::1"]);
        assert_eq!(find("Db.Example."), ["10.0.0.1"]);
        assert_eq!(find("localhost"), ["127.0.0.1", "::1"]);
        for other in ["db2", "d", "example", "nonsense"] {
            assert_eq!(find(other), [""; 0], "{other}");
        }
    }
}

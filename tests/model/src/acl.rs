//! Entries of an access list against an oracle that does its own arithmetic.
//!
//! An input is text: an entry on the first line, and addresses to match against it on the others.

use std::net::IpAddr;

use tcprelay::internal::acl::Entry;

/// The meaning of an entry, as the oracle reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Every address.
    Any,
    /// The addresses that share the first `prefix` bits of `base`.
    Net { base: Bits, prefix: u32 },
}

/// An address as a number. An IPv4-mapped address counts as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    number: u128,
    width: u32,
}

impl Bits {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self { number: u32::from(address).into(), width: 32 },
            IpAddr::V6(address) => Self { number: address.into(), width: 128 },
        }
    }

    fn address(self) -> IpAddr {
        match u32::try_from(self.number) {
            Ok(number) if self.width == 32 => IpAddr::V4(number.into()),
            _ => IpAddr::V6(self.number.into()),
        }
    }

    /// Returns a mask of the bits behind a prefix.
    fn host_mask(self, prefix: u32) -> u128 {
        (0..self.width - prefix).fold(0, |mask, bit| mask | 1 << bit)
    }
}

impl Meaning {
    /// Reads an entry; `None` if it must be refused.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if text.chars().map(|letter| letter.to_ascii_uppercase()).eq("ANY".chars()) {
            return Some(Self::Any);
        }
        let slash = text.find('/')?;
        let (address, mask) = (text[..slash].parse::<IpAddr>().ok()?, &text[slash + 1..]);
        let prefix = match (address, dotted(mask)) {
            (IpAddr::V4(_), Some(mask)) => {
                let ones = mask.count_ones();
                // A mask without holes has all its ones first.
                (0..32).all(|bit| (mask & 1 << (31 - bit) != 0) == (bit < ones)).then_some(ones)?
            }
            (IpAddr::V4(_), None) => decimal(mask, 32)?,
            (IpAddr::V6(_), _) => decimal(mask, 128)?,
        };
        let (base, prefix) = match address {
            IpAddr::V4(_) => (Bits::of(address), prefix),
            // A network of mapped addresses only is an IPv4 network; a wider one is not.
            IpAddr::V6(six) if prefix >= 96 && six.to_ipv4_mapped().is_some() => {
                (Bits::of(address), prefix - 96)
            }
            IpAddr::V6(six) => (Bits { number: six.into(), width: 128 }, prefix),
        };
        let number = base.number & !base.host_mask(prefix);
        Some(Self::Net { base: Bits { number, ..base }, prefix })
    }

    /// Returns whether the entry admits `address`.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let Self::Net { base, prefix } = self else { return true };
        let address = Bits::of(address);
        address.width == base.width && (address.number ^ base.number) & !base.host_mask(prefix) == 0
    }

    /// Returns the shortest text with the same meaning.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Any => "ANY".into(),
            Self::Net { base, prefix } => format!("{}/{prefix}", base.address()),
        }
    }

    /// Returns the network's first and last address, and the ones next to them outside.
    fn edges(self) -> Vec<IpAddr> {
        let Self::Net { base, prefix } = self else { return Vec::new() };
        let (first, last) = (base.number, base.number | base.host_mask(prefix));
        let numbers = [Some(first), Some(last), first.checked_sub(1), last.checked_add(1)];
        let fits = |number: &u128| base.width == 128 || *number <= u128::from(u32::MAX);
        numbers.into_iter().flatten().filter(fits).map(|number| Bits { number, ..base }.address()).collect()
    }
}

/// Reads four decimal numbers up to 255, with dots between them and no leading zeros.
fn dotted(text: &str) -> Option<u32> {
    let parts: Vec<_> = text.split('.').collect();
    let plain = |part: &&str| part.len() <= 3 && (part.len() == 1 || !part.starts_with('0'));
    if parts.len() != 4 || !parts.iter().all(plain) {
        return None;
    }
    parts.iter().try_fold(0, |mask, part| Some(mask << 8 | decimal(part, 255)?))
}

/// Reads decimal digits as a number of at most `most`.
fn decimal(text: &str, most: u32) -> Option<u32> {
    let digit = |number: u32, letter: char| {
        // Stops just above `most`, so that no number of digits overflows.
        Some((number * 10 + letter.to_digit(10)?).min(most + 1))
    };
    let number = text.chars().try_fold(0, digit)?;
    (!text.is_empty() && number <= most).then_some(number)
}

/// Checks one input.
///
/// # Panics
/// The relay and the oracle disagree.
pub fn check(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let mut lines = text.split('\n');
    let line = lines.next().unwrap_or("");
    let (parsed, meaning) = (line.parse::<Entry>(), Meaning::read(line));
    let (Ok(entry), Some(meaning)) = (parsed, meaning) else {
        assert!(parsed.is_err() && meaning.is_none(), "{line:?} is {parsed:?}, but means {meaning:?}");
        return;
    };
    assert_eq!(entry.to_string(), meaning.text(), "the text of {line:?}");
    assert_eq!(entry.to_string().parse(), Ok(entry), "the text of {line:?}, read again");
    let tried = lines.filter_map(|line| line.parse().ok());
    for address in tried.chain(meaning.edges()) {
        assert_eq!(entry.contains(address), meaning.contains(address), "{address} in {line:?}");
        if let IpAddr::V4(four) = address {
            let mapped = IpAddr::V6(four.to_ipv6_mapped());
            assert_eq!(entry.contains(mapped), meaning.contains(address), "{mapped} in {line:?}");
        }
    }
}

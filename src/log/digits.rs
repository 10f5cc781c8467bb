//! Numbers and IPv4 addresses as text. Most lines of the log have one. `core::fmt` writes it in many small steps,
//! each through a formatter, which took a thousand instructions for an address. This takes a tenth of that.

use std::net::Ipv4Addr;

use crate::limits::DIGITS_MAX;

/// The text of a number or an IPv4 address. It is written from the end to the start.
pub(super) struct Digits {
    bytes: [u8; DIGITS_MAX],
    start: usize,
}

impl Digits {
    const fn new() -> Self {
        Self { bytes: [0; DIGITS_MAX], start: DIGITS_MAX }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    #[allow(clippy::cast_possible_truncation)] // It is a digit.
    fn push_number(&mut self, mut number: u64) {
        loop {
            self.push(b'0' + (number % 10) as u8);
            number /= 10;
            if number == 0 {
                break;
            }
        }
    }
}

impl From<u64> for Digits {
    fn from(number: u64) -> Self {
        let mut digits = Self::new();
        digits.push_number(number);
        digits
    }
}

impl From<Ipv4Addr> for Digits {
    fn from(address: Ipv4Addr) -> Self {
        let [first, rest @ ..] = address.octets();
        let mut digits = Self::new();
        for octet in rest.into_iter().rev() {
            digits.push_number(octet.into());
            digits.push(b'.');
        }
        digits.push_number(first.into());
        digits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(digits: impl Into<Digits>) -> String {
        String::from_utf8(digits.into().as_bytes().to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn the_text_equals_that_of_the_standard_library(number: u64, shift in 0..64_u32, address: [u8; 4]) {
            let address = Ipv4Addr::from(address);
            prop_assert_eq!(text(address), address.to_string());
            for number in [number >> shift, 0, u64::MAX] {
                prop_assert_eq!(text(number), number.to_string());
            }
        }
    }

    #[test]
    fn the_longest_and_the_shortest_address_fit() {
        assert_eq!(text(Ipv4Addr::BROADCAST), "255.255.255.255");
        assert_eq!(text(Ipv4Addr::UNSPECIFIED), "0.0.0.0");
    }
}

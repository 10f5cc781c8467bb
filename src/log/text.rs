//! The text of a message: fixed words with values between them.
//!
//! Every connection has eight lines in the log. Its words, numbers and addresses go straight behind the lines that
//! wait, which takes two thirds of the instructions that `core::fmt` takes.

use std::fmt::{self, Display};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::config::status::StatusAddress;
use crate::log::digits::Digits;
use crate::log::reason::{Addresses, Errno};
use crate::pool::totals::Totals;
use crate::session::ended::{Destination, Progress, Serial};

/// Stands where a value belongs.
const PLACE: [u8; 2] = *b"{}";

/// Where the text of a message goes. One type has both places, because the code that writes the texts is large.
pub(crate) enum Text<'a, 'f> {
    /// Behind the lines that wait, without a formatter in between.
    Line(&'a mut Vec<u8>),
    /// To the caller of `Display`.
    Formatter(&'a mut fmt::Formatter<'f>),
}

/// A value between the words.
pub(super) enum Part<'a> {
    Number(u64),
    Address(IpAddr),
    Other(&'a dyn Display),
}

/// A type whose values stand between the words.
pub(super) trait AsPart {
    fn part(&self) -> Part<'_>;
}

impl Text<'_, '_> {
    /// Writes `words`, with a value at each of the places.
    pub(super) fn write(&mut self, words: &str, places: &[u8], values: &[Part<'_>]) -> fmt::Result {
        let mut start = 0;
        for (&place, value) in places.iter().zip(values) {
            let place = usize::from(place);
            self.write_words(&words[start..place])?;
            self.write_value(value)?;
            start = place + PLACE.len();
        }
        self.write_words(&words[start..])
    }

    #[inline]
    fn write_words(&mut self, words: &str) -> fmt::Result {
        match self {
            Self::Line(line) => line.extend_from_slice(words.as_bytes()),
            Self::Formatter(formatter) => formatter.write_str(words)?,
        }
        Ok(())
    }

    #[inline]
    fn write_value(&mut self, value: &Part<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => match *value {
                Part::Number(number) => line.extend_from_slice(Digits::from(number).as_bytes()),
                Part::Address(IpAddr::V4(address)) => {
                    line.extend_from_slice(Digits::from(address).as_bytes());
                }
                _ => write!(line, "{value}").map_err(|_| fmt::Error)?,
            },
            // Not the caller's width and flags, which are for the whole text.
            Self::Formatter(formatter) => write!(formatter, "{value}")?,
        }
        Ok(())
    }
}

impl Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Other(other) => other.fmt(f),
        }
    }
}

/// Returns where in `words` values belong.
///
/// # Panics
/// There are not `COUNT` places, or one of them is beyond the reach of a byte. It is called when the program is built.
#[allow(clippy::cast_possible_truncation)] // The assertion excludes it.
pub(super) const fn places<const COUNT: usize>(words: &str) -> [u8; COUNT] {
    let bytes = words.as_bytes();
    let (mut places, mut number, mut at) = ([0; COUNT], 0, 0);
    while at + 1 < bytes.len() {
        if bytes[at] == PLACE[0] && bytes[at + 1] == PLACE[1] {
            assert!(at <= u8::MAX as usize, "the places of a text are in its first 256 bytes");
            places[number] = at as u8;
            number += 1;
        }
        at += 1;
    }
    assert!(number == COUNT, "a text has a place for each value");
    places
}

/// A text in quotation marks, with what is not printable escaped.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl AsPart for IpAddr {
    fn part(&self) -> Part<'_> {
        Part::Address(*self)
    }
}

impl AsPart for Serial {
    fn part(&self) -> Part<'_> {
        Part::Number(self.get())
    }
}

impl AsPart for usize {
    fn part(&self) -> Part<'_> {
        Part::Number(*self as u64)
    }
}

macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl AsPart for $number {
            fn part(&self) -> Part<'_> {
                Part::Number((*self).into())
            }
        }
    )* };
}

macro_rules! others {
    ($($other:ty)*) => { $(
        impl AsPart for $other {
            fn part(&self) -> Part<'_> {
                Part::Other(self)
            }
        }
    )* };
}

numbers! { u16 u32 u64 }
others! { String &str Addresses Destination Errno Progress Quoted<'_> SocketAddr StatusAddress Totals }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_belong_where_the_braces_are() {
        assert!(places::<0>("neither } nor {").is_empty());
        assert_eq!(places::<2>("{} of {}."), [0, 6]);
    }

    #[test]
    #[should_panic(expected = "a text has a place for each value")]
    fn a_text_with_fewer_places_than_values_is_refused() {
        places::<1>("nothing");
    }

    #[test]
    fn a_line_has_the_same_text_as_a_formatter() {
        struct Shown;
        impl Display for Shown {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_all(&mut Text::Formatter(f))
            }
        }
        fn write_all(text: &mut Text<'_, '_>) -> fmt::Result {
            let addresses: [IpAddr; 2] = [[192, 0, 2, 7].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
            let values = [7_u16.part(), addresses[0].part(), addresses[1].part(), Part::Other(&Quoted("\t"))];
            let words = "{} {} {} {}.";
            text.write(words, &places::<4>(words), &values)
        }
        let mut line = Vec::new();
        write_all(&mut Text::Line(&mut line)).unwrap();
        assert_eq!(line, b"7 192.0.2.7 2001:db8::1 \"\\t\".");
        assert_eq!(Shown.to_string().into_bytes(), line);
        assert_eq!(format!("{Shown:10}").into_bytes(), line);
    }
}

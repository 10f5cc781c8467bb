//! The facts for every answer, and the text of their times and amounts.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use mio::net::TcpStream;

use crate::config::Config;
use crate::pool::Pool;
use crate::relay::status::rates::Rates;
use crate::relay::target::choice::TargetState;
use crate::sys::status::Process;

/// The relay as an answer sees it.
pub(super) struct View<'a> {
    pub(super) config: &'a Config,
    /// The address that the relay listens on.
    pub(super) listen: SocketAddr,
    pub(super) pool: &'a Pool<TcpStream>,
    pub(super) targets: &'a [TargetState],
    /// The numbers of lookups that found addresses and that failed; `None`: no target is a name.
    pub(super) lookups: Option<[u64; 2]>,
    pub(super) now: Instant,
    pub(super) lines_dropped: u64,
    pub(super) is_draining: bool,
    pub(super) facts: &'a Facts,
}

/// Facts that the status keeps for itself.
#[derive(Debug)]
pub(super) struct Facts {
    /// The start of the relay.
    pub(super) started: SystemTime,
    pub(super) started_at: Instant,
    pub(super) rates: Rates,
    pub(super) process: Process,
}

impl View<'_> {
    /// Returns the time since the start.
    pub(super) fn age(&self) -> Duration {
        self.now.saturating_duration_since(self.facts.started_at)
    }
}

/// Seconds, given in thousandths, and written with no more digits than they need.
pub(super) struct Thousandths(pub(super) u64);

impl Thousandths {
    pub(super) fn of(time: Duration) -> Self {
        Self(time.as_millis().try_into().unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, mut part, mut digits) = (self.0 / 1000, self.0 % 1000, 3);
        if part == 0 {
            return whole.fmt(f);
        }
        while part % 10 == 0 {
            (part, digits) = (part / 10, digits - 1);
        }
        write!(f, "{whole}.{part:0digits$}")
    }
}

/// A time for people, in its two largest units.
pub(super) struct Spoken(pub(super) Duration);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (large, small, names) = match seconds {
            0..60 => return write!(f, "{seconds} s"),
            60..3600 => (seconds / 60, seconds % 60, ["min", "s"]),
            3600..86_400 => (seconds / 3600, seconds / 60 % 60, ["h", "min"]),
            _ => (seconds / 86_400, seconds / 3600 % 24, ["d", "h"]),
        };
        write!(f, "{large} {} {small} {}", names[0], names[1])
    }
}

/// Bytes for people.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut count, mut tenths) = (self.0, 0);
        for unit in ["B", "kB", "MB", "GB", "TB"] {
            if count < 1000 {
                return if count < 100 && unit != "B" {
                    write!(f, "{count}.{tenths} {unit}")
                } else {
                    write!(f, "{count} {unit}")
                };
            }
            (count, tenths) = (count / 1000, count % 1000 / 100);
        }
        write!(f, "{count} PB")
    }
}

/// Text between quotes, escaped for JSON and the metrics.
pub(super) struct Quoted<'a>(pub(super) &'a dyn fmt::Display);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write!(Escaped { f, escape: Escape::Quoted }, "{}", self.0)?;
        f.write_char('"')
    }
}

/// Text escaped for HTML.
pub(super) struct Html<'a>(pub(super) &'a dyn fmt::Display);

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaped { f, escape: Escape::Html }, "{}", self.0)
    }
}

/// Writes text with some of its characters escaped.
struct Escaped<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    escape: Escape,
}

#[derive(Clone, Copy)]
enum Escape {
    Quoted,
    Html,
}

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|letter| match (self.escape, letter) {
            (Escape::Quoted, '"' | '\\') => write!(self.f, "\\{letter}"),
            (Escape::Quoted, _) if letter.is_control() => write!(self.f, "\\u{:04x}", u32::from(letter)),
            (Escape::Html, '&' | '<' | '>' | '"' | '\'') => write!(self.f, "&#{};", u32::from(letter)),
            _ => self.f.write_char(letter),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandths_are_written_without_trailing_zeros() {
        for (thousandths, written) in [
            (0, "0"),
            (1, "0.001"),
            (10, "0.01"),
            (500, "0.5"),
            (1000, "1"),
            (1050, "1.05"),
            (86_400_000, "86400"),
        ] {
            assert_eq!(Thousandths(thousandths).to_string(), written);
        }
    }

    #[test]
    fn people_read_two_units_of_a_time_and_three_digits_of_an_amount() {
        for (seconds, written) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(Spoken(Duration::from_secs(seconds)).to_string(), written);
        }
        for (bytes, written) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_950, "99.9 kB"),
            (100_000, "100 kB"),
            (2_500_000, "2.5 MB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), written);
        }
        assert_eq!(Bytes(u64::MAX).to_string(), "18446 PB");
    }

    #[test]
    fn text_stays_between_its_quotes_and_has_no_meaning_to_a_browser() {
        assert_eq!(Quoted(&"a\"b\\c\n\u{7f}é").to_string(), "\"a\\\"b\\\\c\\u000a\\u007fé\"");
        assert_eq!(Html(&"<b a='1' c=\"2\">&").to_string(), "&#60;b a=&#39;1&#39; c=&#34;2&#34;&#62;&#38;");
    }
}

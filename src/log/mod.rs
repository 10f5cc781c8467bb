//! The log: the lines of turns that follow each other at once go out together, and nothing that happens to the
//! output can block the relay, end it, or make it write half a line.
//!
//! Lines wait in a buffer of fixed size. A line that does not fit, because the output has not taken
//! the lines before it, is dropped and counted. Once all lines that waited are out, a line gives the
//! count, at the place where the lines are missing.
//!
//! The output is shared with other processes, so its flags are not touched. `Output` knows how to
//! write to it without blocking. On a pipe, each write holds whole lines and is small enough for the
//! kernel to pass it on in one piece: the lines of other writers come between ours, never inside.

mod digits;
mod facts;
pub(crate) mod fields;
#[cfg(feature = "json")]
mod json;
mod lines;
pub(crate) mod message;
pub(crate) mod reason;

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use crate::config::LogStyle;
use crate::limits::{LINE_BYTES, LOG_BYTES};
use crate::log::lines::Lines;
use crate::log::message::Message;
use crate::sys::output::Output;
use crate::sys::uninterrupted;

/// Takes the messages of a relay: a [`Log`], a closure, or a type of the caller's.
///
/// A sink needs `message`; the other methods serve outputs that gather messages, or can block. The relay waits while
/// a sink handles a message, so a slow sink slows every session.
pub trait Sink {
    /// Takes a message.
    fn message(&mut self, message: &Message);

    /// Ends a turn of the loop. A sink that gathers messages passes them on here.
    fn end_turn(&mut self) {}

    /// Returns whether messages wait for [`end_turn`](Self::end_turn). Where the next turn follows at once, the relay
    /// calls it after that one, though no later than 10 ms after the first message.
    fn is_gathering(&self) -> bool {
        false
    }

    /// Takes the last message.
    fn close(&mut self, message: &Message) {
        self.message(message);
    }

    /// Returns the descriptor that blocks the sink, until it is writable; `None`: the sink is not blocked. The
    /// relay watches it, and then calls [`flush`](Self::flush).
    fn blocked_on(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Passes on what was gathered, without blocking.
    fn flush(&mut self) {}

    /// Tries to make room for a message, and returns whether there is room. A status report waits for it.
    fn make_room(&mut self) -> bool {
        true
    }

    /// Returns the number of lines dropped since the start, for the status.
    fn dropped(&self) -> u64 {
        0
    }
}

impl<F: FnMut(&Message)> Sink for F {
    fn message(&mut self, message: &Message) {
        self(message);
    }
}

/// The log of a relay.
#[derive(Debug)]
pub struct Log {
    output: Output,
    lines: Lines,
    /// Lines that the output has not taken yet.
    waiting: Vec<u8>,
    /// The first waiting line lacks its beginning, which the output has taken.
    begun: bool,
    /// Lines dropped and not reported yet.
    drops_unreported: u64,
    /// All lines dropped.
    dropped: u64,
    /// The output did not take all it was given last.
    blocked: bool,
    /// Lines were added since the last flush.
    fresh: bool,
}

impl Log {
    /// A log to the process's STDOUT.
    ///
    /// # Errors
    /// STDOUT cannot be duplicated for lack of descriptors.
    pub fn stdout(style: LogStyle) -> io::Result<Self> {
        Ok(Self::new(Output::stdout()?, Lines::on_stdout(style)))
    }

    /// A log to any descriptor.
    #[must_use]
    pub fn to(descriptor: OwnedFd, style: LogStyle) -> Self {
        Self::new(Output::of(descriptor), Lines::new(style))
    }

    /// Writes one message to STDOUT, and waits until it is taken. Only for a process that does
    /// nothing else.
    ///
    /// # Errors
    /// STDOUT does not take it.
    pub fn print(message: &Message, style: LogStyle) -> io::Result<()> {
        let (mut line, lines) = (Vec::new(), Lines::on_stdout(style));
        lines.append(&mut line, message, lines.have_time().then(SystemTime::now));
        io::stdout().write_all(&line)
    }

    fn new(output: Output, lines: Lines) -> Self {
        Self {
            output,
            lines,
            waiting: Vec::with_capacity(LOG_BYTES),
            begun: false,
            drops_unreported: 0,
            dropped: 0,
            blocked: false,
            fresh: false,
        }
    }

    /// Whether a line would be taken. No line may come before the count of those dropped before it.
    fn has_room(&self) -> bool {
        self.drops_unreported == 0 && self.waiting.len() + LINE_BYTES <= LOG_BYTES
    }

    fn note_drops(&mut self, lines: u64) {
        self.drops_unreported += lines;
        self.dropped += lines;
    }

    /// Drops the waiting lines, but for the rest of one that has begun.
    fn give_up_waiting(&mut self) {
        let rest = if self.begun { line_length(&self.waiting) } else { 0 };
        let lines = self.waiting[rest..].split_inclusive(|&byte| byte == b'\n').count();
        self.waiting.truncate(rest);
        self.note_drops(lines as u64);
    }

    fn append(&mut self, message: &Message) {
        let start = self.waiting.len();
        let time = self.lines.have_time().then(SystemTime::now);
        self.lines.append(&mut self.waiting, message, time);
        debug_assert!(self.waiting.len() - start <= LINE_BYTES);
    }

    fn write_out(&mut self) {
        let mut written = 0;
        while written < self.waiting.len() {
            let piece = whole_lines(&self.waiting[written..], self.output.atomic_bytes());
            match uninterrupted(|| self.output.write(piece)) {
                Ok(count) if count > 0 => {
                    written += count;
                    self.begun = self.waiting[written - 1] != b'\n';
                }
                // A full disk or a reader that is gone may come back: the lines wait as well.
                _ => break,
            }
        }
        self.waiting.drain(..written);
    }

    /// Writes the count of dropped lines, once no line from before waits. A count that the output does
    /// not take is not kept as a line: it may still grow.
    fn report_drops(&mut self) {
        if self.drops_unreported == 0 || !self.waiting.is_empty() {
            return;
        }
        self.append(&Message::LinesDropped { lines_dropped: self.drops_unreported });
        let length = self.waiting.len();
        self.write_out();
        if self.waiting.len() == length {
            self.waiting.clear();
        } else {
            self.drops_unreported = 0;
        }
    }
}

impl Sink for Log {
    /// Adds a message, to go out with [`end_turn`](Self::end_turn), if its level is wanted. It is dropped if there
    /// is no room for it.
    fn message(&mut self, message: &Message) {
        if !self.lines.wants(message) {
            return;
        }
        self.fresh = true;
        // A blocked output is tried once a turn, not once a line.
        if self.has_room() || !self.blocked && self.make_room() {
            self.append(message);
        } else {
            self.note_drops(self.lines.count(message));
        }
    }

    /// Ends a turn: hands its lines to the output.
    fn end_turn(&mut self) {
        if self.fresh {
            self.flush();
        }
    }

    fn is_gathering(&self) -> bool {
        self.fresh
    }

    /// Ends the log with `message`. Lines that the output does not take now are given up. If it still
    /// takes one line, that line is their count.
    fn close(&mut self, message: &Message) {
        self.message(message);
        self.flush();
        if self.blocked {
            self.give_up_waiting();
            self.flush();
        }
    }

    fn blocked_on(&self) -> Option<BorrowedFd<'_>> {
        self.blocked.then(|| self.output.as_fd())
    }

    /// Hands the waiting lines to the output, without blocking.
    fn flush(&mut self) {
        self.fresh = false;
        self.write_out();
        self.report_drops();
        self.blocked = !self.waiting.is_empty() || self.drops_unreported > 0;
    }

    /// Tries to make room for a line, and returns whether there is room.
    fn make_room(&mut self) -> bool {
        if !self.has_room() {
            self.flush();
        }
        self.has_room()
    }

    /// Lines dropped since the start.
    fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// The first lines of `lines` that fit into a write of `most` bytes. A line that is longer than that
/// comes alone.
fn whole_lines(lines: &[u8], most: usize) -> &[u8] {
    if lines.len() <= most {
        return lines;
    }
    let end = lines[..most].iter().rposition(|&byte| byte == b'\n');
    let length = end.map_or_else(|| line_length(lines), |end| end + 1);
    &lines[..length]
}

/// The length of the first line, its line break included.
fn line_length(lines: &[u8]) -> usize {
    let end = lines.iter().position(|&byte| byte == b'\n');
    end.map_or(lines.len(), |end| end + 1)
}

//! The log. The lines of back-to-back turns are written together. Nothing that happens to the output can block
//! the relay, end it, or leave half a line.
//!
//! Lines wait in a buffer of fixed size. A line that does not fit, because the output has not taken
//! the lines before it, is dropped and counted. Once all waiting lines are out, a line reports the
//! count, at the place where the lines are missing.
//!
//! The output is shared with other processes, so its flags are not touched. `Output` knows how to
//! write to it without blocking. On a pipe, each write holds whole lines and at most `PIPE_BUF` bytes, so it is
//! atomic: the lines of other writers come between ours, never inside them.

mod digits;
mod facts;
pub(crate) mod fields;
#[cfg(feature = "json")]
mod json;
mod lines;
pub(crate) mod message;
pub(crate) mod reason;
mod text;

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
/// A sink needs `message`. The other methods are for outputs that gather messages, or that can block. The relay
/// waits while a sink handles a message, so a slow sink slows every session.
pub trait Sink {
    /// Takes a message.
    fn message(&mut self, message: &Message);

    /// Ends a turn of the loop. A sink that gathers messages passes them on here.
    fn end_turn(&mut self) {}

    /// Returns whether messages wait for [`end_turn`](Self::end_turn). If the next turn follows at once, the relay
    /// may leave that call to it. The call comes no later than 10 ms after the first message.
    fn is_gathering(&self) -> bool {
        false
    }

    /// Takes the relay's last message.
    fn close(&mut self, message: &Message) {
        self.message(message);
    }

    /// Returns the descriptor that must be writable before the sink can go on. None: the sink is not blocked. The
    /// relay watches the descriptor, and calls [`flush`](Self::flush) when it is writable.
    fn blocked_on(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Passes on the gathered messages, without blocking.
    fn flush(&mut self) {}

    /// Tries to make room for a message, and returns whether there is room. A status report waits until there is.
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

/// A log that writes lines to a descriptor.
#[derive(Debug)]
pub struct Log {
    output: Output,
    lines: Lines,
    /// Lines that the output has not taken yet.
    waiting: Vec<u8>,
    /// Whether the output has taken the beginning of the first waiting line.
    begun: bool,
    /// Dropped lines that are not reported yet.
    drops_unreported: u64,
    /// Lines dropped since the start.
    dropped: u64,
    /// Whether the last flush left lines, or a count of dropped ones, that the output did not take.
    blocked: bool,
    /// Whether a message has come since the last flush.
    fresh: bool,
}

impl Log {
    /// Returns a log that writes to the process's STDOUT.
    ///
    /// # Errors
    /// STDOUT cannot be duplicated for lack of descriptors.
    pub fn stdout(style: LogStyle) -> io::Result<Self> {
        Ok(Self::new(Output::stdout()?, Lines::on_stdout(style)))
    }

    /// Returns a log that writes to this descriptor.
    #[must_use]
    pub fn to(descriptor: OwnedFd, style: LogStyle) -> Self {
        Self::new(Output::of(descriptor), Lines::new(style))
    }

    /// Writes one message to STDOUT, and blocks until it is written. Only for a process that does
    /// nothing else.
    ///
    /// # Errors
    /// The write has failed.
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

    /// Returns whether the next line can be added. It must not precede the count of the lines dropped before it.
    fn has_room(&self) -> bool {
        self.drops_unreported == 0 && self.waiting.len() + LINE_BYTES <= LOG_BYTES
    }

    fn note_drops(&mut self, lines: u64) {
        self.drops_unreported += lines;
        self.dropped += lines;
    }

    /// Drops and counts the waiting lines, except the rest of a line that is partly written.
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
                // A full disk may have room again, and a FIFO a new reader, so after an error the lines wait too.
                _ => break,
            }
        }
        self.waiting.drain(..written);
    }

    /// Writes the count of dropped lines, once no earlier line waits. If the output takes none of that line, the
    /// line is removed again, because the count may still grow.
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
    /// Adds a message if `--log-level` keeps it, to be written by [`end_turn`](Self::end_turn). Drops it if there is
    /// no room.
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

    /// Ends a turn: passes its lines to the output.
    fn end_turn(&mut self) {
        if self.fresh {
            self.flush();
        }
    }

    fn is_gathering(&self) -> bool {
        self.fresh
    }

    /// Ends the log with `message`. Drops the lines that the output does not take now. If the output still takes
    /// one line, that line is their count.
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

    /// Passes the waiting lines to the output, without blocking.
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

    /// Returns the number of lines dropped since the start.
    fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Returns the first of these lines, as many as fit into a write of `most` bytes. A line longer than that is
/// returned alone.
fn whole_lines(lines: &[u8], most: usize) -> &[u8] {
    if lines.len() <= most {
        return lines;
    }
    let end = lines[..most].iter().rposition(|&byte| byte == b'\n');
    let length = end.map_or_else(|| line_length(lines), |end| end + 1);
    &lines[..length]
}

/// Returns the length of the first line, including its line break.
fn line_length(lines: &[u8]) -> usize {
    let end = lines.iter().position(|&byte| byte == b'\n');
    end.map_or(lines.len(), |end| end + 1)
}

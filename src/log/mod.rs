//! The log: the lines of a turn go out together, and nothing that happens to the output can block
//! the relay, end it, or make it write half a line.
//!
//! Lines wait in a buffer of fixed size. A line that does not fit, because the output has not taken
//! the lines before it, is dropped and counted. Once all lines that waited are out, a line gives the
//! count, at the place where the lines are missing.
//!
//! The output is shared with other processes, so its flags are not touched. `Output` knows how to
//! write to it without blocking. On a pipe, each write holds whole lines and is small enough for the
//! kernel to pass it on in one piece: the lines of other writers come between ours, never inside.

mod json;
mod lines;
pub(crate) mod message;
pub(crate) mod reason;

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};
use std::time::SystemTime;

use crate::config::LogStyle;
use crate::limits::{LINE_BYTES, LOG_BYTES};
use crate::log::lines::Lines;
use crate::log::message::Message;
use crate::sys::output::Output;
use crate::sys::uninterrupted;

/// Takes the bytes of the log.
pub trait Sink {
    /// Writes what it can of `bytes` without blocking; returns how many it took.
    ///
    /// # Errors
    /// It took none.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// The longest write that other writers' bytes cannot split.
    fn atomic_bytes(&self) -> usize;
}

impl Sink for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Output::write(self, bytes)
    }

    fn atomic_bytes(&self) -> usize {
        Output::atomic_bytes(self)
    }
}

/// The log of a relay.
#[derive(Debug)]
pub struct Log<S = Output> {
    sink: S,
    lines: Lines,
    /// Lines that the sink has not taken yet.
    waiting: Vec<u8>,
    /// The first waiting line lacks its beginning, which the sink has taken.
    begun: bool,
    /// Lines dropped and not reported yet.
    drops_unreported: u64,
    /// All lines dropped.
    dropped: u64,
    /// The sink did not take all it was given last.
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
        Self::with_sink(Output::of(descriptor), style)
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
}

impl<S: Sink> Log<S> {
    /// A log to a sink of one's own.
    #[must_use]
    pub fn with_sink(sink: S, style: LogStyle) -> Self {
        Self::new(sink, Lines::new(style))
    }

    fn new(sink: S, lines: Lines) -> Self {
        Self {
            sink,
            lines,
            waiting: Vec::with_capacity(LOG_BYTES),
            begun: false,
            drops_unreported: 0,
            dropped: 0,
            blocked: false,
            fresh: false,
        }
    }

    /// Adds a message, to go out at the end of the turn, if its level is wanted. It is dropped if there
    /// is no room for it.
    pub fn say(&mut self, message: &Message) {
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

    /// Tries to make room for a line, and returns whether there is room.
    pub fn make_room(&mut self) -> bool {
        if !self.has_room() {
            self.flush();
        }
        self.has_room()
    }

    /// Whether a line would be taken. No line may come before the count of those dropped before it.
    fn has_room(&self) -> bool {
        self.drops_unreported == 0 && self.waiting.len() + LINE_BYTES <= LOG_BYTES
    }

    fn note_drops(&mut self, lines: u64) {
        self.drops_unreported += lines;
        self.dropped += lines;
    }

    /// Lines dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Ends a turn: hands its lines to the output.
    pub fn end_turn(&mut self) {
        if self.fresh {
            self.flush();
        }
    }

    /// Hands the waiting lines to the output, without blocking.
    pub fn flush(&mut self) {
        self.fresh = false;
        self.write_out();
        self.report_drops();
        self.blocked = !self.waiting.is_empty() || self.drops_unreported > 0;
    }

    /// Ends the log with `message`. Lines that the output does not take now are given up. If it still
    /// takes one line, that line is their count.
    pub fn close(&mut self, message: &Message) {
        self.say(message);
        self.flush();
        if self.blocked {
            self.give_up_waiting();
            self.flush();
        }
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
            let piece = whole_lines(&self.waiting[written..], self.sink.atomic_bytes());
            match uninterrupted(|| self.sink.write(piece)) {
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

impl<S: AsFd> Log<S> {
    /// The descriptor to watch while the output is blocked: it becomes writable when the blockade ends.
    #[must_use]
    pub fn blocked_on(&self) -> Option<RawFd> {
        self.blocked.then(|| self.sink.as_fd().as_raw_fd())
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

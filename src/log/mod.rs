//! The log: the lines of a turn go out in one write, and nothing that happens to the output can
//! block the relay, end it, or make it write half a line.
//!
//! Lines wait in a buffer of fixed size. What does not fit, because the output does not take what
//! came before, is dropped and counted; once there is room again, a line tells the count at the
//! place where the lines are missing.
//!
//! The output is shared with other processes, so its flags are not touched. How it is written to
//! without blocking depends on what it is, as `Output` tells.

mod json;
pub(crate) mod message;

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::time::SystemTime;

use crate::config::LogFormat;

use crate::limits::{LINE_BYTES, LOG_BYTES};
use crate::log::message::Message;
use crate::sys::output::Output;
use crate::sys::uninterrupted;

/// Where the messages go.
#[derive(Debug)]
pub struct Log {
    output: Output,
    format: LogFormat,
    timestamps: bool,
    /// Lines that the output has not taken yet; the first may lack its beginning.
    waiting: Vec<u8>,
    /// Lines dropped since the last one that told so.
    untold: u64,
    /// All lines dropped.
    dropped: u64,
    /// The output did not take all it was given last.
    blocked: bool,
    /// Lines were said since the last flush.
    fresh: bool,
}

impl Log {
    /// A log to the process's STDOUT.
    ///
    /// # Errors
    /// STDOUT cannot be duplicated for lack of descriptors.
    pub fn stdout((format, timestamps): (LogFormat, bool)) -> io::Result<Self> {
        Ok(Self::new(Output::stdout()?, format, timestamps))
    }

    /// A log to any descriptor.
    #[must_use]
    pub fn to(descriptor: OwnedFd, (format, timestamps): (LogFormat, bool)) -> Self {
        Self::new(Output::of(descriptor), format, timestamps)
    }

    fn new(output: Output, format: LogFormat, timestamps: bool) -> Self {
        let waiting = Vec::with_capacity(LOG_BYTES);
        Self { output, format, timestamps, waiting, untold: 0, dropped: 0, blocked: false, fresh: false }
    }

    /// Adds a line, to go out at the end of the turn. It is dropped if there is no room for it.
    pub fn say(&mut self, message: &Message) {
        self.fresh = true;
        // A blocked output is tried once a turn, not once a line.
        if self.has_room() || !self.blocked && self.make_room() {
            self.append(message);
        } else {
            self.untold += 1;
            self.dropped += 1;
        }
    }

    /// Whether a line would be taken, after trying to make it so.
    pub fn make_room(&mut self) -> bool {
        if !self.has_room() {
            self.flush();
        }
        self.has_room()
    }

    /// Whether a line would be taken. Once lines were dropped, none must come before their count.
    fn has_room(&self) -> bool {
        self.untold == 0 && self.has_space()
    }

    fn has_space(&self) -> bool {
        self.waiting.len() + LINE_BYTES <= LOG_BYTES
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
        if self.untold > 0 && self.has_space() {
            let count = std::mem::take(&mut self.untold);
            self.append(&Message::LinesDropped(count));
            self.write_out();
        }
    }

    /// The descriptor whose readiness to be written ends a blockade, while there is one.
    #[must_use]
    pub fn blocked_on(&self) -> Option<RawFd> {
        self.blocked.then(|| self.output.as_fd().as_raw_fd())
    }

    fn append(&mut self, message: &Message) {
        let start = self.waiting.len();
        let time = self.timestamps.then(|| humantime::format_rfc3339_millis(SystemTime::now()));
        let written = match self.format {
            LogFormat::Json => json::write(&mut self.waiting, message, time),
            LogFormat::Text => match time {
                Some(time) => writeln!(self.waiting, "{time} {message}"),
                None => writeln!(self.waiting, "{message}"),
            },
        };
        // Writing to memory does not fail; should it, there is no half line.
        if written.is_err() {
            self.waiting.truncate(start);
        }
        debug_assert!(self.waiting.len() - start <= LINE_BYTES);
    }

    fn write_out(&mut self) {
        let mut written = 0;
        while written < self.waiting.len() {
            match uninterrupted(|| self.output.write(&self.waiting[written..])) {
                Ok(count) if count > 0 => written += count,
                // A full disk or a reader that is gone may come back: the lines wait as well.
                _ => break,
            }
        }
        self.waiting.drain(..written);
        self.blocked = !self.waiting.is_empty();
    }
}

//! The log: the lines of a turn go out in one write, and nothing that happens to the output can
//! block the relay, end it, or make it write half a line.
//!
//! Lines wait in a buffer of fixed size. What does not fit, because the output does not take what
//! came before, is dropped and counted; once there is room again, a line tells the count at the
//! place where the lines are missing.
//!
//! The output is shared with other processes, so its flags are not touched. How it is written to
//! without blocking depends on what it is, as `Output` tells.

use std::io::{self, IoSlice, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::config::LogFormat;
use crate::json;
use crate::limits::{LINE_BYTES, LOG_BYTES};
use crate::message::Message;
use crate::stream::uninterrupted;

/// The most that is written at once where the write itself cannot be told not to block: a pipe that
/// is ready takes that much (`PIPE_BUF`), and a terminal promises no more than one byte.
const READY_PIPE_BYTES: usize = 4096;
const READY_TERMINAL_BYTES: usize = 1;

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

/// What the log is written to, by the way in which a write is kept from blocking.
#[derive(Debug)]
enum Output {
    /// A file, or a device that never blocks: a plain write.
    Plain(OwnedFd),
    /// A pipe or a socket: each write asks not to wait.
    #[cfg(target_os = "linux")]
    NoWait(OwnedFd),
    /// A terminal, opened again for ourselves, so that `O_NONBLOCK` is only ours.
    Reopened(OwnedFd),
    /// None of these works: write only when the output is ready, and no more than it must take.
    WhenReady(OwnedFd, usize),
}

impl Output {
    fn stdout() -> io::Result<Self> {
        Ok(Self::of(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?))
    }

    fn of(descriptor: OwnedFd) -> Self {
        let kind = rustix::fs::fstat(&descriptor).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            #[cfg(target_os = "linux")]
            Ok(FileType::Fifo | FileType::Socket) => Self::NoWait(descriptor),
            Ok(FileType::CharacterDevice) if rustix::termios::isatty(&descriptor) => {
                match reopen_terminal(&descriptor) {
                    Ok(reopened) => Self::Reopened(reopened),
                    Err(_) => Self::WhenReady(descriptor, READY_TERMINAL_BYTES),
                }
            }
            Ok(FileType::RegularFile | FileType::CharacterDevice) => Self::Plain(descriptor),
            _ => Self::WhenReady(descriptor, READY_PIPE_BYTES),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) | Self::Reopened(output) => Ok(rustix::io::write(output, bytes)?),
            #[cfg(target_os = "linux")]
            Self::NoWait(output) => {
                // The offset -1 stands for the current position.
                let flags = rustix::io::ReadWriteFlags::NOWAIT;
                match rustix::io::pwritev2(&*output, &[IoSlice::new(bytes)], u64::MAX, flags) {
                    Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                        write_when_ready(output.as_fd(), bytes, READY_PIPE_BYTES)
                    }
                    result => Ok(result?),
                }
            }
            Self::WhenReady(output, most) => write_when_ready(output.as_fd(), bytes, *most),
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            #[cfg(target_os = "linux")]
            Self::NoWait(output) => output.as_fd(),
            Self::Plain(output) | Self::Reopened(output) | Self::WhenReady(output, _) => output.as_fd(),
        }
    }
}

/// Opens a terminal for ourselves. After `su` it is somebody else's, and only its other name will do.
fn reopen_terminal(terminal: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let reopened = rustix::fs::open(format!("/proc/self/fd/{}", terminal.as_raw_fd()), flags, Mode::empty());
    // Only a process's own terminal tells it this.
    let is_ours = || rustix::termios::tcgetpgrp(terminal).is_ok();
    match reopened {
        Err(_) if is_ours() => Ok(rustix::fs::open("/dev/tty", flags, Mode::empty())?),
        result => Ok(result?),
    }
}

fn write_when_ready(output: BorrowedFd<'_>, bytes: &[u8], most: usize) -> io::Result<usize> {
    let mut ready = [PollFd::new(&output, PollFlags::OUT)];
    poll(&mut ready, Some(&rustix::time::Timespec::default()))?;
    if !ready[0].revents().contains(PollFlags::OUT) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(rustix::io::write(output, &bytes[..bytes.len().min(most)])?)
}

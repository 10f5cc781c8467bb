//! The log's output, and how a write to it is kept from blocking.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// The most that is written at once where the write itself cannot be told not to block: a pipe that
/// is ready takes that much (`PIPE_BUF`), and a terminal promises no more than one byte.
const READY_PIPE_BYTES: usize = 4096;
const READY_TERMINAL_BYTES: usize = 1;

/// What the log is written to, by the way in which a write is kept from blocking.
#[derive(Debug)]
pub(crate) enum Output {
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
    pub(crate) fn stdout() -> io::Result<Self> {
        Ok(Self::of(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?))
    }

    pub(crate) fn of(descriptor: OwnedFd) -> Self {
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

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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

//! The log's output, to which no write blocks.

use std::io;
#[cfg(target_os = "linux")]
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
#[cfg(target_os = "linux")]
use rustix::io::Errno;

/// The longest write to a pipe that the kernel keeps in one piece. A pipe that is ready for writing
/// takes that much.
const PIPE_BUF: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 4096 } else { 512 };

/// Bytes that a terminal is certain to take when it is ready for writing.
const READY_TERMINAL_BYTES: usize = 1;

/// The descriptor to which the log is written.
#[derive(Debug)]
pub(crate) struct Output {
    descriptor: OwnedFd,
    way: Way,
    /// The longest write that other writers' bytes cannot split.
    atomic_bytes: usize,
}

/// The way in which a write is kept from blocking.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// A plain write. A file or a device does not block. Neither does a terminal that the relay opened
    /// again, with an `O_NONBLOCK` that no other process shares.
    Plain,
    /// A write with `RWF_NOWAIT`, to a pipe or a socket.
    #[cfg(target_os = "linux")]
    NoWait,
    /// Where neither works: a write only when the output is ready, of no more bytes than it is then certain
    /// to take.
    WhenReady(usize),
}

impl Output {
    pub(crate) fn stdout() -> io::Result<Self> {
        Ok(Self::of(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?))
    }

    pub(crate) fn of(descriptor: OwnedFd) -> Self {
        let kind = rustix::fs::fstat(&descriptor).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let atomic_bytes = if matches!(kind, Ok(FileType::Fifo)) { PIPE_BUF } else { usize::MAX };
        let (descriptor, way) = match kind {
            #[cfg(target_os = "linux")]
            Ok(FileType::Fifo | FileType::Socket) => (descriptor, Way::NoWait),
            Ok(FileType::CharacterDevice) if rustix::termios::isatty(&descriptor) => {
                match reopen_terminal(&descriptor) {
                    Ok(reopened) => (reopened, Way::Plain),
                    Err(_) => (descriptor, Way::WhenReady(READY_TERMINAL_BYTES)),
                }
            }
            Ok(FileType::RegularFile | FileType::CharacterDevice) => (descriptor, Way::Plain),
            _ => (descriptor, Way::WhenReady(PIPE_BUF)),
        };
        Self { descriptor, way, atomic_bytes }
    }

    /// Writes as much as it can without blocking, and returns the number of bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.way {
            Way::Plain => Ok(rustix::io::write(&self.descriptor, bytes)?),
            #[cfg(target_os = "linux")]
            Way::NoWait => match write_no_wait(self.descriptor.as_fd(), bytes) {
                // Kernels, file systems and sandboxes refuse this call in different ways. The refusal is
                // about the call, not about the bytes, so the call is not tried again.
                Err(Errno::PERM | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
                    self.way = Way::WhenReady(PIPE_BUF);
                    self.write(bytes)
                }
                result => Ok(result?),
            },
            Way::WhenReady(most) => write_when_ready(self.descriptor.as_fd(), bytes, most),
        }
    }

    pub(crate) fn atomic_bytes(&self) -> usize {
        self.atomic_bytes
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Returns whether STDOUT is the journal, whose device and inode the service manager names.
pub(crate) fn stdout_is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(rustix::stdio::stdout())
        .is_ok_and(|stdout| named == format!("{}:{}", stdout.st_dev, stdout.st_ino))
}

/// Opens the terminal again, for the relay alone. After `su` another user owns the terminal, and only
/// /dev/tty can be opened.
fn reopen_terminal(terminal: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let reopened = rustix::fs::open(format!("/proc/self/fd/{}", terminal.as_raw_fd()), flags, Mode::empty());
    // tcgetpgrp succeeds only on the process's controlling terminal.
    let is_ours = || rustix::termios::tcgetpgrp(terminal).is_ok();
    match reopened {
        Err(_) if is_ours() => Ok(rustix::fs::open("/dev/tty", flags, Mode::empty())?),
        result => Ok(result?),
    }
}

#[cfg(target_os = "linux")]
fn write_no_wait(output: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    // The offset -1 stands for the current position.
    rustix::io::pwritev2(output, &[IoSlice::new(bytes)], u64::MAX, rustix::io::ReadWriteFlags::NOWAIT)
}

fn write_when_ready(output: BorrowedFd<'_>, bytes: &[u8], most: usize) -> io::Result<usize> {
    let mut ready = [PollFd::new(&output, PollFlags::OUT)];
    poll(&mut ready, Some(&rustix::time::Timespec::default()))?;
    if !ready[0].revents().contains(PollFlags::OUT) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(rustix::io::write(output, &bytes[..bytes.len().min(most)])?)
}

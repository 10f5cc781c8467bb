//! One side of a session: a non-blocking stream, and the readiness that is known of it.
//!
//! mio is edge-triggered: it reports a change once. So a socket latches readiness here, and only the
//! kernel's word clears the latch. EAGAIN is such a word. A read or write that moved less than it was
//! offered is another, which saves a call. A short read proves nothing at an urgent mark, because bytes
//! may follow, nor once an EOF or an error was reported. Then reads go on until EAGAIN, or until a short
//! read has taken the last bytes before a reported EOF. A short splice never proves anything, because a
//! signal or a full pipe cuts it short.
//!
//! The kernel reports an error once. The socket keeps the first one, because later calls would see
//! a clean EOF.

use std::io;
use std::mem;

use crate::limits::UNSENT_BESIDE_INTERACTIVE;
use crate::session::stream::{Connect, Readiness, Stream, Transfer};
use crate::sys::pipe::Pipe;
use crate::sys::{ECONNRESET, EPIPE, errno, is_splice_refusal, uninterrupted};

/// A stream with its latches.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Independent facts, each learned and lost on its own.
pub struct Socket<S> {
    stream: S,
    /// The kernel may have something to read.
    readable: bool,
    /// The kernel may have room to write.
    writable: bool,
    /// A short read proves nothing until the kernel returns EAGAIN.
    marked: bool,
    eof: Eof,
    fault: Fault,
    nagle: Nagle,
    /// The kernel caps the socket's unsent bytes.
    unsent_limited: bool,
    /// A FIN was sent to the peer.
    write_shut: bool,
}

/// The peer's EOF, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eof {
    /// The kernel has not reported it.
    Unknown,
    /// It was reported: a short read takes the last bytes before it.
    Reported,
    /// No bytes are left to read before it.
    Next,
}

/// The connection's error, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The kernel reported an error that no call has returned yet.
    Reported,
    /// A splice into the socket ended short. A reset may have cut it, and then the kernel no longer
    /// has the error.
    Suspected,
    /// The first error number that a call returned.
    Known(i32),
}

/// Whether Nagle's algorithm may hold a small write back. It does so only while an earlier write is
/// unacknowledged, so most short sessions need no call to switch it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nagle {
    /// No write has passed yet.
    Idle,
    /// One write has passed. Nagle would hold the next one back until that is acknowledged.
    Active,
    Off,
}

impl<S: Stream> Socket<S> {
    /// Wraps an accepted socket. It inherits its options, `TCP_NODELAY` among them, from the listener.
    pub fn accepted(stream: S) -> Self {
        Self { nagle: Nagle::Off, ..Self::connecting(stream) }
    }

    /// Wraps a socket whose connect has begun.
    pub fn connecting(stream: S) -> Self {
        Self {
            stream,
            readable: false,
            writable: false,
            marked: false,
            eof: Eof::Unknown,
            fault: Fault::None,
            nagle: Nagle::Idle,
            unsent_limited: false,
            write_shut: false,
        }
    }

    /// Returns the stream itself.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Returns the stream itself, to register it or set it up.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Latches a report of the kernel.
    pub fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        self.marked |= readiness.marked;
        if readiness.failed && self.fault == Fault::None {
            self.fault = Fault::Reported;
        }
        if readiness.eof && self.eof == Eof::Unknown {
            self.eof = Eof::Reported;
        }
    }

    /// Returns whether the kernel may have something to read.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Returns whether the kernel may have room to write.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Returns whether a clean EOF is known to follow the bytes that were read, so that no further
    /// read needs to find it.
    pub fn eof_is_next(&self) -> bool {
        self.eof == Eof::Next && !matches!(self.fault, Fault::Known(_) | Fault::Suspected)
    }

    /// Asks for a reported error on behalf of a channel that neither reads nor writes at the moment,
    /// and so would never see it.
    pub fn pending_error(&mut self) -> Option<i32> {
        match self.fault {
            Fault::Known(errno) => return Some(errno),
            Fault::None => return None,
            Fault::Reported | Fault::Suspected => {}
        }
        let error = self.stream.take_error().ok().flatten();
        if let Some(error) = error {
            return Some(self.latch(&error));
        }
        if self.fault == Fault::Reported {
            self.fault = Fault::None;
        }
        None
    }

    /// Caps the socket's unsent bytes, or lifts the cap.
    pub fn limit_unsent(&mut self, limited: bool) {
        if mem::replace(&mut self.unsent_limited, limited) != limited {
            self.stream.limit_unsent(limited);
        }
    }

    /// Returns a number of bytes that the socket is certain to take now.
    pub fn certain_room(&self) -> usize {
        if !self.writable {
            return 0;
        }
        let cap = if self.unsent_limited { UNSENT_BESIDE_INTERACTIVE as usize / 2 } else { usize::MAX };
        self.stream.certain_room().min(cap)
    }

    /// Returns the state of the connect, once the socket was reported writable.
    pub fn connect_state(&mut self) -> Connect {
        // epoll reports no event while a connect is pending, and an error if it failed. So writable and
        // nothing else means connected. Other systems only give hints.
        let connected = cfg!(target_os = "linux") && !self.marked;
        if connected || self.stream.has_peer() {
            return Connect::Done;
        }
        match self.stream.take_error() {
            Ok(None) => {
                self.writable = false;
                Connect::Pending
            }
            Ok(Some(error)) | Err(error) => {
                let errno = errno(&error);
                // A failed connect has other errors. These two mean that there was a connection, which
                // may have left bytes to read.
                if errno == ECONNRESET || errno == EPIPE {
                    self.fault = Fault::Known(errno);
                    return Connect::Done;
                }
                Connect::Failed(errno)
            }
        }
    }

    /// Reads into `room`, which must be empty and have some capacity.
    pub fn read(&mut self, room: &mut Vec<u8>) -> Transfer {
        debug_assert!(room.is_empty() && room.capacity() > 0);
        let most = room.capacity();
        if !self.readable {
            return Transfer::Blocked;
        }
        match uninterrupted(|| self.stream.read(room)) {
            Ok(0) => self.interpret_read_of_0(),
            Ok(count) => {
                if count < most && self.eof == Eof::Reported {
                    self.eof = Eof::Next;
                }
                self.readable = count == most || self.marked;
                Transfer::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                self.marked = false;
                Transfer::Blocked
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Splices up to `count` bytes into an empty pipe. `Blocked` proves nothing and clears no latch,
    /// because at an urgent mark splice(2) returns EAGAIN, or 0, forever. Only a read shows whether bytes follow.
    pub fn fill(&mut self, pipe: &Pipe, count: usize) -> Transfer {
        if !self.readable {
            return Transfer::Blocked;
        }
        match uninterrupted(|| self.stream.fill(pipe, count)) {
            Ok(0) => Transfer::Blocked,
            Ok(count) => Transfer::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Transfer::Blocked,
            Err(error) if is_splice_refusal(&error) => Transfer::Refused,
            Err(error) => self.fail(&error),
        }
    }

    /// Writes some of `bytes`, which must not be empty. With `eof_follows`, the caller must call
    /// [`shutdown_write`](Self::shutdown_write) as soon as the last of them is written.
    pub fn write(&mut self, bytes: &[u8], eof_follows: bool) -> Transfer {
        debug_assert!(!bytes.is_empty() && !self.write_shut);
        if let Some(stop) = self.prepare_write() {
            return stop;
        }
        let result = uninterrupted(|| self.stream.write(bytes, eof_follows));
        self.interpret_write(result, bytes.len())
    }

    /// Splices `count` bytes, which must be in the pipe, into the socket.
    pub fn drain(&mut self, pipe: &Pipe, count: usize) -> Transfer {
        debug_assert!(count > 0 && !self.write_shut);
        if let Some(stop) = self.prepare_write() {
            return stop;
        }
        match uninterrupted(|| self.stream.drain(pipe, count)) {
            Err(error) if is_splice_refusal(&error) => Transfer::Refused,
            result => {
                let moved = result.as_ref().map_or(count, |&moved| moved);
                // A signal can cut a splice short although there is room, so a short one clears no latch.
                let transfer = self.interpret_write(result, moved);
                if moved < count && matches!(self.fault, Fault::None | Fault::Reported) {
                    self.fault = Fault::Suspected;
                }
                transfer
            }
        }
    }

    /// Sends a FIN to the peer.
    ///
    /// # Errors
    /// The number of the connection's first error.
    pub fn shutdown_write(&mut self) -> Result<(), i32> {
        debug_assert!(!self.write_shut);
        if let Fault::Known(errno) = self.fault {
            return Err(errno);
        }
        if let Err(error) = self.stream.shutdown_write() {
            // The kernel may be holding the last bytes back for the FIN. Send them without it.
            self.stream.send_at_once();
            return Err(self.latch(&error));
        }
        self.write_shut = true;
        Ok(())
    }

    /// Returns the reason not to write now. `None`: write, and Nagle's algorithm will not delay it.
    fn prepare_write(&mut self) -> Option<Transfer> {
        if let Fault::Known(errno) = self.fault {
            return Some(Transfer::Failed(errno));
        }
        if !self.writable {
            return Some(Transfer::Blocked);
        }
        self.nagle = match self.nagle {
            Nagle::Idle => Nagle::Active,
            Nagle::Active => {
                self.stream.send_at_once();
                Nagle::Off
            }
            Nagle::Off => Nagle::Off,
        };
        None
    }

    #[inline]
    fn interpret_write(&mut self, result: io::Result<usize>, offered: usize) -> Transfer {
        match result {
            Ok(0) => {
                self.writable = false;
                Transfer::Blocked
            }
            Ok(count) => {
                self.writable = count == offered;
                if self.fault == Fault::Suspected {
                    self.fault = Fault::None;
                }
                Transfer::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Transfer::Blocked
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Interprets a read of 0: EOF, unless an error came first.
    fn interpret_read_of_0(&mut self) -> Transfer {
        if self.fault == Fault::Suspected && !self.write_shut && !self.stream.has_peer() {
            self.fault = Fault::Known(ECONNRESET);
        }
        match self.fault {
            // EPIPE alone means that the peer sent its FIN, and reset the connection after that.
            Fault::Known(errno) if errno != EPIPE => Transfer::Failed(errno),
            _ => Transfer::Eof,
        }
    }

    fn fail(&mut self, error: &io::Error) -> Transfer {
        Transfer::Failed(self.latch(error))
    }

    /// Keeps the first error and returns it.
    fn latch(&mut self, error: &io::Error) -> i32 {
        let errno = match self.fault {
            Fault::Known(first) => first,
            // The reset that the splice swallowed.
            Fault::Suspected if errno(error) == EPIPE => ECONNRESET,
            _ => errno(error),
        };
        self.fault = Fault::Known(errno);
        errno
    }
}

//! The calls that a session makes on a side's socket, and the answers to them.

use std::io;

use crate::sys::pipe::Pipe;

/// The calls that a session makes on a socket; none of them blocks.
pub trait Stream {
    /// Reads behind the bytes in `room`, up to its capacity; 0 is EOF.
    ///
    /// # Errors
    /// Those of recv(2).
    fn read(&mut self, room: &mut Vec<u8>) -> io::Result<usize>;

    /// Writes some of `bytes`. With `eof_follows`, the kernel may hold the last of them back for the
    /// FIN that the caller sends next.
    ///
    /// # Errors
    /// Those of send(2).
    fn write(&mut self, bytes: &[u8], eof_follows: bool) -> io::Result<usize>;

    /// Moves up to `count` bytes from the socket into an empty pipe.
    ///
    /// # Errors
    /// Those of splice(2).
    fn fill(&mut self, pipe: &Pipe, count: usize) -> io::Result<usize>;

    /// Moves `count` bytes from the pipe into the socket.
    ///
    /// # Errors
    /// Those of splice(2).
    fn drain(&mut self, pipe: &Pipe, count: usize) -> io::Result<usize>;

    /// Sends a FIN behind the bytes written so far.
    ///
    /// # Errors
    /// Those of shutdown(2).
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Returns whether the socket has a peer: it is neither still connecting, nor failed, nor reset.
    fn has_peer(&self) -> bool;

    /// Takes the socket's pending error (`SO_ERROR`).
    ///
    /// # Errors
    /// Those of getsockopt(2).
    fn take_error(&self) -> io::Result<Option<io::Error>>;

    /// Sends small writes at once, even while an earlier one is unacknowledged.
    fn send_at_once(&mut self);

    /// Caps the socket's unsent bytes, or lifts the cap, where the system has one.
    fn limit_unsent(&mut self, limited: bool);

    /// Makes the next close a reset, which drops the bytes that the peer has not received yet.
    fn reset_on_close(&mut self);

    /// Returns the number of written bytes that the peer's kernel has not acknowledged; `None`: the
    /// system does not say.
    fn unacknowledged(&self) -> Option<u32>;

    /// Returns a number of bytes that the socket is certain to take now; 0 where that is unknown.
    fn certain_room(&self) -> usize;
}

/// The kernel's report on a socket.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // Independent facts.
pub struct Readiness {
    /// There are bytes, an EOF or an error to read.
    pub readable: bool,
    /// There is room to write, or an error that a write returns.
    pub writable: bool,
    /// Urgent data, an EOF or an error was reported, so a short read proves nothing.
    pub marked: bool,
    /// An error was reported.
    pub failed: bool,
    /// The peer's FIN has arrived, with no error and no urgent data before it.
    pub eof: bool,
}

impl Readiness {
    /// The assumption about a socket whose reports may be unread. The next calls correct it.
    pub const UNKNOWN: Self = Self { readable: true, writable: true, marked: true, failed: true, eof: false };
}

/// The result of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// `Bytes(n)`: n bytes moved, n >= 1.
    Bytes(usize),
    /// The socket has no bytes to read, or no room to write.
    Blocked,
    /// The peer has ended its stream cleanly.
    Eof,
    /// The connection has failed, with this error number.
    Failed(i32),
    /// The kernel does not splice here; nothing moved, and nothing is wrong with the connection.
    Refused,
}

/// The state of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// No answer yet.
    Pending,
    /// There is a connection. If it was reset since, the next transfer fails.
    Done,
    /// The connect failed, with this error number.
    Failed(i32),
}

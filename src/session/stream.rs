//! The calls that a session makes on a side's socket, and the answers to them.

use std::io;

use crate::sys::outq::KernelQueue;
use crate::sys::pipe::Pipe;

/// The calls that a session makes on a socket; none of them blocks.
pub trait Stream {
    /// Reads into `room`; 0 is the end of the stream.
    ///
    /// # Errors
    /// Those of recv(2).
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize>;

    /// Writes some of `bytes`. With `end_follows`, the peer may be sent the last of them together with
    /// the end of the stream.
    ///
    /// # Errors
    /// Those of send(2).
    fn write(&mut self, bytes: &[u8], end_follows: bool) -> io::Result<usize>;

    /// Moves up to `most` bytes from the socket into an empty pipe.
    ///
    /// # Errors
    /// Those of splice(2).
    fn fill(&mut self, pipe: &Pipe, most: usize) -> io::Result<usize>;

    /// Moves `count` bytes from the pipe into the socket.
    ///
    /// # Errors
    /// Those of splice(2).
    fn drain(&mut self, pipe: &Pipe, count: usize) -> io::Result<usize>;

    /// Ends the stream that goes to the peer.
    ///
    /// # Errors
    /// Those of shutdown(2).
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether the socket has a peer: neither still connecting, nor failed, nor reset.
    fn has_peer(&self) -> bool;

    /// Takes the error that the kernel holds for the socket.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    fn take_error(&self) -> io::Result<Option<io::Error>>;

    /// Sends small writes at once, even while an earlier one is unacknowledged.
    fn send_at_once(&mut self);

    /// Says whether few bytes only may wait unsent inside the kernel, where that can be said.
    fn limit_unsent(&mut self, limited: bool);

    /// Makes the close that follows a reset, which drops what the peer has not been sent yet.
    fn reset_on_close(&mut self);

    /// Bytes written that the peer's kernel has not acknowledged, where that can be told.
    fn unacknowledged(&self, queue: &mut KernelQueue) -> Option<u32>;
}

/// What the kernel reported of a socket.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // Independent facts.
pub struct Readiness {
    /// There are bytes, an end or an error to read.
    pub readable: bool,
    /// There is room to write, or an error to get.
    pub writable: bool,
    /// Urgent data, an end or an error was reported: a short read proves nothing.
    pub marked: bool,
    /// An error was reported.
    pub failed: bool,
    /// All that the peer sends has arrived, and nothing stands before the end of the stream but bytes.
    pub ended: bool,
}

/// What a transfer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// So many bytes moved, at least one.
    Bytes(usize),
    /// The socket has nothing to give, or no room to take.
    Blocked,
    /// The stream has ended cleanly.
    End,
    /// The connection has failed, with this error number.
    Failed(i32),
    /// The kernel does not splice here; nothing moved, and nothing is wrong with the connection.
    Refused,
}

/// How a connect stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// No answer yet.
    Pending,
    /// There is a connection (if it has been reset since, the next transfer says so).
    Done,
    /// It failed, with this error number.
    Failed(i32),
}

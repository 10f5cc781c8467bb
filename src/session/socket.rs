//! One side of a session: a non-blocking stream, and what is known of its readiness.
//!
//! mio tells of a change once (it is edge-triggered), so readiness is noted here and cleared only
//! by the kernel's own word. "Would block" is such a word, and so is a read or write that moved
//! less than it was offered: that saves asking again. It is no word at an urgent mark, where a read
//! stops short with bytes behind it, nor once an end or an error was reported: then reads go on until
//! the kernel says so, or until a short one has taken the last bytes before an end that nothing else
//! stands before. A short splice never is one: a signal or a full pipe cuts it short.
//!
//! The kernel reports an error once. Whichever call gets it keeps it here, because later ones
//! would see a clean end.

use std::io;
use std::mem;

use rustix::io::Errno;

use crate::session::pipes::{self as splice};
use crate::session::stream::{Connect, Readiness, Stream, Transfer};
use crate::sys::pipe::Pipe;
use crate::sys::{errno, uninterrupted};

/// How near the end of the stream from the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing is known of it.
    Unknown,
    /// It has arrived: a short read takes the last bytes.
    Arrived,
    /// Nothing is left to read before it.
    Reached,
}

/// A stream with its latches.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Independent facts, each learned and lost on its own.
pub struct Socket<S> {
    stream: S,
    /// The kernel may have something to read.
    readable: bool,
    /// The kernel may have room to write.
    writable: bool,
    /// A short read proves nothing until the kernel says "would block".
    marked: bool,
    /// The write that comes may be small and must not wait for an acknowledgement.
    at_once: AtOnce,
    /// Few bytes only may wait unsent inside the kernel.
    unsent_limited: bool,
    /// The end of the stream from the peer.
    end: End,
    /// What arrives is not reported: the channel that reads here is blocked on its other side.
    muted: bool,
    /// An error was reported, and nobody has looked for it yet.
    failed: bool,
    /// The first error, which the kernel reports only once.
    error: Option<i32>,
    /// A splice into the socket ended short and may have swallowed the error behind it.
    doubtful: bool,
    /// The stream to the peer was ended by us.
    write_shut: bool,
}

/// Whether small writes go out at once. The first one does anyway: Nagle's algorithm holds a small
/// write back only while an earlier one is unacknowledged. So most short sessions need no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtOnce {
    /// Nothing was written yet.
    First,
    /// Something was written, and the next write would wait for its acknowledgement.
    Unset,
    /// The socket option is set.
    Set,
}

impl<S: Stream> Socket<S> {
    /// A socket that was accepted. It has its options from the listener.
    pub fn accepted(stream: S) -> Self {
        Self { at_once: AtOnce::Set, ..Self::connecting(stream) }
    }

    /// A socket whose connect has begun.
    pub fn connecting(stream: S) -> Self {
        Self {
            stream,
            readable: false,
            writable: false,
            marked: false,
            at_once: AtOnce::First,
            unsent_limited: false,
            end: End::Unknown,
            muted: false,
            failed: false,
            error: None,
            doubtful: false,
            write_shut: false,
        }
    }

    /// The stream itself.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream itself, to register or set up.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Notes what the kernel reported.
    pub fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        self.marked |= readiness.marked;
        self.failed |= readiness.failed;
        if readiness.ended && self.end == End::Unknown {
            self.end = End::Arrived;
        }
    }

    /// The error of a connection that nothing is read from or written to at the moment, so that
    /// no transfer would find it.
    pub fn failure(&mut self) -> Option<i32> {
        if mem::take(&mut self.failed) && self.error.is_none() {
            let error = self.stream.take_error();
            self.error = error.ok().flatten().map(|error| errno(&error));
        }
        self.error
    }

    /// Whether the stream from the peer is known to end cleanly behind what was read, so that no further
    /// read needs to tell.
    pub fn is_at_end(&self) -> bool {
        self.end == End::Reached && self.error.is_none() && !self.doubtful
    }

    /// Whether something may be there to read.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether there may be room to write.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Says whether few bytes only may wait unsent inside the kernel.
    pub fn limit_unsent(&mut self, limited: bool) {
        if mem::replace(&mut self.unsent_limited, limited) != limited {
            self.stream.limit_unsent(limited);
        }
    }

    /// Whether what arrives is not to be reported. Errors always are.
    pub fn is_muted(&self) -> bool {
        self.muted
    }

    /// Says whether what arrives is to be reported.
    pub fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// Says how the connect that was begun stands, once the socket was reported writable.
    pub fn connect_state(&mut self) -> Connect {
        // epoll reports a socket that still connects as nothing, and one whose connect failed as
        // failed: writable and no more is connected. Other systems only give hints.
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
                // A refusal says "refused". These say that there was a connection, which may
                // have left bytes to read.
                let established = [Errno::CONNRESET, Errno::PIPE].map(Errno::raw_os_error);
                if established.contains(&errno) {
                    self.error = Some(errno);
                    return Connect::Done;
                }
                Connect::Failed(errno)
            }
        }
    }

    /// Reads into `room`, which must not be empty.
    pub fn read(&mut self, room: &mut [u8]) -> Transfer {
        if !self.readable {
            return Transfer::Blocked;
        }
        match uninterrupted(|| self.stream.read(room)) {
            Ok(0) => self.read_end(),
            Ok(count) => {
                if count < room.len() && self.end == End::Arrived {
                    self.end = End::Reached;
                }
                self.readable = count == room.len() || self.marked;
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

    /// Splices up to `most` bytes into an empty pipe. Only `Bytes` and `Failed` mean what they say: at
    /// an urgent mark splice reports "would block", or an end, for ever; a read tells the truth.
    pub fn fill(&mut self, pipe: &Pipe, most: usize) -> Transfer {
        if !self.readable {
            return Transfer::Blocked;
        }
        match uninterrupted(|| self.stream.fill(pipe, most)) {
            Ok(0) => Transfer::Blocked,
            Ok(count) => Transfer::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Transfer::Blocked,
            Err(error) if splice::is_refusal(&error) => Transfer::Refused,
            Err(error) => self.fail(&error),
        }
    }

    /// Writes some of `bytes`, which must not be empty. With `end_follows`, the end of the stream must
    /// follow the last of them at once.
    pub fn write(&mut self, bytes: &[u8], end_follows: bool) -> Transfer {
        if let Some(errno) = self.error {
            return Transfer::Failed(errno);
        }
        if !self.writable {
            return Transfer::Blocked;
        }
        self.prepare_write();
        let result = uninterrupted(|| self.stream.write(bytes, end_follows));
        self.written(result, bytes.len())
    }

    /// Splices `count` bytes, which must be in the pipe, into the socket.
    pub fn drain(&mut self, pipe: &Pipe, count: usize) -> Transfer {
        if let Some(errno) = self.error {
            return Transfer::Failed(errno);
        }
        if !self.writable {
            return Transfer::Blocked;
        }
        self.prepare_write();
        match uninterrupted(|| self.stream.drain(pipe, count)) {
            Err(error) if splice::is_refusal(&error) => Transfer::Refused,
            result => {
                let moved = result.as_ref().map_or(count, |&moved| moved);
                // A signal cuts a splice short while there is room: only "would block" is a word.
                let transfer = self.written(result, moved);
                self.doubtful |= moved < count;
                transfer
            }
        }
    }

    /// Ends the stream to the peer.
    ///
    /// # Errors
    /// The number of the error that ended the connection before.
    pub fn shutdown_write(&mut self) -> Result<(), i32> {
        if let Some(errno) = self.error {
            return Err(errno);
        }
        if let Err(error) = self.stream.shutdown_write() {
            // The last bytes may have waited for the end. They go without it.
            self.stream.send_at_once();
            return Err(self.latch(&error));
        }
        self.write_shut = true;
        Ok(())
    }

    fn prepare_write(&mut self) {
        self.at_once = match self.at_once {
            AtOnce::First => AtOnce::Unset,
            AtOnce::Unset => {
                self.stream.send_at_once();
                AtOnce::Set
            }
            AtOnce::Set => return,
        };
    }

    fn written(&mut self, result: io::Result<usize>, offered: usize) -> Transfer {
        match result {
            Ok(0) => {
                self.writable = false;
                Transfer::Blocked
            }
            Ok(count) => {
                self.writable = count == offered;
                self.doubtful = false;
                Transfer::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Transfer::Blocked
            }
            Err(error) => self.fail(&error),
        }
    }

    /// What a read of no bytes means: it is one only if no error came before it.
    fn read_end(&mut self) -> Transfer {
        if self.doubtful && !self.write_shut && !self.stream.has_peer() {
            self.error.get_or_insert(Errno::CONNRESET.raw_os_error());
        }
        match self.error {
            // A peer that has ended its stream and then resets is told from one that only resets.
            Some(errno) if errno != Errno::PIPE.raw_os_error() || self.doubtful => Transfer::Failed(errno),
            _ => Transfer::End,
        }
    }

    fn fail(&mut self, error: &io::Error) -> Transfer {
        Transfer::Failed(self.latch(error))
    }

    fn latch(&mut self, error: &io::Error) -> i32 {
        *self.error.get_or_insert(errno(error))
    }
}

//! One direction of a session: bytes taken from one socket and delivered to the other, then EOF.
//!
//! Interactive traffic is copied through the fixed buffer. A stream that keeps filling the buffer is
//! spliced through a pipe, until it thins out. In either case the channel takes only when it has
//! delivered everything taken before. So it holds the bytes of one read or of one splice at most, and
//! a slow reader stops its writer.

use crate::limits::{FULL_READS_BEFORE_SPLICING, THIN_SPLICES_BEFORE_COPYING};
use crate::session::buffer::Buffer;
use crate::session::pipes::Pipes;
use crate::session::socket::Socket;
use crate::session::stream::{Stream, Transfer};
use crate::sys::pipe::Pipe;

/// One direction of a session.
#[derive(Debug)]
pub struct Channel {
    buffer: Buffer,
    /// A pipe with bytes in it, and their number; `None`: the channel holds no pipe.
    piped: Option<(Pipe, u32)>,
    pace: Pace,
    state: State,
    /// Bytes taken so far, from a socket or as the buffer's first bytes.
    taken: u64,
    /// Bytes delivered to the other socket. The channel holds the rest of those that were taken, until it closes.
    delivered: u64,
}

/// How the next bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Through the buffer.
    Copying {
        /// Reads in a row that have filled the buffer.
        full_reads: u8,
    },
    /// Through a pipe.
    Splicing {
        /// Splices in a row that brought no more than the buffer could hold.
        thin_splices: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More bytes may come.
    Open,
    /// EOF was read. The channel still delivers the bytes taken before it, and then passes EOF on.
    Eof,
    /// The connection that feeds the channel is dead. The channel delivers the bytes that it left behind,
    /// but passes no EOF on, because the stream was cut.
    Cut,
    /// Nothing more comes out of the channel. It has passed EOF on, unless it was cut or discarded.
    Closed,
}

/// The state in which [`Channel::pump`] leaves a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It waits until one of its sockets is ready.
    Waiting,
    /// It has used its share of the turn and could go on.
    Again,
    /// Nothing more comes out of it.
    Closed,
    /// The socket that it reads from has failed, with this error number.
    ReadFailed(i32),
    /// The socket that it writes to has failed, with this error number.
    WriteFailed(i32),
}

/// The two sockets that a channel joins, and the terms of its turn.
#[derive(Debug)]
pub struct Ends<'a, S> {
    /// The socket that the channel reads from.
    pub from: &'a mut Socket<S>,
    /// The socket that the channel writes to.
    pub to: &'a mut Socket<S>,
    /// The pipes of all sessions.
    pub pipes: &'a mut Pipes,
    /// Bytes that the channel may take in this turn.
    pub share: usize,
    /// The opposite channel is closed. So both sockets close when this channel does, which sends the FIN.
    pub last: bool,
}

impl Channel {
    /// Returns a channel that first delivers the bytes already in `buffer`.
    #[must_use]
    pub fn new(buffer: Buffer) -> Self {
        let taken = buffer.waiting().len() as u64;
        let pace = Pace::Copying { full_reads: 0 };
        Self { buffer, piped: None, pace, state: State::Open, taken, delivered: 0 }
    }

    /// Returns the bytes delivered so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Returns the sum of the bytes that have come in and of those that have gone out. It grows
    /// whenever a byte moves.
    #[must_use]
    pub fn movement(&self) -> u64 {
        self.taken + self.delivered
    }

    /// Returns whether bytes that were taken wait for room in the other socket.
    #[must_use]
    pub fn holds_bytes(&self) -> bool {
        self.taken != self.delivered && !self.is_closed()
    }

    /// Returns whether the channel holds a pipe.
    #[must_use]
    pub fn holds_pipe(&self) -> bool {
        self.piped.is_some()
    }

    /// Returns whether the channel has nothing to do until `from` is readable.
    pub fn waits_for_bytes<S: Stream>(&self, from: &Socket<S>) -> bool {
        self.state == State::Open && !self.holds_bytes() && !from.is_readable()
    }

    /// Returns whether EOF was read.
    #[must_use]
    pub fn has_read_eof(&self) -> bool {
        matches!(self.state, State::Eof | State::Closed)
    }

    /// Returns whether nothing more comes out of the channel.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Returns whether the traffic is bulk: the channel splices, or is one full read away from it.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        match self.pace {
            Pace::Copying { full_reads } => full_reads + 1 == FULL_READS_BEFORE_SPLICING,
            Pace::Splicing { .. } => true,
        }
    }

    /// Moves bytes until a socket blocks, EOF is passed on, or the share is used up. The last take
    /// may exceed the share by one buffer.
    pub fn pump<S: Stream>(&mut self, mut ends: Ends<'_, S>) -> Step {
        let enough = self.taken + ends.share as u64;
        loop {
            let step = match self.state {
                State::Closed => Err(Step::Closed),
                _ => self.deliver(&mut ends).and_then(|()| match self.state {
                    State::Eof => self.pass_eof(&mut ends),
                    State::Open | State::Cut if self.taken >= enough => Err(Step::Again),
                    _ => self.take(&mut ends),
                }),
            };
            if let Err(stop) = step {
                debug_assert!(self.is_closed() || self.taken - self.delivered == self.counted());
                return stop;
            }
        }
    }

    /// Counts the bytes in the buffer and in the pipe, for an assertion.
    fn counted(&self) -> u64 {
        let piped = self.piped.as_ref().map_or(0, |(_, count)| *count);
        self.buffer.waiting().len() as u64 + u64::from(piped)
    }

    /// Notes that the connection that feeds the channel is dead. [`pump`](Self::pump) then delivers the
    /// bytes that it left behind, but passes no EOF on.
    pub fn cut(&mut self) {
        if self.state == State::Open {
            self.state = State::Cut;
        }
    }

    /// Returns the buffer of a channel that is not needed any more.
    #[must_use]
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }

    /// Drops the bytes that the channel holds and closes it, because no socket will take them.
    pub fn discard(&mut self, pipes: &mut Pipes) {
        self.buffer.clear();
        if let Some((pipe, _)) = self.piped.take() {
            pipes.discard(pipe);
        }
        self.state = State::Closed;
    }

    /// Delivers all that was taken.
    fn deliver<S: Stream>(&mut self, ends: &mut Ends<'_, S>) -> Result<(), Step> {
        while self.holds_bytes() {
            let transfer = match &mut self.piped {
                Some((pipe, count)) if self.buffer.is_empty() => match ends.to.drain(pipe, *count as usize) {
                    Transfer::Refused => {
                        ends.pipes.back_off();
                        self.pace = Pace::Copying { full_reads: 0 };
                        self.unpipe(ends.pipes)?;
                        continue;
                    }
                    transfer => transfer,
                },
                _ => ends.to.write(self.buffer.waiting(), self.state == State::Eof),
            };
            match transfer {
                Transfer::Bytes(count) => self.note_delivered(count, ends.pipes),
                Transfer::Failed(errno) => return Err(Step::WriteFailed(errno)),
                _ => {
                    self.spare_scarce_pipe(ends.pipes)?;
                    return Err(Step::Waiting);
                }
            }
        }
        Ok(())
    }

    fn note_delivered(&mut self, count: usize, pipes: &mut Pipes) {
        self.delivered += count as u64;
        if !self.buffer.is_empty() {
            return self.buffer.delivered(count);
        }
        if let Some((pipe, held)) = self.piped.take() {
            pipes.note_spliced(count);
            match held - pipe_count(count) {
                0 => pipes.put_back(pipe),
                left => self.piped = Some((pipe, left)),
            }
        }
    }

    /// Gives a pipe back while pipes are scarce, if the buffer can hold its bytes instead.
    fn spare_scarce_pipe(&mut self, pipes: &mut Pipes) -> Result<(), Step> {
        match self.piped {
            Some((_, held))
                if pipes.are_scarce()
                    && self.buffer.is_empty()
                    && held as usize <= self.buffer.capacity() =>
            {
                self.unpipe(pipes)
            }
            _ => Ok(()),
        }
    }

    /// Moves the next bytes of the pipe into the empty buffer.
    fn unpipe(&mut self, pipes: &mut Pipes) -> Result<(), Step> {
        debug_assert!(self.buffer.is_empty());
        let Some((pipe, held)) = self.piped.take() else { return Ok(()) };
        match pipe.read(self.buffer.room()) {
            Ok(count) if count > 0 => {
                match held - pipe_count(count) {
                    0 => pipes.put_back(pipe),
                    left => self.piped = Some((pipe, left)),
                }
                Ok(())
            }
            result => {
                // The pipe's bytes are lost, so no byte after them may be delivered.
                pipes.discard(pipe);
                self.state = State::Closed;
                let errno = result.err().and_then(|error| error.raw_os_error());
                Err(Step::ReadFailed(errno.unwrap_or(0)))
            }
        }
    }

    /// Takes the next bytes, or EOF.
    fn take<S: Stream>(&mut self, ends: &mut Ends<'_, S>) -> Result<(), Step> {
        debug_assert!(!self.holds_bytes());
        if let Pace::Splicing { thin_splices } = self.pace
            && ends.from.is_readable()
            && self.fill(ends, thin_splices)?
        {
            return Ok(());
        }
        match ends.from.read(self.buffer.room()) {
            Transfer::Bytes(count) => {
                self.taken += count as u64;
                self.set_pace_after_read(count, ends.pipes);
                if self.state == State::Open && ends.from.eof_is_next() {
                    self.state = State::Eof;
                }
                Ok(())
            }
            Transfer::Eof => {
                self.state = State::Eof;
                Ok(())
            }
            Transfer::Failed(errno) if self.state == State::Open => Err(Step::ReadFailed(errno)),
            // A dead connection brings no more bytes, whether the kernel returns EAGAIN or an error.
            _ if self.state == State::Cut => {
                self.state = State::Closed;
                Ok(())
            }
            _ => Err(Step::Waiting),
        }
    }

    /// Splices into a pipe. `Ok(false)`: nothing moved, so the caller must read instead.
    fn fill<S: Stream>(&mut self, ends: &mut Ends<'_, S>, thin_splices: u8) -> Result<bool, Step> {
        let mut share = ends.share;
        if ends.pipes.are_scarce() {
            share = share.min(ends.to.certain_room());
            if share <= self.buffer.capacity() {
                return Ok(false);
            }
        }
        let Some(pipe) = ends.pipes.take() else {
            self.pace = Pace::Copying { full_reads: 0 };
            return Ok(false);
        };
        match ends.from.fill(&pipe, share) {
            Transfer::Bytes(count) => {
                self.taken += count as u64;
                self.set_pace_after_splice(count, thin_splices);
                self.piped = Some((pipe, pipe_count(count)));
                Ok(true)
            }
            Transfer::Failed(errno) if self.state == State::Open => {
                ends.pipes.put_back(pipe);
                Err(Step::ReadFailed(errno))
            }
            transfer => {
                ends.pipes.put_back(pipe);
                if transfer == Transfer::Refused {
                    ends.pipes.back_off();
                    self.pace = Pace::Copying { full_reads: 0 };
                }
                Ok(false)
            }
        }
    }

    fn set_pace_after_splice(&mut self, count: usize, thin_splices: u8) {
        let thin_splices = if count > self.buffer.capacity() { 0 } else { thin_splices + 1 };
        self.pace = if thin_splices < THIN_SPLICES_BEFORE_COPYING {
            Pace::Splicing { thin_splices }
        } else {
            Pace::Copying { full_reads: 0 }
        };
    }

    fn set_pace_after_read(&mut self, count: usize, pipes: &Pipes) {
        let Pace::Copying { full_reads } = self.pace else { return };
        let full_reads = if count == self.buffer.capacity() { full_reads + 1 } else { 0 };
        self.pace = if full_reads < FULL_READS_BEFORE_SPLICING || !pipes.enabled() {
            Pace::Copying { full_reads: full_reads.min(FULL_READS_BEFORE_SPLICING - 1) }
        } else {
            Pace::Splicing { thin_splices: 0 }
        };
    }

    fn pass_eof<S: Stream>(&mut self, ends: &mut Ends<'_, S>) -> Result<(), Step> {
        debug_assert!(!self.holds_bytes());
        if !ends.last {
            ends.to.shutdown_write().map_err(Step::WriteFailed)?;
        }
        self.state = State::Closed;
        Ok(())
    }
}

/// Converts a number of bytes in a pipe. No pipe holds more than a `u32` can count.
#[allow(clippy::cast_possible_truncation)]
fn pipe_count(count: usize) -> u32 {
    count as u32
}

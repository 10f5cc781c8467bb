//! One direction of a session: bytes taken from one socket and delivered to the other.
//!
//! Small messages are copied through the fixed buffer. A stream that keeps filling the buffer is
//! spliced through a pipe, until it thins out. In either case the channel takes only when
//! everything taken before has been delivered, so it holds one buffer or one pipe at the most,
//! and a slow reader stops its writer.

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
    /// A pipe with bytes in it, and how many.
    piped: Option<(Pipe, u32)>,
    pace: Pace,
    state: State,
    /// Bytes delivered to the other socket.
    delivered: u64,
}

/// How the next bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Through the buffer; so many reads in a row have filled it.
    Copying { full_reads: u8 },
    /// Through a pipe; so many splices in a row brought no more than the buffer could hold.
    Splicing { thin_splices: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More may come.
    Open,
    /// The end was read; what was taken before is still to be delivered.
    Ending,
    /// The connection that feeds the channel is dead. What it left behind is delivered, but no
    /// end of the stream: it was cut.
    Cut,
    /// Nothing more comes out of the channel.
    Ended,
}

/// Where a turn left a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It waits for one of its sockets.
    Waiting,
    /// It has had its share of the turn and could go on.
    Again,
    /// Nothing more comes out of it.
    Ended,
    /// The socket that it reads from has failed, with this error number.
    ReadFailed(i32),
    /// The socket that it writes to has failed, with this error number.
    WriteFailed(i32),
}

impl Channel {
    /// A channel with nothing taken yet; what `buffer` holds already is delivered first.
    #[must_use]
    pub fn new(buffer: Buffer) -> Self {
        Self { buffer, piped: None, pace: Pace::Copying { full_reads: 0 }, state: State::Open, delivered: 0 }
    }

    /// Bytes delivered so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes that have come in and bytes that have gone out: it grows when a byte moves.
    #[must_use]
    pub fn movement(&self) -> u64 {
        self.taken() + self.delivered
    }

    /// Bytes that have come in.
    fn taken(&self) -> u64 {
        let piped = self.piped.as_ref().map_or(0, |(_, count)| *count);
        self.delivered + self.buffer.waiting().len() as u64 + u64::from(piped)
    }

    /// Whether bytes that were taken wait for the other socket.
    #[must_use]
    pub fn holds_bytes(&self) -> bool {
        !self.buffer.is_empty() || self.piped.is_some()
    }

    /// Whether the end of the stream was read from `from`.
    #[must_use]
    pub fn saw_end(&self) -> bool {
        matches!(self.state, State::Ending | State::Ended)
    }

    /// Whether nothing more comes out of the channel.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether it carries a stream, and no messages: what it read last filled the buffer again and again.
    #[must_use]
    pub fn streams(&self) -> bool {
        match self.pace {
            Pace::Copying { full_reads } => full_reads + 1 == FULL_READS_BEFORE_SPLICING,
            Pace::Splicing { .. } => true,
        }
    }

    /// Moves bytes until a socket blocks, the stream ends, or `share` bytes or more were taken,
    /// which is all that the channel may take in this turn.
    ///
    /// With `last`, both sockets are closed as soon as this channel has ended, which tells the end
    /// of the stream by itself.
    pub fn pump<S: Stream>(
        &mut self,
        from: &mut Socket<S>,
        to: &mut Socket<S>,
        pipes: &mut Pipes,
        share: usize,
        last: bool,
    ) -> Step {
        let enough = self.taken() + share as u64;
        loop {
            let step = match self.state {
                State::Ended => Err(Step::Ended),
                _ => self.deliver(to, pipes).and_then(|()| match self.state {
                    State::Ending => self.end(to, last),
                    State::Open | State::Cut if self.taken() >= enough => Err(Step::Again),
                    _ => self.take(from, pipes, share),
                }),
            };
            if let Err(stop) = step {
                debug_assert!(stop != Step::Ended || !self.holds_bytes());
                return stop;
            }
        }
    }

    /// Notes that the connection that feeds the channel is dead: [`pump`](Self::pump) delivers what
    /// it left behind, and no end.
    pub fn cut(&mut self) {
        if self.state == State::Open {
            self.state = State::Cut;
        }
    }

    /// Drops what the channel holds and ends it: nobody is there to take it.
    pub fn discard(&mut self, pipes: &mut Pipes) {
        self.buffer.clear();
        if let Some((pipe, _)) = self.piped.take() {
            pipes.discard(pipe);
        }
        self.state = State::Ended;
    }

    /// Delivers all that was taken.
    fn deliver<S: Stream>(&mut self, to: &mut Socket<S>, pipes: &mut Pipes) -> Result<(), Step> {
        while self.holds_bytes() {
            let transfer = match &mut self.piped {
                Some((pipe, count)) if self.buffer.is_empty() => match to.drain(pipe, *count as usize) {
                    Transfer::Refused => {
                        pipes.rest();
                        self.unpipe(pipes)?;
                        continue;
                    }
                    transfer => transfer,
                },
                _ => to.write(self.buffer.waiting(), self.state == State::Ending),
            };
            match transfer {
                Transfer::Bytes(count) => self.note_delivered(count, pipes),
                Transfer::Failed(errno) => return Err(Step::WriteFailed(errno)),
                _ => return Err(Step::Waiting),
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
            match held - pipe_count(count) {
                0 => pipes.put_back(pipe),
                left => self.piped = Some((pipe, left)),
            }
        }
    }

    /// The kernel takes no splice any more: the next bytes of the pipe come through the buffer.
    fn unpipe(&mut self, pipes: &mut Pipes) -> Result<(), Step> {
        self.pace = Pace::Copying { full_reads: 0 };
        let Some((pipe, held)) = self.piped.take() else { return Ok(()) };
        match pipe.read(self.buffer.room()) {
            Ok(count) if count > 0 => {
                self.buffer.filled(count);
                match held - pipe_count(count) {
                    0 => pipes.discard(pipe),
                    left => self.piped = Some((pipe, left)),
                }
                Ok(())
            }
            result => {
                // Its bytes are lost, and nothing that comes after them may be delivered.
                pipes.discard(pipe);
                self.state = State::Ended;
                let errno = result.err().and_then(|error| error.raw_os_error());
                Err(Step::ReadFailed(errno.unwrap_or(0)))
            }
        }
    }

    /// Takes the next bytes, or the end, out of `from`.
    fn take<S: Stream>(&mut self, from: &mut Socket<S>, pipes: &mut Pipes, share: usize) -> Result<(), Step> {
        if let Pace::Splicing { thin_splices } = self.pace
            && from.is_readable()
            && self.fill(from, thin_splices, pipes, share)?
        {
            return Ok(());
        }
        let transfer = from.read(self.buffer.room());
        match transfer {
            Transfer::Bytes(count) => {
                self.buffer.filled(count);
                self.set_pace_after_read(count, pipes);
                if self.state == State::Open && from.is_at_end() {
                    self.state = State::Ending;
                }
                Ok(())
            }
            Transfer::End => {
                self.state = State::Ending;
                Ok(())
            }
            Transfer::Failed(errno) if self.state == State::Open => Err(Step::ReadFailed(errno)),
            // A dead connection brings no more, whatever the kernel calls it.
            _ if self.state == State::Cut => {
                self.state = State::Ended;
                Ok(())
            }
            _ => Err(Step::Waiting),
        }
    }

    /// Takes a pipe's fill; `Ok(false)` where a read must tell how things are.
    fn fill<S: Stream>(
        &mut self,
        from: &mut Socket<S>,
        thin_splices: u8,
        pipes: &mut Pipes,
        share: usize,
    ) -> Result<bool, Step> {
        let Some(pipe) = pipes.take() else {
            self.pace = Pace::Copying { full_reads: 0 };
            return Ok(false);
        };
        match from.fill(&pipe, share) {
            Transfer::Bytes(count) => {
                self.set_pace_after_splice(count, thin_splices);
                self.piped = Some((pipe, pipe_count(count)));
                Ok(true)
            }
            Transfer::Failed(errno) if self.state == State::Open => {
                pipes.put_back(pipe);
                Err(Step::ReadFailed(errno))
            }
            transfer => {
                pipes.put_back(pipe);
                if transfer == Transfer::Refused {
                    pipes.rest();
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

    fn end<S: Stream>(&mut self, to: &mut Socket<S>, last: bool) -> Result<(), Step> {
        if !last {
            to.shutdown_write().map_err(Step::WriteFailed)?;
        }
        self.state = State::Ended;
        Ok(())
    }
}

/// A number of bytes in a pipe, which never holds as many as the type can tell.
#[allow(clippy::cast_possible_truncation)]
fn pipe_count(count: usize) -> u32 {
    count as u32
}

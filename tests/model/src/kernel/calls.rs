//! The kernel's answers to the calls of a connection's owner.

use std::io;

use rustix::io::Errno;
use tcprelay::internal::splice::Pipe;

use super::pattern::{PREFACE, for_pattern};
use super::{Closed, Connection, Seen, State};

impl Connection {
    pub(super) fn read(&mut self, room: &mut Vec<u8>, clock: u64) -> io::Result<usize> {
        let most = room.capacity() - room.len();
        assert!(most > 0, "a read without room");
        let mut count = most.min((self.arrived - self.taken) as usize);
        if let Some(urgent) = self.urgent.filter(|&urgent| urgent > self.taken) {
            count = count.min((urgent - self.taken) as usize);
        }
        if count == 0 {
            return self.nothing_to_read(true, clock);
        }
        self.copy_out(room, count);
        if self.end_reported && count < most {
            assert_eq!(self.taken, self.arrived, "a short read leaves bytes before a reported EOF");
            self.end_told = Some((self.end_as(Seen::Told), clock));
        }
        Ok(count)
    }

    pub(super) fn fill(&mut self, pipe: &Pipe, most: usize, clock: u64) -> io::Result<usize> {
        let mut probe = Vec::with_capacity(1);
        assert!(pipe.read(&mut probe).is_err(), "the pipe to fill is not empty");
        let stop = self.urgent.unwrap_or(self.arrived);
        let count = (stop - self.taken).min(pipe.capacity().min(most) as u64) as usize;
        if count == 0 {
            return self.nothing_to_read(false, clock);
        }
        self.fills += 1;
        let mut bytes = Vec::new();
        self.copy_out(&mut bytes, count);
        assert_eq!(pipe.write(&bytes).ok(), Some(count), "an empty pipe takes its capacity");
        Ok(count)
    }

    fn copy_out(&mut self, room: &mut Vec<u8>, count: usize) {
        for_pattern(self.side, self.taken, count, |_, bytes| room.extend_from_slice(bytes));
        self.taken += count as u64;
        self.urgent = self.urgent.filter(|&urgent| urgent >= self.taken);
    }

    fn end_as(&self, seen: Seen) -> Seen {
        // An EOF with a reset behind it may count as either.
        if self.is_dead() { Seen::Hidden(0) } else { seen }
    }

    fn nothing_to_read(&mut self, is_read: bool, clock: u64) -> io::Result<usize> {
        if self.end_arrived {
            if is_read && self.taken == self.arrived {
                assert!(self.is_dead() || !self.end_read, "a read after EOF");
                (self.end_read, self.end_told) = (true, None);
                self.see(self.end_as(Seen::End), clock);
            }
            return Ok(0);
        }
        if let Some(errno) = self.error.take() {
            self.see(Seen::ReadError(errno), clock);
            return Err(io::Error::from_raw_os_error(errno));
        }
        if self.state == State::Dead { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    pub(super) fn write(&mut self, bytes: &[u8], clock: u64) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "an empty write");
        let count = self.reserve(bytes.len() as u64, clock)?;
        self.accept(&bytes[..count]);
        Ok(count)
    }

    pub(super) fn drain(&mut self, pipe: &Pipe, offered: usize, clock: u64) -> io::Result<usize> {
        let mut count = self.reserve(offered as u64, clock)?;
        let cut = self.cut_amid_drain.take();
        if let Some((after, errno)) = cut {
            if after == 0 {
                self.fail(Errno::from_raw_os_error(errno));
                return self.reserve(offered as u64, clock);
            }
            count = count.min(after as usize);
        }
        let mut bytes = Vec::with_capacity(count);
        assert_eq!(pipe.read(&mut bytes).ok(), Some(count), "the splice is offered more than the pipe holds");
        self.accept(&bytes);
        if let Some((_, errno)) = cut.filter(|_| count < offered) {
            self.fail(Errno::from_raw_os_error(errno));
            let errno = self.error.take().unwrap_or(errno);
            self.see(Seen::Hidden(errno), clock);
        }
        Ok(count)
    }

    /// Returns how many of the offered bytes the send queue has room for.
    fn reserve(&mut self, offered: u64, clock: u64) -> io::Result<usize> {
        assert!(!self.write_shut, "a write after the FIN");
        assert!(self.state != State::Connecting, "a write while the socket still connects");
        if self.state == State::Dead {
            let errno = self.error.take().unwrap_or(Errno::PIPE.raw_os_error());
            self.see(Seen::WriteError(errno), clock);
            return Err(io::Error::from_raw_os_error(errno));
        }
        let count = offered.min(self.room.saturating_sub(self.unacknowledged()));
        self.no_space |= count < offered;
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count as usize) }
    }

    /// Takes bytes into the send queue, and checks them against the preface and the pattern.
    fn accept(&mut self, bytes: &[u8]) {
        let first = (self.preface.saturating_sub(self.written) as usize).min(bytes.len());
        let (head, tail) = bytes.split_at(first);
        assert!(head.iter().all(|&byte| byte == PREFACE), "the {:?} gets no preface first", self.side);
        let offset = (self.written + first as u64).saturating_sub(self.preface);
        for_pattern(!self.side, offset, tail.len(), |at, expected| {
            let right = tail[at..at + expected.len()] == *expected;
            assert!(right, "wrong bytes to the {:?} after byte {}", self.side, offset + at as u64);
        });
        self.written += bytes.len() as u64;
    }

    pub(super) fn shutdown_write(&mut self, clock: u64) -> io::Result<()> {
        assert!(!self.write_shut, "the FIN is sent twice");
        if self.state == State::Dead {
            self.see(Seen::WriteError(Errno::NOTCONN.raw_os_error()), clock);
            return Err(Errno::NOTCONN.into());
        }
        self.write_shut = true;
        self.woken = true;
        Ok(())
    }

    pub(super) fn is_connected(&mut self) -> bool {
        let over = self.end_arrived && self.write_shut && self.end_acknowledged;
        self.state == State::Open && !over
    }

    pub(super) fn take_error(&mut self, clock: u64) -> Option<io::Error> {
        let errno = self.error.take()?;
        self.see(Seen::Hidden(errno), clock);
        Some(io::Error::from_raw_os_error(errno))
    }

    pub(super) fn close(&mut self) {
        if self.state == State::Dead {
            return;
        }
        let reset = self.reset_on_close || self.taken < self.arrived || self.state == State::Connecting;
        self.closed = Some(if reset { Closed::Reset } else { Closed::Orderly });
    }

    fn see(&mut self, seen: Seen, clock: u64) {
        self.seen.get_or_insert((seen, clock));
    }
}

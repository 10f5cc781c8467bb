//! A stream in memory, whose calls cost next to nothing.

use std::io::{self, ErrorKind};

use tcprelay::internal::splice::Pipe;
use tcprelay::internal::stream::Stream;

/// A stream that gives as many bytes as its peer has sent, takes every byte, and never ends.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    /// Bytes that wait for a read.
    waiting: usize,
    sent: u64,
    received: u64,
}

impl Scripted {
    /// Makes the peer send `count` bytes.
    pub(crate) fn send(&mut self, count: usize) {
        self.waiting += count;
        self.sent += count as u64;
    }

    /// Returns the bytes that the peer has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns the bytes that the peer has received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }
}

impl Stream for Scripted {
    fn read(&mut self, room: &mut Vec<u8>) -> io::Result<usize> {
        if self.waiting == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.waiting.min(room.capacity() - room.len());
        room.resize(room.len() + count, 0);
        self.waiting -= count;
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8], _: bool) -> io::Result<usize> {
        self.received += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn fill(&mut self, _: &Pipe, _: usize) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn drain(&mut self, _: &Pipe, _: usize) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn has_peer(&self) -> bool {
        true
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn send_at_once(&mut self) {}

    fn limit_unsent(&mut self, _: bool) {}

    fn reset_on_close(&mut self) {}

    fn unacknowledged(&self) -> Option<u32> {
        None
    }

    fn certain_room(&self) -> usize {
        0
    }
}

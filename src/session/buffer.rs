//! The fixed transfer buffer of a channel. It is filled, emptied, and filled again.

use std::collections::TryReserveError;

use crate::limits::SPARE_BUFFERS_MAX;

/// Room for `<buf>` bytes. Those behind `start` wait to be delivered.
///
/// It is only filled while empty, so the bytes never wrap and never move. Its memory is never cleared, because
/// nothing reads more of it than was filled.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// Returns a buffer of `capacity` bytes that already holds `preface`. It is as long as the preface if
    /// that is longer.
    ///
    /// # Errors
    /// The allocation failed.
    pub fn new(capacity: usize, preface: &[u8]) -> Result<Self, TryReserveError> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(capacity.max(preface.len()))?;
        bytes.extend_from_slice(preface);
        Ok(Self { bytes, start: 0 })
    }

    /// Returns the bytes that one fill may bring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Returns whether no bytes wait to be delivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Returns the bytes that wait to be delivered, oldest first.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Notes that the oldest `count` waiting bytes were delivered.
    pub fn delivered(&mut self, count: usize) {
        debug_assert!(count <= self.waiting().len());
        self.start += count;
    }

    /// Returns the room of an empty buffer, for one fill behind its end and up to its capacity.
    pub fn room(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.is_empty());
        self.clear();
        &mut self.bytes
    }

    /// Drops the waiting bytes.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}

/// The buffers of ended sessions, for the next ones. Some allocators ask the kernel for the memory of each buffer,
/// and give it back: with musl, that made four system calls of a short session, and a fifth of its cost.
#[derive(Debug)]
pub struct Buffers {
    capacity: usize,
    spare: Vec<Buffer>,
}

impl Buffers {
    /// Returns a stock of buffers of `capacity` bytes, with none in it.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, spare: Vec::with_capacity(SPARE_BUFFERS_MAX) }
    }

    /// Returns a buffer that already holds `preface`.
    ///
    /// # Errors
    /// There is no spare buffer, and the allocation failed.
    pub fn take(&mut self, preface: &[u8]) -> Result<Buffer, TryReserveError> {
        match self.spare.pop_if(|_| preface.len() <= self.capacity) {
            Some(mut buffer) => {
                buffer.clear();
                buffer.bytes.extend_from_slice(preface);
                Ok(buffer)
            }
            None => Buffer::new(self.capacity, preface),
        }
    }

    /// Takes back the buffer of a session that has ended.
    pub fn put_back(&mut self, buffer: Buffer) {
        if buffer.capacity() == self.capacity && self.spare.len() < SPARE_BUFFERS_MAX {
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_across_short_deliveries() {
        let mut buffer = Buffer::new(8, b"").unwrap();
        for round in 0..3_u8 {
            assert_eq!((buffer.room().len(), buffer.capacity()), (0, 8));
            buffer.room().extend([round, 1, 2, 3, 4]);
            assert_eq!(buffer.waiting(), [round, 1, 2, 3, 4]);
            buffer.delivered(2);
            assert_eq!(buffer.waiting(), [2, 3, 4]);
            buffer.delivered(3);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_preface_longer_than_the_buffer_is_held_whole() {
        let mut buffer = Buffer::new(4, b"0123456789").unwrap();
        assert_eq!(buffer.waiting(), b"0123456789");
        buffer.delivered(10);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_failed_allocation_is_an_error() {
        assert!(Buffer::new(usize::MAX / 2, b"").is_err());
    }

    #[test]
    fn a_spare_buffer_serves_the_next_session_and_holds_only_the_preface() {
        let mut buffers = Buffers::new(8);
        let mut buffer = buffers.take(b"").unwrap();
        buffer.room().extend(*b"secrets");
        let place = buffer.waiting().as_ptr();
        buffers.put_back(buffer);
        let buffer = buffers.take(b"preface").unwrap();
        assert_eq!((buffer.waiting(), buffer.capacity()), (&b"preface"[..], 8));
        assert_eq!(buffer.waiting().as_ptr(), place);
        buffers.put_back(buffer);
        assert!(buffers.take(b"").unwrap().is_empty());
    }

    #[test]
    fn a_preface_that_is_too_long_for_a_spare_buffer_gets_one_of_its_own() {
        let mut buffers = Buffers::new(4);
        let spare = buffers.take(b"").unwrap();
        buffers.put_back(spare);
        let long = buffers.take(b"0123456789").unwrap();
        assert_eq!((long.waiting(), long.capacity()), (&b"0123456789"[..], 10));
        buffers.put_back(long);
        assert_eq!(buffers.spare.len(), 1);
    }

    #[test]
    fn a_bounded_number_of_buffers_is_kept() {
        let mut buffers = Buffers::new(4);
        for _ in 0..=SPARE_BUFFERS_MAX {
            buffers.put_back(Buffer::new(4, b"").unwrap());
        }
        assert_eq!(buffers.spare.len(), SPARE_BUFFERS_MAX);
    }

    #[test]
    fn a_cleared_buffer_holds_nothing() {
        let mut buffer = Buffer::new(4, b"abc").unwrap();
        buffer.clear();
        assert!(buffer.is_empty());
        assert_eq!(buffer.waiting(), b"");
    }
}

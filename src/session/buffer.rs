//! The fixed transfer buffer of a channel. It is filled, emptied, and filled again.

use std::collections::TryReserveError;

const ZEROS: [u8; 1024] = [0; 1024];

/// `<buf>` bytes, of which `start..end` wait to be delivered.
///
/// It is only filled while empty, so the bytes never wrap and never move.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    // There are two buffers for each of many sessions, so the positions are kept small.
    start: u32,
    end: u32,
}

impl Buffer {
    /// Returns a buffer of `capacity` bytes that already holds `preface`. It is as long as the preface if
    /// that is longer.
    ///
    /// # Errors
    /// The allocation failed.
    pub fn new(capacity: usize, preface: &[u8]) -> Result<Self, TryReserveError> {
        let size = capacity.max(preface.len());
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size)?;
        bytes.extend_from_slice(preface);
        // In blocks, because code built for size would write one byte at a time.
        while bytes.len() < size {
            bytes.extend_from_slice(&ZEROS[..ZEROS.len().min(size - bytes.len())]);
        }
        Ok(Self { bytes: bytes.into_boxed_slice(), start: 0, end: offset(preface.len()) })
    }

    /// Returns the bytes that one fill may bring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether no bytes wait to be delivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the bytes that wait to be delivered, oldest first.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start as usize..self.end as usize]
    }

    /// Notes that the oldest `count` waiting bytes were delivered.
    pub fn delivered(&mut self, count: usize) {
        debug_assert!(count <= self.waiting().len());
        self.start += offset(count);
    }

    /// Returns the room of an empty buffer, for one fill.
    pub fn room(&mut self) -> &mut [u8] {
        debug_assert!(self.is_empty());
        &mut self.bytes
    }

    /// Notes that the first `count` bytes of [`room`](Self::room) were filled.
    pub fn filled(&mut self, count: usize) {
        debug_assert!(self.is_empty() && count <= self.capacity());
        (self.start, self.end) = (0, offset(count));
    }

    /// Drops the waiting bytes.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

/// Converts a position in a buffer. No buffer is longer than a `u32` can count.
#[allow(clippy::cast_possible_truncation)]
fn offset(count: usize) -> u32 {
    count as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_across_short_deliveries() {
        let mut buffer = Buffer::new(8, b"").unwrap();
        for round in 0..3_u8 {
            assert_eq!(buffer.room().len(), 8);
            buffer.room()[..5].copy_from_slice(&[round, 1, 2, 3, 4]);
            buffer.filled(5);
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
    fn a_cleared_buffer_holds_nothing() {
        let mut buffer = Buffer::new(4, b"abc").unwrap();
        buffer.clear();
        assert!(buffer.is_empty());
        assert_eq!(buffer.waiting(), b"");
    }
}

//! The fixed transfer buffer of a channel: filled once, emptied, filled again.

use std::collections::TryReserveError;

const ZEROS: [u8; 512] = [0; 512];

/// `<buf>` bytes, of which `start..end` wait to be delivered.
///
/// It is only filled while empty, so the bytes never wrap and never move.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    // There are two buffers for each of many sessions: what is small is kept small.
    start: u32,
    end: u32,
}

impl Buffer {
    /// A buffer of `capacity` bytes that already holds `preface`, to be delivered first. Should
    /// the preface be longer, so is the buffer.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(capacity: usize, preface: &[u8]) -> Result<Self, TryReserveError> {
        let size = capacity.max(preface.len());
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size)?;
        bytes.extend_from_slice(preface);
        // In blocks, as a program built for size would write byte after byte.
        while bytes.len() < size {
            bytes.extend_from_slice(&ZEROS[..ZEROS.len().min(size - bytes.len())]);
        }
        Ok(Self { bytes: bytes.into_boxed_slice(), start: 0, end: offset(preface.len()) })
    }

    /// Bytes that one fill may bring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing waits to be delivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes that wait to be delivered, oldest first.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start as usize..self.end as usize]
    }

    /// Notes that the oldest `count` waiting bytes were delivered.
    pub fn delivered(&mut self, count: usize) {
        debug_assert!(count <= self.waiting().len());
        self.start += offset(count);
    }

    /// The room of an empty buffer, for one fill.
    pub fn room(&mut self) -> &mut [u8] {
        debug_assert!(self.is_empty());
        &mut self.bytes
    }

    /// Notes that the first `count` bytes of [`room`](Self::room) were filled.
    pub fn filled(&mut self, count: usize) {
        debug_assert!(self.is_empty() && count <= self.capacity());
        (self.start, self.end) = (0, offset(count));
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

/// A position in a buffer, which is never as long as the type can tell.
#[allow(clippy::cast_possible_truncation)]
fn offset(count: usize) -> u32 {
    count as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_comes_out_in_order_across_short_deliveries() {
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
    fn memory_that_cannot_be_had_is_an_error() {
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

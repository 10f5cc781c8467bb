//! The pipes through which bytes pass from socket to socket without entering the process.
//!
//! A channel fills a pipe only while it is empty, and empties it before it fills it again. So EAGAIN
//! from a fill can only come from the one socket, and EAGAIN from a drain only from the other. A channel
//! holds a pipe only while bytes are in it.
//!
//! Pipes pin kernel memory, so the sum of their capacities is bounded. A stalled reader keeps its
//! channel's pipe, and enough stalled readers would keep every pipe. Therefore the last one is lent only
//! for bytes that the other socket is certain to take. It comes back at once, so a live stream is spliced
//! beside any number of stalled readers.

use crate::limits::{PIPE_BYTES_MAX, PIPE_BYTES_MIN, PIPES_MAX, TAKES_BEFORE_RETRY};
use crate::sys::pipe::Pipe;

/// The pipes of all sessions.
#[derive(Debug)]
pub struct Pipes {
    /// Capacity to ask the kernel for, in bytes each.
    pipe_bytes: usize,
    /// Pipes that may exist at a time; 0: every byte is copied.
    max: usize,
    idle: Vec<Pipe>,
    /// Pipes that exist, idle or held by a channel.
    made: usize,
    /// Calls of [`take`](Self::take) that still get no pipe, because the kernel made none or did not splice.
    without: u32,
    /// Bytes that went from a pipe to a socket.
    bytes_spliced: u64,
}

impl Pipes {
    /// Returns an empty set, whose pipes hold at most `bytes_max` bytes together. Below
    /// [`PIPE_BYTES_MIN`] there are no pipes, and every byte is copied.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let pipe_bytes = match bytes_max / PIPES_MAX {
            0 => PIPE_BYTES_MIN,
            share => (1 << share.ilog2()).clamp(PIPE_BYTES_MIN, PIPE_BYTES_MAX),
        };
        let max = (bytes_max / pipe_bytes).min(PIPES_MAX);
        Self { pipe_bytes, max, idle: Vec::with_capacity(max), made: 0, without: 0, bytes_spliced: 0 }
    }

    /// Returns whether bytes are spliced at all.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.max > 0
    }

    /// Returns an empty pipe, if there is one. It must come back by [`put_back`](Self::put_back) or
    /// [`discard`](Self::discard).
    pub fn take(&mut self) -> Option<Pipe> {
        if self.without > 0 {
            self.without -= 1;
            return None;
        }
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.made == self.max {
            return None;
        }
        match Pipe::new(self.pipe_bytes) {
            Ok(pipe) if pipe.capacity() >= PIPE_BYTES_MIN => {
                self.made += 1;
                Some(pipe)
            }
            _ => {
                self.back_off();
                None
            }
        }
    }

    /// Returns the number of pipes that channels hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.made - self.idle.len()
    }

    /// Returns the most bytes that the pipes that exist can hold together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.made * self.pipe_bytes
    }

    /// Notes that bytes went from a pipe to a socket.
    pub fn note_spliced(&mut self, bytes: usize) {
        self.bytes_spliced += bytes as u64;
    }

    /// Returns the bytes that went from a pipe to a socket since the start.
    #[must_use]
    pub fn bytes_spliced(&self) -> u64 {
        self.bytes_spliced
    }

    /// Returns whether at most one pipe is left to take.
    #[must_use]
    pub fn are_scarce(&self) -> bool {
        self.held() + 1 >= self.max
    }

    /// Takes back an empty pipe for the next channel.
    pub fn put_back(&mut self, pipe: Pipe) {
        debug_assert!(self.held() > 0);
        self.idle.push(pipe);
    }

    /// Closes a pipe that may still hold bytes.
    pub fn discard(&mut self, pipe: Pipe) {
        debug_assert!(self.held() > 0);
        drop(pipe);
        self.made -= 1;
    }

    /// Closes the idle pipes, because descriptors are short.
    pub fn close_idle(&mut self) {
        self.made -= self.idle.len();
        self.idle.clear();
    }

    /// Notes that the kernel refused to make a pipe, or to splice. Bytes are copied for a while.
    pub fn back_off(&mut self) {
        self.close_idle();
        self.without = TAKES_BEFORE_RETRY;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::limits::PIPES_BYTES_MAX;

    fn capacity(bytes_max: usize) -> usize {
        let mut pipes = Pipes::new(bytes_max);
        let taken: Vec<Pipe> = std::iter::from_fn(|| pipes.take()).collect();
        taken.iter().map(Pipe::capacity).sum()
    }

    #[test]
    fn all_pipes_together_never_hold_more_than_the_bound() {
        for bound in [PIPES_BYTES_MAX, 4 << 20, 3 << 20, 1 << 20, 100_000, PIPE_BYTES_MIN] {
            let capacity = capacity(bound);
            assert!(capacity <= bound && 2 * capacity > bound, "{capacity} of {bound}");
        }
        assert_eq!(capacity(PIPE_BYTES_MIN - 1), 0);
    }

    #[test]
    fn the_last_pipe_is_known_before_it_is_taken() {
        let mut pipes = Pipes::new(3 * PIPE_BYTES_MIN);
        let first = pipes.take().unwrap();
        assert!(!pipes.are_scarce());
        let _second = pipes.take().unwrap();
        assert!(pipes.are_scarce());
        pipes.put_back(first);
        assert!(!pipes.are_scarce());
    }

    #[test]
    fn the_bytes_of_idle_pipes_count_like_those_of_held_ones() {
        let mut pipes = Pipes::new(3 * PIPE_BYTES_MIN);
        assert_eq!(pipes.bytes(), 0);
        let [first, second] = [(); 2].map(|()| pipes.take().unwrap());
        pipes.put_back(first);
        assert_eq!((pipes.held(), pipes.bytes()), (1, 2 * PIPE_BYTES_MIN));
        pipes.close_idle();
        assert_eq!((pipes.held(), pipes.bytes()), (1, PIPE_BYTES_MIN));
        pipes.discard(second);
        assert_eq!((pipes.held(), pipes.bytes()), (0, 0));
    }

    #[test]
    fn a_kernel_that_refuses_is_asked_again_after_a_while() {
        let mut pipes = Pipes::new(PIPES_BYTES_MAX);
        let pipe = pipes.take().unwrap();
        pipes.put_back(pipe);
        pipes.back_off();
        assert!((0..TAKES_BEFORE_RETRY).all(|_| pipes.take().is_none()));
        assert!(pipes.take().is_some());
    }
}

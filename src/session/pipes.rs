//! Pipes: how bytes pass from socket to socket without entering the process.
//!
//! A pipe is filled only while it is empty, and emptied before it is filled again. So the answer
//! "try again" from a fill can only mean the socket, and from a drain only the other socket. A
//! channel holds a pipe only while bytes are in it. A pipe that still holds bytes when its session
//! ends is closed, never used again.

use std::io;

use crate::limits::{LEAST_PIPE_BYTES, PIPES};

use crate::sys::pipe::Pipe;

/// Calls of [`Pipes::take`] that are answered with "none" after the kernel would not make a pipe or
/// not splice, so that a host where that never works does not pay for asking each time.
const TAKES_BEFORE_RETRY: u32 = 256;

/// The pipes of all sessions.
#[derive(Debug)]
pub struct Pipes {
    enabled: bool,
    idle: Vec<Pipe>,
    /// All pipes there are, idle or held by a channel.
    made: usize,
    /// Takes that go without.
    without: u32,
}

impl Pipes {
    /// An empty pool. With `enabled` false it never gives out a pipe, and every byte is copied.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        Self { enabled, idle: Vec::with_capacity(PIPES), made: 0, without: 0 }
    }

    /// Whether splicing is wanted at all.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// An empty pipe, if one can be had. It must come back by [`put_back`](Self::put_back) or
    /// [`discard`](Self::discard).
    pub fn take(&mut self) -> Option<Pipe> {
        if !self.enabled {
            return None;
        }
        if self.without > 0 {
            self.without -= 1;
            return None;
        }
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.made == PIPES {
            return None;
        }
        match Pipe::new() {
            Ok(pipe) if pipe.capacity() >= LEAST_PIPE_BYTES => {
                self.made += 1;
                Some(pipe)
            }
            _ => {
                self.rest();
                None
            }
        }
    }

    /// Pipes that channels hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.made - self.idle.len()
    }

    /// Takes back an empty pipe for the next channel.
    pub fn put_back(&mut self, pipe: Pipe) {
        self.idle.push(pipe);
    }

    /// Closes a pipe that may still hold bytes.
    pub fn discard(&mut self, pipe: Pipe) {
        drop(pipe);
        self.made -= 1;
    }

    /// Closes what is idle: descriptors are short.
    pub fn shed(&mut self) {
        self.made -= self.idle.len();
        self.idle.clear();
    }

    /// Notes that the kernel would not splice: bytes are copied for a while.
    pub fn rest(&mut self) {
        self.shed();
        self.without = TAKES_BEFORE_RETRY;
    }
}

/// Whether an error of a splice means "not this way" and says nothing about the connection.
#[must_use]
pub fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, OutOfMemory, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | OutOfMemory | PermissionDenied | Unsupported)
}

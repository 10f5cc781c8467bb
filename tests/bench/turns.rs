//! The event loop of the load generator and of its target, which chooses the sockets to serve in each turn.

use std::io;
use std::mem;
use std::time::Duration;

use mio::{Events, Interest, Poll, Registry, Token};

const EVENTS_PER_TURN: usize = 512;

/// The state in which its turn leaves a socket.
pub enum Next {
    /// It waits for a report of the kernel.
    Wait,
    /// It can go on, and is served again in the next turn.
    Again,
    /// It is done, and its connection is closed.
    Close,
}

/// The turns of an event loop.
pub struct Turns {
    poll: Poll,
    events: Events,
    /// Numbers of the sockets that can go on without a report.
    again: Vec<usize>,
}

impl Turns {
    pub fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(EVENTS_PER_TURN), again: Vec::new() })
    }

    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Registers `source`, which the kernel then reports under `number`.
    pub fn register(&self, source: &mut impl mio::event::Source, number: usize) -> io::Result<()> {
        self.registry().register(source, Token(number), Interest::READABLE | Interest::WRITABLE)
    }

    /// Returns the sockets to serve now. Waits for one, at most as long as `at_most`.
    pub fn next(&mut self, at_most: Duration) -> io::Result<Vec<usize>> {
        let mut turn = mem::take(&mut self.again);
        let timeout = if turn.is_empty() { at_most } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(turn),
            result => result?,
        }
        let goes_on = turn.len();
        for event in &self.events {
            let Token(number) = event.token();
            if !turn[..goes_on].contains(&number) {
                turn.push(number);
            }
        }
        Ok(turn)
    }

    /// Serves the socket again in the next turn.
    pub fn again(&mut self, number: usize) {
        self.again.push(number);
    }
}

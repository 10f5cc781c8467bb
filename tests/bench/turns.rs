//! The event loop of the load generator and of its target: which sockets to serve in this turn.

use std::io;
use std::mem;
use std::time::Duration;

use mio::{Events, Interest, Poll, Registry, Token};

const EVENTS_PER_TURN: usize = 512;

/// What became of a socket in its turn.
pub enum Next {
    /// It is served again when the kernel reports it.
    Wait,
    /// It could go on, and is served again in the next turn.
    Again,
    /// It is no longer needed.
    Close,
}

/// The turns of an event loop.
pub struct Turns {
    poll: Poll,
    events: Events,
    /// Sockets that could go on.
    again: Vec<usize>,
}

impl Turns {
    pub fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(EVENTS_PER_TURN), again: Vec::new() })
    }

    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Lets the kernel report `source` under `number`.
    pub fn register(&self, source: &mut impl mio::event::Source, number: usize) -> io::Result<()> {
        self.registry().register(source, Token(number), Interest::READABLE | Interest::WRITABLE)
    }

    /// The sockets to serve now. Waits at most that long for one.
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

//! The two connections of one session or channel, and the faults that an input injects into their calls.

use std::io;

use rustix::io::Errno;
use tcprelay::internal::session::Side;

use super::kernel::{Call, Connection, Sockets};

/// Both connections, by [`Side::index`].
pub struct Pair {
    pub connections: [Connection; 2],
    /// Number of the next calls that are interrupted.
    interruptions: u8,
    /// The error of every splice; `None`: splices work.
    refusal: Option<Errno>,
    ticks: u64,
}

/// Decodes the second byte of an operation as a number of bytes: 1 to 128, or the cube of such a number.
pub fn bytes_in(amount: u8) -> u64 {
    let some = u64::from(amount % 128) + 1;
    if amount < 128 { some } else { some.pow(3) }
}

impl Pair {
    pub fn new(connections: [Connection; 2]) -> Self {
        Self { connections, interruptions: 0, refusal: None, ticks: 0 }
    }

    /// Interrupts up to seven of the next calls.
    pub fn interrupt(&mut self, amount: u8) {
        self.interruptions = amount % 8;
    }

    /// Refuses every splice as unsupported or for lack of memory, or lets splices work again.
    pub fn refuse_splices(&mut self, amount: u8) {
        self.refusal = [Some(Errno::INVAL), Some(Errno::NOMEM), None][usize::from(amount % 3)];
    }
}

impl Sockets for Pair {
    fn connection_of(&mut self, side: Side) -> &mut Connection {
        &mut self.connections[side.index()]
    }

    fn meddle(&mut self, _: Side, call: Call) -> io::Result<()> {
        if call != Call::ShutdownWrite && self.interruptions > 0 {
            self.interruptions -= 1;
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.refusal {
            Some(errno) if matches!(call, Call::Fill | Call::Drain) => Err(errno.into()),
            _ => Ok(()),
        }
    }

    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }
}

//! Disturbances of the relay's calls: interruptions, events that overtake them, refused splices.

use std::io;

use rustix::io::Errno;
use tcprelay::internal::session::Side;

use super::World;
use crate::kernel::{Call, Connection, Sockets};
use crate::random::Random;

/// The odds of each disturbance: `n` means once in n calls, 0 means never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Odds {
    interrupted: u64,
    /// An act of the world comes just before the call.
    overtaken: u64,
    /// The kernel refuses a splice, and every splice from then on.
    refused: u64,
    /// The error of refused splices.
    refusal: Errno,
}

impl Odds {
    pub(super) fn random(random: &mut Random, splicing: bool) -> Self {
        Self {
            interrupted: random.pick(&[0, 4, 30]),
            overtaken: random.pick(&[0, 3, 20]),
            refused: if splicing && random.once_in(5) { 1 + random.below(30) } else { 0 },
            refusal: random.pick(&[Errno::INVAL, Errno::NOMEM, Errno::NOSYS, Errno::PERM]),
        }
    }
}

impl Sockets for World {
    fn connection_of(&mut self, side: Side) -> &mut Connection {
        self.connection_mut(side)
    }

    fn meddle(&mut self, side: Side, call: Call) -> io::Result<()> {
        self.calls += 1;
        self.touch();
        if self.odds.overtaken > 0 && self.random.once_in(self.odds.overtaken) && self.next().is_some() {
            self.overtaken = Some(self.stage.now.get());
            self.step();
        }
        if call == Call::Drain && self.random.once_in(300) {
            let (after, errno) = (self.random.below(3_000), Errno::CONNRESET);
            self.connection_mut(side).fail_amid_drain(after, errno);
        }
        if matches!(call, Call::Fill | Call::Drain) && self.odds.refused > 0 {
            self.refusing |= self.random.once_in(self.odds.refused);
            if self.refusing {
                return Err(self.odds.refusal.into());
            }
        }
        // A shutdown is never interrupted.
        if call != Call::ShutdownWrite
            && self.odds.interrupted > 0
            && self.random.once_in(self.odds.interrupted)
        {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }
}

//! The acts of a world's peers and network: which come, when, and on which side.

use std::time::Duration;

use rustix::io::Errno;
use tcprelay::internal::session::Side;

use super::World;
use super::peer::{Ending, Pace};
use crate::kernel::Closed;

/// An act that can come next, on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The target answers the connect.
    Answer,
    Send,
    Receive,
    /// The connection dies, whatever the peer was about to do.
    Fail,
    /// The kernel of a peer that has closed its socket answers bytes with an RST.
    Provoked,
}

pub(super) const ACTS: [Act; 5] = [Act::Answer, Act::Send, Act::Receive, Act::Fail, Act::Provoked];

impl World {
    /// Returns the time of the next act; `None` if none is planned.
    pub fn next(&self) -> Option<Duration> {
        self.agenda.iter().flatten().flatten().min().copied()
    }

    /// Performs the act that is due next, even if its time is later than `now`.
    pub fn step(&mut self) {
        let due = self.next();
        let acts = ACTS.iter().flat_map(|&act| Side::BOTH.map(|side| (act, side)));
        let acts: Vec<_> = acts
            .filter(|&(act, side)| due.is_some() && self.agenda[act as usize][side.index()] == due)
            .collect();
        if acts.is_empty() {
            return;
        }
        let (act, side) = self.random.pick(&acts);
        self.agenda[act as usize][side.index()] = None;
        self.touch();
        match act {
            Act::Answer => self.answer_connect(),
            Act::Send => self.send(side),
            Act::Receive => self.receive(side),
            Act::Fail | Act::Provoked => {
                if side == Side::Requester || self.answered.is_some() {
                    // An RST, or too many retransmissions. Only an RST answers bytes.
                    let times_out = act == Act::Fail && self.random.once_in(3);
                    let errno = if times_out { Errno::TIMEDOUT } else { Errno::CONNRESET };
                    self.connection_mut(side).fail(errno);
                }
            }
        }
        self.follow();
    }

    pub(super) fn plan(&mut self, act: Act, side: Side, after: Duration) {
        let at = self.stage.now.get() + after;
        self.agenda[act as usize][side.index()].get_or_insert(at);
    }

    fn pause(&mut self, side: Side) -> Duration {
        let micros = match self.peers[side.index()].pace {
            Pace::Fast => self.random.below(200),
            Pace::Slow => 1_000 + self.random.below(40_000),
            Pace::Moody if self.random.once_in(12) => self.random.below(2_500_000),
            Pace::Moody => self.random.below(1_000),
        };
        Duration::from_micros(micros)
    }

    /// Plans the acts that have become possible.
    pub fn follow(&mut self) {
        for side in Side::BOTH {
            let connection = self.connection(side);
            let receivable = connection.unacknowledged() > 0
                || (self.saw(side).is_none() && (connection.sends_end() || connection.closed().is_some()));
            let provoked = connection.provokes_reset();
            let sendable = connection.window() > 0 && !self.peers[side.index()].has_ended;
            let open = side == Side::Requester || self.answered.is_some();
            let receiving = open && receivable && self.is_reading(side);
            for (act, possible) in
                [(Act::Receive, receiving), (Act::Provoked, provoked), (Act::Send, open && sendable)]
            {
                if possible {
                    let pause = self.pause(side);
                    self.plan(act, side, pause);
                }
            }
        }
    }

    fn answer_connect(&mut self) {
        if self.connection(Side::Target).closed().is_some() {
            return;
        }
        if let Some(errno) = self.answer {
            return self.connection_mut(Side::Target).fail(errno);
        }
        self.connection_mut(Side::Target).establish();
        self.answered = Some(self.stage.now.get());
    }

    fn send(&mut self, side: Side) {
        let at = side.index();
        let (peer, connection) = (&mut self.peers[at], &mut self.connections[at]);
        if connection.is_dead() || connection.closed() == Some(Closed::Reset) {
            peer.has_ended = true;
            return;
        }
        if peer.to_send > 0 {
            let most = peer.send_chunk.min(connection.window()).min(peer.to_send);
            if most > 0 {
                // Often as much as fits, so that buffers fill.
                let count = if self.random.once_in(2) { most } else { 1 + self.random.below(most) };
                let urgent = peer.urgent > 0 && self.random.once_in(peer.urgent);
                connection.arrive(count, urgent);
                peer.to_send -= count;
            }
            return;
        }
        peer.has_ended = true;
        match peer.ending {
            Ending::HalfClose => connection.arrive_end(),
            Ending::Close => {
                connection.arrive_end();
                connection.become_deaf();
            }
            Ending::Fail(errno) => connection.fail(Errno::from_raw_os_error(errno)),
            Ending::Silence => {}
        }
    }

    fn receive(&mut self, side: Side) {
        if !self.is_reading(side) {
            return;
        }
        let at = side.index();
        let (peer, connection) = (&mut self.peers[at], &mut self.connections[at]);
        let waiting = connection.unacknowledged();
        if connection.closed() == Some(Closed::Reset) {
            peer.saw.get_or_insert(Closed::Reset);
        } else if waiting > 0 {
            let most = waiting.min(peer.receive_chunk);
            let count = if self.random.once_in(2) { most } else { 1 + self.random.below(most) };
            connection.acknowledge(count);
            if connection.closed().is_some() {
                return;
            }
            self.acknowledged[at] = self.stage.now.get();
        } else if connection.sends_end() {
            peer.saw.get_or_insert(Closed::Orderly);
            connection.acknowledge_end();
            if connection.closed().is_none() {
                self.acknowledged_end = self.stage.now.get();
            }
        }
    }
}

//! The world around a relay: both connections, the peers at their other ends, and the time.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tcprelay::internal::limits::WATCH_BYTES;
use tcprelay::internal::session::{Side, Timeouts};

use super::kernel::{Call, Closed, Connection, Random, Sockets};

pub const SIDES: [Side; 2] = [Side::Requester, Side::Target];

pub fn index(side: Side) -> usize {
    usize::from(side == Side::Target)
}

/// What a peer does when it has sent all that it wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ends its stream and goes on reading.
    HalfClose,
    /// It ends its stream and reads no more: what comes then makes its kernel reset.
    Close,
    /// Its connection dies with this error.
    Fail(i32),
    /// Nothing.
    Silence,
}

/// One end user of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Bytes still to be sent.
    to_send: u64,
    /// Most bytes sent at once.
    send_chunk: u64,
    /// One chunk in so many ends in an urgent byte; 0 for none.
    urgent: u64,
    pace: Pace,
    ending: Ending,
    has_ended: bool,
    /// Most bytes read at once.
    receive_chunk: u64,
    /// It stops reading for good once it has got so many bytes.
    stops_at: Option<u64>,
    /// How it saw its connection end.
    saw: Option<Closed>,
}

/// How long a peer waits between two acts.
#[derive(Clone, Copy, Debug)]
enum Pace {
    Fast,
    Slow,
    /// Fast, with long pauses.
    Moody,
}

/// What can happen next, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// The connect is answered; only the target does it.
    Answer,
    Send,
    Receive,
    /// The connection dies, whatever the peer was about to do.
    Fail,
    /// The kernel of a peer that has closed for good answers what it was sent with a reset.
    Provoked,
}

const ACTS: [Act; 5] = [Act::Answer, Act::Send, Act::Receive, Act::Fail, Act::Provoked];

/// What may come in the way of a call, once in so many calls; 0 for never.
#[derive(Clone, Copy, Debug)]
struct Odds {
    interrupted: u64,
    /// Something else happens just before it.
    overtaken: u64,
    /// A splice is refused with this error, each from then on.
    refused: u64,
    refusal: Errno,
}

#[derive(Clone, Debug)]
pub struct World {
    pub random: Random,
    /// Since the start.
    pub now: Duration,
    pub timeouts: Timeouts,
    pub buf: usize,
    connections: [Connection; 2],
    peers: [Peer; 2],
    /// When each act is due.
    agenda: [[Option<Duration>; 2]; ACTS.len()],
    odds: Odds,
    refusing: bool,
    calls: u64,
    /// The answer to the connect: an error, if it is refused.
    answer: Option<Errno>,
    /// When the target answered.
    pub answered: Option<Duration>,
    /// Much waited for this peer, and not all of it has arrived.
    backlog: [bool; 2],
    /// When a part of a backlog arrived last, while there was a session.
    pub backlog_moved: Duration,
    /// When anything arrived last at a peer, while there was a session.
    pub acknowledged: Duration,
}

impl World {
    /// Any world.
    pub fn random(mut random: Random, splicing: bool) -> Self {
        let bulk = random.once_in(60);
        let mut size =
            || random.pick(if bulk { &[300_000, 5_000_000] } else { &[1, 40, 700, 5_000, 70_000, 300_000] });
        let windows = [size(), size()];
        let rooms = [size(), size()];
        let chunks = [size(), size(), size(), size()];
        let preface = if random.once_in(4) { 1 + random.below(200) } else { 0 };
        let connection = |side: Side, preface| {
            let at = index(side);
            Connection::new(side, side == Side::Target, windows[at], rooms[at], preface)
        };
        let connections = [connection(Side::Requester, 0), connection(Side::Target, preface)];
        let calm = random.once_in(3);
        let peers = SIDES.map(|side| {
            let (here, there) = (index(side), index(!side));
            // Not more than takes some dozens of acts on either side.
            let narrowest = windows[here].min(chunks[here]).min(rooms[there]).min(chunks[2 + there]);
            let most = (narrowest * 60).min(if bulk { 12_000_000 } else { 600_000 });
            let ending = match random.below(if calm { 1 } else { 8 }) {
                0..=3 => Ending::HalfClose,
                4 => Ending::Close,
                5 | 6 => Ending::Fail(
                    random.pick(&[Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH]).raw_os_error(),
                ),
                _ => Ending::Silence,
            };
            Peer {
                to_send: if random.once_in(6) { 0 } else { random.below(most + 1) },
                send_chunk: chunks[here],
                urgent: if random.once_in(3) { 1 + random.below(6) } else { 0 },
                pace: random.pick(&[Pace::Fast, Pace::Fast, Pace::Slow, Pace::Moody]),
                ending,
                has_ended: false,
                receive_chunk: chunks[2 + here],
                stops_at: (!calm && random.once_in(8)).then(|| random.below(most + 1)),
                saw: None,
            }
        });
        let odds = Odds {
            interrupted: random.pick(&[0, 4, 30]),
            overtaken: random.pick(&[0, 3, 20]),
            refused: if splicing && random.once_in(5) { 1 + random.below(30) } else { 0 },
            refusal: random.pick(&[Errno::INVAL, Errno::NOMEM, Errno::NOSYS, Errno::PERM]),
        };
        let timeouts = Timeouts {
            connect: Duration::from_secs(1 + random.below(3)),
            idle: Duration::from_secs(random.pick(&[1, 2, 30])),
        };
        let answer =
            (!calm && random.once_in(20)).then(|| random.pick(&[Errno::CONNREFUSED, Errno::HOSTUNREACH]));
        let buf = random.pick(&[100, 101, 1_000, 4_000]);
        let mut world = Self {
            random,
            now: Duration::ZERO,
            timeouts,
            buf,
            connections,
            peers,
            agenda: [[None; 2]; ACTS.len()],
            odds,
            refusing: false,
            calls: 0,
            answer,
            answered: None,
            backlog: [false; 2],
            backlog_moved: Duration::ZERO,
            acknowledged: Duration::ZERO,
        };
        let answers_after = world.random.pick(&[0, 0, 0, 1, 40, 300, 950, 2_500]);
        world.plan(Act::Answer, Side::Target, Duration::from_millis(answers_after));
        world.plan(Act::Send, Side::Requester, Duration::ZERO);
        for side in SIDES {
            if !calm && world.random.once_in(8) {
                let after = Duration::from_micros(1 << world.random.below(22));
                world.plan(Act::Fail, side, after);
            }
        }
        world
    }

    pub fn connection(&self, side: Side) -> &Connection {
        &self.connections[index(side)]
    }

    pub fn connection_mut(&mut self, side: Side) -> &mut Connection {
        &mut self.connections[index(side)]
    }

    /// How the peer saw its connection end.
    pub fn saw(&self, side: Side) -> Option<Closed> {
        self.peers[index(side)].saw
    }

    /// Whether the peer reads whatever comes, until the end.
    pub fn is_reading(&self, side: Side) -> bool {
        let peer = &self.peers[index(side)];
        let deaf = peer.has_ended && peer.ending == Ending::Close;
        !deaf && !self.has_stopped_reading(side) && !self.connection(side).is_dead()
    }

    fn has_stopped_reading(&self, side: Side) -> bool {
        self.peers[index(side)].stops_at.is_some_and(|most| self.connection(side).acknowledged() >= most)
    }

    /// How many ends the relay has sent on.
    pub fn ends(&self) -> usize {
        self.connections.iter().filter(|connection| connection.is_write_shut()).count()
    }

    /// A figure that changes whenever the relay moves a byte.
    pub fn movement(&self) -> u64 {
        self.connections.iter().map(|connection| connection.taken() + connection.written()).sum()
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Duration> {
        self.agenda.iter().flatten().flatten().min().copied()
    }

    /// Lets the next thing happen, at its time or, if that is later than `now`, before it.
    pub fn step(&mut self) {
        let due = self.next();
        let acts = ACTS.iter().flat_map(|&act| SIDES.map(|side| (act, side)));
        let acts: Vec<_> = acts
            .filter(|&(act, side)| due.is_some() && self.agenda[act as usize][index(side)] == due)
            .collect();
        if acts.is_empty() {
            return;
        }
        let (act, side) = self.random.pick(&acts);
        self.agenda[act as usize][index(side)] = None;
        match act {
            Act::Answer => self.answer_connect(),
            Act::Send => self.send(side),
            Act::Receive => self.receive(side),
            Act::Fail | Act::Provoked => {
                if side == Side::Requester || self.answered.is_some() {
                    self.connection_mut(side).fail(Errno::CONNRESET);
                }
            }
        }
        self.follow();
    }

    fn plan(&mut self, act: Act, side: Side, after: Duration) {
        let at = self.now + after;
        self.agenda[act as usize][index(side)].get_or_insert(at);
    }

    fn pause(&mut self, side: Side) -> Duration {
        let micros = match self.peers[index(side)].pace {
            Pace::Fast => self.random.below(200),
            Pace::Slow => 1_000 + self.random.below(40_000),
            Pace::Moody if self.random.once_in(12) => self.random.below(2_500_000),
            Pace::Moody => self.random.below(1_000),
        };
        Duration::from_micros(micros)
    }

    /// Plans what has become possible.
    pub fn follow(&mut self) {
        for side in SIDES {
            let connection = self.connection(side);
            let receivable = connection.unacknowledged() > 0
                || (self.saw(side).is_none() && (connection.sends_end() || connection.closed().is_some()));
            let provoked = connection.provokes_reset();
            let sendable = connection.window() > 0 && !self.peers[index(side)].has_ended;
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
            self.backlog[index(side)] |= self.connection(side).unacknowledged() >= u64::from(WATCH_BYTES);
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
        self.answered = Some(self.now);
    }

    fn send(&mut self, side: Side) {
        let at = index(side);
        let (peer, connection) = (&mut self.peers[at], &mut self.connections[at]);
        if connection.is_dead() || connection.closed() == Some(Closed::Reset) {
            peer.has_ended = true;
            return;
        }
        if peer.to_send > 0 {
            let most = peer.send_chunk.min(connection.window()).min(peer.to_send);
            if most > 0 {
                // Often as much as can be, so that buffers fill.
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
        let at = index(side);
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
            self.acknowledged = self.now;
            if self.backlog[at] {
                self.backlog_moved = self.now;
                self.backlog[at] = count < waiting;
            }
        } else if connection.sends_end() {
            peer.saw.get_or_insert(Closed::Orderly);
            connection.acknowledge_end();
            if connection.closed().is_none() {
                self.acknowledged = self.now;
            }
        }
    }
}

impl Sockets for World {
    fn connection_of(&mut self, side: Side) -> &mut Connection {
        self.connection_mut(side)
    }

    fn meddle(&mut self, side: Side, call: Call) -> io::Result<()> {
        self.calls += 1;
        if self.odds.overtaken > 0 && self.random.once_in(self.odds.overtaken) {
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

    fn clock(&self) -> u64 {
        self.calls
    }
}

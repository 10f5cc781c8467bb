//! The world around a relay: both connections, the peers at their other ends, and the time.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
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

/// What a session finds.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub timeouts: Timeouts,
    pub splicing: bool,
    /// There are other targets: more of them do not answer.
    pub has_backups: bool,
    pub load: Load,
}

/// The kind of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Anything.
    Any,
    /// Megabytes.
    Bulk,
    /// Megabytes, all at once, through connections with much room.
    Flood,
    /// Small messages, with pauses.
    Interactive,
    /// A few small messages, and it is over.
    Light,
}

/// The clock of all worlds, and the worlds in which something happened, by serial number.
#[derive(Debug, Default)]
pub struct Stage {
    /// Since the start.
    pub now: Cell<Duration>,
    touched: RefCell<Vec<u64>>,
}

impl Stage {
    /// Takes the serial numbers of the worlds that were touched since the last call.
    pub fn take_touched(&self) -> Vec<u64> {
        self.touched.take()
    }
}

#[allow(clippy::struct_excessive_bools)] // Independent facts.
#[derive(Debug)]
pub struct World {
    pub random: Random,
    /// The session's serial number.
    pub serial: u64,
    stage: Rc<Stage>,
    pub timeouts: Timeouts,
    connections: [Connection; 2],
    peers: [Peer; 2],
    /// When each act is due.
    agenda: [[Option<Duration>; 2]; ACTS.len()],
    odds: Odds,
    refusing: bool,
    calls: u64,
    /// The stage knows that something has happened here.
    is_touched: bool,
    /// The answer to the connect: an error, if it is refused.
    answer: Option<Errno>,
    /// How long the target takes to answer.
    answers_after: Duration,
    has_backups: bool,
    /// When the target answered.
    pub answered: Option<Duration>,
    /// When a byte arrived last at each peer, while there was a session.
    pub acknowledged: [Duration; 2],
    /// When a FIN arrived last at a peer, while there was a session.
    pub acknowledged_end: Duration,
    /// When an event overtook a call last.
    pub overtaken: Option<Duration>,
    /// Nothing goes wrong on its own.
    calm: bool,
}

/// The sizes of a session's traffic.
struct Sizes {
    windows: [u64; 2],
    rooms: [u64; 2],
    send_chunks: [u64; 2],
    receive_chunks: [u64; 2],
    most: u64,
}

impl Sizes {
    fn random(random: &mut Random, load: Load) -> Self {
        let bulk = matches!(load, Load::Bulk | Load::Flood) || load == Load::Any && random.once_in(60);
        let choices: &[u64] = match load {
            Load::Flood => &[5_000_000],
            _ if bulk => &[300_000, 5_000_000],
            Load::Interactive | Load::Light => &[5_000, 70_000],
            _ => &[1, 40, 700, 5_000, 70_000, 300_000],
        };
        let chunks: &[u64] = match load {
            Load::Interactive | Load::Light => &[1, 40, 700],
            _ => choices,
        };
        let mut pair = |choices: &[u64]| [random.pick(choices), random.pick(choices)];
        Self {
            windows: pair(choices),
            rooms: pair(choices),
            send_chunks: pair(chunks),
            receive_chunks: pair(if load == Load::Light { choices } else { chunks }),
            most: match load {
                _ if bulk => 12_000_000,
                Load::Light => 1_500,
                _ => 600_000,
            },
        }
    }

    /// The most that a peer sends: not more than takes some dozens of acts on either side.
    fn most(&self, side: Side) -> u64 {
        let (here, there) = (index(side), index(!side));
        let sent = self.windows[here].min(self.send_chunks[here]);
        let received = self.rooms[there].min(self.receive_chunks[there]);
        (sent.min(received) * 60).min(self.most)
    }
}

impl Peer {
    fn random(random: &mut Random, load: Load, sizes: &Sizes, side: Side, calm: bool) -> Self {
        let most = sizes.most(side);
        let ending = match random.below(if calm { 1 } else { 8 }) {
            0..=3 => Ending::HalfClose,
            4 => Ending::Close,
            5 | 6 => Ending::Fail(
                random.pick(&[Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH]).raw_os_error(),
            ),
            _ => Ending::Silence,
        };
        let paces: &[Pace] = match load {
            Load::Interactive => &[Pace::Slow, Pace::Moody],
            Load::Light => &[Pace::Fast, Pace::Slow],
            Load::Flood => &[Pace::Fast],
            _ => &[Pace::Fast, Pace::Fast, Pace::Slow, Pace::Moody],
        };
        Self {
            to_send: if random.once_in(6) { 0 } else { random.below(most + 1) },
            send_chunk: sizes.send_chunks[index(side)],
            urgent: if random.once_in(3) { 1 + random.below(6) } else { 0 },
            pace: random.pick(paces),
            ending,
            has_ended: false,
            receive_chunk: sizes.receive_chunks[index(side)],
            stops_at: (!calm && random.once_in(8)).then(|| random.below(most + 1)),
            saw: None,
        }
    }
}

impl Odds {
    fn random(random: &mut Random, splicing: bool) -> Self {
        Self {
            interrupted: random.pick(&[0, 4, 30]),
            overtaken: random.pick(&[0, 3, 20]),
            refused: if splicing && random.once_in(5) { 1 + random.below(30) } else { 0 },
            refusal: random.pick(&[Errno::INVAL, Errno::NOMEM, Errno::NOSYS, Errno::PERM]),
        }
    }
}

impl World {
    /// Any world of this load. Its requester has just connected.
    pub fn random(mut random: Random, serial: u64, terms: Terms, stage: &Rc<Stage>) -> Self {
        let sizes = Sizes::random(&mut random, terms.load);
        let preface = if random.once_in(4) { 1 + random.below(200) } else { 0 };
        let hides_queues = random.once_in(8);
        let connections = SIDES.map(|side| {
            let at = index(side);
            let preface = if side == Side::Target { preface } else { 0 };
            let mut connection =
                Connection::new(side, side == Side::Target, sizes.windows[at], sizes.rooms[at], preface);
            if hides_queues {
                connection.hide_queue();
            }
            connection
        });
        let calm = random.once_in(3);
        let peers = SIDES.map(|side| Peer::random(&mut random, terms.load, &sizes, side, calm));
        let odds = Odds::random(&mut random, terms.splicing);
        Self {
            random,
            serial,
            stage: Rc::clone(stage),
            timeouts: terms.timeouts,
            connections,
            peers,
            agenda: [[None; 2]; ACTS.len()],
            odds,
            refusing: false,
            calls: 0,
            is_touched: false,
            answer: None,
            answers_after: Duration::ZERO,
            has_backups: terms.has_backups,
            answered: None,
            acknowledged: [Duration::ZERO; 2],
            acknowledged_end: Duration::ZERO,
            overtaken: None,
            calm,
        }
    }

    /// The requester has connected: it begins to send.
    pub fn begin(&mut self) {
        self.plan(Act::Send, Side::Requester, Duration::ZERO);
        self.plan_death(Side::Requester);
    }

    /// The relay begins to connect to another target. It has closed the connection to the one before.
    pub fn begin_another_connect(&mut self) {
        let target = self.connection_mut(Side::Target);
        assert!(target.is_dead() || target.closed().is_some(), "the old connection is not closed");
        assert_eq!(target.written() + target.taken(), 0, "the old target had bytes");
        *target = target.anew();
        let at = index(Side::Target);
        let peer = &mut self.peers[at];
        (peer.has_ended, peer.saw, self.answered) = (false, None, None);
        for act in &mut self.agenda {
            act[at] = None;
        }
        self.begin_connect();
    }

    /// The relay begins to connect to the target.
    pub fn begin_connect(&mut self) {
        let refuses =
            if self.has_backups { self.random.once_in(3) } else { !self.calm && self.random.once_in(20) };
        let answer = self.random.pick(&[Errno::CONNREFUSED, Errno::HOSTUNREACH]);
        self.answer = refuses.then_some(answer);
        let times: &[u64] = &[0, 0, 0, 1, 40, 300, 950, 2_500];
        self.answers_after = Duration::from_millis(self.random.pick(times));
        if self.has_backups && self.random.once_in(8) {
            // Not before the connect timeout.
            self.answers_after = Duration::from_secs(100);
        }
        self.plan(Act::Answer, Side::Target, self.answers_after);
        self.plan_death(Side::Target);
    }

    /// Some connections die, whatever their peers were about to do.
    fn plan_death(&mut self, side: Side) {
        if !self.calm && self.random.once_in(8) {
            let after = Duration::from_micros(1 << self.random.below(22));
            self.plan(Act::Fail, side, after);
        }
    }

    /// Notes that something has happened here.
    pub fn touch(&mut self) {
        if !std::mem::replace(&mut self.is_touched, true) {
            self.stage.touched.borrow_mut().push(self.serial);
        }
    }

    /// Notes that what has happened was looked at.
    pub fn untouch(&mut self) {
        self.is_touched = false;
    }

    /// Calls that the relay has made here.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Whether something is to be reported.
    pub fn is_woken(&self) -> bool {
        self.connections.iter().any(Connection::is_woken)
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
        self.touch();
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
        let at = self.stage.now.get() + after;
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

    fn clock(&self) -> u64 {
        self.calls
    }
}

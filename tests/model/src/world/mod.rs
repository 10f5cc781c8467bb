//! The world around a session: both connections, the peers at their other ends, and the time.

mod acts;
mod odds;
mod peer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use tcprelay::internal::session::{Side, Timeouts};

use self::acts::{ACTS, Act};
use self::odds::Odds;
pub use self::peer::Load;
use self::peer::{Ending, Peer, Sizes};
use crate::kernel::{Closed, Connection};
use crate::random::Random;

/// The conditions that a session meets.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub timeouts: Timeouts,
    pub splicing: bool,
    /// There are backup targets, so connects fail or stay unanswered more often.
    pub has_backups: bool,
    pub load: Load,
}

/// The clock of all worlds, and the serial numbers of the worlds in which something happened.
#[derive(Debug, Default)]
pub struct Stage {
    /// Time since the start.
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
    /// Time at which each act is due, by act and side; `None` if it is not planned.
    agenda: [[Option<Duration>; 2]; ACTS.len()],
    odds: Odds,
    refusing: bool,
    calls: u64,
    /// The time of the last event that a call has shown the relay.
    ticks: u64,
    /// The stage has noted that something happened here.
    is_touched: bool,
    /// The error that answers the connect; `None`: it succeeds.
    answer: Option<Errno>,
    /// Time that the target takes to answer.
    answers_after: Duration,
    has_backups: bool,
    /// Time at which the target accepted; `None` before that.
    pub answered: Option<Duration>,
    /// Time of the last byte that arrived at each peer during the session.
    pub acknowledged: [Duration; 2],
    /// Time of the last FIN that arrived at a peer during the session.
    pub acknowledged_end: Duration,
    /// Time at which an event last overtook a call; `None` if none has.
    pub overtaken: Option<Duration>,
    /// The peers read everything and end with a half-close, and no death is planned.
    calm: bool,
}

impl World {
    /// Returns a random world of this load, whose requester has just connected.
    pub fn random(mut random: Random, serial: u64, terms: Terms, stage: &Rc<Stage>) -> Self {
        let sizes = Sizes::random(&mut random, terms.load);
        let preface = if random.once_in(4) { 1 + random.below(200) } else { 0 };
        let hides_queues = random.once_in(8);
        let connections = Side::BOTH.map(|side| {
            let at = side.index();
            let preface = if side == Side::Target { preface } else { 0 };
            let mut connection =
                Connection::new(side, side == Side::Target, sizes.windows[at], sizes.rooms[at], preface);
            if hides_queues {
                connection.hide_queue();
            }
            connection
        });
        let calm = random.once_in(3);
        let peers = Side::BOTH.map(|side| Peer::random(&mut random, terms.load, &sizes, side, calm));
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
            ticks: 0,
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

    /// Lets the requester begin to send.
    pub fn begin(&mut self) {
        self.plan(Act::Send, Side::Requester, Duration::ZERO);
        self.plan_death(Side::Requester);
    }

    /// Begins the relay's connect to another target. The connection to the one before must be closed or dead.
    pub fn begin_another_connect(&mut self) {
        let target = self.connection_mut(Side::Target);
        assert!(target.is_dead() || target.closed().is_some(), "the old connection is not closed");
        assert_eq!(target.written() + target.taken(), 0, "the old target had bytes");
        *target = target.anew();
        let at = Side::Target.index();
        let peer = &mut self.peers[at];
        (peer.has_ended, peer.saw, self.answered) = (false, None, None);
        for act in &mut self.agenda {
            act[at] = None;
        }
        self.begin_connect();
    }

    /// Begins the relay's connect to the target.
    pub fn begin_connect(&mut self) {
        let refuses =
            if self.has_backups { self.random.once_in(3) } else { !self.calm && self.random.once_in(20) };
        let answer = self.random.pick(&[Errno::CONNREFUSED, Errno::HOSTUNREACH]);
        self.answer = refuses.then_some(answer);
        let times: &[u64] = &[0, 0, 0, 1, 40, 300, 950, 2_500];
        self.answers_after = Duration::from_millis(self.random.pick(times));
        if self.has_backups && self.random.once_in(8) {
            // Long after the connect timeout.
            self.answers_after = Duration::from_secs(100);
        }
        self.plan(Act::Answer, Side::Target, self.answers_after);
        self.plan_death(Side::Target);
    }

    /// Plans the death of some connections, whatever their peers were about to do.
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

    /// Notes that the simulation has looked at this world.
    pub fn untouch(&mut self) {
        self.is_touched = false;
    }

    /// Returns the number of calls that the relay has made here.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    pub fn connection(&self, side: Side) -> &Connection {
        &self.connections[side.index()]
    }

    pub fn connection_mut(&mut self, side: Side) -> &mut Connection {
        &mut self.connections[side.index()]
    }

    /// Returns how the peer saw its connection end; `None` if it has not.
    pub fn saw(&self, side: Side) -> Option<Closed> {
        self.peers[side.index()].saw
    }

    /// Returns whether the peer reads everything that comes, up to EOF.
    pub fn is_reading(&self, side: Side) -> bool {
        let peer = &self.peers[side.index()];
        let deaf = peer.has_ended && peer.ending == Ending::Close;
        !deaf && !self.has_stopped_reading(side) && !self.connection(side).is_dead()
    }

    fn has_stopped_reading(&self, side: Side) -> bool {
        self.peers[side.index()].stops_at.is_some_and(|most| self.connection(side).acknowledged() >= most)
    }

    /// Returns a number that changes whenever the relay moves a byte.
    pub fn movement(&self) -> u64 {
        self.connections.iter().map(|connection| connection.taken() + connection.written()).sum()
    }
}

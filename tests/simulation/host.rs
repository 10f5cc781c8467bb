//! The host of the simulated pool: the worlds of all sessions, by serial number.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tcprelay::internal::choice::Choice;
use tcprelay::internal::message::{Cause, Destination, Ended, Identity, Summary, Unreached};
use tcprelay::internal::pool::{Host, Next};
use tcprelay::internal::session::{Side, Tried};
use tcprelay_model::kernel::{PREFACE, Scripted};
use tcprelay_model::random::Random;
use tcprelay_model::world::{Stage, World};

use crate::verdict;

/// A session's socket.
pub type Socket = Scripted<World>;

/// The worlds, and the facts about their sessions.
pub struct Edge {
    pub stage: Rc<Stage>,
    pub cases: BTreeMap<u64, Case>,
    pub random: Random,
    /// The instant at which the virtual clock shows 0.
    pub origin: Instant,
    pub choice: Choice,
    /// One in this many connects cannot begin, and one in this many registrations fails; 0: none.
    pub faults: u64,
    /// Sessions that have ended, including those that the stop ended.
    pub ended: u64,
    /// The sums over these sessions.
    pub sums: Sums,
}

/// Sums over sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub refused: u64,
    pub expired: u64,
    pub to_target: u64,
    pub to_requester: u64,
}

/// One session and its world.
pub struct Case {
    pub world: Rc<RefCell<World>>,
    pub history: History,
    /// The targets that the relay has tried, in their order.
    pub tried: Vec<Destination>,
    /// Its slot; `None`: it has none yet, or has ended.
    pub key: Option<usize>,
    /// For each side, whether its socket waits in the queue of sockets to poll.
    pub is_ready: [bool; 2],
    /// How it ended; `None`: it has not.
    pub end: Option<End>,
}

/// The times of what the relay has done for a session.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    /// When the first connect began.
    pub began: Duration,
    /// When the last connect began.
    pub connecting: Duration,
    /// The session has begun to relay.
    pub relays: bool,
    /// When a byte last moved through the relay, or the session began to relay.
    pub moved: Duration,
    /// When a byte was last written to each side.
    pub written: [Duration; 2],
    /// When the session began to abort; `None`: it has not.
    pub aborted: Option<Duration>,
    /// The figures of the last look.
    pub seen: Seen,
}

/// The figures of a session that show what the relay has done for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub movement: u64,
    pub written: [u64; 2],
}

/// How a session ended.
#[derive(Debug)]
pub struct End {
    /// Why it ended; `None`: the relay stopped.
    pub cause: Option<Cause>,
    /// What it had done; `None`: the relay stopped.
    pub summary: Option<Summary>,
    pub at: Duration,
    /// For each side, whether the kernel had something left to report.
    pub unreported: [bool; 2],
    /// For each side, whether its send queue held bytes and no FIN, and the kernel reports its length.
    pub stuck: [bool; 2],
    /// A side whose bytes had arrived before the turn and could have been moved; `None`: neither.
    pub left_behind: Option<Side>,
}

impl Case {
    pub fn new(world: World) -> Self {
        let world = Rc::new(RefCell::new(world));
        Self {
            world,
            history: History::default(),
            tried: Vec::new(),
            key: None,
            is_ready: [false; 2],
            end: None,
        }
    }

    /// Notes the end. Without `ended`, the stop of the relay is the reason.
    pub fn end(&mut self, ended: Option<&Ended>, now: Duration) {
        let mut world = self.world.borrow_mut();
        world.touch();
        let unreported = Side::BOTH.map(|side| world.connection(side).is_woken());
        let stuck = Side::BOTH.map(|side| {
            let connection = world.connection(side);
            let waits = connection.acknowledged() < connection.written();
            connection.tells_queue() && !connection.is_write_shut() && waits
        });
        let left_behind = Side::BOTH.into_iter().find(|&side| {
            let (from, to) = (world.connection(side), world.connection(!side));
            let held = to.preface() + from.taken() > to.written();
            world.overtaken != Some(now) && !held && from.arrived() > from.taken()
        });
        let (cause, summary) = (ended.map(|ended| ended.cause), ended.map(|ended| ended.summary));
        assert!(self.end.is_none(), "a session ends twice");
        self.key = None;
        self.end = Some(End { cause, summary, at: now, unreported, stuck, left_behind });
    }

    /// Notes what the relay has done since the last look.
    pub fn look(&mut self, now: Duration) {
        let world = self.world.borrow();
        let History { seen, moved, written, .. } = &mut self.history;
        if world.movement() != seen.movement {
            *moved = now;
        }
        for (at, side) in Side::BOTH.into_iter().enumerate() {
            if world.connection(side).written() != seen.written[at] {
                written[at] = now;
            }
        }
        *seen = Seen {
            movement: world.movement(),
            written: Side::BOTH.map(|side| world.connection(side).written()),
        };
    }
}

impl Edge {
    pub fn now(&self) -> Duration {
        self.stage.now.get()
    }

    /// Returns the virtual time as the pool takes it.
    pub fn instant(&self) -> Instant {
        self.origin + self.now()
    }

    fn has_fault(&mut self) -> bool {
        self.faults > 0 && self.random.once_in(self.faults)
    }

    /// Begins to connect a session to this target.
    pub fn begin_connect(&mut self, serial: u64, target: Destination) -> Result<(), Unreached> {
        let (now, has_fault) = (self.now(), self.has_fault());
        let case = self.cases.get_mut(&serial).expect("the session is known");
        case.history.connecting = now;
        if case.tried.is_empty() {
            case.history.began = now;
        }
        assert!(!case.tried.contains(&target), "{target} is tried twice");
        case.tried.push(target);
        let mut world = case.world.borrow_mut();
        if case.tried.len() > 1 {
            world.begin_another_connect();
        } else {
            world.begin_connect();
        }
        if has_fault {
            world.connection_mut(Side::Target).fail(Errno::ADDRNOTAVAIL);
            let reason = self.random.pick(&[Cause::ConnectNotStarted, Cause::TargetRefused]);
            return Err(Unreached { cause: reason, errno: Some(Errno::ADDRNOTAVAIL.raw_os_error()) });
        }
        Ok(())
    }

    /// Returns the bytes that the relay has moved for a session, in and out.
    pub fn movement_of(&self, serial: u64) -> u64 {
        self.cases[&serial].world.borrow().movement()
    }

    /// Returns the bytes that the relay has taken from each side of a session.
    pub fn taken_of(&self, serial: u64) -> [u64; 2] {
        let world = self.cases[&serial].world.borrow();
        Side::BOTH.map(|side| world.connection(side).taken())
    }

    /// Returns the number of calls that the relay has made for a session.
    pub fn calls_of(&self, serial: u64) -> u64 {
        self.cases[&serial].world.borrow().calls()
    }

    /// Adds a session that has ended to the sums.
    pub fn sum_up(&mut self, cause: Option<Cause>, world: &World) {
        self.ended += 1;
        self.sums.refused += u64::from(cause == Some(Cause::TargetRefused));
        self.sums.expired += u64::from(matches!(cause, Some(Cause::ConnectTimeout | Cause::IdleTimeout)));
        self.sums.to_target += world.connection(Side::Target).written();
        self.sums.to_requester += world.connection(Side::Requester).written();
    }
}

impl Host<Socket> for Edge {
    fn watch(&mut self, key: usize, _: Side, stream: &mut Socket) -> io::Result<()> {
        if self.has_fault() {
            return Err(Errno::NOMEM.into());
        }
        let serial = stream.sockets().borrow().serial;
        self.cases.get_mut(&serial).expect("the session is known").key = Some(key);
        Ok(())
    }

    fn own_end(&mut self, target: &Socket) -> Option<SocketAddr> {
        // Each connect of a session has another port. Some connections of different sessions share one.
        let serial = target.sockets().borrow().serial;
        let port = 1 + (serial + self.cases[&serial].tried.len() as u64) % 20;
        Some(SocketAddr::from(([10, 9, 9, 9], port as u16)))
    }

    fn next_target(
        &mut self,
        mut session: Identity,
        unreached: Option<Unreached>,
        tried: &mut Tried,
    ) -> Result<Next<Socket>, Unreached> {
        let mut unreached = unreached.expect("every target has an address");
        let (serial, now) = (session.serial.get(), self.instant());
        let world = Rc::clone(&self.cases[&serial].world);
        loop {
            verdict::judge_unreached(&self.cases[&serial], unreached, self.now());
            self.choice.failed(session.target, unreached.into(), tried, now);
            let Some(target) = self.choice.next(*tried, now) else { return Err(unreached) };
            match self.begin_connect(serial, target) {
                Ok(()) => {
                    world.borrow_mut().touch();
                    let address = target.address().expect("every target has an address");
                    return Ok(Next::Connecting(Socket::new(&world, Side::Target), address));
                }
                // A connect that cannot even begin ends its session.
                Err(unreached) if unreached.cause == Cause::ConnectNotStarted => return Err(unreached),
                Err(failure) => (session.target, unreached) = (target, failure),
            }
        }
    }

    fn connected(&mut self, session: Identity) {
        self.choice.answered(session.target);
    }

    fn relaying(&mut self, _: Identity) {}

    fn preface(&mut self, identity: Identity, _: &Socket) -> Vec<u8> {
        let now = self.now();
        let case = self.cases.get_mut(&identity.serial.get()).expect("the session is known");
        (case.history.relays, case.history.moved) = (true, now);
        vec![PREFACE; case.world.borrow().connection(Side::Target).preface() as usize]
    }

    fn ended(&mut self, ended: Ended) {
        let now = self.now();
        let case = self.cases.get_mut(&ended.identity.serial.get()).expect("the session is known");
        case.end(Some(&ended), now);
        let world = Rc::clone(&case.world);
        self.sum_up(Some(ended.cause), &world.borrow());
    }
}

//! The loop around the pool, as `src/relay` has it, for simulated connections: the phases of a turn,
//! accepting and its pauses, a drain, a stop.

mod accept;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tcprelay::Progress;
use tcprelay::internal::choice::Choice;
use tcprelay::internal::pool::{Pool, Settings, Timer, Wake};
use tcprelay::internal::session::Side;
use tcprelay::internal::stream::Readiness;
use tcprelay_model::random::Random;
use tcprelay_model::world::{Stage, Terms, World};

use crate::host::{Case, Edge, Socket, Sums};
use crate::plan::{Finish, Plan};
use crate::turns::{LARGE, Turns};
use crate::verdict;

/// Turns that a relay takes at most for each session, unless it spins.
const MOST_TURNS: u64 = 200_000;

/// One relay, from its start to its end.
pub struct Gateway {
    plan: Plan,
    random: Random,
    pool: Pool<Socket>,
    edge: Edge,
    turns: Turns,
    /// The time of each world's next event, with the serial number. Stale entries are skipped.
    agenda: BinaryHeap<Reverse<(Duration, u64)>>,
    /// When the next requester connects; `None`: all have.
    next_arrival: Option<Duration>,
    arrived: u64,
    /// Connections that wait to be accepted, by serial number.
    backlog: VecDeque<u64>,
    doors: Doors,
    /// Sockets of which the kernel has something to report: serial number and side.
    ready: VecDeque<(u64, Side)>,
    /// Sessions that can go on. The next look includes them, touched or not.
    restless: Vec<u64>,
    turn: u64,
    /// Sessions that had ended when the pool was last asked for freed slots.
    ended: u64,
    /// Every turn is printed, because the environment asks for a single run.
    traced: bool,
}

/// The state of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doors {
    Open,
    Paused { until: Duration },
    Draining,
    Stopped,
}

/// A report of the kernel on one side of a session.
struct Event {
    key: usize,
    side: Side,
    report: Readiness,
    /// The session that the report is about.
    serial: u64,
}

/// The figures of a relay that has ended.
pub struct Life {
    pub sessions: u64,
    /// The virtual time from its start until its last peer was done.
    pub time: Duration,
}

impl Gateway {
    pub fn new(plan: Plan, random: Random, traced: bool) -> Self {
        let origin = Instant::now();
        let edge = Edge {
            stage: Rc::new(Stage::default()),
            cases: BTreeMap::new(),
            random: Random(random.0 ^ 1),
            origin,
            choice: Choice::new(
                (0..=plan.backups).map(|place| SocketAddr::from(([10, 8, 8, place], 80)).into()),
            ),
            faults: plan.faults,
            ended: 0,
            sums: Sums::default(),
        };
        Self {
            pool: Pool::new(plan.settings, origin),
            turns: Turns::new(plan.settings.timeouts),
            plan,
            random,
            edge,
            agenda: BinaryHeap::new(),
            next_arrival: Some(Duration::ZERO),
            arrived: 0,
            backlog: VecDeque::new(),
            doors: Doors::Open,
            ready: VecDeque::new(),
            restless: Vec::new(),
            turn: 0,
            ended: 0,
            traced,
        }
    }

    /// Runs the relay until nothing more can happen.
    pub fn run(mut self) -> Life {
        loop {
            if self.wants_turn() {
                self.turn();
            } else if !self.sleep() {
                break;
            }
        }
        assert!(self.edge.cases.is_empty(), "a session never ended");
        assert!(self.pool.slots().is_empty(), "a slot is still taken");
        assert_eq!(self.pool.pipes().held(), 0, "a channel still holds a pipe");
        verdict::judge_pipes(self.pool.pipes());
        let totals = self.pool.counts.totals();
        let Sums { refused, expired, to_target, to_requester } = self.edge.sums;
        assert_eq!(
            (totals.refused, totals.expired, totals.to_target, totals.to_requester),
            (refused, expired, to_target, to_requester),
            "the totals are not the sums over the sessions"
        );
        Life { sessions: self.edge.ended, time: self.edge.now() }
    }

    // ----- time

    fn now(&self) -> Instant {
        self.edge.instant()
    }

    fn wakes_at(&self) -> Option<Duration> {
        match self.pool.wakes_at() {
            Wake::Now => Some(Duration::ZERO),
            Wake::At(at) => Some(at - self.edge.origin),
            Wake::Never => None,
        }
    }

    /// Returns when the relay must drain or stop; `None`: more requesters come first, or it has begun to.
    fn finishes_at(&self) -> Option<Duration> {
        match (self.doors, self.plan.finish) {
            (Doors::Open | Doors::Paused { .. }, Finish::Drain(at) | Finish::Stop(at)) => Some(at),
            (Doors::Open | Doors::Paused { .. }, Finish::Late)
                if self.next_arrival.is_none() && self.backlog.is_empty() =>
            {
                Some(Duration::ZERO)
            }
            _ => None,
        }
    }

    fn wants_turn(&self) -> bool {
        let now = self.edge.now();
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        self.doors != Doors::Stopped
            && (!self.ready.is_empty()
                || is_due(self.wakes_at())
                || is_due(self.finishes_at())
                || self.doors == Doors::Open && !self.backlog.is_empty())
    }

    /// Advances the clock to the next event. Returns false if there is none.
    fn sleep(&mut self) -> bool {
        let wakes_at = self.wakes_at().filter(|_| self.doors != Doors::Stopped);
        let events = [wakes_at, self.finishes_at(), self.next_event(), self.next_arrival];
        let Some(next) = events.into_iter().flatten().min() else { return false };
        let has_time = self.doors == Doors::Stopped || self.pool.queues().are_empty();
        assert!(has_time, "the relay sleeps while sessions are queued");
        self.edge.stage.now.set(self.edge.now().max(next));
        self.run_due_events();
        true
    }

    /// Returns the time of the next event in any world.
    fn next_event(&mut self) -> Option<Duration> {
        while let Some(&Reverse((at, serial))) = self.agenda.peek() {
            let world = self.edge.cases.get(&serial).map(|case| case.world.borrow().next());
            if world == Some(Some(at)) {
                return Some(at);
            }
            self.agenda.pop();
        }
        None
    }

    /// Makes the due events happen. Without `in_batches`, some of them may wait for the next turn.
    fn run_due_events(&mut self) {
        let now = self.edge.now();
        while self.next_arrival.is_some_and(|at| at <= now) {
            self.arrive();
        }
        while self.next_event().is_some_and(|at| at <= now) {
            if let Some(Reverse((_, serial))) = self.agenda.pop() {
                self.edge.cases[&serial].world.borrow_mut().step();
            }
            self.look();
            if !self.plan.in_batches && self.random.once_in(2) {
                break;
            }
        }
    }

    /// Connects the next requester.
    fn arrive(&mut self) {
        self.arrived += 1;
        let (serial, bits) = (self.arrived, self.random.bits());
        let load = self.random.pick(self.plan.loads);
        let Settings { timeouts, pipe_bytes, .. } = self.plan.settings;
        let has_backups = self.plan.backups > 0;
        let terms = Terms { timeouts, splicing: pipe_bytes > 0, has_backups, load };
        let mut world = World::random(Random(bits), serial, terms, &self.edge.stage);
        world.begin();
        world.touch();
        self.edge.cases.insert(serial, Case::new(world));
        self.backlog.push_back(serial);
        let gap = Duration::from_micros(self.random.below(self.plan.gap));
        self.next_arrival = (self.arrived < self.plan.arrivals).then(|| self.edge.now() + gap);
        if matches!(self.doors, Doors::Draining | Doors::Stopped) {
            self.close_listener();
        }
        self.look();
    }

    // ----- a turn

    fn turn(&mut self) {
        self.turn += 1;
        assert!(self.turn < MOST_TURNS * self.plan.arrivals, "the relay spins");
        let now = self.now();
        let events = self.poll();
        assert!(events.len() <= self.plan.events_per_turn, "a turn takes too many reports");
        let more_events = events.len() == self.plan.events_per_turn;
        self.note(&events);
        self.turns.begin_work(&self.pool, &self.edge, events.iter().map(|event| event.key));
        self.pool.work(now, &mut self.edge);
        self.turns.end_work(&self.pool, &self.edge);
        if self.finishes_at().is_some_and(|at| at <= self.edge.now()) {
            self.finish();
        }
        if self.doors != Doors::Stopped {
            if self.pool.take_due(Timer::Accept, now) {
                self.resume_accepting();
            }
            self.turns.begin_expire(&self.pool, &self.edge);
            self.pool.expire(now, more_events, &mut self.edge);
            self.turns.end_expire(&self.pool, &self.edge, now);
            let freed = self.pool.take_freed();
            let ended = std::mem::replace(&mut self.ended, self.edge.ended);
            assert_eq!(freed, self.edge.ended > ended, "a slot is freed exactly when a session ends");
            if freed {
                self.resume_accepting();
            }
            self.accept();
            // Checking every slot of a large pool takes long.
            if self.pool.slots().len() < LARGE || self.turn.is_multiple_of(64) {
                self.pool.check();
            }
        }
        let (pipes, bound) = (self.pool.pipes().bytes(), self.plan.settings.pipe_bytes);
        assert!(pipes <= bound, "the pipes may hold {pipes} of {bound} bytes");
        self.trace();
        self.look();
        let moved = self.turns.take_moved();
        let took = Duration::from_nanos(moved) + Duration::from_micros(self.random.below(self.plan.turn));
        self.edge.stage.now.set(self.edge.now() + took);
        self.run_due_events();
    }

    /// Takes the kernel's reports for one turn.
    fn poll(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < self.plan.events_per_turn {
            let Some((serial, side)) = self.ready.pop_front() else { break };
            let Some(case) = self.edge.cases.get_mut(&serial) else { continue };
            case.is_ready[side.index()] = false;
            let Some(key) = case.key else { continue };
            if let Some(report) = case.world.borrow_mut().connection_mut(side).report() {
                events.push(Event { key, side, report, serial });
            }
        }
        events
    }

    fn note(&mut self, events: &[Event]) {
        for event in events {
            if let Some(session) = self.pool.slots().get(event.key) {
                let serial = session.identity().serial.get();
                assert_eq!(serial, event.serial, "a report reaches another session");
            }
            self.pool.note(event.key, event.side, event.report);
        }
    }

    /// Begins the drain, or stops.
    fn finish(&mut self) {
        let stops = matches!(self.plan.finish, Finish::Stop(_));
        self.doors = if stops { Doors::Stopped } else { Doors::Draining };
        self.close_listener();
        if !stops {
            return;
        }
        let now = self.edge.now();
        let live: Vec<_> =
            self.pool.slots().iter_from(0).map(|(_, session)| session.identity().serial).collect();
        self.pool.stop();
        for serial in live {
            let case = self.edge.cases.get_mut(&serial.get()).expect("the session is known");
            case.end(None, now);
            let world = Rc::clone(&case.world);
            self.edge.sum_up(None, &world.borrow());
        }
    }

    // ----- looking

    /// Looks at the sessions in which something has happened, and at those that can go on.
    fn look(&mut self) {
        let mut serials = self.edge.stage.take_touched();
        for &serial in &serials {
            if let Some(case) = self.edge.cases.get(&serial) {
                case.world.borrow_mut().untouch();
            }
        }
        serials.append(&mut self.restless);
        serials.sort_unstable();
        serials.dedup();
        for serial in serials {
            self.look_at(serial);
        }
    }

    fn look_at(&mut self, serial: u64) {
        let now = self.edge.now();
        let Some(case) = self.edge.cases.get_mut(&serial) else { return };
        case.look(now);
        let next = {
            let mut world = case.world.borrow_mut();
            world.follow();
            world.next()
        };
        if let Some(next) = next {
            self.agenda.push(Reverse((next, serial)));
        }
        if case.end.is_some() {
            if next.is_none() {
                verdict::judge(case, self.edge.choice.targets().len());
                self.edge.cases.remove(&serial);
            }
            return;
        }
        let Some(key) = case.key else { return };
        let session = self.pool.slots().get(key).expect("the session has a slot");
        let phase = session.live(self.edge.origin + now).phase;
        if phase == Progress::Ending {
            case.history.aborted.get_or_insert(now);
        }
        for side in Side::BOTH {
            let is_woken = case.world.borrow().connection(side).is_woken();
            if is_woken && !std::mem::replace(&mut case.is_ready[side.index()], true) {
                self.ready.push_back((serial, side));
            }
        }
        let is_woken = case.is_ready.contains(&true);
        if is_woken || self.pool.queues().contains(key) {
            self.restless.push(serial);
        } else {
            verdict::at_rest(&case.world.borrow(), phase);
        }
    }

    fn trace(&self) {
        if !self.traced {
            return;
        }
        let wakes = self.pool.wakes_at();
        eprintln!("{:?} turn {}, {:?}, wakes {wakes:?}", self.edge.now(), self.turn, self.doors);
        for (key, session) in self.pool.slots().iter_from(0) {
            let serial = session.identity().serial.get();
            let live = session.live(self.now());
            let queued = self.pool.queues().traffic(key);
            eprintln!("  {serial} in slot {key}: {} {queued:?} idle for {:?}", live.phase, live.idle);
            let world = self.edge.cases[&serial].world.borrow();
            for side in Side::BOTH {
                eprintln!("    {:?}", world.connection(side));
            }
        }
    }
}

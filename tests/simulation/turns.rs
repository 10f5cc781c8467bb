//! The judgement of each turn, whatever the load: which sessions are served, how soon, and for how many
//! bytes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tcprelay::Progress;
use tcprelay::internal::limits::{
    INTERACTIVE_BYTES_PER_TURN, INTERACTIVE_LINGER, PIPE_BYTES_MAX, SHARE, SHARE_BESIDE_INTERACTIVE,
};
use tcprelay::internal::pool::{Pool, Traffic};
use tcprelay::internal::session::{Session, Side, Timeouts};

use super::host::{Edge, Socket};
use super::verdict::LATEST;

/// The number of sessions from which on looking at all of them in each turn takes too long.
pub const LARGE: usize = 100;

/// Watches the turns of one pool.
pub struct Turns {
    timeouts: Timeouts,
    turn: u64,
    /// The bytes that each session had taken before timers fired, and the calls that it had made.
    before_expire: Vec<(u64, [u64; 2], u64)>,
    /// The sessions that worked when their timer fired, and have not been served since.
    caught_up: HashSet<u64>,
    /// The keys that were still queued when work ended.
    left: Vec<usize>,
    /// The sessions that were queued when this turn's work began.
    queued: Vec<Queued>,
    /// For each session that was queued and not served, the turns that it has waited and the most that
    /// it may wait.
    waits: HashMap<u64, (usize, usize)>,
    /// The sessions that carried interactive traffic lately, and when.
    interactive: HashMap<u64, Duration>,
    /// Bytes moved in this turn.
    moved: u64,
}

/// A queued session, as it was before work.
#[derive(Clone, Copy)]
struct Queued {
    key: usize,
    serial: u64,
    traffic: Traffic,
    relays: bool,
    movement: u64,
    taken: [u64; 2],
}

impl Queued {
    fn is_queued_now(&self, pool: &Pool<Socket>) -> bool {
        let session = pool.slots().get(self.key);
        session.is_some_and(|session| session.identity().serial.get() == self.serial)
            && pool.queues().contains(self.key)
    }

    /// Returns whether the session has begun to abort, or has ended, in this turn.
    fn aborts_now(&self, pool: &Pool<Socket>, edge: &Edge) -> bool {
        let (case, session) = (&edge.cases[&self.serial], pool.slots().get(self.key));
        let aborts = |session: &Session<Socket>| session.live(edge.instant()).phase == Progress::Ending;
        let is_over = case.end.is_some() || session.is_some_and(aborts);
        is_over && case.history.aborted.is_none()
    }

    /// Returns whether the session has worked in this turn. If it is still queued, it must have moved
    /// bytes, or its target must just have answered.
    fn is_served(&self, pool: &Pool<Socket>, edge: &Edge) -> bool {
        let case = &edge.cases[&self.serial];
        !self.is_queued_now(pool)
            || case.world.borrow().movement() > self.movement
            || case.history.relays && !self.relays
    }
}

/// Whether interactive traffic passed lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lately {
    Yes,
    No,
    /// Either answer is right.
    Maybe,
}

impl Turns {
    pub fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            turn: 0,
            before_expire: Vec::new(),
            caught_up: HashSet::new(),
            left: Vec::new(),
            queued: Vec::new(),
            waits: HashMap::new(),
            interactive: HashMap::new(),
            moved: 0,
        }
    }

    /// Notes the queued sessions: those with keys in `noted`, and those left from the turn before.
    pub fn begin_work(&mut self, pool: &Pool<Socket>, edge: &Edge, noted: impl Iterator<Item = usize>) {
        let slots = pool.slots();
        let mut keys: Vec<_> = if slots.len() < LARGE {
            slots.iter_from(0).map(|(key, _)| key).collect()
        } else {
            noted.chain(std::mem::take(&mut self.left)).collect()
        };
        keys.sort_unstable();
        keys.dedup();
        let queued = keys.into_iter().filter(|&key| pool.queues().contains(key)).filter_map(|key| {
            let session = slots.get(key)?;
            let serial = session.identity().serial.get();
            let traffic = pool.queues().traffic(key)?;
            let is_right = (traffic == Traffic::Bulk) == session.is_bulk();
            // A session that caught up after it was queued keeps its place. In a large pool, that is not tracked.
            let keeps_place = self.caught_up.contains(&serial) || slots.len() >= LARGE;
            assert!(is_right || keeps_place, "session {serial} is queued as {traffic:?}");
            let taken = edge.taken_of(serial);
            let (relays, movement) = (edge.cases[&serial].history.relays, edge.movement_of(serial));
            Some(Queued { key, serial, traffic, relays, movement, taken })
        });
        self.queued = queued.collect();
    }

    /// Judges the work of this turn.
    pub fn end_work(&mut self, pool: &Pool<Socket>, edge: &Edge) {
        let (mut sums, mut largest) = ([0; 2], [0; 2]);
        for queued in &self.queued {
            let moved = edge.movement_of(queued.serial) - queued.movement;
            sums[queued.traffic as usize] += moved;
            largest[queued.traffic as usize] = moved.max(largest[queued.traffic as usize]);
        }
        self.moved += sums.iter().sum::<u64>();
        let lately = self.lately(pool, edge);
        let [interactive, bulk] = [Traffic::Interactive as usize, Traffic::Bulk as usize];
        assert!(
            sums[interactive] < INTERACTIVE_BYTES_PER_TURN + largest[interactive].max(1),
            "interactive sessions moved {} bytes in one turn",
            sums[interactive]
        );
        let share = if lately == Lately::Yes { SHARE_BESIDE_INTERACTIVE } else { SHARE };
        assert!(
            sums[bulk] < 2 * share as u64 + largest[bulk].max(1),
            "bulk sessions moved {} bytes in one turn",
            sums[bulk]
        );
        for queued in std::mem::take(&mut self.queued) {
            Self::judge_session(queued, pool, edge, lately);
            if queued.is_queued_now(pool) {
                self.left.push(queued.key);
            }
            let is_served = queued.is_served(pool, edge);
            if queued.traffic == Traffic::Interactive && !is_served {
                assert!(
                    sums[interactive] >= INTERACTIVE_BYTES_PER_TURN,
                    "interactive session {} must wait after only {} bytes of others",
                    queued.serial,
                    sums[interactive]
                );
            }
            if queued.traffic == Traffic::Bulk && !is_served && lately == Lately::No {
                assert!(
                    sums[bulk] >= 2 * SHARE as u64,
                    "bulk session {} must wait after only {} bytes of others",
                    queued.serial,
                    sums[bulk]
                );
            }
            self.judge_wait(&queued, is_served, pool);
        }
    }

    /// Asserts that a session takes its share at most, and that bulk without interactive traffic uses it all.
    fn judge_session(queued: Queued, pool: &Pool<Socket>, edge: &Edge, lately: Lately) {
        let world = edge.cases[&queued.serial].world.borrow();
        let taken = [0, 1].map(|at| world.connection(Side::BOTH[at]).taken() - queued.taken[at]);
        let share = match (queued.traffic, lately) {
            (Traffic::Bulk, Lately::Yes) => SHARE_BESIDE_INTERACTIVE,
            _ => SHARE,
        };
        // The last take begins below the share, and brings no more than a share or a pipe. A session that
        // begins to abort takes once more, the bytes that the dead side left behind.
        let aborts = if queued.aborts_now(pool, edge) { 2 } else { 1 };
        let most = (aborts * (share + share.min(PIPE_BYTES_MAX))) as u64;
        assert!(
            taken.iter().all(|&taken| taken < most),
            "session {} took {taken:?} bytes of {share} in a turn, interactive traffic lately: {lately:?}",
            queued.serial
        );
        // Without interactive traffic, a bulk session does not stop before its whole share is used.
        let goes_on = queued.is_queued_now(pool) && taken.iter().any(|&taken| taken > 0);
        if queued.traffic == Traffic::Bulk && lately == Lately::No && goes_on {
            assert!(
                taken.iter().any(|&taken| taken >= SHARE as u64),
                "session {} stopped after {taken:?} bytes, though no interactive traffic passed lately",
                queued.serial
            );
        }
    }

    /// Asserts that the queues are fair. A session waits for no more turns than sessions were queued when it
    /// began to wait.
    fn judge_wait(&mut self, queued: &Queued, is_served: bool, pool: &Pool<Socket>) {
        if is_served {
            self.waits.remove(&queued.serial);
            self.caught_up.remove(&queued.serial);
            return;
        }
        let length = pool.queues().len(queued.traffic);
        let (turns, most) = self.waits.entry(queued.serial).or_insert((0, length));
        *turns += 1;
        assert!(*turns <= *most, "session {} has waited for {turns} turns", queued.serial);
    }

    /// Returns whether the bulk sessions of this turn had to leave room for interactive traffic.
    fn lately(&mut self, pool: &Pool<Socket>, edge: &Edge) -> Lately {
        let now = edge.now();
        for queued in &self.queued {
            if queued.traffic == Traffic::Interactive && queued.is_served(pool, edge) {
                self.interactive.insert(queued.serial, now);
            }
        }
        let bulk = self.queued.iter().filter(|queued| queued.traffic == Traffic::Bulk);
        let bulk: HashSet<_> = bulk.map(|queued| queued.serial).collect();
        if bulk.is_empty() {
            return Lately::Maybe;
        }
        self.interactive.retain(|_, &mut at| now < at + INTERACTIVE_LINGER);
        // A session that is bulk by now had only paused.
        let are_bulk = self.interactive.keys().map(|serial| {
            let session = edge.cases.get(serial).and_then(|case| pool.slots().get(case.key?))?;
            (session.is_bulk() || !bulk.contains(serial)).then_some(session.is_bulk())
        });
        let are_bulk: Vec<_> = are_bulk.collect();
        if are_bulk.iter().all(|&is_bulk| is_bulk == Some(true)) {
            Lately::No
        } else if are_bulk.iter().all(|&is_bulk| is_bulk == Some(false)) {
            Lately::Yes
        } else {
            Lately::Maybe
        }
    }

    /// Notes the bytes taken and the calls made before timers fire.
    pub fn begin_expire(&mut self, pool: &Pool<Socket>, edge: &Edge) {
        if pool.slots().len() < LARGE {
            let serials = pool.slots().iter_from(0).map(|(_, session)| session.identity().serial.get());
            self.before_expire =
                serials.map(|serial| (serial, edge.taken_of(serial), edge.calls_of(serial))).collect();
        }
    }

    /// Asserts that no timer is long overdue, and that a session that catches up takes a small share only.
    pub fn end_expire(&mut self, pool: &Pool<Socket>, edge: &Edge, now: Instant) {
        self.turn += 1;
        let looks = pool.slots().len() < LARGE || self.turn.is_multiple_of(64);
        let first = if looks { 0 } else { usize::MAX };
        for (_, session) in pool.slots().iter_from(first) {
            let deadline = session.deadline(self.timeouts);
            assert!(now < deadline + LATEST, "a timer is overdue by {:?}", now - deadline);
        }
        for (serial, before, calls) in std::mem::take(&mut self.before_expire) {
            if edge.calls_of(serial) > calls {
                self.caught_up.insert(serial);
            }
            let after = edge.taken_of(serial);
            let taken = [after[0] - before[0], after[1] - before[1]];
            self.moved += taken.iter().sum::<u64>();
            // The small share and its last take, both once more where the session begins to abort.
            let most = 4 * SHARE_BESIDE_INTERACTIVE as u64;
            assert!(
                taken.iter().all(|&taken| taken < most),
                "session {serial} takes {taken:?} bytes to catch up"
            );
        }
    }

    /// Returns the bytes moved since the last call.
    pub fn take_moved(&mut self) -> u64 {
        std::mem::take(&mut self.moved)
    }
}

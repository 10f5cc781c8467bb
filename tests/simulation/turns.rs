//! What must be true of each turn, whatever the load: who is served, how soon, and for how many bytes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tcprelay::internal::limits::{
    INTERACTIVE_BYTES_PER_TURN, INTERACTIVE_LINGER, PIPE_BYTES_MAX, SHARE, SHARE_BESIDE_INTERACTIVE,
};
use tcprelay::internal::pool::{Pool, Traffic};
use tcprelay::internal::session::{Session, Timeouts};
use tcprelay_model::world::SIDES;

use super::host::{Edge, Socket};
use super::verdict::LATEST;

/// Watches the turns of one pool.
pub struct Turns {
    timeouts: Timeouts,
    /// The bytes that each session had taken when timers began to fire.
    before_expire: Vec<(u64, [u64; 2])>,
    /// The sessions that were queued when this turn's work began.
    queued: Vec<Queued>,
    /// For each session that was queued and not served: the turns that it has waited, and those that
    /// it may wait.
    waits: HashMap<u64, (usize, usize)>,
    /// The sessions that worked on interactive traffic lately, and when.
    interactive: Vec<(Duration, u64)>,
    /// Bytes moved in this turn.
    moved: u64,
}

/// A queued session.
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

    /// It has met the death of a side in this turn.
    fn aborts_now(&self, pool: &Pool<Socket>, edge: &Edge) -> bool {
        let (case, session) = (&edge.cases[&self.serial], pool.slots().get(self.key));
        let is_over = case.end.is_some() || session.is_some_and(|session| phase(session) == "ending");
        is_over && case.history.aborted.is_none()
    }

    /// It has worked in this turn. Where it asks for another turn at once, it has moved bytes, or its
    /// target has just answered.
    fn is_served(&self, pool: &Pool<Socket>, edge: &Edge) -> bool {
        let case = &edge.cases[&self.serial];
        !self.is_queued_now(pool)
            || case.world.borrow().movement() > self.movement
            || case.history.relays && !self.relays
    }
}

/// What a session does: connecting, relaying, ending.
pub fn phase(session: &Session<Socket>) -> &'static str {
    session.live(Instant::now()).phase
}

/// Whether interactive traffic passed lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lately {
    Yes,
    No,
    /// One may take it for either.
    Maybe,
}

impl Turns {
    pub fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            before_expire: Vec::new(),
            queued: Vec::new(),
            waits: HashMap::new(),
            interactive: Vec::new(),
            moved: 0,
        }
    }

    pub fn begin_work(&mut self, pool: &Pool<Socket>, edge: &Edge) {
        let slots = pool.slots();
        let queued = slots.iter_from(0).filter_map(|(key, session)| {
            let serial = session.identity().serial.get();
            let traffic = pool.queues().traffic(key)?;
            let case = &edge.cases[&serial];
            let world = case.world.borrow();
            let taken = edge.taken_of(serial);
            Some(Queued {
                key,
                serial,
                traffic,
                relays: case.history.relays,
                movement: world.movement(),
                taken,
            })
        });
        self.queued = queued.collect();
    }

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
            self.judge_session(queued, pool, edge, lately);
            let is_served = queued.is_served(pool, edge);
            if queued.traffic == Traffic::Interactive && !is_served {
                assert!(
                    sums[interactive] >= INTERACTIVE_BYTES_PER_TURN,
                    "session {} is interactive and must wait, after {} bytes of others",
                    queued.serial,
                    sums[interactive]
                );
            }
            self.judge_wait(&queued, is_served, pool);
        }
    }

    /// A session takes its share at most.
    fn judge_session(&self, queued: Queued, pool: &Pool<Socket>, edge: &Edge, lately: Lately) {
        let world = edge.cases[&queued.serial].world.borrow();
        let taken = [0, 1].map(|at| world.connection(SIDES[at]).taken() - queued.taken[at]);
        let share = match (queued.traffic, lately) {
            (Traffic::Bulk, Lately::Yes) => SHARE_BESIDE_INTERACTIVE,
            _ => SHARE,
        };
        assert!(queued.relays || taken == [0; 2], "session {} is served twice in a turn", queued.serial);
        // The last take begins below the share, and takes no more than a share or a pipe. A session that
        // begins to abort looks once more for what the dead side left behind.
        let aborts = if queued.aborts_now(pool, edge) { 2 } else { 1 };
        let most = (aborts * (share + share.min(PIPE_BYTES_MAX))) as u64;
        assert!(
            taken.iter().all(|&taken| taken < most),
            "session {} took {taken:?} bytes of {share} in a turn, interactive traffic lately: {lately:?}",
            queued.serial
        );
        // Alone with its like, a bulk session gets the whole share: it does not stop before.
        let goes_on = queued.is_queued_now(pool) && taken.iter().any(|&taken| taken > 0);
        if queued.traffic == Traffic::Bulk && lately == Lately::No && goes_on {
            assert!(
                taken.iter().any(|&taken| taken >= SHARE as u64),
                "session {} stopped after {taken:?} bytes, though no interactive traffic passed lately",
                queued.serial
            );
        }
    }

    /// The queues are fair: who is queued waits no longer than those who came before work.
    fn judge_wait(&mut self, queued: &Queued, is_served: bool, pool: &Pool<Socket>) {
        if is_served {
            self.waits.remove(&queued.serial);
            return;
        }
        let length = pool.queues().len(queued.traffic);
        let (turns, most) = self.waits.entry(queued.serial).or_insert((0, length));
        *turns += 1;
        assert!(*turns <= *most, "session {} waits for its {turns}th turn", queued.serial);
    }

    /// Whether the bulk sessions of this turn had to leave room for interactive traffic.
    fn lately(&mut self, pool: &Pool<Socket>, edge: &Edge) -> Lately {
        let now = edge.now();
        for queued in &self.queued {
            if queued.traffic == Traffic::Interactive && queued.is_served(pool, edge) {
                self.interactive.push((now, queued.serial));
            }
        }
        self.interactive.retain(|&(at, _)| now < at + INTERACTIVE_LINGER);
        // A session that is bulk by now only paused.
        let are_bulk = self.interactive.iter().map(|&(_, serial)| {
            let session = edge.cases.get(&serial).and_then(|case| pool.slots().get(case.key?))?;
            let was_bulk =
                self.queued.iter().any(|queued| queued.serial == serial && queued.traffic == Traffic::Bulk);
            (session.is_bulk() || !was_bulk).then_some(session.is_bulk())
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

    pub fn begin_expire(&mut self, pool: &Pool<Socket>, edge: &Edge) {
        // In a large pool a look at all slots is dear.
        if pool.slots().len() < 100 {
            let serials = pool.slots().iter_from(0).map(|(_, session)| session.identity().serial.get());
            self.before_expire = serials.map(|serial| (serial, edge.taken_of(serial))).collect();
        }
    }

    /// No timer waits long for its turn, and a session that catches up takes a small share.
    pub fn end_expire(&mut self, pool: &Pool<Socket>, edge: &Edge, now: Instant) {
        for (_, session) in pool.slots().iter_from(0) {
            let deadline = session.deadline(self.timeouts);
            assert!(now < deadline + LATEST, "a timer waits for {:?}", now - deadline);
        }
        for (serial, before) in std::mem::take(&mut self.before_expire) {
            let after = edge.taken_of(serial);
            let taken = [after[0] - before[0], after[1] - before[1]];
            self.moved += taken.iter().sum::<u64>();
            // Twice that where it begins to abort.
            let most = 4 * SHARE_BESIDE_INTERACTIVE as u64;
            assert!(
                taken.iter().all(|&taken| taken < most),
                "session {serial} takes {taken:?} bytes to catch up"
            );
        }
    }

    /// Bytes moved since the last call.
    pub fn take_moved(&mut self) -> u64 {
        std::mem::take(&mut self.moved)
    }
}

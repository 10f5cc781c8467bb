//! What `src/relay.rs` does for one session: the loop with its phases, the timer, the muting.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tcprelay::internal::limits::TICK;
use tcprelay::internal::message::{Message, Serial, Summary};
use tcprelay::internal::outq::KernelQueue;
use tcprelay::internal::session::{Session, Shared, Side, Verdict};
use tcprelay::internal::splice::Pipes;
use tcprelay::internal::wheel::Wheel;

use super::verdict;
use tcprelay_model::kernel::{PREFACE, Scripted};
use tcprelay_model::world::{SIDES, World, index};

/// Turns that no run needs: the relay spins.
const MOST_TURNS: u64 = 200_000;

/// A relay with one session.
pub struct Relay {
    world: Rc<RefCell<World>>,
    session: Option<Session<Scripted<World>>>,
    shared: Shared,
    wheel: Wheel,
    origin: Instant,
    /// The session is to be called in the next turn, events or not.
    queued: bool,
    muted: [bool; 2],
    history: History,
    ended: Option<Ended>,
    /// Every turn is told: one run was asked for.
    traced: bool,
}

/// What the relay has done, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    /// A byte moved through the relay, or the relaying began.
    pub moved: Duration,
    /// An end of a stream was sent on.
    pub ended: Duration,
    /// One side's connection was seen to be dead.
    pub aborted: Option<Duration>,
}

/// How the session ended.
#[derive(Debug)]
pub struct Ended {
    pub message: Message,
    pub summary: Summary,
    pub at: Duration,
    /// For each side, whether something had happened that had not been reported yet.
    pub unreported: [bool; 2],
}

/// What is left of a run.
pub struct Outcome {
    pub world: World,
    pub pipes: Pipes,
    pub history: History,
    pub ended: Ended,
}

impl Relay {
    pub fn new(world: World, pipes: Pipes) -> Self {
        let origin = Instant::now();
        let timeouts = world.timeouts;
        let world = Rc::new(RefCell::new(world));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let [requester, target] = SIDES.map(|side| Scripted::new(&world, side));
        let session = Session::new(Serial::MIN, address, requester, target, origin);
        let mut relay = Self {
            world,
            session: Some(session),
            shared: Shared {
                pipes,
                queue: KernelQueue::default(),
                target: address,
                timeouts,
                beside_messages: false,
                moved: 0,
            },
            wheel: Wheel::new(1, origin),
            origin,
            queued: false,
            muted: [false; 2],
            history: History::default(),
            ended: None,
            traced: std::env::var_os("SIMULATION_SEED").is_some(),
        };
        relay.settle(Verdict::Wait);
        relay
    }

    /// Runs until nothing more can happen.
    pub fn run(mut self) -> Outcome {
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < MOST_TURNS, "the relay spins");
            let ready =
                self.queued || SIDES.iter().any(|&side| self.world.borrow().connection(side).is_woken());
            if self.session.is_some() && ready {
                self.turn();
                continue;
            }
            if let Some(session) = &self.session {
                verdict::at_rest(
                    &self.world.borrow(),
                    &self.history,
                    session.live(self.now(), self.shared.target).phase,
                );
            }
            if !self.sleep() {
                break;
            }
        }
        let ended = self.ended.expect("a session ends sooner or later");
        let world = self.world.borrow().clone();
        Outcome { world, pipes: self.shared.pipes, history: self.history, ended }
    }

    fn now(&self) -> Instant {
        self.origin + self.world.borrow().now
    }

    /// Lets time pass until something happens; false if nothing ever will.
    fn sleep(&mut self) -> bool {
        let timer = self.session.as_ref().and_then(|_| self.wheel.next()).map(|next| next - self.origin);
        let event = self.world.borrow().next();
        let Some(next) = [timer, event].into_iter().flatten().min() else { return false };
        {
            let mut world = self.world.borrow_mut();
            world.now = world.now.max(next);
            while world.next().is_some_and(|next| next <= world.now) {
                world.step();
                // What comes together is reported together, or not.
                if world.random.once_in(2) {
                    break;
                }
            }
        }
        if timer.is_some_and(|timer| timer <= next) {
            self.turn();
        }
        true
    }

    fn turn(&mut self) {
        let now = self.now();
        let (before, ends) = (self.world.borrow().movement(), self.world.borrow().ends());
        for side in SIDES {
            let report = self.world.borrow_mut().connection_mut(side).report();
            if let (Some(session), Some(report)) = (&mut self.session, report) {
                session.note(side, report);
                self.queued = true;
            }
        }
        self.shared.beside_messages = self.world.borrow_mut().random.once_in(2);
        if std::mem::take(&mut self.queued)
            && let Some(session) = &mut self.session
        {
            let verdict = session.work(now, &mut self.shared);
            if verdict == Verdict::Again {
                assert_ne!(
                    self.world.borrow().movement(),
                    before,
                    "another turn, but nothing moved in this one"
                );
            }
            self.settle(verdict);
        }
        while self.wheel.expire(now).is_some() {
            if let Some(session) = &mut self.session {
                let verdict = session.expire(now, &mut self.shared);
                self.settle(verdict);
            }
        }
        self.trace();
        let mut world = self.world.borrow_mut();
        if world.movement() != before {
            self.history.moved = now - self.origin;
        }
        if world.ends() != ends {
            self.history.ended = now - self.origin;
        }
        world.follow();
        // A turn takes its time.
        let micros = world.random.below(100);
        world.now += Duration::from_micros(micros);
    }

    fn trace(&self) {
        if !self.traced {
            return;
        }
        let world = self.world.borrow();
        let phase = self
            .session
            .as_ref()
            .map_or("ended", |session| session.live(self.now(), self.shared.target).phase);
        eprintln!("{:?} {phase}, deadline {:?}", world.now, self.wheel.next().map(|next| next - self.origin));
        for side in SIDES {
            eprintln!("    {:?}", world.connection(side));
        }
    }

    fn settle(&mut self, verdict: Verdict) {
        let now = self.now();
        let Some(session) = &mut self.session else { return };
        match verdict {
            Verdict::End => return self.end(now),
            Verdict::Connected => {
                let (buf, preface) = {
                    let world = self.world.borrow();
                    (world.buf, vec![PREFACE; world.connection(Side::Target).preface() as usize])
                };
                session.start_relaying(buf, &preface, now).expect("there is memory");
                self.history.moved = now - self.origin;
                self.queued = true;
            }
            Verdict::Again => self.queued = true,
            Verdict::Wait => {}
        }
        for side in SIDES {
            let muted = session.socket(side).is_muted();
            if std::mem::replace(&mut self.muted[index(side)], muted) != muted {
                self.world.borrow_mut().connection_mut(side).set_muted(muted);
            }
        }
        if session.live(now, self.shared.target).phase == "ending" {
            self.history.aborted.get_or_insert(now - self.origin);
        }
        let deadline = session.deadline(self.shared.timeouts);
        if self.wheel.deadline(0).is_none_or(|armed| deadline + TICK < armed) {
            self.wheel.arm(0, deadline);
        }
    }

    fn end(&mut self, now: Instant) {
        self.wheel.disarm(0);
        let Some(session) = self.session.take() else { return };
        let unreported = SIDES.map(|side| self.world.borrow().connection(side).is_woken());
        let ended = session.end(now, &mut self.shared);
        let (message, summary) = (ended.into(), ended.summary);
        self.ended = Some(Ended { message, summary, at: now - self.origin, unreported });
    }
}

//! Operations on one session between two simulated connections, run by a real pool of one slot. The oracle
//! is what a direct connection would show its two ends.
//!
//! An input is three bytes that choose the pool and the connections, and then operations of two bytes each:
//! the event and its side, and an amount. After the last operation both peers take everything that comes,
//! and the session ends.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tcprelay::internal::limits::{PIPE_BYTES_MIN, TICK};
use tcprelay::internal::message::{Cause, Ended, Identity, Serial, Unreached};
use tcprelay::internal::pool::{Host, Next, Pool, Settings, Wake};
use tcprelay::internal::session::{Session, Side, Timeouts, Tried};

use super::kernel::{Closed, Connection, PREFACE, Scripted, Sockets};
use super::pair::{Pair, bytes_in};

/// Sizes of the kernel's queues, in bytes.
const SIZES: [u64; 5] = [7, 90, 5_000, 70_000, 300_000];
const BUFS: [usize; 4] = [100, 101, 1_000, 4_000];
const IDLE: Duration = Duration::from_secs(3);

/// The pool's host, which has one session.
struct Edge {
    pair: Rc<RefCell<Pair>>,
    ended: Option<Ended>,
}

impl Host<Scripted<Pair>> for Edge {
    fn watch(&mut self, _: usize, _: Side, _: &mut Scripted<Pair>) -> io::Result<()> {
        Ok(())
    }

    fn own_end(&mut self, _: &Scripted<Pair>) -> Option<SocketAddr> {
        None
    }

    fn next_target(
        &mut self,
        _: Identity,
        unreached: Option<Unreached>,
        _: &mut Tried,
    ) -> Result<Next<Scripted<Pair>>, Unreached> {
        Err(unreached.expect("a target is known"))
    }

    fn connected(&mut self, _: Identity) {}

    fn relaying(&mut self, _: Identity) {}

    fn preface(&mut self, _: Identity, _: &Scripted<Pair>) -> Vec<u8> {
        vec![PREFACE; self.pair.borrow().connections[Side::Target.index()].preface() as usize]
    }

    fn ended(&mut self, ended: Ended) {
        assert!(self.ended.replace(ended).is_none(), "the session ends twice");
    }
}

struct Run {
    pool: Pool<Scripted<Pair>>,
    edge: Edge,
    now: Instant,
    stopped: bool,
    /// Time has passed since a connection died, so the grace may be over.
    may_give_up: bool,
}

/// Checks one input.
///
/// # Panics
/// A peer sees something that a direct connection would not show.
pub fn check(input: &[u8]) {
    let Some((&[shape, sizes, preface], operations)) = input.split_first_chunk() else { return };
    let mut run = Run::new(usize::from(shape), usize::from(sizes), u64::from(preface));
    for operation in operations.chunks_exact(2) {
        if run.is_over() {
            break;
        }
        run.operate(operation[0], operation[1]);
    }
    run.finish();
    run.judge();
}

impl Run {
    fn new(shape: usize, sizes: usize, preface: u64) -> Self {
        let now = Instant::now();
        let preface = preface.saturating_sub(127);
        let connections = Side::BOTH.map(|side| {
            let size = |number: usize| SIZES[number % SIZES.len()];
            let (window, room) = (size(sizes >> side.index()), size((sizes / 8) >> side.index()));
            let is_target = side == Side::Target;
            let mut connection =
                Connection::new(side, is_target, window, room, if is_target { preface } else { 0 });
            if shape & 0x40 != 0 {
                connection.hide_queue();
            }
            connection
        });
        let pair = Rc::new(RefCell::new(Pair::new(connections)));
        let settings = Settings {
            sessions: 1,
            buf: BUFS[shape % BUFS.len()],
            timeouts: Timeouts { connect: Duration::from_secs(1), idle: IDLE },
            max_per_source: None,
            pipe_bytes: [0, PIPE_BYTES_MIN, 3 * PIPE_BYTES_MIN][shape / BUFS.len() % 3],
        };
        let mut run = Self {
            pool: Pool::new(settings, now),
            edge: Edge { pair: Rc::clone(&pair), ended: None },
            now,
            stopped: false,
            may_give_up: false,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let identity = Identity { serial: Serial::MIN, requester: address, target: address.into() };
        let [requester, target] = Side::BOTH.map(|side| Scripted::new(&pair, side));
        run.pool.open(Session::new(identity, requester, Some(target), now), Ok(()), now, &mut run.edge);
        run
    }

    fn is_over(&self) -> bool {
        self.stopped || self.edge.ended.is_some()
    }

    fn operate(&mut self, what: u8, amount: u8) {
        let side = Side::BOTH[usize::from(what / 16) % 2];
        match what % 16 {
            11 => {
                self.pass(Duration::from_millis((u64::from(amount % 128) + 1).pow(2)));
                self.may_give_up |= self.edge.pair.borrow().connections.iter().any(Connection::is_dead);
            }
            12 => {
                self.pool.stop();
                self.stopped = true;
            }
            13.. => self.turn(),
            what => self.happen(what, side, amount),
        }
    }

    /// Applies an event of the kernel or the network, where it is possible.
    fn happen(&mut self, what: u8, side: Side, amount: u8) {
        let count = bytes_in(amount);
        let mut pair = self.edge.pair.borrow_mut();
        let connection = pair.connection_of(side);
        let sends = !connection.end_arrived() && !connection.is_dead() && connection.is_established();
        match what {
            0 | 1 if sends => connection.arrive(count.min(connection.window()), false),
            2 if sends => connection.arrive(count.min(connection.window()), true),
            3 if sends => connection.arrive_end(),
            4 => connection.establish(),
            5 if amount < 64 => connection.fail(Errno::CONNRESET),
            5 => connection.fail(Errno::TIMEDOUT),
            6 | 7 => connection.acknowledge(count.min(connection.unacknowledged())),
            8 if connection.is_established() => connection.fail_amid_drain(count, Errno::CONNRESET),
            9 => pair.refuse_splices(amount),
            10 => pair.interrupt(amount),
            _ => {}
        }
    }

    /// Runs one turn of the owner, with all reports of the kernel.
    fn turn(&mut self) {
        for side in Side::BOTH {
            let report = self.edge.pair.borrow_mut().connection_of(side).report();
            if let Some(report) = report {
                self.pool.note(0, side, report);
            }
        }
        self.pool.work(self.now, &mut self.edge);
        self.pool.expire(self.now, false, &mut self.edge);
        self.pool.check();
    }

    /// Lets time pass, with a turn at each time at which the pool wants to wake.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            match self.pool.wakes_at() {
                Wake::Now => {}
                Wake::At(at) if at <= until => self.now = self.now.max(at),
                _ => break,
            }
            self.turn();
        }
        self.now = until;
    }

    /// Lets both peers take everything that comes, until the session has ended.
    fn finish(&mut self) {
        for _ in 0..100_000 {
            {
                let mut pair = self.edge.pair.borrow_mut();
                for connection in &mut pair.connections {
                    connection.acknowledge(connection.unacknowledged());
                    if connection.sends_end() {
                        connection.acknowledge_end();
                    }
                }
            }
            if self.is_over() {
                return;
            }
            let woken = self.edge.pair.borrow().connections.iter().any(Connection::is_woken);
            if woken { self.turn() } else { self.pass(TICK) }
        }
        panic!("the session never ends");
    }

    fn judge(&mut self) {
        assert_eq!(self.pool.pipes().held(), 0, "a pipe is not given back");
        assert!(self.pool.slots().is_empty(), "the slot is not freed");
        let pair = self.edge.pair.borrow();
        let cause = self.edge.ended.map(|ended| ended.cause);
        for side in Side::BOTH {
            let (here, there) = (&pair.connections[side.index()], &pair.connections[(!side).index()]);
            let whole = here.acknowledged() == here.preface() + there.arrived();
            let is_clean = here.closed() == Some(Closed::Orderly);
            let is_idle = cause == Some(Cause::IdleTimeout);
            if is_clean && !here.is_dead() {
                assert!(
                    whole && (there.end_arrived() || is_idle),
                    "the {side:?} sees a clean end of a cut stream"
                );
            }
            if matches!(cause, Some(Cause::ReadClosure(_) | Cause::WriteClosure(_))) && !here.is_dead() {
                // The peer takes everything that comes, at once.
                assert!(whole || self.may_give_up, "bytes to the {side:?} are lost");
                assert!(is_clean || there.is_dead(), "the {side:?} sees no clean end");
            }
        }
        if let Some(Ended { summary, .. }) = self.edge.ended {
            let written = Side::BOTH.map(|side| pair.connections[side.index()].written());
            assert_eq!([summary.to_requester, summary.to_target], written, "the counts of bytes");
            let totals = self.pool.counts.totals();
            assert_eq!([totals.to_requester, totals.to_target], written, "the totals");
        }
    }
}

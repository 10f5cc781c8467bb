//! One session by itself: the grace of its abort, its stop, its idle timeout, and its use of scarce pipes.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tcprelay::internal::buffer::Buffers;
use tcprelay::internal::limits::{ABORT_GRACE, ABORT_LOOK, FULL_READS_BEFORE_SPLICING, PIPE_BYTES_MIN};
use tcprelay::internal::message::{Cause, Identity, Serial};
use tcprelay::internal::session::{Session, Side, Timeouts, Turn, Verdict};
use tcprelay::internal::splice::{Pipe, Pipes};
use tcprelay_model::kernel::{Call, Closed, Connection, Scripted, Sockets};

const SECOND: Duration = Duration::from_secs(1);
const PLENTY: u64 = 1_000_000;
const BUF: usize = 100;

/// Both connections of a session. Only the test makes something happen to them.
struct Pair([Connection; 2]);

impl Sockets for Pair {
    fn connection_of(&mut self, side: Side) -> &mut Connection {
        &mut self.0[side.index()]
    }

    fn meddle(&mut self, _: Side, _: Call) -> io::Result<()> {
        Ok(())
    }

    fn tick(&mut self) -> u64 {
        0
    }
}

struct Run {
    pair: Rc<RefCell<Pair>>,
    session: Option<Session<Scripted<Pair>>>,
    pipes: Pipes,
    buffers: Buffers,
    origin: Instant,
    now: Duration,
    timeouts: Timeouts,
}

impl Run {
    /// Returns a session that relays between connections with room for `room` bytes each.
    fn new(idle: Duration, room: u64) -> Self {
        let mut run = Self::connecting(idle, room);
        let now = run.origin;
        run.session.as_mut().unwrap().start_relaying(&mut run.buffers, &[], now).unwrap();
        run
    }

    fn connecting(idle: Duration, room: u64) -> Self {
        let connections = Side::BOTH.map(|side| Connection::new(side, false, PLENTY, room, 0));
        let pair = Rc::new(RefCell::new(Pair(connections)));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let identity = Identity { serial: Serial::MIN, requester: address, target: address.into() };
        let [requester, target] = Side::BOTH.map(|side| Scripted::new(&pair, side));
        let origin = Instant::now();
        let session = Session::new(identity, requester, Some(target), origin);
        let timeouts = Timeouts { connect: SECOND, idle };
        Self {
            pair,
            session: Some(session),
            pipes: Pipes::new(0),
            buffers: Buffers::new(BUF),
            origin,
            now: Duration::ZERO,
            timeouts,
        }
    }

    fn session(&mut self) -> &mut Session<Scripted<Pair>> {
        self.session.as_mut().expect("the session lives")
    }

    fn connection<T>(&self, side: Side, act: impl FnOnce(&mut Connection) -> T) -> T {
        act(self.pair.borrow_mut().connection_of(side))
    }

    /// Notes all that is reported of the sockets, and lets the session work.
    fn work(&mut self) -> Verdict {
        for side in Side::BOTH {
            let report = self.connection(side, Connection::report);
            self.session().note(side, report.unwrap_or_default());
        }
        self.call(Session::work)
    }

    fn call(&mut self, call: impl FnOnce(&mut Session<Scripted<Pair>>, &mut Turn<'_>) -> Verdict) -> Verdict {
        let session = self.session.as_mut().expect("the session lives");
        let mut turn = Turn::new(self.origin + self.now, self.timeouts, &mut self.pipes, false);
        let verdict = call(session, &mut turn);
        if verdict == Verdict::End
            && let Some(session) = self.session.take()
        {
            let _ = session.end(&mut self.pipes, &mut self.buffers, self.origin + self.now);
        }
        verdict
    }

    /// Advances the clock to `then`, and fires the timer on the way. Returns false if the session has ended.
    fn lives_until(&mut self, then: Duration) -> bool {
        while self.session.is_some() {
            let timeouts = self.timeouts;
            let deadline = self.session().deadline(timeouts) - self.origin;
            if deadline > then {
                self.now = then;
                return true;
            }
            assert!(deadline > self.now || self.now.is_zero(), "the timer fires twice at the same time");
            self.now = deadline;
            self.call(Session::expire);
        }
        false
    }

    /// Returns a session whose requester has sent `bytes` bytes and then reset. The target has acknowledged
    /// none of them.
    fn aborting(idle: Duration, bytes: u64) -> Self {
        let mut run = Self::new(idle, PLENTY);
        run.connection(Side::Requester, |requester| requester.arrive(bytes, false));
        assert_eq!(run.work(), Verdict::Wait);
        run.connection(Side::Requester, |requester| requester.fail(Errno::CONNRESET));
        assert_eq!(run.work(), Verdict::Wait);
        run
    }

    fn closed(&self, side: Side) -> Option<Closed> {
        self.connection(side, |connection| connection.closed())
    }
}

#[test]
fn each_acknowledged_byte_renews_the_grace_of_an_abort() {
    let mut run = Run::aborting(60 * SECOND, 1_000);
    for second in 1..=20 {
        assert!(run.lives_until(second * SECOND), "the abort gave up at {:?}", run.now);
        run.connection(Side::Target, |target| target.acknowledge(1));
    }
    assert!(run.lives_until(20 * SECOND + ABORT_GRACE), "the abort gave up at {:?}", run.now);
    assert!(!run.lives_until(20 * SECOND + ABORT_GRACE + 2 * ABORT_LOOK), "the abort does not give up");
    assert_eq!(run.closed(Side::Target), Some(Closed::Reset));
}

#[test]
fn the_grace_of_an_abort_ends_at_the_idle_timeout_at_the_latest() {
    let mut run = Run::aborting(SECOND, 1_000);
    assert!(run.lives_until(SECOND * 9 / 10), "the abort gave up at {:?}", run.now);
    run.connection(Side::Target, |target| target.acknowledge(1));
    assert!(run.lives_until(SECOND * 19 / 10), "the abort gave up at {:?}", run.now);
    assert!(!run.lives_until(SECOND * 19 / 10 + 2 * ABORT_LOOK), "the abort does not give up");
}

#[test]
fn an_abort_ends_as_soon_as_all_is_acknowledged() {
    let mut run = Run::aborting(60 * SECOND, 1_000);
    assert!(run.lives_until(SECOND));
    run.connection(Side::Target, |target| target.acknowledge(1_000));
    assert!(!run.lives_until(SECOND + ABORT_LOOK));
}

#[test]
fn an_abort_with_an_unknown_queue_waits_out_the_grace() {
    let mut run = Run::new(60 * SECOND, PLENTY);
    run.connection(Side::Target, Connection::hide_queue);
    run.connection(Side::Requester, |requester| requester.arrive(10, false));
    assert_eq!(run.work(), Verdict::Wait);
    run.connection(Side::Target, |target| target.acknowledge(10));
    run.connection(Side::Requester, |requester| requester.fail(Errno::CONNRESET));
    assert_eq!(run.work(), Verdict::Wait);
    assert!(run.lives_until(ABORT_GRACE - ABORT_LOOK), "the abort gave up at {:?}", run.now);
    assert!(!run.lives_until(ABORT_GRACE + ABORT_LOOK), "the abort does not give up");
}

#[test]
fn an_abort_counts_the_bytes_that_it_delivers_and_no_others() {
    let mut run = Run::new(60 * SECOND, 10);
    run.connection(Side::Requester, |requester| requester.arrive(15, false));
    assert_eq!(run.work(), Verdict::Wait);
    run.connection(Side::Requester, |requester| requester.fail(Errno::CONNRESET));
    assert_eq!(run.work(), Verdict::Wait);
    run.connection(Side::Target, |target| target.acknowledge(10));
    let report = run.connection(Side::Target, Connection::report).unwrap();
    run.session().note(Side::Target, report);
    let mut turn = Turn::new(run.origin, run.timeouts, &mut run.pipes, false);
    assert_eq!(run.session.as_mut().unwrap().work(&mut turn), Verdict::Wait);
    assert_eq!((turn.moved, turn.delivered), (5, [0, 5]));
}

#[test]
fn each_written_byte_renews_the_grace_of_an_abort_with_an_unknown_queue() {
    let mut run = Run::new(60 * SECOND, 10);
    run.connection(Side::Target, Connection::hide_queue);
    run.connection(Side::Requester, |requester| requester.arrive(15, false));
    assert_eq!(run.work(), Verdict::Wait);
    run.connection(Side::Requester, |requester| requester.fail(Errno::CONNRESET));
    assert_eq!(run.work(), Verdict::Wait);
    assert!(run.lives_until(SECOND));
    run.connection(Side::Target, |target| target.acknowledge(10));
    assert_eq!(run.work(), Verdict::Wait);
    assert!(run.lives_until(SECOND + ABORT_GRACE - ABORT_LOOK), "the abort gave up at {:?}", run.now);
    assert!(!run.lives_until(SECOND + ABORT_GRACE + ABORT_LOOK), "the abort does not give up");
}

#[test]
fn an_abort_ends_as_soon_as_the_other_side_dies_as_well() {
    let mut run = Run::aborting(60 * SECOND, 1_000);
    run.connection(Side::Target, |target| target.fail(Errno::CONNRESET));
    assert_eq!(run.work(), Verdict::End);
}

#[test]
fn the_last_bytes_of_a_dead_side_are_delivered_even_if_they_were_not_reported() {
    // A read stops short in front of an urgent byte.
    for urgent in [false, true] {
        let mut run = Run::new(60 * SECOND, PLENTY);
        assert_eq!(run.work(), Verdict::Wait);
        // The target answers and resets. The relay learns of the reset by a write.
        run.connection(Side::Target, |target| {
            target.arrive(10, urgent);
            target.fail(Errno::CONNRESET);
        });
        run.connection(Side::Requester, |requester| requester.arrive(5, false));
        let report = run.connection(Side::Requester, Connection::report).unwrap();
        run.session().note(Side::Requester, report);
        assert_eq!(run.call(Session::work), Verdict::Wait);
        assert_eq!(run.connection(Side::Requester, |requester| requester.written()), 10);
    }
}

#[test]
fn the_last_eof_travels_even_if_its_sender_has_died_since() {
    let mut run = Run::new(60 * SECOND, 10);
    run.connection(Side::Requester, Connection::arrive_end);
    run.connection(Side::Target, |target| {
        target.arrive(15, false);
        target.arrive_end();
    });
    assert_eq!(run.work(), Verdict::Wait);
    run.connection(Side::Requester, |requester| requester.acknowledge(10));
    run.connection(Side::Target, |target| target.fail(Errno::CONNRESET));
    assert_eq!(run.work(), Verdict::End);
    assert_eq!(run.connection(Side::Requester, |requester| requester.written()), 15);
    assert_eq!(run.closed(Side::Requester), Some(Closed::Orderly));
}

#[test]
fn a_stop_resets_each_side_without_its_eof_and_closes_a_complete_side_cleanly() {
    let mut run = Run::new(60 * SECOND, PLENTY);
    run.connection(Side::Requester, |requester| {
        requester.arrive(1_000, false);
        requester.arrive_end();
    });
    run.connection(Side::Target, |target| target.arrive(1_000, false));
    assert_eq!(run.work(), Verdict::Wait);
    run.session.take().unwrap().stop(&mut run.pipes, &mut run.buffers);
    assert_eq!(run.closed(Side::Target), Some(Closed::Orderly));
    assert_eq!(run.closed(Side::Requester), Some(Closed::Reset));
}

#[test]
fn a_stop_resets_both_sides_of_a_session_that_connects_or_relays() {
    for connecting in [false, true] {
        let mut run = Run::new(60 * SECOND, PLENTY);
        if connecting {
            run = Run::connecting(60 * SECOND, PLENTY);
        } else {
            assert_eq!(run.work(), Verdict::Wait);
        }
        run.session.take().unwrap().stop(&mut run.pipes, &mut run.buffers);
        assert_eq!(Side::BOTH.map(|side| run.closed(side)), [Some(Closed::Reset); 2]);
    }
}

#[test]
fn an_idle_session_closes_cleanly_unless_bytes_are_left() {
    let ends = |prepare: fn(&mut Run)| {
        let mut run = Run::new(SECOND, 10);
        assert_eq!(run.work(), Verdict::Wait);
        prepare(&mut run);
        assert!(!run.lives_until(3 * SECOND));
        [run.closed(Side::Requester).unwrap(), run.closed(Side::Target).unwrap()]
    };
    assert_eq!(ends(|_| ()), [Closed::Orderly; 2]);
    // All bytes were acknowledged.
    let arrived = ends(|run| {
        run.connection(Side::Requester, |requester| requester.arrive(5, false));
        run.work();
        run.connection(Side::Target, |target| target.acknowledge(5));
    });
    assert_eq!(arrived, [Closed::Orderly; 2]);
    // Bytes are left in the target's send queue.
    let queued = ends(|run| {
        run.connection(Side::Requester, |requester| requester.arrive(5, false));
        run.work();
    });
    assert_eq!(queued, [Closed::Orderly, Closed::Reset]);
    // Bytes are left in the session's buffer.
    let held = ends(|run| {
        run.connection(Side::Requester, |requester| requester.arrive(15, false));
        run.work();
    });
    assert_eq!(held, [Closed::Orderly, Closed::Reset]);
    // Bytes were reported but not read.
    let unread = ends(|run| {
        run.connection(Side::Requester, |requester| requester.arrive(5, false));
        let report = run.connection(Side::Requester, Connection::report).unwrap();
        run.session().note(Side::Requester, report);
    });
    assert_eq!(unread[1], Closed::Reset);
}

/// Lets the session work with these pipes until it waits.
fn pump(run: &mut Run, pipes: &mut Pipes) {
    std::mem::swap(&mut run.pipes, pipes);
    while run.work() == Verdict::Again {}
    std::mem::swap(&mut run.pipes, pipes);
}

/// Returns a session that has gone over to splicing.
fn splicing(room: u64, pipes: &mut Pipes) -> Run {
    let mut run = Run::new(60 * SECOND, room);
    assert!(!run.session().is_bulk());
    for _ in 0..FULL_READS_BEFORE_SPLICING {
        run.connection(Side::Requester, |requester| requester.arrive(BUF as u64, false));
        pump(&mut run, pipes);
        run.connection(Side::Target, |target| target.acknowledge(target.unacknowledged()));
    }
    assert!(run.session().is_bulk());
    run
}

#[test]
fn beside_any_number_of_stalled_sessions_a_live_one_still_splices() {
    const MAX: usize = 3;
    let mut pipes = Pipes::new(MAX * PIPE_BYTES_MIN);
    // Their readers have stopped, with more bytes to come than a buffer holds.
    let mut stalled = Vec::new();
    for _ in 0..4 * MAX {
        let mut run = splicing(20_000, &mut pipes);
        run.connection(Side::Requester, |requester| requester.arrive(200_000, false));
        pump(&mut run, &mut pipes);
        stalled.push(run);
    }
    assert!(pipes.are_scarce() && pipes.held() < MAX, "{} pipes are held", pipes.held());

    let mut live = splicing(20_000, &mut pipes);
    for _ in 0..10 {
        let before = live.connection(Side::Target, |target| target.written());
        let calls = live.connection(Side::Requester, |requester| {
            requester.arrive(5_000, false);
            requester.fills()
        });
        pump(&mut live, &mut pipes);
        live.connection(Side::Target, |target| target.acknowledge(target.unacknowledged()));
        let fills = live.connection(Side::Requester, |requester| requester.fills()) - calls;
        let moved = live.connection(Side::Target, |target| target.written()) - before;
        assert!(fills > 0 && moved == 5_000, "{fills} splices, {moved} bytes");
        assert!(pipes.held() < MAX, "the last pipe is not given back");
    }
}

#[test]
fn the_leftover_of_a_scarce_pipe_goes_into_the_buffer() {
    let mut pipes = Pipes::new(2 * PIPE_BYTES_MIN);
    let mut run = splicing(20_000, &mut pipes);
    let other: Pipe = pipes.take().unwrap();
    assert!(pipes.are_scarce());
    pipes.put_back(other);
    // While two pipes are left, the session takes more than the target has room for.
    run.connection(Side::Requester, |requester| requester.arrive(20_000 + BUF as u64 / 2, false));
    pump(&mut run, &mut pipes);
    assert_eq!(run.connection(Side::Target, |target| target.written()) % 100, 0);
    assert_eq!(pipes.held(), 0, "a scarce pipe is held for bytes that fit the buffer");
    run.connection(Side::Target, |target| target.acknowledge(target.unacknowledged()));
    pump(&mut run, &mut pipes);
    let (arrived, written) = (
        run.connection(Side::Requester, |side| side.arrived()),
        run.connection(Side::Target, |side| side.written()),
    );
    assert_eq!(arrived, written);
}

#[test]
fn a_session_found_idle_names_the_idle_timeout_even_after_an_eof() {
    let mut run = Run::new(SECOND, PLENTY);
    run.connection(Side::Requester, Connection::arrive_end);
    assert_eq!(run.work(), Verdict::Wait);
    run.now = 2 * SECOND;
    let mut turn = Turn::new(run.origin + run.now, run.timeouts, &mut run.pipes, false);
    assert_eq!(run.session.as_mut().unwrap().expire(&mut turn), Verdict::End);
    let ended = run.session.take().unwrap().end(&mut run.pipes, &mut run.buffers, run.origin + run.now);
    assert_eq!(ended.cause, Cause::IdleTimeout);
}

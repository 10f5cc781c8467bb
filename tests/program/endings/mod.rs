//! Both sides of a session see the end that they would see without a relay in between.

mod resets;
mod unconnected;
mod urgent;

use crate::support::net::{self, End};
use crate::support::{Relay, STARTED, Start, eventually, process};
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// A side of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Requester,
    Target,
}

const SIDES: [Side; 2] = [Side::Requester, Side::Target];

impl Side {
    /// Returns the message that names this side's EOF, or its failed read, as the cause.
    fn read_closure(self) -> u8 {
        match self {
            Side::Requester => 34,
            Side::Target => 38,
        }
    }
}

/// A relay and the target's listener behind it, while the test plays both sides of its first session.
struct Stage {
    relay: Relay,
    listener: TcpListener,
}

impl Stage {
    /// Returns a stage, the socket of `side`, and that of the other side.
    #[track_caller]
    fn set(side: Side, buf: usize) -> (Self, TcpStream, TcpStream) {
        let listener = net::listen();
        let mut relay = Start::to(net::address(&listener)).buf(buf).start();
        let (requester, target) = relay.session(&listener);
        relay.log.expect_all(&STARTED, 1);
        let stage = Self { relay, listener };
        match side {
            Side::Requester => (stage, requester, target),
            Side::Target => (stage, target, requester),
        }
    }

    /// Asserts that the session ends by `side`'s read closure, once, and that the next session is served.
    #[track_caller]
    fn ends_by(mut self, side: Side) {
        self.relay.log.expect(side.read_closure(), 1);
        self.relay.assert_relays(&self.listener);
        self.relay.log.expect_all(&STARTED, 2);
        self.relay.log.expect(34, 2);
    }
}

/// Runs the case with each side first, through small and large buffers, all at once.
fn for_all(case: impl Fn(Side, usize) + Sync) {
    thread::scope(|scope| {
        for side in SIDES {
            for buf in [100, 4000] {
                let case = &case;
                scope.spawn(move || case(side, buf));
            }
        }
    });
}

#[test]
fn a_reply_after_a_half_close_arrives() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        let (question, answer) = (net::random(1, 50_000), net::random(2, 1_000_000));
        first.write_all(&question).unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        let (heard, end) = net::read_all(&mut second);
        net::assert_same(&heard, &question);
        assert_eq!(end, End::Clean);

        let sender = thread::spawn({
            let answer = answer.clone();
            move || {
                second.write_all(&answer).unwrap();
                drop(second);
            }
        });
        let (heard, end) = net::read_all(&mut first);
        net::assert_same(&heard, &answer);
        assert_eq!(end, End::Clean);
        sender.join().unwrap();
        // The first EOF names the cause, though the session went on for long after it.
        stage.ends_by(side);
    });
}

#[test]
fn a_half_close_lasts_as_long_as_the_other_side_likes() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Clean));
        for round in 0..100_u8 {
            net::assert_passes(&mut second, &mut first, &[round; 1000]);
        }
        drop(second);
        assert_eq!(net::read_all(&mut first), (Vec::new(), End::Clean));
        stage.ends_by(side);
    });
}

#[test]
fn a_session_half_closed_by_both_sides_ends_while_both_still_hold_their_sockets() {
    for side in SIDES {
        let (mut stage, mut first, mut second) = Stage::set(side, 4000);
        let before = process::descriptors(stage.relay.pid).len();
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Clean));
        second.shutdown(Shutdown::Write).unwrap();
        assert_eq!(net::read_all(&mut first), (Vec::new(), End::Clean));
        stage.relay.log.expect(side.read_closure(), 1);
        eventually("both sockets closed", || process::descriptors(stage.relay.pid).len() == before - 2);
    }
}

#[test]
fn the_last_bytes_before_a_close_reach_a_reader_that_is_late() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        // The first side reads all that the second sent, so no byte is left unread when it closes.
        net::assert_passes(&mut second, &mut first, b"tell me all");
        let words = net::random(3, 300_000);
        let speaker = thread::spawn({
            let words = words.clone();
            move || {
                first.write_all(&words).unwrap();
                drop(first);
            }
        });
        // The queues hold all of it and the EOF, or are full.
        process::settle(stage.relay.pid);
        let (heard, end) = net::read_all(&mut second);
        net::assert_same(&heard, &words);
        assert_eq!(end, End::Clean);
        speaker.join().unwrap();
        drop(second);
        stage.ends_by(side);
    });
}

#[test]
fn the_last_bytes_arrive_though_the_reader_writes_all_the_time() {
    // A web server behaves like this when it answers before the upload is complete. It ends its answer, reads on for
    // a while, and closes when the requester does. A relay that closed over unread bytes would destroy the answer.
    for_all(|side, buf| {
        let (stage, first, mut second) = Stage::set(side, buf);
        let words = net::random(4, 300_000);
        let speaker = thread::spawn({
            let words = words.clone();
            move || {
                let mut first = first;
                first.write_all(&words).unwrap();
                first.shutdown(Shutdown::Write).unwrap();
                net::read_all(&mut first)
            }
        });
        let chatter = net::random(5, 3_000_000);
        let reader = second.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| second.write_all(&chatter).unwrap());
            let (heard, end) = net::read_all(&mut &reader);
            net::assert_same(&heard, &words);
            assert_eq!(end, End::Clean);
        });
        drop((second, reader));
        let (heard, end) = speaker.join().unwrap();
        net::assert_same(&heard, &chatter);
        assert_eq!(end, End::Clean);
        stage.ends_by(side);
    });
}

//! Whoever stands on either side sees the end that they would see without a relay between.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::net::{self, End, Silent};
use crate::support::{self, Relay, STARTED, Start, eventually, process};
use socket2::SockRef;

/// A side of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Requester,
    Target,
}

const SIDES: [Side; 2] = [Side::Requester, Side::Target];

impl Side {
    /// The message that names this side's end of stream, or its failed read, as the cause.
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
    /// A stage, the socket of `side`, and that of the other side.
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

    /// The session ends by `side`'s read closure, once, and the next one is served.
    #[track_caller]
    fn ends_by(mut self, side: Side) {
        self.relay.log.expect(side.read_closure(), 1);
        self.relay.assert_relays(&self.listener);
        self.relay.log.expect_all(&STARTED, 2);
        self.relay.log.expect(34, 2);
    }
}

/// Each case with each side first, through small and large buffers.
fn for_all(case: impl Fn(Side, usize)) {
    for side in SIDES {
        for buf in [100, 4000] {
            case(side, buf);
        }
    }
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
        // The first end names the cause, though the session went on for long after it.
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
fn last_words_before_a_close_arrive_at_a_reader_that_takes_its_time() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        // Both sides have talked, so nothing that the other said is left unread when this one closes.
        net::assert_passes(&mut second, &mut first, b"tell me all");
        let words = net::random(3, 300_000);
        let speaker = thread::spawn({
            let words = words.clone();
            move || {
                first.write_all(&words).unwrap();
                drop(first);
            }
        });
        speaker.join().unwrap();
        let (heard, end) = net::read_all(&mut second);
        net::assert_same(&heard, &words);
        assert_eq!(end, End::Clean);
        drop(second);
        stage.ends_by(side);
    });
}

#[test]
fn last_words_arrive_though_the_listener_talks_all_the_time() {
    // A web server that answers before the upload is through: it ends its answer, reads on for a while, and
    // closes when the requester does. Whoever closes over unread bytes here kills the answer.
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
        let listener = second.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| second.write_all(&chatter).unwrap());
            let (heard, end) = net::read_all(&mut &listener);
            net::assert_same(&heard, &words);
            assert_eq!(end, End::Clean);
        });
        drop((second, listener));
        let (heard, end) = speaker.join().unwrap();
        net::assert_same(&heard, &chatter);
        assert_eq!(end, End::Clean);
        stage.ends_by(side);
    });
}

#[test]
fn a_reset_travels() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        net::assert_passes(&mut first, &mut second, b"all is well");
        net::assert_passes(&mut second, &mut first, b"is it?");
        net::reset(first);
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Reset));
        stage.ends_by(side);
    });
}

#[test]
fn what_was_sent_before_a_reset_is_delivered() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        let words = net::random(6, 3_000);
        first.write_all(&words).unwrap();
        net::reset(first);
        let (heard, end) = net::read_all(&mut second);
        net::assert_same(&heard, &words);
        assert_eq!(end, End::Reset);
        stage.ends_by(side);
    });
}

#[test]
fn a_reset_after_a_half_close_travels() {
    for_all(|side, buf| {
        let (stage, first, mut second) = Stage::set(side, buf);
        second.shutdown(Shutdown::Write).unwrap();
        let (heard, end) = net::read_all(&mut &first);
        assert_eq!((heard.len(), end), (0, End::Clean));
        net::reset(first);
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Reset));
        // The end that came first was the other side's.
        let first_to_end = match side {
            Side::Requester => Side::Target,
            Side::Target => Side::Requester,
        };
        stage.ends_by(first_to_end);
    });
}

#[test]
fn a_reset_in_the_middle_of_a_stream_is_no_clean_end() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        let words = net::random(7, 1_000_000);
        let speaker = thread::spawn({
            let words = words.clone();
            move || {
                first.write_all(&words).unwrap();
                net::reset(first);
            }
        });
        let (heard, end) = net::read_all(&mut second);
        assert_eq!(end, End::Reset);
        // How much of it was under way is up to the kernels between, but what arrived is right.
        net::assert_same(&heard, &words[..heard.len()]);
        speaker.join().unwrap();
        stage.ends_by(side);
    });
}

#[test]
fn a_close_over_unread_bytes_is_a_reset_for_the_other_side_too() {
    for side in SIDES {
        let (stage, first, mut second) = Stage::set(side, 4000);
        second.write_all(b"do you hear me?").unwrap();
        assert!(net::readable_within(&first, support::PATIENCE));
        // The kernel makes a reset of this.
        drop(first);
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Reset));
        stage.ends_by(side);
    }
}

#[test]
fn what_the_requester_sends_before_the_target_is_connected_arrives() {
    let silent = Silent::new();
    let mut relay = Start::to(silent.address()).start();
    let mut requester = relay.connect();
    let early = net::random(8, 20_000);
    requester.write_all(&early).unwrap();
    relay.log.expect_all(&[16, 18, 26], 1);
    let listener = silent.wake();
    let mut target = net::accept(&listener);
    net::assert_same(&net::read_exactly(&mut target, early.len()), &early);
    net::assert_passes(&mut target, &mut requester, b"welcome");
    relay.log.expect_all(&[28, 31, 33, 37], 1);
}

#[test]
fn a_request_that_is_complete_before_the_target_is_connected_gets_its_answer() {
    let silent = Silent::new();
    let mut relay = Start::to(silent.address()).start();
    let mut requester = relay.connect();
    requester.write_all(b"all I ask").unwrap();
    requester.shutdown(Shutdown::Write).unwrap();
    relay.log.expect_all(&[16, 18, 26], 1);
    let mut target = net::accept(&silent.wake());
    assert_eq!(net::read_all(&mut target), (b"all I ask".to_vec(), End::Clean));
    target.write_all(b"all I know").unwrap();
    drop(target);
    assert_eq!(net::read_all(&mut requester), (b"all I know".to_vec(), End::Clean));
    relay.log.expect_all(&[28, 31, 33, 37, 34], 1);
}

#[test]
fn an_urgent_byte_arrives_in_its_place_and_stops_nothing() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        first.write_all(b"abc").unwrap();
        net::send_urgent(&first, b'!');
        first.write_all(b"def").unwrap();
        assert_eq!(net::read_exactly(&mut second, 7), b"abc!def");
        net::assert_passes(&mut second, &mut first, b"heard");
        drop(first);
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Clean));
        drop(second);
        stage.ends_by(side);
    });
}

/// Whether bytes that this end has sent wait at the other end, and go on waiting.
fn stay_unread(stream: &TcpStream) -> bool {
    let since = Instant::now();
    while process::unread_by_peer(stream) > 0 {
        if since.elapsed() > Duration::from_millis(300) {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn bytes_behind_an_urgent_one_arrive_though_only_the_end_was_reported() {
    let listener = net::listen();
    // The less fits in, the sooner the stream stands still.
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let start = Start::to(net::address(&listener)).options("--no-splice");
    let relay = start.start();
    let (mut requester, mut target) = relay.session(&listener);
    let mut sent = Vec::new();
    // Nobody reads at the target: in the end bytes stay at the relay, which does not want to hear of more. It
    // wakes up to look at what it has sent, so its sleep does not show that it stands still.
    while !stay_unread(&requester) {
        let more = net::random(sent.len() as u64, 150_000);
        requester.write_all(&more).unwrap();
        sent.extend(more);
    }
    requester.write_all(b"more").unwrap();
    process::settle(relay.pid);
    // With both ends the connection hangs up, which is reported all the same.
    target.shutdown(Shutdown::Write).unwrap();
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Clean));
    requester.write_all(b"abc").unwrap();
    net::send_urgent(&requester, b'!');
    requester.write_all(b"def").unwrap();
    requester.shutdown(Shutdown::Write).unwrap();
    process::settle(relay.pid);
    sent.extend(b"moreabc!def");
    let (heard, end) = net::read_all(&mut target);
    net::assert_same(&heard, &sent);
    assert_eq!(end, End::Clean);
}

#[test]
fn urgent_bytes_that_wait_in_a_queue_with_others_all_arrive() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        // All of this is there when the relay reads for the first time, with the end of the stream behind it.
        stage.relay.freeze();
        first.write_all(b"abc").unwrap();
        net::send_urgent(&first, b'!');
        first.write_all(b"def").unwrap();
        net::send_urgent(&first, b'?');
        first.shutdown(Shutdown::Write).unwrap();
        stage.relay.thaw();
        let (heard, end) = net::read_all(&mut second);
        assert_eq!((str::from_utf8(&heard).unwrap(), end), ("abc!def?", End::Clean));
        net::assert_passes(&mut second, &mut first, b"heard");
        drop(second);
        assert_eq!(net::read_all(&mut first), (Vec::new(), End::Clean));
        stage.ends_by(side);
    });
}

#[test]
fn an_urgent_byte_that_another_one_follows_at_once_is_not_lost() {
    for_all(|side, buf| {
        let (stage, first, mut second) = Stage::set(side, buf);
        stage.relay.freeze();
        net::send_urgent(&first, b'!');
        net::send_urgent(&first, b'?');
        (&first).write_all(b"abc").unwrap();
        stage.relay.thaw();
        assert_eq!(net::read_exactly(&mut second, 5), b"!?abc");
        drop(first);
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Clean));
        drop(second);
        stage.ends_by(side);
    });
}

#[test]
fn a_requester_learns_that_the_target_refuses() {
    let (_bound, address) = net::refusing();
    let mut relay = Start::to(address).start();
    for serial in 1..=3 {
        let mut requester = relay.connect();
        assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
        relay.log.expect_all(&[16, 18, 26, 27], serial);
    }
}

#[test]
fn a_requester_that_goes_away_while_the_target_is_silent_costs_no_slot_for_long() {
    let silent = Silent::new();
    let mut relay = Start::to(silent.address()).connect_timeout(1).start();
    let before = process::descriptors(relay.pid).len();
    let leaves_quietly = relay.connect();
    relay.log.expect_all(&[16, 18, 26], 1);
    let leaves_rudely = relay.connect();
    relay.log.expect_all(&[16, 18, 26], 2);
    drop(leaves_quietly);
    net::reset(leaves_rudely);
    eventually("both sessions ended", || process::descriptors(relay.pid).len() == before);
    // Each end is told once, whatever its cause is called.
    let told = [relay.log.line().text, relay.log.line().text];
    for serial in ["number 1 ", "number 2 "] {
        assert_eq!(told.iter().filter(|line| line.contains(serial)).count(), 1, "{told:?}");
    }
    process::settle(relay.pid);
    assert!(relay.log.pending().is_empty());
}

#[test]
fn one_session_that_is_cut_leaves_the_others_alone() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let mut sessions = Vec::new();
    for serial in 1..=20 {
        sessions.push(relay.session(&listener));
        relay.log.expect_all(&STARTED, serial);
    }
    for _ in 0..10 {
        let (requester, mut target) = sessions.remove(0);
        net::reset(requester);
        assert_eq!(net::read_all(&mut target), (Vec::new(), End::Reset));
    }
    for (requester, target) in &mut sessions {
        net::assert_passes(requester, target, &net::random(9, 10_000));
        net::assert_passes(target, requester, &net::random(10, 10_000));
    }
    for serial in 1..=10 {
        relay.log.expect(34, serial);
    }
    thread::sleep(Duration::from_millis(10));
    assert!(relay.log.pending().is_empty(), "nobody else has ended");
}

//! The promises at the edges: a stop is an abort, an unknown send queue is not taken for an empty one, timeouts
//! are punctual, live readers get everything, and a requester that is turned away is reset.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;
use socket2::SockRef;
use tcprelay::internal::limits::ABORT_GRACE;

use crate::support::faults::{Call, Faults, When};
use crate::support::net::{self, End};
use crate::support::{Relay, STARTED, Start, process};

/// More bytes than the small receive buffers below hold, and fewer than the send buffers.
const SOME: usize = 300_000;

/// The ioctl that returns the length of a socket's send queue.
const TIOCOUTQ: u32 = 0x5411;

/// The most that a timeout may be late on an idle machine.
const LATE_MAX: Duration = Duration::from_millis(50);
/// The error that a busy machine may add to a measurement.
const NOISE: Duration = Duration::from_millis(250);

/// The ways to end a relay in the middle of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    Signal(Signal),
    DrainTwice,
    AbsoluteTimeout,
}

fn stop(relay: &mut Relay, how: Stop) {
    match how {
        Stop::Signal(signal) => relay.signal(signal),
        Stop::DrainTwice => {
            relay.signal(Signal::QUIT);
            relay.log.wait_text("Drain signal received.");
            relay.signal(Signal::QUIT);
        }
        Stop::AbsoluteTimeout => {}
    }
    assert_eq!(relay.wait().code(), Some(0));
}

/// Both sides are in mid-stream: the relay holds no bytes, and neither side has sent its EOF.
#[test]
fn every_kind_of_stop_in_mid_stream_resets_both_sides() {
    for how in [
        Stop::Signal(Signal::TERM),
        Stop::Signal(Signal::INT),
        Stop::Signal(Signal::HUP),
        Stop::DrainTwice,
        Stop::AbsoluteTimeout,
    ] {
        let listener = net::listen();
        let absolute = if how == Stop::AbsoluteTimeout { 2 } else { 0 };
        let mut relay = Start::to(net::address(&listener)).absolute_timeout(absolute).start();
        let (mut requester, mut target) = relay.session(&listener);
        net::assert_passes(&mut requester, &mut target, b"a question");
        net::assert_passes(&mut target, &mut requester, b"a part of the answer");
        stop(&mut relay, how);
        assert_eq!(net::read_all(&mut requester).1, End::Reset, "requester, {how:?}");
        assert_eq!(net::read_all(&mut target).1, End::Reset, "target, {how:?}");
    }
}

#[test]
fn a_side_that_got_everything_and_its_eof_sees_a_clean_end_when_the_relay_stops() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let (mut requester, mut target) = relay.session(&listener);
    target.write_all(&[7; 1000]).unwrap();
    target.shutdown(Shutdown::Write).unwrap();
    net::read_exactly(&mut requester, 999);
    // Once the relay sleeps, it has passed the EOF on.
    process::settle(relay.pid);
    stop(&mut relay, Stop::Signal(Signal::TERM));
    assert_eq!(net::read_all(&mut requester), (vec![7], End::Clean));
    assert_eq!(net::read_all(&mut target).1, End::Reset);
}

/// Opens a session whose requester has a small receive buffer, so that bytes wait in the relay's send queue.
fn narrow_session(relay: &Relay, listener: &TcpListener) -> (TcpStream, TcpStream) {
    (net::connect_narrow(relay.address()), net::accept(listener))
}

/// Lets the target send more than the requester's buffer holds, and reset. The requester pauses before each read.
/// Returns the bytes sent, the bytes received, and the end that the requester saw.
fn slow_reader_after_a_reset(faults: Faults, pause: Duration) -> (Vec<u8>, Vec<u8>, End) {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).faults(faults).start();
    let (mut requester, target) = narrow_session(&relay, &listener);
    let bytes = net::random(5, SOME);
    (&target).write_all(&bytes).unwrap();
    // Once the relay sleeps, it has read all of them.
    process::settle(relay.pid);
    SockRef::from(&target).set_linger(Some(Duration::ZERO)).unwrap();
    drop(target);
    let mut received = Vec::new();
    let mut chunk = vec![0; SOME / 8];
    let end = loop {
        thread::sleep(pause);
        match net::uninterrupted(|| requester.read(&mut chunk)) {
            Ok(0) => break End::Clean,
            Ok(count) => received.extend_from_slice(&chunk[..count]),
            Err(_) => break End::Reset,
        }
    };
    (bytes, received, end)
}

#[test]
fn a_slow_but_live_reader_gets_all_that_was_read_before_an_abort() {
    let before = Instant::now();
    let (sent, received, end) = slow_reader_after_a_reset(Faults::new(), Duration::from_millis(100));
    assert!(before.elapsed() > 2 * ABORT_GRACE, "the pauses add up to far more than the grace");
    net::assert_same(&received, &sent);
    assert_eq!(end, End::Reset);
}

/// Keeps the kernel from saying how long the send queues are.
fn unknown_queues() -> Faults {
    Faults::new().fail(Call::IoControl, Errno::NOTTY, &[When::Is(1, TIOCOUTQ)])
}

#[test]
fn where_the_send_queue_is_unknown_the_grace_is_waited_out() {
    let (sent, received, end) = slow_reader_after_a_reset(unknown_queues(), Duration::from_millis(2));
    net::assert_same(&received, &sent);
    assert_eq!(end, End::Reset);
}

#[test]
fn where_the_send_queue_is_unknown_an_idle_session_that_has_delivered_all_ends_cleanly() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(3).faults(unknown_queues()).start();
    let (mut requester, mut target) = relay.session(&listener);
    net::assert_passes(&mut requester, &mut target, b"a question");
    net::assert_passes(&mut target, &mut requester, b"an answer");
    relay.log.expect_all(&STARTED, 1);
    relay.log.expect(24, 1);
    for side in [&mut requester, &mut target] {
        assert_eq!(net::read_all(side), (Vec::new(), End::Clean));
    }
}

#[test]
fn without_netlink_nothing_is_different() {
    let without = Faults::new().fail(Call::Socket, Errno::AFNOSUPPORT, &[When::Is(0, 16)]);
    let (sent, received, end) = slow_reader_after_a_reset(without, Duration::from_millis(20));
    net::assert_same(&received, &sent);
    assert_eq!(end, End::Reset);
}

#[test]
fn an_idle_timeout_runs_from_the_last_byte_that_left_the_kernel() {
    const IDLE: Duration = Duration::from_secs(3);
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(3).start();
    let (mut requester, target) = narrow_session(&relay, &listener);
    (&target).write_all(&net::random(6, 100_000)).unwrap();
    // The bytes wait in the kernel until the reader takes them all at once, far longer than the noise.
    thread::sleep(4 * NOISE);
    net::read_exactly(&mut requester, 100_000);
    let moved = Instant::now();
    relay.log.expect_all(&STARTED, 1);
    let ended = relay.log.expect(24, 1).at;
    let late = ended.saturating_duration_since(moved + IDLE);
    assert!(ended + NOISE >= moved + IDLE, "early: {:?}", ended - moved);
    assert!(late <= LATE_MAX + NOISE, "late by {late:?}");
}

#[test]
fn every_requester_that_is_turned_away_is_reset_even_if_it_says_nothing() {
    let listener = net::listen();
    let target = net::address(&listener);
    // The ACL, a full pool, a limit per source.
    let cases = [
        ("--deny 127.0.0.0/8", "ACL mismatch"),
        ("--sessions 1", "Session pool exhausted"),
        ("--max-per-source 1", "sessions in the pool already"),
    ];
    for (options, text) in cases {
        let mut relay = Start::to(target).options(options).start();
        let _first = (text != "ACL mismatch").then(|| relay.session(&listener));
        for turn in 0..10 {
            // A write after the reset would consume its error, and the read would see an EOF.
            relay.freeze();
            let mut requester = net::connect(relay.address());
            if turn % 2 == 0 {
                requester.write_all(b"a question").unwrap();
            }
            relay.thaw();
            assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset), "{options}");
        }
        relay.log.wait_text(text);
    }
}

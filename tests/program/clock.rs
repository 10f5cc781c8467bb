//! The clock: suspensions of the process, full turns, timeouts at their bounds, and a clock that began long ago.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::catalogue::message;
use crate::support::net::{self, End, Silent};
use crate::support::skip::skipped;
use crate::support::{STARTED, Start, process};

/// The lateness that a busy machine may add to a bound.
const BUSY: Duration = Duration::from_secs(3);

#[test]
fn a_session_with_bytes_waiting_is_not_idle_after_a_suspension() {
    let survives = |from_target| {
        let listener = net::listen();
        // Long enough for the exchange below on a busy machine.
        let mut relay = Start::to(net::address(&listener)).idle_timeout(3).start();
        let (requester, target) = relay.session(&listener);
        relay.log.expect_all(&STARTED, 1);
        let (mut reader, mut writer) = if from_target { (requester, target) } else { (target, requester) };
        relay.freeze();
        writer.write_all(b"said while it slept").unwrap();
        thread::sleep(Duration::from_millis(3300));
        relay.thaw();
        assert_eq!(net::read_exactly(&mut reader, 19), b"said while it slept");
        let last = Instant::now();
        net::assert_passes(&mut reader, &mut writer, b"heard");
        // The idle timeout runs from these last bytes.
        let line = relay.log.expect(24, 1);
        assert!(line.at - last >= Duration::from_secs(3), "{:?}", line.at - last);
    };
    thread::scope(|scope| {
        scope.spawn(|| survives(false));
        scope.spawn(|| survives(true));
    });
}

#[test]
fn of_many_sessions_only_the_silent_ones_are_idle_after_a_suspension() {
    // At two events a session, that is more than one turn takes from the kernel (`EVENTS_PER_TURN`).
    const SESSIONS: usize = 300;
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(4).start();
    let mut sessions: Vec<_> = (0..SESSIONS).map(|_| relay.session(&listener)).collect();
    for _ in 0..SESSIONS {
        while !relay.log.line().text.ends_with("target-to-requester channel is now active.") {}
    }
    relay.freeze();
    for (requester, target) in &mut sessions[1..] {
        requester.write_all(b"up").unwrap();
        target.write_all(b"down").unwrap();
    }
    thread::sleep(Duration::from_millis(4300));
    relay.thaw();
    for (requester, target) in &mut sessions[1..] {
        assert_eq!(net::read_exactly(target, 2), b"up");
        assert_eq!(net::read_exactly(requester, 4), b"down");
    }
    relay.log.expect(24, 1);
    assert_eq!(net::read_all(&mut &sessions[0].0), (Vec::new(), End::Clean));
}

#[test]
fn a_silent_session_is_idle_as_soon_as_the_suspension_ends() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(1).start();
    let (mut requester, mut target) = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    relay.freeze();
    thread::sleep(Duration::from_millis(1500));
    relay.thaw();
    let thawed = Instant::now();
    let line = relay.log.expect(24, 1);
    assert!(line.at - thawed < BUSY);
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Clean));
    assert_eq!(net::read_all(&mut target), (Vec::new(), End::Clean));
    relay.assert_relays(&listener);
}

#[test]
fn a_target_that_answered_during_the_suspension_is_connected_though_the_time_is_up() {
    let silent = Silent::new();
    let mut relay = Start::to(silent.address()).connect_timeout(1).start();
    let mut requester = relay.connect();
    relay.log.expect_all(&[16, 18, 26], 1);
    relay.freeze();
    let start = Instant::now();
    // The kernel sends the SYN again after a second, although the relay is stopped.
    let listener = silent.wake();
    let mut target = net::accept(&listener);
    thread::sleep(Duration::from_millis(1200).saturating_sub(start.elapsed()));
    relay.thaw();
    net::assert_passes(&mut requester, &mut target, b"in time");
    relay.log.expect_all(&[28, 31, 33, 37], 1);
}

#[test]
fn a_suspension_past_the_absolute_timeout_ends_it_at_once() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).absolute_timeout(1).start();
    let (requester, _target) = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    relay.freeze();
    thread::sleep(Duration::from_millis(1300));
    relay.thaw();
    let thawed = Instant::now();
    relay.log.expect(23, 0);
    assert!(thawed.elapsed() < BUSY);
    assert_eq!(relay.wait().code(), Some(0));
    // Either a reset or an EOF is right here. No byte may come.
    let mut rest = Vec::new();
    let _ = (&requester).read_to_end(&mut rest);
    assert_eq!(rest, [0_u8; 0]);
}

#[test]
fn suspensions_before_a_deadline_change_nothing() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(1).start();
    let start = Instant::now();
    let _session = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    for _ in 0..4 {
        relay.freeze();
        thread::sleep(Duration::from_millis(100));
        relay.thaw();
        thread::sleep(Duration::from_millis(50));
    }
    let line = relay.log.expect(24, 1);
    let took = line.at - start;
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(1) + BUSY, "{took:?}");
}

/// Keeps a session busy in both directions until its connections are cut.
fn busy(requester: &TcpStream, target: &TcpStream) {
    thread::scope(|scope| {
        for (from, to) in [(requester, target), (target, requester)] {
            scope.spawn(move || {
                let mut from = from;
                while from.write_all(&[7; 16_384]).is_ok() {}
            });
            scope.spawn(move || {
                let (mut to, mut chunk) = (to, vec![0; 65_536]);
                while net::uninterrupted(|| to.read(&mut chunk)).is_ok_and(|count| count > 0) {}
            });
        }
    });
}

#[test]
fn the_absolute_timeout_is_on_time_though_every_turn_is_full() {
    let listener = net::listen();
    let start = Instant::now();
    let mut relay = Start::to(net::address(&listener)).absolute_timeout(1).start();
    let sessions: Vec<_> = (0..4).map(|_| relay.session(&listener)).collect();
    thread::scope(|scope| {
        for (requester, target) in &sessions {
            scope.spawn(move || busy(requester, target));
        }
        let _cut = net::Cut(&sessions);
        relay.log.wait(23, 0);
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(1) + BUSY, "{took:?}");
        assert_eq!(relay.wait().code(), Some(0));
        assert_eq!(relay.log.rest(), [""; 0], "message 23 is not the last line");
    });
}

#[test]
fn timeouts_at_their_bounds_start_and_are_not_due() {
    for (connect, idle, absolute) in
        [(1, 1800, u32::MAX), (3, 1800, 0), (1, 1, u32::MAX), (3, 1, 1_000_000_000)]
    {
        let listener = net::listen();
        let start = Start::to(net::address(&listener));
        let mut relay = start.connect_timeout(connect).idle_timeout(idle).absolute_timeout(absolute).start();
        let session = (idle > 1).then(|| relay.session(&listener));
        let first = if session.is_some() { 2 } else { 1 };
        relay.assert_relays(&listener);
        process::settle(relay.pid);
        relay.assert_relays(&listener);
        relay.assert_alive();
        relay.log.wait(34, first);
        assert!(relay.log.seen().iter().all(|line| *line != message(23, 0)));
        if idle > 1 {
            // Nothing is due for half an hour.
            relay.log.wait(34, first + 1);
            process::settle(relay.pid);
            process::assert_rests(relay.pid, Duration::from_millis(300));
        }
    }
}

#[test]
fn a_clock_that_began_long_ago_makes_no_difference() {
    // A time namespace shifts the monotonic clock by ten years. Not every host lets this process make one.
    let namespace =
        ["--user", "--map-root-user", "--time", "--monotonic", "315360000", "--fork", "--kill-child"];
    let probe = Command::new("unshare")
        .args(namespace)
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        skipped("no time namespace can be made here");
        return;
    }
    let listener = net::listen();
    let script =
        r#"exec unshare --user --map-root-user --time --monotonic 315360000 --fork --kill-child "$0" "$@""#;
    let start = Instant::now();
    let mut relay =
        Start::to(net::address(&listener)).idle_timeout(1).absolute_timeout(2).shell(script).start();
    let _session = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    let idle = relay.log.expect(24, 1).at - start;
    assert!(idle >= Duration::from_secs(1) && idle < Duration::from_secs(1) + BUSY, "{idle:?}");
    relay.assert_relays(&listener);
    let absolute = relay.log.wait(23, 0).at - start;
    assert!(absolute >= Duration::from_secs(2) && absolute < Duration::from_secs(2) + BUSY, "{absolute:?}");
}

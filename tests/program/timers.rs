//! Timeouts are never early and at most slightly late. They end only sessions that really are idle, and cost nothing
//! until they fire.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::net::{self, End, Silent};
use crate::support::{self, Line, Start, process};

/// The longest time that a busy machine may delay the relay, or the test that reads its log. On an idle one, the bound
/// is 50 ms.
const BUSY: Duration = Duration::from_secs(1);

/// Asserts that a timeout of this many seconds, counted from `start`, was on time.
#[track_caller]
fn assert_on_time(line: &Line, start: Instant, seconds: u32) {
    let timeout = Duration::from_secs(seconds.into());
    let took = line.at - start;
    assert!(took >= timeout, "{took:?} is early: {}", line.text);
    assert!(took < timeout + BUSY, "{took:?} is late: {}", line.text);
}

#[test]
fn a_target_that_does_not_answer_is_given_up_after_the_connect_timeout() {
    thread::scope(|scope| {
        for seconds in 1..=3 {
            scope.spawn(move || {
                let silent = Silent::new();
                let start = Start::to(silent.address()).connect_timeout(seconds);
                let mut relay = start.start();
                let start = Instant::now();
                let mut requester = relay.connect();
                relay.log.expect_all(&[16, 18, 26], 1);
                let line = relay.log.expect(25, 1);
                assert_on_time(&line, start, seconds);
                // No stream to the requester ever began, so it must not see one end cleanly.
                assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
            });
        }
    });
}

#[test]
fn a_session_without_a_byte_ends_after_the_idle_timeout() {
    thread::scope(|scope| {
        for seconds in 1..=3 {
            scope.spawn(move || {
                let listener = net::listen();
                let start = Start::to(net::address(&listener)).idle_timeout(seconds);
                let mut relay = start.start();
                let start = Instant::now();
                let (mut requester, mut target) = relay.session(&listener);
                let line = relay.log.wait(24, 1);
                assert_on_time(&line, start, seconds);
                assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Clean));
                assert_eq!(net::read_all(&mut target), (Vec::new(), End::Clean));
                relay.assert_relays(&listener);
            });
        }
    });
}

/// Exchanges bytes for longer than `i t/o`, and asserts that the idle time counts from the last one.
fn idles_only_after_the_last_byte(mut say: impl FnMut(&mut TcpStream, &mut TcpStream, u8)) {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(3).start();
    let (mut requester, mut target) = relay.session(&listener);
    relay.log.wait(37, 1);
    let mut last = Instant::now();
    for round in 0..4 {
        // Far shorter than the timeout, for a busy machine. All rounds together are longer.
        thread::sleep(Duration::from_secs(1));
        last = Instant::now();
        say(&mut requester, &mut target, round);
    }
    let line = relay.log.expect(24, 1);
    assert_on_time(&line, last, 3);
}

#[test]
fn a_byte_in_either_direction_keeps_a_session_alive() {
    thread::scope(|scope| {
        scope.spawn(|| {
            idles_only_after_the_last_byte(|requester, target, _| {
                net::assert_passes(requester, target, b"!");
            });
        });
        scope.spawn(|| {
            idles_only_after_the_last_byte(|requester, target, _| {
                net::assert_passes(target, requester, b"!");
            });
        });
        scope.spawn(|| {
            idles_only_after_the_last_byte(|requester, target, round| match round % 2 {
                0 => net::assert_passes(requester, target, b"?"),
                _ => net::assert_passes(target, requester, b"!"),
            });
        });
    });
}

#[test]
fn each_session_has_an_idle_timeout_of_its_own() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(1).start();
    let mut sessions = Vec::new();
    for serial in 1..=5 {
        let start = Instant::now();
        sessions.push((start, relay.session(&listener)));
        relay.log.wait(37, serial);
        thread::sleep(Duration::from_millis(100));
    }
    for (serial, (start, _)) in (1..).zip(&sessions) {
        let line = relay.log.expect(24, serial);
        assert_on_time(&line, *start, 1);
    }
}

#[test]
fn an_idle_session_that_is_half_closed_ends_after_the_idle_timeout() {
    let by_requester = |requester: &TcpStream, _: &TcpStream| requester.shutdown(Shutdown::Write);
    let by_target = |_: &TcpStream, target: &TcpStream| target.shutdown(Shutdown::Write);
    thread::scope(|scope| {
        for half_close in [by_requester, by_target] {
            scope.spawn(move || {
                let listener = net::listen();
                let mut relay = Start::to(net::address(&listener)).idle_timeout(1).start();
                let (requester, target) = relay.session(&listener);
                relay.log.wait(37, 1);
                let before = process::descriptors(relay.pid).len();
                let start = Instant::now();
                half_close(&requester, &target).unwrap();
                // An EOF is not a byte, so the idle time may as well count from the start of the session.
                let line = relay.log.expect(24, 1);
                assert!(line.at - start < Duration::from_secs(1) + BUSY);
                support::eventually("both sockets closed", || {
                    process::descriptors(relay.pid).len() == before - 2
                });
            });
        }
    });
}

/// Asserts that a session with a slow reader is not idle. `writer` sends everything at once, and `reader` takes
/// 300 KB a second. Between them, the kernel's buffers keep the relay's sockets quiet for seconds.
fn slow_but_live(listener: &std::net::TcpListener, from_target: bool) {
    let mut relay = Start::to(net::address(listener)).idle_timeout(1).start();
    let (requester, target) = relay.session(listener);
    relay.log.wait(37, 1);
    let (mut reader, mut writer) = if from_target { (requester, target) } else { (target, requester) };
    let words = net::random(1, 6_000_000);
    let sender = thread::spawn({
        let words = words.clone();
        move || {
            writer.write_all(&words).unwrap();
            writer
        }
    });
    let mut heard = Vec::new();
    let start = Instant::now();
    for round in 1..=45 {
        heard.extend(net::read_exactly(&mut reader, 30_000));
        let next = start + Duration::from_millis(100) * round;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let ended = relay.log.pending();
    assert!(ended.is_empty(), "called idle while it moved: {ended:?}");

    heard.extend(net::read_exactly(&mut reader, words.len() - heard.len()));
    net::assert_same(&heard, &words);
    let mut writer = sender.join().unwrap();
    let last = Instant::now();
    net::assert_passes(&mut reader, &mut writer, b"thank you");
    let line = relay.log.expect(24, 1);
    assert_on_time(&line, last, 1);
}

#[test]
fn a_slow_but_live_reader_is_not_idle() {
    thread::scope(|scope| {
        scope.spawn(|| slow_but_live(&net::listen(), true));
        scope.spawn(|| slow_but_live(&net::listen(), false));
    });
}

#[test]
fn a_session_whose_reader_stops_is_idle_and_its_stream_is_reset() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(1).start();
    let (mut requester, target) = relay.session(&listener);
    relay.log.wait(37, 1);
    let writer = thread::spawn(move || {
        let mut target = target;
        // Ends when the relay ends the session.
        while target.write_all(&[7; 4096]).is_ok() {}
    });
    let start = Instant::now();
    let line = relay.log.expect(24, 1);
    assert!(line.at - start >= Duration::from_secs(1));
    writer.join().unwrap();
    let (heard, end) = net::read_all(&mut requester);
    assert_eq!(end, End::Reset, "after {} bytes", heard.len());
}

#[test]
fn the_absolute_timeout_ends_the_process_and_cuts_its_sessions() {
    thread::scope(|scope| {
        for seconds in 1..=2 {
            scope.spawn(move || {
                let listener = net::listen();
                let start = Instant::now();
                let target = net::address(&listener);
                let mut relay = Start::to(target).absolute_timeout(seconds).start();
                let (mut requester, mut target) = relay.session(&listener);
                relay.log.wait(37, 1);
                let sender = thread::spawn(move || {
                    // Ends when the relay does.
                    while target.write_all(b"without end").is_ok() {}
                });
                let mut chunk = [0; 4096];
                while net::uninterrupted(|| requester.read(&mut chunk)).is_ok_and(|count| count > 0) {}
                let line = relay.log.expect(23, 0);
                assert_on_time(&line, start, seconds);
                assert_eq!(relay.wait().code(), Some(0));
                assert_eq!(relay.log.rest(), [""; 0]);
                sender.join().unwrap();
            });
        }
    });
}

#[test]
fn the_longest_timeouts_do_not_fire_at_once() {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).idle_timeout(1800).absolute_timeout(u32::MAX).start();
    relay.assert_relays(&listener);
    process::settle(relay.pid);
    relay.assert_relays(&listener);
}

#[test]
fn with_nothing_due_the_process_sleeps() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).absolute_timeout(600).start();
    let mut sessions = Vec::new();
    for serial in 1..=20 {
        sessions.push(relay.session(&listener));
        relay.log.wait(37, serial);
    }
    for (requester, target) in &mut sessions {
        net::assert_passes(requester, target, b"a few bytes");
    }
    process::settle(relay.pid);
    process::assert_rests(relay.pid, Duration::from_millis(1500));
}

//! Stop signals end the relay at once, SIGUSR1 makes it log its status, and the signals of a broken log do not end it.

use std::io::{Read, Write, pipe};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::catalogue::STOPPED;
use crate::support::net::{self, End};
use crate::support::{PATIENCE, STARTED, Start, process};

#[test]
fn a_stop_signal_is_logged_last_and_ends_the_relay_with_status_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let listener = net::listen();
        let mut relay = Start::to(net::address(&listener)).start();
        let (mut requester, mut target) = relay.session(&listener);
        relay.log.expect_all(&STARTED, 1);
        relay.signal(signal);
        relay.log.expect_text(STOPPED);
        assert_eq!(relay.wait().code(), Some(0));
        assert_eq!(relay.log.rest(), [""; 0]);
        assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
        assert_eq!(net::read_all(&mut target), (Vec::new(), End::Reset));
    }
}

#[test]
fn a_stop_signal_right_after_the_start_ends_the_relay() {
    let listener = net::listen();
    for _ in 0..20 {
        let mut relay = Start::to(net::address(&listener)).start();
        relay.signal(Signal::TERM);
        assert_eq!(relay.wait().code(), Some(0));
        relay.log.expect_text(STOPPED);
    }
}

#[test]
fn two_stop_signals_at_once_are_logged_once() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)]
    {
        let listener = net::listen();
        let mut relay = Start::to(net::address(&listener)).start();
        // Both signals are pending when the relay continues.
        relay.freeze();
        relay.signal(first);
        relay.signal(second);
        relay.thaw();
        relay.log.expect_text(STOPPED);
        assert_eq!(relay.wait().code(), Some(0));
        assert_eq!(relay.log.rest(), [""; 0]);
    }
}

#[test]
fn a_stop_signal_in_the_middle_of_a_stream_ends_the_relay() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let (requester, mut target) = relay.session(&listener);
    thread::scope(|scope| {
        scope.spawn(move || while (&requester).write_all(&[7; 4096]).is_ok() {});
        net::read_exactly(&mut target, 1_000_000);
        // Reads to the end, be it an EOF or a reset.
        let reader = scope.spawn(move || {
            while net::uninterrupted(|| target.read(&mut [0; 4096])).is_ok_and(|count| count > 0) {}
        });
        relay.signal(Signal::TERM);
        relay.log.expect_all(&STARTED, 1);
        relay.log.expect_text(STOPPED);
        assert_eq!(relay.wait().code(), Some(0));
        reader.join().unwrap();
    });
}

#[test]
fn a_stop_signal_ends_the_relay_though_its_log_is_not_read() {
    let (_reader, writer) = pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).stdout(writer).start();
    for _ in 0..50 {
        relay.assert_relays(&listener);
    }
    let start = Instant::now();
    relay.signal(Signal::TERM);
    assert_eq!(relay.wait().code(), Some(0));
    assert!(start.elapsed() < PATIENCE / 4);
}

#[test]
fn the_signals_of_a_broken_log_do_not_end_the_relay() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    for signal in [Signal::PIPE, Signal::XFSZ] {
        relay.signal(signal);
        relay.assert_relays(&listener);
    }
    relay.assert_alive();
}

#[test]
fn a_relay_that_was_stopped_and_continued_goes_on() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(3).start();
    let (mut requester, mut target) = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    for _ in 0..5 {
        relay.freeze();
        requester.write_all(b"while it sleeps").unwrap();
        relay.thaw();
        assert_eq!(net::read_exactly(&mut target, 15), b"while it sleeps");
        // The same while the relay sleeps, with nothing to do.
        process::settle(relay.pid);
        relay.freeze();
        relay.thaw();
    }
    let last = Instant::now();
    net::assert_passes(&mut target, &mut requester, b"awake");
    let line = relay.log.expect(24, 1);
    assert!(line.at - last >= Duration::from_secs(3));
}

#[test]
fn the_status_has_the_totals_and_a_line_for_each_session() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).acl("127.0.0.0/30").start();
    let (mut requester, mut target) = relay.session(&listener);
    net::assert_passes(&mut requester, &mut target, b"12345");
    net::assert_passes(&mut target, &mut requester, b"123");
    relay.assert_relays(&listener);
    relay.log.wait(34, 2);
    let mut stranger = relay.connect_from([127, 0, 0, 9].into());
    assert_eq!(net::read_all(&mut stranger), (Vec::new(), End::Reset));

    relay.signal(Signal::USR1);
    let totals = relay.log.wait_text("Status: ").text;
    assert_eq!(
        totals,
        "Status: 1 sessions, 2 accepted, 1 rejected, 0 refused, 0 expired, 0 dropped, 10 bytes to the target, \
         11 bytes to the requester, 0 log lines dropped."
    );
    let live = relay.log.line().text;
    assert!(
        live.starts_with("Status: session handler serial number 1 from 127.0.0.1 is relaying, "),
        "{live}"
    );
    assert!(live.ends_with(" 5 bytes to the target, 3 bytes to the requester."), "{live}");
    relay.assert_relays(&listener);
}

#[test]
fn the_status_of_many_sessions_comes_whole_through_a_small_pipe_that_is_read_late() {
    const SESSIONS: usize = 300;
    let (mut reader, writer) = pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).stdout(writer).start();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| relay.session(&listener)).collect();

    relay.signal(Signal::USR1);
    // The relay goes on although its log is not read.
    relay.assert_relays(&listener);
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains(&format!("serial number {SESSIONS} from 127.0.0.1 is ")) {
        assert!(net::readable_within(&reader, PATIENCE), "not whole:\n{text}");
        let count = reader.read(&mut bytes).unwrap();
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("Status: ")).collect();
    assert!(lines[0].contains(" accepted, "), "it begins with: {}", lines[0]);
    for serial in 1..=sessions.len() {
        let beginning = format!("Status: session handler serial number {serial} from ");
        assert_eq!(lines.iter().filter(|line| line.starts_with(&beginning)).count(), 1, "for {serial}");
    }
}

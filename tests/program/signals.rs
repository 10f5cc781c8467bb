//! Signals that ask the relay to end do so at once, and SIGUSR1 has it log its status; none ends it by accident.

use std::io::{Read, Write, pipe};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::catalogue::STOPPED;
use crate::support::net::{self, End};
use crate::support::{PATIENCE, STARTED, Start, process};

#[test]
fn asked_to_stop_it_says_so_last_and_ends_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let listener = net::listen();
        let mut relay = Start::to(net::address(&listener)).start();
        let (mut requester, mut target) = relay.session(&listener);
        relay.log.expect_all(&STARTED, 1);
        relay.signal(signal);
        relay.log.expect_text(STOPPED);
        assert_eq!(relay.wait().code(), Some(0));
        assert_eq!(relay.log.rest(), [""; 0]);
        assert_eq!(net::read_all(&mut requester).0, [0_u8; 0]);
        assert_eq!(net::read_all(&mut target).0, [0_u8; 0]);
    }
}

#[test]
fn asked_to_stop_as_soon_as_it_is_active_it_stops_as_well() {
    let listener = net::listen();
    for _ in 0..20 {
        let mut relay = Start::to(net::address(&listener)).start();
        relay.signal(Signal::TERM);
        assert_eq!(relay.wait().code(), Some(0));
        relay.log.expect_text(STOPPED);
    }
}

#[test]
fn asked_twice_it_stops_once() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)]
    {
        let listener = net::listen();
        let mut relay = Start::to(net::address(&listener)).start();
        // Both are there when it looks.
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
fn asked_to_stop_in_the_middle_of_a_stream_it_stops() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let (requester, mut target) = relay.session(&listener);
    thread::scope(|scope| {
        scope.spawn(move || while (&requester).write_all(&[7; 4096]).is_ok() {});
        net::read_exactly(&mut target, 1_000_000);
        // To the end, whichever end that is.
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
fn it_stops_though_nobody_reads_its_log() {
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
fn the_signals_of_a_broken_log_do_not_end_it() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    for signal in [Signal::PIPE, Signal::XFSZ] {
        relay.signal(signal);
        relay.assert_relays(&listener);
    }
    relay.assert_alive();
}

#[test]
fn stopped_and_continued_it_goes_on() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(1).start();
    let (mut requester, mut target) = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    for _ in 0..5 {
        relay.freeze();
        requester.write_all(b"while it sleeps").unwrap();
        relay.thaw();
        assert_eq!(net::read_exactly(&mut target, 15), b"while it sleeps");
        // Stopped and continued in its sleep, with nothing to do.
        process::settle(relay.pid);
        relay.freeze();
        relay.thaw();
    }
    net::assert_passes(&mut target, &mut requester, b"awake");
    let last = Instant::now();
    let line = relay.log.expect(24, 1);
    assert!(line.at - last >= Duration::from_millis(990));
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
    // It goes on though nobody reads.
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

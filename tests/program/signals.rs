//! Signals that ask the relay to end do so at once; no other ends it by accident.

use std::io::{Read, Write, pipe};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::catalogue::STOPPED;
use crate::support::net;
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

//! A drain: sessions go on, new ones are refused, and the process ends with the last session.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{DRAINED, draining, on};
use crate::support::catalogue::STOPPED;
use crate::support::net::{self, End};
use crate::support::{PATIENCE, STARTED, Start};

#[test]
fn a_draining_relay_keeps_its_sessions_refuses_new_ones_and_ends_with_the_last() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let (mut requester, mut target) = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    let second = relay.session(&listener);
    relay.log.expect_all(&STARTED, 2);

    relay.signal(Signal::QUIT);
    relay.log.expect_text(&draining(2));
    assert!(TcpStream::connect(relay.address()).is_err());
    let bytes = net::random(1, 100_000);
    net::assert_passes(&mut requester, &mut target, &bytes);
    net::end(second);
    relay.log.expect(34, 2);
    relay.assert_alive();
    net::assert_passes(&mut target, &mut requester, &bytes);

    requester.shutdown(Shutdown::Write).unwrap();
    assert_eq!(net::read_all(&mut target).1, End::Clean);
    target.write_all(b"a last reply").unwrap();
    drop(target);
    assert_eq!(net::read_all(&mut requester), (b"a last reply".to_vec(), End::Clean));
    relay.log.expect(34, 1);
    relay.log.expect_text(DRAINED);
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn a_drain_without_a_session_ends_at_once() {
    let mut relay = Start::to(net::address(&net::listen())).start();
    relay.signal(Signal::QUIT);
    relay.log.expect_text(&draining(0));
    relay.log.expect_text(DRAINED);
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn a_second_drain_signal_stops_the_relay() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let (mut requester, mut target) = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    relay.signal(Signal::QUIT);
    relay.log.expect_text(&draining(1));
    relay.signal(Signal::QUIT);
    relay.log.expect_text(STOPPED);
    assert_eq!(relay.wait().code(), Some(0));
    for stream in [&mut requester, &mut target] {
        assert_eq!(net::read_all(stream), (Vec::new(), End::Reset));
    }
}

#[test]
fn a_drain_takes_no_longer_than_the_sessions_own_timeouts() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(1).start();
    let start = Instant::now();
    let _session = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    relay.signal(Signal::QUIT);
    relay.log.expect_text(&draining(1));
    let took = relay.log.expect(24, 1).at - start;
    assert!(took >= Duration::from_secs(1) && took < PATIENCE / 4, "{took:?}");
    relay.log.expect_text(DRAINED);
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn the_backlog_of_a_socket_passed_in_is_left_for_the_next_process() {
    let (target, listener) = (net::listen(), net::listen());
    let mut relay = on(&listener, net::address(&target));
    relay.freeze();
    let mut waiting = relay.connect();
    relay.signal(Signal::QUIT);
    relay.thaw();
    assert_eq!(relay.wait().code(), Some(0));
    // The test has the socket as well, and plays the next process.
    let mut accepted = net::accept(&listener);
    net::assert_passes(&mut waiting, &mut accepted, b"not lost");
    relay.log.expect_text(&draining(0));
    relay.log.expect_text(DRAINED);
}

#[test]
fn connections_in_the_backlog_before_the_drain_are_served() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    relay.freeze();
    let mut waiting: Vec<_> = (0..100).map(|_| relay.connect()).collect();
    relay.signal(Signal::QUIT);
    relay.thaw();
    for requester in &mut waiting {
        let mut target = net::accept(&listener);
        // The test does not know which of the requesters this session serves.
        target.write_all(b"served").unwrap();
        drop(target);
        let _ = requester.shutdown(Shutdown::Write);
    }
    for requester in &mut waiting {
        assert_eq!(net::read_all(requester).0, b"served");
    }
    assert_eq!(relay.wait().code(), Some(0));
}

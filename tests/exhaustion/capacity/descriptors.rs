//! A lack of descriptors: as many sessions as fit are served, and the next one as soon as one has ended.

use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Resource;

use super::{open, relaying};
use crate::checks::{accept_failed, assert_does_not_spin, sockets};
use crate::support::catalogue::message;
use crate::support::faults::Faults;
use crate::support::net::{self, End};
use crate::support::{Relay, Start, eventually, process};

/// Tests an even and an odd number of descriptors for sessions, which take two each. The number that the relay
/// inherits from the tests decides which of the two limits leaves an even number.
#[test]
fn with_60_descriptors_in_all_as_many_as_fit_are_served_and_the_rest_are_served_later_or_dropped() {
    for all in [60, 61] {
        serve_with_descriptors(all);
    }
}

fn serve_with_descriptors(all: u16) {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).faults(Faults::new().descriptors(all.into())).start();
    let idle = sockets(&relay);
    serves_or_drops_each(&mut relay, &listener, all.into());
    eventually("all sessions are gone", || sockets(&relay) == idle);
    process::settle(relay.pid);
    relay.log.pending();
    fills_up_and_rests(&mut relay, &listener, all.into());
    serves_again(&relay, &listener, idle);
}

/// Connects more requesters than there are descriptors for. The relay serves each of them in turn, or drops it
/// with message 19.
fn serves_or_drops_each(relay: &mut Relay, listener: &TcpListener, all: usize) {
    let requesters: Vec<_> = (0..40_u16)
        .map(|number| {
            let mut requester = relay.connect();
            requester.write_all(&number.to_le_bytes()).unwrap();
            requester
        })
        .collect();
    let mut served = 0;
    // Each session that ends makes room for a waiting requester. When only one descriptor is left, the requester
    // takes it, and the relay logs message 19 because it has none for the target.
    let mut dropped = 0;
    while served + dropped < requesters.len() {
        let line = relay.log.line().text;
        if relaying(&line) {
            let mut target = net::accept(listener);
            let number = net::read_exactly(&mut target, 2);
            let number = u16::from_le_bytes([number[0], number[1]]);
            let mut requester = &requesters[usize::from(number)];
            target.write_all(&number.to_be_bytes()).unwrap();
            drop(target);
            assert_eq!(net::read_exactly(&mut requester, 2), number.to_be_bytes());
            requester.shutdown(Shutdown::Write).unwrap();
            served += 1;
        } else if line == message(19, 0) {
            dropped += 1;
        }
    }
    assert!(served >= (all - process::descriptors(relay.pid).len()) / 2, "{dropped} were dropped");
}

/// Opens as many sessions at once as there are descriptors for, and connects more requesters. The relay goes on
/// with the sessions, logs the lack of descriptors at most once, and rests.
fn fills_up_and_rests(relay: &mut Relay, listener: &TcpListener, all: usize) {
    let room = all - process::descriptors(relay.pid).len();
    let mut sessions = open(relay, listener, room / 2);
    let mut waiting: Vec<_> = (0..5).map(|_| relay.connect()).collect();
    let short = accept_failed(Errno::MFILE);
    // With one descriptor left, the relay drops the waiting requesters one by one. With none, they wait on.
    while !waiting.is_empty() {
        let line = relay.log.line().text;
        if line == message(19, 0) {
            waiting.remove(0);
        }
        if line == short {
            break;
        }
    }
    assert_does_not_spin(relay);
    assert!(relay.log.pending().iter().all(|line| line.text != short), "logged twice");
    for (requester, target) in &mut sessions {
        net::assert_passes(requester, target, b"those inside");
    }
    // The relay gets descriptors back while requesters still wait.
    drop(sessions);
}

/// Asserts that the relay serves again once it has descriptors.
fn serves_again(relay: &Relay, listener: &TcpListener, idle: usize) {
    let turn_all_away = || {
        while net::readable_within(listener, Duration::ZERO) {
            net::turn_away(listener);
        }
    };
    eventually("all sessions are gone", || {
        turn_all_away();
        sockets(relay) == idle
    });
    process::settle(relay.pid);
    turn_all_away();
    relay.assert_relays(listener);
}

#[test]
fn a_lack_of_descriptors_is_logged_only_when_a_requester_waits_for_one() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let end = process::next_descriptors(relay.pid).nth(4).unwrap();
    process::limit(relay.pid, Resource::Nofile, Some(end.into()));
    // All connect at once, so that the relay tries to accept a third when it has taken the two.
    relay.freeze();
    let inside: Vec<_> = (0..2).map(|_| relay.connect()).collect();
    relay.thaw();
    for serial in 1..=inside.len() as u64 {
        relay.log.wait(26, serial);
    }
    process::settle(relay.pid);
    relay.log.pending();
    let short = accept_failed(Errno::MFILE);
    assert!(!relay.log.seen().contains(&short), "no requester was waiting");

    let _third = relay.connect();
    while relay.log.line().text != short {}
}

/// If only the timer resumed accepting, each requester would wait for its next expiry.
#[test]
fn a_session_that_ends_lets_the_next_one_in_at_once() {
    const WAITING: u32 = 20;
    let by_timer = WAITING * Duration::from_millis(100);
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let end = process::next_descriptors(relay.pid).nth(2).unwrap();
    process::limit(relay.pid, Resource::Nofile, Some(end.into()));
    // A busy machine may be slow once, but not in every attempt.
    let in_time = (0..5).any(|_| {
        relay.freeze();
        let waiting: Vec<_> = (0..WAITING).map(|_| relay.connect()).collect();
        relay.thaw();
        let start = Instant::now();
        for _ in &waiting {
            let mut target = net::accept(&listener);
            target.write_all(b"served").unwrap();
            net::reset(target);
        }
        let taken = start.elapsed();
        for mut requester in waiting {
            assert_eq!(net::read_all(&mut requester), (b"served".to_vec(), End::Reset));
        }
        relay.log.pending();
        taken < by_timer / 2
    });
    assert!(in_time, "each waits for the timer");
}

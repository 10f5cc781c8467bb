//! A relay at its limits, and with many sessions: no session suffers from another.

mod churn;
mod descriptors;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Resource;

use crate::checks::sockets;
use crate::support::net::{self, End, Silent};
use crate::support::{Relay, STARTED, Start, eventually, process};

const POOL: usize = 500;

/// Returns whether the line reports that a session relays.
fn relaying(line: &str) -> bool {
    line.ends_with("target-to-requester channel is now active.")
}

/// Opens sessions one after the other, and waits until all relay.
#[track_caller]
fn open(relay: &mut Relay, listener: &TcpListener, count: usize) -> Vec<(TcpStream, TcpStream)> {
    let sessions: Vec<_> = (0..count).map(|_| relay.session(listener)).collect();
    for _ in 0..count {
        while !relaying(&relay.log.line().text) {}
    }
    sessions
}

#[test]
fn sessions_aborted_in_every_phase_leave_room_for_exactly_500() {
    const EACH: usize = 20;
    let silent = Silent::new();
    let mut relay = Start::to(silent.address()).connect_timeout(3).idle_timeout(60).start();
    let idle = sockets(&relay);

    // Aborts while they connect.
    let connecting: Vec<_> = (0..EACH).map(|_| relay.connect()).collect();
    for serial in 1..=EACH as u64 {
        relay.log.wait(26, serial);
    }
    for (number, requester) in connecting.into_iter().enumerate() {
        if number % 2 == 0 { net::reset(requester) } else { drop(requester) }
    }
    let listener = silent.wake();
    eventually("the sessions aborted while connecting are gone", || {
        while net::readable_within(&listener, Duration::ZERO) {
            drop(listener.accept());
        }
        sockets(&relay) == idle
    });
    relay.log.pending();

    // Aborts while they relay: silent, with bytes under way to a stopped reader, and half-closed by either side.
    let mut sessions = open(&mut relay, &listener, POOL);
    let mut aborted = 0;
    for (number, (mut requester, mut target)) in sessions.drain(POOL - 5 * EACH..).enumerate() {
        match number % 5 {
            0 => {}
            1 => {
                requester.set_nonblocking(true).unwrap();
                while requester.write(&[7; 16_000]).is_ok() {}
            }
            2 => {
                target.set_nonblocking(true).unwrap();
                while target.write(&[7; 16_000]).is_ok() {}
            }
            3 => requester.shutdown(Shutdown::Write).unwrap(),
            _ => target.shutdown(Shutdown::Write).unwrap(),
        }
        let (dies, stays) = if number % 2 == 0 { (requester, target) } else { (target, requester) };
        net::reset(dies);
        // The other side closes without reading.
        aborted += 1;
        drop(stays);
    }
    eventually("their slots are free", || sockets(&relay) == idle + 2 * (POOL - aborted));
    relay.log.pending();

    // Exactly the aborted number gets in, and one more does not.
    sessions.extend(open(&mut relay, &listener, aborted));
    let mut one_too_many = relay.connect();
    relay.log.expect_all(&[16, 18, 21], 0);
    assert_eq!(net::read_all(&mut one_too_many), (Vec::new(), End::Reset));
    for (number, (requester, target)) in (0_u16..).zip(&mut sessions) {
        net::assert_passes(requester, target, &number.to_le_bytes());
        net::assert_passes(target, requester, &number.to_be_bytes());
    }
}

#[test]
fn greedy_streams_leave_a_ping_its_turn() {
    const GREEDY: usize = 8;
    const PINGS: usize = 300;
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let greedy = open(&mut relay, &listener, GREEDY);
    let (mut requester, mut target) = open(&mut relay, &listener, 1).remove(0);
    let moved = AtomicUsize::new(0);
    // Counts the bytes that the greedy streams move during a ping. Unlike time, a busy machine hardly changes it.
    let mut others = thread::scope(|scope| {
        for (reader, writer) in &greedy {
            let moved = &moved;
            scope.spawn(move || {
                let mut writer = writer;
                while writer.write_all(&[7; 16_000]).is_ok() {}
            });
            scope.spawn(move || {
                let (mut reader, mut chunk) = (reader, vec![0; 65_536]);
                while let Ok(count @ 1..) = net::uninterrupted(|| reader.read(&mut chunk)) {
                    moved.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
        let _cut = net::Cut(&greedy);
        let moved = || moved.load(Ordering::Relaxed);
        eventually("the greedy ones flow", || moved() > 32 << 20);
        (0..PINGS)
            .map(|_| {
                let start = moved();
                net::assert_passes(&mut requester, &mut target, b"ping");
                net::assert_passes(&mut target, &mut requester, b"pong");
                moved() - start
            })
            .collect::<Vec<_>>()
    });
    others.sort_unstable();
    let (median, p99) = (others[PINGS / 2], others[PINGS * 99 / 100]);
    // If a ping waited for the shares of all greedy streams, the median would be at least 32 MiB. An idle machine
    // shows an eighth of a MiB. A busy one runs the greedy streams while the ping's two ends wait.
    assert!(median < 16 << 20 && p99 < 64 << 20, "the median is {} KiB, p99 {}", median >> 10, p99 >> 10);
}

#[test]
fn memory_for_500_sessions_buffers_is_all_that_500_sessions_take() {
    const BUF: usize = 4000;
    // The allocator's overhead for each buffer, and its rounding when it asks the kernel for memory.
    const ALLOCATOR: usize = POOL * 2 * 16 + (256 << 10);
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).buf(BUF).start();
    process::settle(relay.pid);
    let open_before = sockets(&relay);
    let idle = usize::try_from(process::address_space(relay.pid)).unwrap();
    let most = idle + POOL * 2 * BUF + ALLOCATOR;
    process::limit(relay.pid, Resource::As, Some(most as u64));
    let mut sessions = open(&mut relay, &listener, POOL);
    for (number, (requester, target)) in (0_u64..).zip(&mut sessions) {
        let bytes = net::random(number, 20_000);
        net::assert_passes(requester, target, &bytes);
        net::assert_passes(target, requester, &bytes);
    }
    relay.log.pending();
    drop(relay.connect());
    relay.log.expect_all(&[16, 18, 21], 0);
    // The memory that these sessions free serves the next 500.
    drop(sessions);
    eventually("all sessions are gone", || sockets(&relay) == open_before);
    relay.log.pending();
    let mut sessions = open(&mut relay, &listener, POOL);
    let (requester, target) = sessions.last_mut().unwrap();
    net::assert_passes(requester, target, b"the last of them");
}

#[test]
fn five_hundred_silent_requesters_cost_no_processor_time_and_time_out_together() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(2).start();
    let sessions = open(&mut relay, &listener, POOL);
    let before = process::processor_time(relay.pid);
    let idle = |line: &str| line.ends_with("exceeded the idle timeout and has been terminated.");
    // On a busy machine, the first session is idle before the last one is open.
    let early = relay.log.seen().iter().filter(|line| idle(line)).count();
    for _ in early..POOL {
        while !idle(&relay.log.line().text) {}
    }
    let spent = process::processor_time(relay.pid).saturating_sub(before);
    assert!(spent < Duration::from_millis(500), "waiting and ending took {spent:?}");
    for (requester, target) in sessions {
        assert_eq!(net::read_all(&mut &requester), (Vec::new(), End::Clean));
        assert_eq!(net::read_all(&mut &target), (Vec::new(), End::Clean));
    }
    relay.assert_relays(&listener);
    relay.log.expect_all(&STARTED, POOL as u64 + 1);
}

//! The pool holds 500 sessions, gives out each serial number once, and gets back what a session took.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::support::catalogue::message;
use crate::support::net::{self, End, Silent};
use crate::support::{self, Log, Start, eventually, process};

const POOL: u64 = 500;

/// Waits until message `number` of each of these sessions is in the log.
#[track_caller]
fn wait_for_each(log: &mut Log, number: u8, serials: impl Iterator<Item = u64>) {
    let mut missing: Vec<_> = serials.map(|serial| message(number, serial)).collect();
    while !missing.is_empty() {
        let line = log.line().text;
        missing.retain(|text| *text != line);
    }
}

#[test]
fn the_pool_holds_500_sessions_and_has_room_again_when_one_ends() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let mut sessions: Vec<_> = (0..POOL).map(|_| relay.session(&listener)).collect();
    wait_for_each(&mut relay.log, 37, 1..=POOL);

    let mut one_too_many = relay.connect();
    relay.log.expect_all(&[16, 18, 21], 0);
    assert_eq!(net::read_all(&mut one_too_many), (Vec::new(), End::Reset));
    let mut again = relay.connect();
    relay.log.expect_all(&[16, 18, 21], 0);
    assert_eq!(net::read_all(&mut again), (Vec::new(), End::Reset));

    // One session ends well.
    let (requester, mut target) = sessions.remove(100);
    drop(requester);
    assert_eq!(net::read_all(&mut target), (Vec::new(), End::Clean));
    drop(target);
    relay.log.expect(34, 101);
    sessions.push(relay.session(&listener));
    // The connections that were turned away have used up no serial number.
    relay.log.expect_all(&support::STARTED, POOL + 1);

    // One session is cut.
    let (requester, target) = sessions.remove(200);
    net::reset(target);
    assert_eq!(net::read_all(&mut &requester), (Vec::new(), End::Reset));
    relay.log.expect(38, 202);
    sessions.push(relay.session(&listener));
    relay.log.expect_all(&support::STARTED, POOL + 2);

    // The pool is full again, to the last slot, and every session in it is served.
    drop(relay.connect());
    relay.log.expect_all(&[16, 18, 21], 0);
    for (number, (requester, target)) in (0_u16..).zip(&mut sessions) {
        net::assert_passes(requester, target, &number.to_le_bytes());
        net::assert_passes(target, requester, &number.to_be_bytes());
    }
}

#[test]
fn sessions_that_are_still_connecting_count() {
    let silent = Silent::new();
    let mut relay = Start::to(silent.address()).connect_timeout(3).start();
    let idle = process::descriptors(relay.pid);
    let waiting: Vec<_> = (0..POOL).map(|_| relay.connect()).collect();
    wait_for_each(&mut relay.log, 26, 1..=POOL);
    let one_too_many = relay.connect();
    relay.log.expect_all(&[16, 18, 21], 0);
    wait_for_each(&mut relay.log, 25, 1..=POOL);
    for mut requester in waiting {
        assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    }
    drop(one_too_many);
    eventually("all sockets closed", || process::descriptors(relay.pid) == idle);
    let listener = silent.wake();
    relay.assert_relays(&listener);
}

#[test]
fn five_hundred_requesters_at_once_all_get_in() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    // All connect while the relay is stopped, and no more than the kernel's longest backlog holds.
    let longest_queue = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let all = POOL.min(longest_queue.trim().parse().unwrap());
    relay.freeze();
    let mut requesters: Vec<_> = (0..all).map(|_| relay.connect()).collect();
    for (number, requester) in (0_u16..).zip(&mut requesters) {
        requester.write_all(&number.to_le_bytes()).unwrap();
    }
    relay.thaw();
    let mut seen: Vec<_> = (0..all)
        .map(|_| {
            let mut target = net::accept(&listener);
            let number = net::read_exactly(&mut target, 2);
            (u16::from_le_bytes([number[0], number[1]]), target)
        })
        .collect();
    wait_for_each(&mut relay.log, 37, 1..=all);
    seen.sort_by_key(|(number, _)| *number);
    for ((number, (seen, target)), requester) in (0..).zip(&mut seen).zip(&mut requesters) {
        assert_eq!(*seen, number);
        net::assert_passes(target, requester, &number.to_be_bytes());
    }
}

/// The first byte of a short session in which the target closes first.
const CLOSE_FIRST: u8 = b'c';
/// The first byte of one in which the target closes last.
const CLOSE_LAST: u8 = b'l';
/// The first byte of one that the requester resets.
const CUT: u8 = b'x';

/// Plays the target in a short session.
fn serve_shortly(mut stream: TcpStream) {
    let request = net::read_exactly(&mut stream, 10);
    stream.write_all(&request).unwrap();
    if request[0] == CLOSE_FIRST {
        return;
    }
    // Waits for the end, which is a reset if the requester cuts.
    let _ = stream.read(&mut [0]);
}

/// Plays the requester in a short session.
fn ask_shortly(relay: SocketAddr, number: usize) {
    let request = [CLOSE_FIRST, CLOSE_LAST, CUT][number % 3];
    let mut stream = net::connect(relay);
    stream.write_all(&[request; 10]).unwrap();
    assert_eq!(net::read_exactly(&mut stream, 10), [request; 10]);
    match request {
        CUT => net::reset(stream),
        CLOSE_LAST => {
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(net::read_all(&mut stream), (Vec::new(), End::Clean));
        }
        _ => assert_eq!(net::read_all(&mut stream), (Vec::new(), End::Clean)),
    }
}

/// Runs `count` short sessions, a few at a time.
fn short_sessions(relay: SocketAddr, listener: &TcpListener, count: usize) {
    const AT_A_TIME: usize = 8;
    let share = count / AT_A_TIME;
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(move || (0..share).for_each(|_| serve_shortly(net::accept(listener))));
            scope.spawn(move || (0..share).for_each(|number| ask_shortly(relay, number)));
        }
    });
}

#[test]
fn ten_thousand_sessions_leave_nothing_behind_and_each_has_its_own_number() {
    const WARM_UP: usize = 400;
    const SESSIONS: usize = 10_000;
    const ALL: usize = WARM_UP + SESSIONS;
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();

    // A warm relay has taken all that it keeps for good.
    short_sessions(relay.address(), &listener, WARM_UP);
    process::settle(relay.pid);
    let idle = process::descriptors(relay.pid);
    let memory = process::memory_kib(relay.pid);

    short_sessions(relay.address(), &listener, SESSIONS);
    eventually("all sockets closed", || process::descriptors(relay.pid) == idle);
    process::settle(relay.pid);
    let grown = process::memory_kib(relay.pid).saturating_sub(memory);
    // A few more sessions than before may have run at once. A leak of 27 bytes a session exceeds the bound.
    assert!(grown <= 256, "{grown} KiB are left behind");

    // Each session has eight lines, and the thread that reads the log may not have got them all yet.
    let mut allocated = 0;
    let mut ended = vec![0; ALL];
    for _ in 0..8 * ALL {
        let line = relay.log.line().text;
        if line == message(26, allocated + 1) {
            allocated += 1;
        }
        for number in [34, 38] {
            let Some(serial) = serial_of(&line, number) else {
                continue;
            };
            ended[usize::try_from(serial).unwrap() - 1] += 1;
        }
    }
    assert_eq!(allocated, ALL as u64);
    assert!(ended.iter().all(|times| *times == 1));
    assert!(relay.log.pending().is_empty());
}

/// Returns the serial number in this line; `None`: the line is not message `number`.
fn serial_of(line: &str, number: u8) -> Option<u64> {
    let text = message(number, 0);
    let (before, after) = text.split_once(" 0 ").unwrap();
    line.strip_prefix(before)?.strip_suffix(after)?.trim().parse().ok()
}

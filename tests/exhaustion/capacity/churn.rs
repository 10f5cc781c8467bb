//! Sessions that come and go: no byte of one reaches another.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::checks::sockets;
use crate::support::net::{self, End};
use crate::support::{Start, eventually, process};

/// Returns the bytes that one side of the session with this identity sends. No other session sends the same.
fn words(identity: u64, from_target: bool) -> Vec<u8> {
    let seed = identity * 2 + u64::from(from_target);
    let length = usize::try_from(seed.wrapping_mul(7919) % 30_000).unwrap() + 1;
    net::random(seed, length)
}

/// Plays the target. It reads the requester's identity, then answers with the words of that identity, or resets.
/// It checks that it receives a prefix of that requester's words.
fn serve(mut stream: TcpStream) {
    let mut identity = [0; 8];
    if stream.read_exact(&mut identity).is_err() {
        // The requester was gone before it sent its identity.
        return;
    }
    let identity = u64::from_le_bytes(identity);
    let (asked, answer) = (words(identity, false), words(identity, true));
    let mut answering = stream.try_clone().unwrap();
    let cuts = identity.is_multiple_of(7);
    thread::scope(|scope| {
        scope.spawn(move || {
            // Fails when the requester resets.
            let _ = answering.write_all(&answer);
            let _ = answering.shutdown(Shutdown::Write);
        });
        if cuts {
            let mut some = vec![0; asked.len() / 2];
            if stream.read_exact(&mut some).is_ok() {
                net::assert_same(&some, &asked[..some.len()]);
            }
            net::reset(stream);
            return;
        }
        let (heard, end) = net::read_all(&mut stream);
        net::assert_same(&heard, &asked[..heard.len()]);
        assert!(end == End::Reset || heard.len() == asked.len(), "a clean end of a stream that was cut");
    });
}

/// Plays the requester.
fn ask(relay: SocketAddr, identity: u64) {
    let mut stream = net::connect(relay);
    let (asked, answer) = (words(identity, false), words(identity, true));
    let mut asking = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Both fail when the target resets.
            let _ = asking.write_all(&identity.to_le_bytes()).and_then(|()| asking.write_all(&asked));
            if !identity.is_multiple_of(5) {
                let _ = asking.shutdown(Shutdown::Write);
            }
        });
        if identity.is_multiple_of(5) {
            // It resets in the middle of the answer.
            let mut some = vec![0; answer.len() / 2];
            if stream.read_exact(&mut some).is_ok() {
                net::assert_same(&some, &answer[..some.len()]);
            }
            net::reset(stream);
            return;
        }
        let (heard, end) = net::read_all(&mut stream);
        net::assert_same(&heard, &answer[..heard.len()]);
        assert!(end == End::Reset || heard.len() == answer.len(), "a clean end of a stream that was cut");
    });
}

/// Lets sessions come and go, some by EOF and some by a reset, a few dozen at a time. No byte may reach another
/// session.
fn churn(time: Duration, buf: usize) {
    const AT_A_TIME: usize = 16;
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).buf(buf).start();
    relay.assert_relays(&listener);
    process::settle(relay.pid);
    let idle = sockets(&relay);
    let address = relay.address();
    let next = AtomicU64::new(1);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::scope(|targets| {
                while !over.load(Ordering::Relaxed) {
                    if net::readable_within(&listener, Duration::from_millis(20)) {
                        let stream = net::accept(&listener);
                        targets.spawn(move || serve(stream));
                    }
                }
            });
        });
        let requesters: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                scope.spawn(|| {
                    let start = Instant::now();
                    while start.elapsed() < time {
                        ask(address, next.fetch_add(1, Ordering::Relaxed));
                    }
                })
            })
            .collect();
        let results: Vec<_> = requesters.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
    let count = next.load(Ordering::Relaxed) - 1;
    assert!(count >= 20, "only {count} sessions");
    eventually("all sockets closed", || sockets(&relay) == idle);
    process::settle(relay.pid);
    relay.assert_alive();
    let lines = relay.log.pending();
    let ended = |line: &str| line.contains(" terminated due to ");
    let ended = lines.iter().filter(|line| ended(&line.text)).count();
    assert_eq!(ended as u64, count + 1, "each session ends once");
}

#[test]
fn in_a_churn_of_sessions_no_byte_reaches_a_wrong_one() {
    thread::scope(|scope| {
        scope.spawn(|| churn(Duration::from_secs(3), 100));
        scope.spawn(|| churn(Duration::from_secs(3), 4000));
    });
}

#[test]
#[ignore = "a minute and more"]
fn in_a_long_churn_of_sessions_no_byte_reaches_a_wrong_one() {
    churn(Duration::from_secs(40), 1460);
    churn(Duration::from_secs(40), 4000);
}

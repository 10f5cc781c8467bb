//! A restart that no requester notices.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use super::{DRAINED, draining, on};
use crate::support::{PATIENCE, Relay, STARTED, eventually, net, process};

/// Requesters that connect all the time, each for one reply.
struct Load {
    stop: AtomicBool,
    served: AtomicUsize,
}

impl Load {
    fn new() -> Self {
        Self { stop: AtomicBool::new(false), served: AtomicUsize::new(0) }
    }

    /// Connects until the load stops. Returns the outcome of each request that was not served.
    fn run(&self, to: SocketAddr) -> Vec<String> {
        let mut failures = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            match Self::request(to) {
                Ok(reply) if reply == b"request" => {
                    self.served.fetch_add(1, Ordering::Relaxed);
                }
                other => failures.push(format!("{other:?}")),
            }
        }
        failures
    }

    fn request(to: SocketAddr) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"request")?;
        stream.shutdown(Shutdown::Write)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        Ok(reply)
    }

    /// Waits until the relay has served some more requests.
    #[track_caller]
    fn goes_on(&self) {
        let before = self.served.load(Ordering::Relaxed);
        eventually("more served", || self.served.load(Ordering::Relaxed) > before + 20);
    }
}

/// Keeps the socket open through restarts under load, each done by `restart`. Asserts that every requester is
/// served.
#[track_caller]
fn assert_unnoticed(restart: impl Fn(Relay, &dyn Fn() -> Relay, &Load) -> Relay) {
    let target = net::echo();
    let socket = net::listen();
    let address = net::address(&socket);
    let load = Load::new();
    let failures: Vec<String> = thread::scope(|scope| {
        let requesters: Vec<_> = (0..3).map(|_| scope.spawn(|| load.run(address))).collect();
        let start = || on(&socket, target);
        let mut relay = start();
        for _ in 0..5 {
            load.goes_on();
            relay = restart(relay, &start, &load);
        }
        load.goes_on();
        load.stop.store(true, Ordering::Relaxed);
        requesters.into_iter().flat_map(|requester| requester.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} of {:?}: {failures:?}", failures.len(), load.served);
}

#[test]
fn connections_wait_after_the_old_relay_has_drained_until_the_next_one_starts() {
    assert_unnoticed(|mut old, start, _| {
        old.signal(Signal::QUIT);
        assert_eq!(old.wait().code(), Some(0));
        start()
    });
}

#[test]
fn the_next_relay_serves_while_the_old_one_drains() {
    assert_unnoticed(|mut old, start, load| {
        let new = start();
        old.signal(Signal::QUIT);
        load.goes_on();
        assert_eq!(old.wait().code(), Some(0));
        new
    });
}

#[test]
fn a_long_session_outlives_the_restart() {
    let target = net::listen();
    let socket = net::listen();
    let mut old = on(&socket, net::address(&target));
    let (mut requester, mut far) = old.session(&target);
    old.log.expect_all(&STARTED, 1);
    old.signal(Signal::QUIT);
    old.log.expect_text(&draining(1));
    let new = on(&socket, net::address(&target));
    for _ in 0..20 {
        new.assert_relays(&target);
        net::assert_passes(&mut requester, &mut far, b"still here");
    }
    net::end((requester, far));
    old.log.expect(34, 1);
    old.log.expect_text(DRAINED);
    assert_eq!(old.wait().code(), Some(0));
}

#[test]
fn a_draining_relay_does_not_wake_up_for_connections_that_its_successor_serves() {
    let target = net::listen();
    let socket = net::listen();
    let mut old = on(&socket, net::address(&target));
    let _session = old.session(&target);
    old.log.expect_all(&STARTED, 1);
    old.signal(Signal::QUIT);
    old.log.expect_text(&draining(1));
    let new = on(&socket, net::address(&target));
    process::settle(old.pid);
    let before = process::sleeps(old.pid);
    for _ in 0..20 {
        new.assert_relays(&target);
    }
    assert_eq!(process::sleeps(old.pid), before);
}

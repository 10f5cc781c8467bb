//! Faults of the loop itself: waiting, closing, signals, and the header that names the requester.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;

use super::calls::{CLOSE, CONTROL_READ, EPOLL_WAIT, GET_SOCK_NAME, RECEIVE, SEND, SIGNAL_WAKE};
use super::host::{Rule, start_with};
use super::stage::{Stage, descriptors, hosted, session};
use super::{MIB, for_each};
use crate::checks::sockets;
use crate::support::net;
use crate::support::{Start, eventually, process};

#[test]
fn a_wait_that_fails_is_logged_and_ends_the_relay() {
    for_each([Errno::BADF, Errno::INVAL, Errno::FAULT], |errno| {
        let (mut stage, mut faults) = hosted("", 0);
        faults.begin(&[Rule::fail(EPOLL_WAIT, errno)]);
        // The filter does not apply to the wait that is under way. These bytes end it, unless a timer already has.
        let _ = stage.bystander.requester.write_all(b"the last");
        let line = stage.relay.log.line().text;
        let number = errno.raw_os_error();
        assert!(line.starts_with(&format!("Error number {number} was returned while waiting")), "{line}");
        assert_eq!(stage.relay.wait().code(), Some(1));
        assert_eq!(stage.relay.log.rest(), [""; 0]);
    });
}

#[test]
fn a_close_that_fails_stops_nothing() {
    for_each([Errno::IO, Errno::INTR], |errno| {
        let mut stage = Stage::real(1, |_, descriptors| {
            [descriptors.requester, descriptors.target]
                .map(|descriptor| Rule::fail(CLOSE, errno).when(0, descriptor))
                .into()
        });
        let victim = stage.victims.remove(0);
        drop(victim);
        stage.relay.log.expect(34, 2);
        // The filtered close leaves both descriptors open.
        stage.open += 2;
        stage.assert_over();
    });
}

#[test]
fn a_wake_up_that_fails_does_not_lose_the_signal() {
    let rules = [
        Rule::fail(RECEIVE, Errno::AGAIN).when(2, CONTROL_READ),
        Rule::fail(RECEIVE, Errno::NOMEM).when(2, CONTROL_READ),
        Rule::fail(SEND, Errno::AGAIN).when(2, SIGNAL_WAKE.0).when(3, SIGNAL_WAKE.1),
    ];
    for_each(rules, |rule| {
        let mut stage = Stage::real(0, |_, _| Vec::new());
        drop(stage.relay);
        stage.relay = start_with(Start::to(net::address(&stage.listener)), std::slice::from_ref(&rule));
        stage.bystander = session(&mut stage.relay, &stage.listener, 1);
        process::settle(stage.relay.pid);
        stage.relay.signal(Signal::USR1);
        assert!(stage.relay.log.line().text.starts_with("Status: 1 session"), "{rule:?}");
        assert!(stage.relay.log.line().text.starts_with("Status: session handler serial number 1"));
        stage.assert_undisturbed();
        stage.relay.signal(Signal::TERM);
        assert_eq!(stage.relay.wait().code(), Some(0), "{rule:?}");
    });
}

#[test]
fn signals_interrupt_no_stream() {
    // A signal can cut a splice short while the socket still has room. No event reports that room later.
    let mut stage = Stage::real(4, |_, _| Vec::new());
    let pid = stage.relay.pid;
    let over = AtomicBool::new(false);
    let bytes = net::random(5, 32 * MIB);
    let streams = std::mem::take(&mut stage.victims);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                rustix::process::kill_process(pid, Signal::USR1).unwrap();
                thread::yield_now();
            }
        });
        let readers: Vec<_> = streams
            .iter()
            .map(|stream| {
                scope.spawn(|| (&stream.target).write_all(&bytes).unwrap());
                scope.spawn(|| {
                    // A reader that pauses fills the queues, and a full pipe takes long to splice.
                    for part in bytes.chunks(MIB) {
                        net::assert_same(&net::read_exactly(&mut &stream.requester, MIB), part);
                        thread::sleep(Duration::from_millis(2));
                    }
                })
            })
            .collect();
        let heard: Vec<_> = readers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        assert!(heard.iter().all(Result::is_ok), "a stream stands still");
    });
    drop(streams);
    eventually("all sockets closed", || sockets(&stage.relay) == stage.open);
    process::settle(pid);
    let rest = stage.relay.log.pending();
    let rest: Vec<_> =
        rest.iter().map(|line| &*line.text).filter(|line| !line.starts_with("Status: ")).collect();
    // The relay may have dropped lines, and said so.
    assert!(rest.iter().all(|line| line.ends_with(" read closure.") || line.contains("dropped")), "{rest:?}");
    stage.relay.assert_relays(&stage.listener);
}

#[test]
fn a_proxy_header_says_so_where_the_addresses_of_the_connection_are_unknown() {
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (options, header) in
        [("--proxy-protocol v1", &b"PROXY UNKNOWN\r\n"[..]), ("--proxy-protocol v2", &local[..])]
    {
        let listener = net::listen();
        let rule = Rule::fail(GET_SOCK_NAME, Errno::NOBUFS).when(0, descriptors(0).requester);
        let relay = start_with(Start::to(net::address(&listener)).options(options), &[rule]);
        let (mut requester, mut target) = relay.session(&listener);
        requester.write_all(b"words").unwrap();
        assert_eq!(net::read_exactly(&mut target, header.len() + 5), [header, b"words"].concat());
        net::assert_passes(&mut target, &mut requester, b"an answer");
    }
}

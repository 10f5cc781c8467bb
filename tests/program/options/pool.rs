//! `--sessions` and `--max-per-source`: the size of the pool, and one source's share of it.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use super::assert_dropped;
use crate::support::line::with;
use crate::support::net;
use crate::support::{Relay, STARTED, Start, TCPRELAY};

/// Opens a session from this address, and checks that it relays.
#[track_caller]
fn session(relay: &Relay, from: Ipv4Addr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    net::relayed(relay.connect_from(from), listener)
}

#[test]
fn a_source_has_its_share_of_the_pool_and_no_more() {
    let (one, other) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).options("--max-per-source 2").start();
    let first = session(&relay, one, &listener);
    let _second = session(&relay, one, &listener);

    assert_dropped(relay.connect_from(one));
    let text = "Connection from 127.0.0.1 was dropped because it has 2 sessions in the pool already.";
    relay.log.wait_text(text);
    let _others = [session(&relay, other, &listener), session(&relay, other, &listener)];
    assert_dropped(relay.connect_from(other));

    net::end(first);
    relay.log.wait(34, 1);
    let _third = session(&relay, one, &listener);
    assert_dropped(relay.connect_from(one));
}

#[test]
fn a_pool_of_a_given_size_logs_its_needs_and_holds_that_many_sessions() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).options("--sessions 2").start();
    let needs = relay.log.line().text;
    assert!(needs.starts_with("A pool of 2 sessions needs up to "), "{needs}");
    // Each session needs two sockets and two buffers. The relay itself needs little more.
    let figures: Vec<u64> = needs.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [_, descriptors, kib] = figures[..] else { panic!("{needs}") };
    assert!((4..=64).contains(&descriptors) && (17..=18).contains(&kib), "{needs}");
    let first = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    let _second = relay.session(&listener);
    relay.log.expect_all(&STARTED, 2);
    assert_dropped(relay.connect());
    relay.log.expect_all(&[16, 18, 21], 0);
    net::end(first);
    relay.log.expect(34, 1);
    relay.assert_relays(&listener);
}

#[test]
fn a_pool_beyond_the_limits_of_the_process_is_refused() {
    let cases = [
        ("ulimit -n 100; exec \"$0\" \"$@\"", "descriptors, and the limit is 100."),
        ("ulimit -v 20000; exec \"$0\" \"$@\"", "KiB of memory, and the limit is 20000 KiB."),
    ];
    for (script, reason) in cases {
        let arguments = with(&["--sessions", "9000"]);
        let output = Command::new("sh").args(["-c", script, TCPRELAY]).args(arguments).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(stdout.starts_with("Error: --sessions 9000 needs "), "{stdout}");
        assert!(stdout.ends_with(&format!("{reason}\n")), "{stdout}");
        assert_eq!((stdout.lines().count(), output.status.code()), (1, Some(2)), "{stdout}");
    }
}

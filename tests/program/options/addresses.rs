//! `--bind` and `--source`, the addresses of the relay, and `--reuse-port`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use rustix::process::Signal;

use super::assert_dropped;
use crate::support::catalogue::filled;
use crate::support::line::with;
use crate::support::net::{self, has_ipv6};
use crate::support::{Relay, STARTED, Start, run};

fn at(ip: [u8; 4], relay: &Relay) -> SocketAddr {
    (ip, relay.port).into()
}

/// Returns message `number` about a requester at this address.
fn of_requester(number: u8, requester: &str) -> String {
    filled(number, &[("<rqst IP addr>", requester)])
}

#[test]
fn bound_to_both_families_it_treats_ipv4_requesters_as_ipv4() {
    if !has_ipv6() {
        return;
    }
    let listener = net::listen();
    let options = "--bind :: --allow ::1/128";
    let mut relay = Start::to(net::address(&listener)).acl("127.0.0.1/32").options(options).start();
    relay.assert_relays(&listener);
    relay.log.expect_all(&STARTED, 1);
    relay.log.expect(34, 1);

    let mut six = net::connect((Ipv6Addr::LOCALHOST, relay.port).into());
    net::assert_passes(&mut six, &mut net::accept(&listener), b"hello");
    relay.log.expect_text(&of_requester(16, "::1"));
    relay.log.expect_text(&of_requester(18, "::1"));

    let stranger = relay.connect_from([127, 0, 0, 2].into());
    assert_dropped(stranger);
    relay.log.wait_text(&of_requester(16, "127.0.0.2"));
    relay.log.wait_text(&of_requester(17, "127.0.0.2"));
}

#[test]
fn bound_to_one_address_it_does_not_listen_at_another() {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).options("--bind 127.0.0.2").start();
    let mut requester = net::connect(at([127, 0, 0, 2], &relay));
    net::assert_passes(&mut requester, &mut net::accept(&listener), b"hello");
    assert!(TcpStream::connect(at([127, 0, 0, 1], &relay)).is_err());
}

#[test]
#[cfg(target_os = "linux")]
fn the_broadcast_address_of_a_network_cannot_be_bound_to() {
    let refusal = "Error: --bind cannot be \"127.255.255.255\". It takes an address to listen on, not that of a \
                   broadcast.\n";
    for check in [&[][..], &["--check"]] {
        let run = run(&[check, &with(&["--bind", "127.255.255.255"])].concat());
        assert_eq!((run.stdout.as_str(), run.code), (refusal, Some(2)));
    }
}

#[test]
fn the_target_sees_the_source_address() {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).options("--source 127.0.0.9").start();
    let _requester = relay.connect();
    let target = net::accept(&listener);
    assert_eq!(target.peer_addr().unwrap().ip(), Ipv4Addr::new(127, 0, 0, 9));
}

#[test]
fn one_of_two_relays_that_share_a_port_may_end_and_be_replaced() {
    let listener = net::listen();
    let start = Start::to(net::address(&listener)).options("--reuse-port");
    let mut first = start.start();
    let mut second = start.start_on(first.port).unwrap();

    // The kernel chooses a relay for each connection by its addresses and ports. Sooner or later, each gets one.
    let mut served = BTreeSet::new();
    while served.len() < 2 {
        first.assert_relays(&listener);
        for (name, relay) in [("first", &mut first), ("second", &mut second)] {
            if !relay.log.pending().is_empty() {
                served.insert(name);
            }
        }
    }

    second.signal(Signal::KILL);
    second.wait();
    for _ in 0..20 {
        first.assert_relays(&listener);
    }
    // Another relay can take the place of the one that ended.
    let second = start.start_on(first.port).unwrap();
    drop(first);
    second.assert_relays(&listener);
}

#[test]
fn a_port_is_shared_only_if_every_relay_asks_for_it() {
    let start = Start::to(([127, 0, 0, 1], 9).into());
    let relay = start.start();
    let sharing = Start::to(([127, 0, 0, 1], 9).into()).options("--reuse-port");
    assert!(sharing.start_on(relay.port).is_none());
}

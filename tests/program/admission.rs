//! Connections that are the relay's own, limits per source, and addresses, on networks that each test makes for
//! itself.
//!
//! A network namespace needs root, and some tests need kernel modules as well (NAT, veth). Without them a test
//! prints the reason and checks nothing.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::process::Command;

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use rustix::process::Signal;

use crate::support::catalogue::{filled, message};
use crate::support::net::{self, End};
use crate::support::skip::skipped;
use crate::support::{Relay, Run, STARTED, Start, eventually, free_port, run};

/// Moves this test's thread, and the processes that it starts from now on, to a new network namespace, which
/// `script` sets up. Returns false, and prints the reason, where that is impossible.
#[must_use]
pub fn own_network(script: &str) -> bool {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        skipped(format_args!("no network namespace can be had here: {error}"));
        return false;
    }
    let script = format!("set -e; ip link set lo up; {script}");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    if !output.status.success() {
        skipped(format_args!("the network cannot be set up: {}", String::from_utf8_lossy(&output.stderr)));
    }
    output.status.success()
}

/// Asks for the status, reads the log up to its first line, and returns the number of live sessions there.
#[track_caller]
fn live_sessions(relay: &mut Relay) -> usize {
    relay.signal(Signal::USR1);
    loop {
        let line = relay.log.line().text;
        if let Some(rest) = line.strip_prefix("Status: ") {
            return rest.split(' ').next().unwrap().parse().unwrap();
        }
    }
}

fn in_zone(address: &str, interface: &str, port: u16) -> SocketAddr {
    let ip: Ipv6Addr = address.parse().unwrap();
    SocketAddrV6::new(ip, port, 0, if_nametoindex(interface).unwrap()).into()
}

// ----- the relay's own connections

#[test]
fn a_target_that_leads_back_here_by_address_translation_does_not_fill_the_pool() {
    let relay_port = free_port();
    let script = format!(
        "ip addr add 198.51.100.1/32 dev lo
         ip route add 192.0.2.0/24 dev lo src 198.51.100.1
         nft 'table ip nat {{ chain output {{ type nat hook output priority -100;
                              ip daddr 192.0.2.1 tcp dport 80 redirect to :{relay_port}; }}; }}'"
    );
    if !own_network(&script) {
        return;
    }
    let target: SocketAddr = ([192, 0, 2, 1], 80).into();
    for options in ["", "--bind ::", "--source 127.0.0.1", "--source requester"] {
        let start = Start::to(target).options(&format!("--sessions 100 {options}"));
        let mut relay = start.start_on(relay_port).unwrap();
        let mut requester = relay.connect();
        let mut allocated = 0;
        let own = " was dropped because it is this relay's own: target 192.0.2.1 leads back here.";
        loop {
            let line = relay.log.line().text;
            allocated += usize::from(line.contains(" was allocated "));
            assert!(!line.contains("pool exhausted"));
            if line.ends_with(own) {
                break;
            }
        }
        assert_eq!(allocated, 50, "with {options:?}");
        assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
        eventually("all sessions ended", || live_sessions(&mut relay) == 0);
    }
}

#[test]
fn a_loop_over_two_relays_ends_by_itself() {
    let (one, other) = (free_port(), free_port());
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut relays =
        [(one, other), (other, one)].map(|(port, target)| Start::to(at(target)).start_on(port).unwrap());
    let mut requester = relays[0].connect();
    requester.write_all(b"round and round").unwrap();
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    for relay in &mut relays {
        eventually("all sessions ended", || live_sessions(relay) == 0);
    }
    let exhausted = message(21, 0);
    let dropped = relays.iter().flat_map(|relay| relay.log.seen()).filter(|line| **line == exhausted).count();
    assert_eq!(dropped, 1);
}

#[test]
fn where_ports_are_few_no_requester_is_taken_for_an_own_connection() {
    const SESSIONS: u64 = 600;
    if !own_network("echo 20000 20999 > /proc/sys/net/ipv4/ip_local_port_range") {
        return;
    }
    let listener = net::listen_on(([127, 0, 0, 1], 9000).into(), 1024);
    let mut relay = Start::to(net::address(&listener)).options("--sessions 600").start_on(8000).unwrap();
    relay.log.line();
    let mut sessions = Vec::new();
    for serial in 1..=SESSIONS {
        let (mut requester, mut target) = relay.session(&listener);
        net::assert_passes(&mut requester, &mut target, &serial.to_le_bytes());
        relay.log.expect_all(&STARTED, serial);
        sessions.push((requester, target));
    }
}

// ----- sources

#[test]
fn requesters_of_one_ipv6_network_are_one_source() {
    let addresses = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::1", "2001:db8:0:2::1"];
    let script = addresses.map(|address| format!("ip addr add {address}/128 dev lo nodad")).join("\n");
    if !own_network(&script) {
        return;
    }
    let listener = net::listen();
    let options = "--bind :: --max-per-source 1";
    let mut relay = Start::to(net::address(&listener)).options(options).start();
    let to = (Ipv6Addr::LOCALHOST, relay.port).into();
    let from = |address: &str| net::connect_between(Some(SocketAddr::new(address.parse().unwrap(), 0)), to);

    let mut first = from(addresses[0]);
    net::assert_passes(&mut first, &mut net::accept(&listener), b"first");
    assert_eq!(net::read_all(&mut from(addresses[1])), (Vec::new(), End::Reset));
    let text =
        "Connection from 2001:db8:0:1:ffff::1 was dropped because it has 1 sessions in the pool already.";
    while relay.log.line().text != text {}
    let mut other = from(addresses[2]);
    net::assert_passes(&mut other, &mut net::accept(&listener), b"other");
}

// ----- addresses

#[test]
fn a_target_leads_back_only_if_an_interface_has_it_though_every_address_can_be_bound() {
    let script = "ip link add a0 type veth peer name a1
                  ip link set a0 up
                  ip addr add 10.5.0.1/24 dev a0
                  ip addr add 10.5.0.2/24 dev a0
                  ip addr add 2001:db8::1/64 dev a0 nodad
                  ip addr add 2001:db8::2/64 dev a0 nodad
                  ip route add default dev a0
                  ip -6 route add default dev a0
                  echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind
                  echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind";
    if !own_network(script) {
        return;
    }
    let cases = [
        ("0.0.0.0", "127.0.0.1", true),
        ("0.0.0.0", "10.5.0.1", true),
        // A secondary address of the same network.
        ("0.0.0.0", "10.5.0.2", true),
        ("0.0.0.0", "10.5.0.3", false),
        ("0.0.0.0", "192.0.2.1", false),
        ("0.0.0.0", "2001:db8::1", false),
        ("::", "::1", true),
        ("::", "2001:db8::1", true),
        ("::", "2001:db8::2", true),
        ("::", "2001:db8::3", false),
        ("::", "2001:db8:9::1", false),
        ("::", "10.5.0.2", true),
        ("::", "10.5.0.3", false),
    ];
    for (bind, target, own) in cases {
        let Run { stdout, code } =
            run(&["--check", "--bind", bind, "8080", target, "8080", "ANY", "1", "30", "1", "4000"]);
        assert_eq!(stdout.ends_with("is where this relay itself listens.\n"), own, "{target}: {stdout}");
        assert_eq!(code, Some(if own { 2 } else { 0 }), "{target}: {stdout}");
    }
    // Both options take an address that no interface has yet, because nonlocal binding is allowed.
    let relay = Start::to(([10, 5, 0, 1], 9).into()).options("--bind 10.5.0.9 --source 10.5.0.8").start();
    drop(relay);
    let directed = run(&["--bind", "10.5.0.255", "8080", "10.5.0.1", "80", "ANY", "1", "30", "1", "4000"]);
    assert!(directed.stdout.starts_with("Error: --bind cannot be \"10.5.0.255\". "), "{}", directed.stdout);
}

#[test]
fn link_local_addresses_are_used_in_their_zones() {
    let script = "ip link add a0 type veth peer name a1
                  for end in a0 a1; do
                      echo 0 > /proc/sys/net/ipv6/conf/$end/addr_gen_mode
                      ip link set $end up
                  done
                  ip addr add fe80::a/64 dev a0 nodad
                  ip addr add fe80::aa/64 dev a0 nodad
                  ip addr add fe80::b/64 dev a1 nodad";
    if !own_network(script) {
        return;
    }
    let listener = net::listen_on(in_zone("fe80::b", "a1", 0), 16);
    let target_port = net::address(&listener).port().to_string();
    let port = free_port();
    let index = if_nametoindex("a0").unwrap();

    // The zone by name, then by index. The requester and the target are at the other end of the wire.
    for zone in ["a0", &index.to_string()] {
        let options = format!("--bind fe80::a%{zone} --source fe80::aa%{zone}");
        let target = format!("fe80::b%{zone}");
        let mut relay = Start::to_host(&target, &target_port).options(&options).start_on(port).unwrap();
        let mut requester = net::connect(in_zone("fe80::a", "a1", port));
        let mut far = net::accept(&listener);
        assert_eq!(far.peer_addr().unwrap().ip(), "fe80::aa".parse::<Ipv6Addr>().unwrap());
        net::assert_passes(&mut requester, &mut far, b"over");
        net::assert_passes(&mut far, &mut requester, b"and back");
        relay.log.expect_text(&filled(16, &[("<rqst IP addr>", "fe80::b")]));
        relay.log.expect_text(&filled(18, &[("<rqst IP addr>", "fe80::b")]));
    }

    let arguments = |options: &[&str], target: &str| {
        let line = [&["--check"], options, &["8080", target, "8080", "ANY", "1", "30", "1", "4000"]].concat();
        run(&line)
    };
    let checked = arguments(&["--bind", "fe80::a%a0", "--source", "fe80::aa%a0"], "fe80::b%a0");
    let zoned = format!("--bind fe80::a%{index} --source fe80::aa%{index} 8080 fe80::b%{index} 8080 ANY");
    assert!(checked.stdout.contains(&zoned), "{}", checked.stdout);
    // In zone a0 the address is the relay's own listener. In zone a1 it is not.
    assert_eq!(arguments(&["--bind", "::"], "fe80::a%a0").code, Some(2));
    assert_eq!(arguments(&["--bind", "::"], "fe80::a%a1").code, Some(0));
    for target in ["fe80::b", "fe80::b%", "fe80::b%0", "fe80::b%a2", "::1%a0", "10.0.0.1%a0"] {
        let refused = arguments(&[], target);
        let line = refused.stdout.lines().next();
        assert_eq!((line, refused.code), (Some(&*message(3, 0)), Some(2)), "{target}");
    }
}

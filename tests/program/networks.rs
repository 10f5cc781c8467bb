//! The relay as a gateway between two networks: the target sees the requester's own address.
//!
//! A network namespace needs root. Without one, a test prints why it is skipped, and proves nothing.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::{iter, thread};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tcprelay::{Config, Entry, Message, Outcome, Relay, Source};

use crate::admission::own_network;
use crate::support::net::{self, End};
use crate::support::{Start, free_port, run};
use crate::ways::{Neighbour, set_up, twins};

/// The networks of a requester, at `10.1.0.2` and `2001:db8:1::2`, and of a target, at `10.2.0.2` and
/// `2001:db8:2::2`. This host connects them.
struct Gateway {
    requester: Neighbour,
    target: Neighbour,
}

/// Sets up the routing on this host as the README says, for both families. Prints a message and returns false
/// where that is impossible.
fn route_as_the_readme_says() -> bool {
    let readme = include_str!("../../README.md");
    let lines = readme.lines().filter_map(|line| line.strip_prefix("ip ")?.strip_suffix("# here"));
    let lines = lines.map(|line| line.replace("sport 80 ", "sport 9000 "));
    let commands: Vec<_> = lines.flat_map(|line| [format!("ip {line}"), format!("ip -6 {line}")]).collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    set_up(&commands.join("\n"))
}

impl Gateway {
    fn new() -> Option<Self> {
        let script = "for wire in wan lan; do
                          ip link add ${wire}0 type veth peer name ${wire}1
                          ip link set ${wire}0 up
                      done
                      ip addr add 10.1.0.1/24 dev wan0
                      ip addr add 10.2.0.1/24 dev lan0
                      ip addr add 2001:db8:1::1/64 dev wan0 nodad
                      ip addr add 2001:db8:2::1/64 dev lan0 nodad
                      ip addr add fe80::1/64 dev wan0 nodad
                      ip addr add fe80::1/64 dev lan0 nodad";
        if !own_network(script) {
            return None;
        }
        let neighbour = |wire: &str, net: u8| {
            let script = format!(
                "ip link set {wire}1 up
                 ip addr add 10.{net}.0.2/24 dev {wire}1
                 ip addr add 2001:db8:{net}::2/64 dev {wire}1 nodad
                 ip addr add fe80::2/64 dev {wire}1 nodad
                 ip route add default via 10.{net}.0.1
                 ip -6 route add default via 2001:db8:{net}::1"
            );
            Neighbour::at(&format!("{wire}1"), &script)
        };
        Some(Self { requester: neighbour("wan", 1)?, target: neighbour("lan", 2)? })
    }

    /// Returns a listener on the target's network.
    fn listen(&self, address: &str) -> TcpListener {
        self.target.run(|| net::listen_on(address.parse().unwrap(), 16))
    }

    /// Connects from the requester's network.
    fn connect(&self, to: &str) -> TcpStream {
        self.requester.run(|| net::connect(to.parse().unwrap()))
    }
}

#[test]
fn the_target_sees_the_requesters_own_address() {
    let Some(gateway) = Gateway::new() else { return };
    if !route_as_the_readme_says() {
        return;
    }
    for (target, to, from, family) in [
        ("10.2.0.2:9000", "10.1.0.1:8000", "10.1.0.2", 4),
        ("[2001:db8:2::2]:9000", "[2001:db8:1::1]:8000", "2001:db8:1::2", 6),
    ] {
        let listener = gateway.listen(target);
        let start = Start::to(target.parse().unwrap());
        let options = "--bind :: --source requester --proxy-protocol v1 --user 65534:65534";
        let start = start.options(options);
        let mut relay = start.start_on(8000).unwrap();
        let mut requester = gateway.connect(to);
        let mut far = net::accept(&listener);
        assert_eq!(far.peer_addr().unwrap().ip().to_string(), from);
        let (own, to) = (requester.local_addr().unwrap(), requester.peer_addr().unwrap());
        let header = format!("PROXY TCP{family} {from} {} {} 8000\r\n", to.ip(), own.port());
        assert_eq!(net::read_exactly(&mut far, header.len()), header.as_bytes());
        net::assert_passes(&mut requester, &mut far, b"there");
        net::assert_passes(&mut far, &mut requester, b"and back");
        drop(requester);
        assert_eq!(net::read_all(&mut far), (Vec::new(), End::Clean));
        drop(far);
        relay.log.wait(34, 1);
    }
}

#[test]
fn without_a_route_back_a_session_ends_as_one_whose_target_does_not_answer() {
    let Some(gateway) = Gateway::new() else { return };
    let listener = gateway.listen("10.2.0.2:9000");
    let start = Start::to(net::address(&listener)).connect_timeout(1).options("--source requester");
    let mut relay = start.start_on(8000).unwrap();
    let mut requester = gateway.connect("10.1.0.1:8000");
    relay.log.wait_text(" has been terminated due to an expired target connection attempt.");
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
}

#[test]
fn a_requester_whose_address_cannot_be_the_source_is_logged_and_reset_and_the_next_is_served() {
    let Some(gateway) = Gateway::new() else { return };
    if !route_as_the_readme_says() {
        return;
    }
    let scope = gateway.requester.run(|| if_nametoindex("wan1").unwrap());
    let link_local = format!("[fe80::1%{scope}]:8000");
    let (four, six) = (gateway.listen("10.2.0.2:9000"), gateway.listen("[2001:db8:2::2]:9000"));
    for (listener, to, reason) in [
        (&four, "[2001:db8:1::1]:8000", "2001:db8:1::2 failed: Address family not supported"),
        (&six, "10.1.0.1:8000", "10.1.0.2 failed: Address family not supported"),
        // The target is not on the link of this address.
        (&six, &link_local, "fe80::2 failed: Cannot assign requested address"),
    ] {
        let target = net::address(listener);
        let start = Start::to(target).options("--bind :: --source requester");
        let mut relay = start.start_on(8000).unwrap();
        let mut requester = gateway.connect(to);
        relay.log.wait_text(&format!("The connection from {reason}"));
        assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
        let to = if target.is_ipv4() { "10.1.0.1:8000" } else { "[2001:db8:1::1]:8000" };
        net::assert_passes(&mut gateway.connect(to), &mut net::accept(listener), b"served");
    }
}

#[test]
fn requesters_of_each_family_get_the_first_target_of_their_family() {
    let Some(gateway) = Gateway::new() else { return };
    if !route_as_the_readme_says() {
        return;
    }
    let (four, six) = (gateway.listen("10.2.0.2:9000"), gateway.listen("[2001:db8:2::2]:9000"));
    let options = "--bind :: --source requester --backup [2001:db8:2::2]";
    let _relay = Start::to(net::address(&four)).options(options).start_on(8000).unwrap();
    // A target rests after a failure of its own, not because a requester's address cannot be the source.
    for _ in 0..2 {
        for (to, listener) in [("[2001:db8:1::1]:8000", &six), ("10.1.0.1:8000", &four)] {
            let mut requester = gateway.connect(to);
            let mut far = net::accept(listener);
            assert_eq!(far.peer_addr().unwrap().ip(), requester.local_addr().unwrap().ip());
            net::assert_passes(&mut requester, &mut far, b"there");
        }
    }
}

#[test]
fn a_backup_of_a_family_that_no_requester_has_is_logged_at_start() {
    let Some(gateway) = Gateway::new() else { return };
    if !route_as_the_readme_says() {
        return;
    }
    let options = "--source requester --backup [2001:db8:2::2]";
    let mut relay = Start::to("10.2.0.2:9000".parse().unwrap()).options(options).start_on(8000).unwrap();
    relay.log.expect_text(
        "Target [2001:db8:2::2]:9000 cannot be tried, because --source requester is of the other address family.",
    );
    assert_eq!(net::read_all(&mut gateway.connect("10.1.0.1:8000")), (Vec::new(), End::Reset));
    relay.log.wait(27, 1);
    let four = gateway.listen("10.2.0.2:9000");
    net::assert_passes(&mut gateway.connect("10.1.0.1:8000"), &mut net::accept(&four), b"served");

    // Where requesters of both families can connect, each has a target.
    let options = format!("--bind :: {options}");
    let mut relay = Start::to("10.2.0.2:9000".parse().unwrap()).options(&options).start_on(8001).unwrap();
    drop(four);
    let six = gateway.listen("[2001:db8:2::2]:9000");
    assert_eq!(net::read_all(&mut gateway.connect("10.1.0.1:8001")), (Vec::new(), End::Reset));
    relay.log.wait(27, 1);
    relay.log.expect_text(
        "The connection from 10.1.0.2 failed: Address family not supported by protocol (error \
                           number 97).",
    );
    let six_requester = &mut gateway.connect("[2001:db8:1::1]:8001");
    net::assert_passes(six_requester, &mut net::accept(&six), b"served");
    let is_excluded = |line: &String| line.contains("cannot be tried");
    assert!(!relay.log.seen().iter().any(is_excluded), "{:?}", relay.log.seen());
}

#[test]
fn a_requester_whose_address_reaches_no_target_makes_none_rest() {
    let Some(gateway) = Gateway::new() else { return };
    if !route_as_the_readme_says() {
        return;
    }
    let listener = gateway.listen("[2001:db8:2::2]:9000");
    let options = "--bind :: --source requester --backup [2001:db8:2::2]:9001";
    let mut relay = Start::to(net::address(&listener)).options(options).start_on(8000).unwrap();
    let scope = gateway.requester.run(|| if_nametoindex("wan1").unwrap());
    let mut link_local = gateway.connect(&format!("[fe80::1%{scope}]:8000"));
    assert_eq!(net::read_all(&mut link_local), (Vec::new(), End::Reset));
    let mut requester = gateway.connect("[2001:db8:1::1]:8000");
    net::assert_passes(&mut requester, &mut net::accept(&listener), b"first");
    relay.log.wait_text("serial number 2 made a successful connection");
    let rests: Vec<_> =
        relay.log.seen().iter().filter(|line| line.contains("Sessions go to other targets first")).collect();
    assert!(rests.is_empty(), "{rests:?}");
}

#[test]
fn a_listener_that_no_requester_of_the_targets_family_can_reach_is_refused() {
    let cases =
        [("0.0.0.0", "2001:db8::7", "IPv6"), ("::1", "192.0.2.7", "IPv4"), ("127.0.0.1", "::1", "IPv6")];
    for (bind, host, family) in cases {
        let port = free_port().to_string();
        let options = ["--source", "requester", "--bind", bind, &port, host];
        let run = run(&[&options[..], &["80", "ANY", "1", "30", "1", "4000"]].concat());
        let takes = format!("an {family} address of this host, as no requester of {bind} has one");
        assert_eq!(run.stdout, format!("Error: --source cannot be \"requester\". It takes {takes}.\n"));
        assert_eq!(run.code, Some(2));
    }
}

/// Returns a listener of the target, and one on this host that intercepts the requester's connections to it.
/// Prints a message and returns None where that is impossible.
fn intercepting(gateway: &Gateway) -> Option<(TcpListener, TcpListener)> {
    let script = "nft 'table ip t { chain prerouting { type filter hook prerouting priority mangle;
                      socket transparent 1 meta mark set 1;
                      iif wan0 tcp dport 9000 tproxy to 127.0.0.1:8000 meta mark set 1; }; }'
                  ip rule add fwmark 1 lookup 100
                  ip route add local default dev lo table 100";
    if !set_up(script) {
        return None;
    }
    // A socket unit with Transparent=yes passes in such a socket.
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 8000)).unwrap();
    SockRef::from(&socket).set_ip_transparent_v4(true).unwrap();
    Some((gateway.listen("10.2.0.2:9000"), socket))
}

#[test]
fn a_gateway_that_intercepts_connections_is_seen_by_neither_side() {
    let Some(gateway) = Gateway::new() else { return };
    let Some((listener, socket)) = intercepting(&gateway) else { return };
    let mut config = Config::new(net::address(&socket), net::address(&listener)).unwrap();
    config.set_acl(Entry::Any).set_source(Some(Source::Requester)).unwrap();
    let relay = Relay::with_listener(config, |_: &Message| (), socket).unwrap();
    let handle = relay.handle();
    let running = thread::spawn(move || relay.run());
    let mut requester = gateway.connect("10.2.0.2:9000");
    let mut far = net::accept(&listener);
    assert_eq!(far.peer_addr().unwrap().ip(), requester.local_addr().unwrap().ip());
    net::assert_passes(&mut requester, &mut far, b"unseen");
    net::assert_passes(&mut far, &mut requester, b"both ways");
    assert_eq!(handle.totals().unwrap().accepted, 1);
    handle.stop();
    assert_eq!(running.join().unwrap().unwrap(), Outcome::Stopped);
}

#[test]
fn a_requester_on_the_port_of_the_relays_own_connection_is_not_taken_for_a_loop() {
    let Some(gateway) = Gateway::new() else { return };
    let Some((listener, transparent)) = intercepting(&gateway) else { return };
    let mut config = Config::new(net::address(&transparent), net::address(&listener)).unwrap();
    // The relay looks for its own connections once half of the pool is taken.
    config.set_acl(Entry::Any).set_source(Some(Source::Requester)).unwrap().set_sessions(4).unwrap();
    let relay = Relay::with_listener(config, |_: &Message| (), transparent).unwrap();
    let handle = relay.handle();
    let running = thread::spawn(move || relay.run());
    let session = |port| {
        let mut requester = gateway.requester.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
            socket.bind(&SocketAddr::from(([10, 1, 0, 2], port)).into()).unwrap();
            socket.connect(&net::address(&listener).into()).unwrap();
            TcpStream::from(socket)
        });
        let mut far = net::accept(&listener);
        net::assert_passes(&mut requester, &mut far, b"unseen");
        let port = far.peer_addr().unwrap().port();
        ((requester, far), port)
    };
    let (_first, _) = session(0);
    let (_second, port) = session(0);
    // The kernel chose this port for the relay, without knowing which ones the requester uses.
    let (_third, _) = session(port);
    handle.stop();
    assert_eq!(running.join().unwrap().unwrap(), Outcome::Stopped);
}

#[test]
fn a_mark_chooses_the_route() {
    let Some(twins) = twins() else { return };
    let script = "ip addr add 10.9.0.1/24 dev a0
                  ip rule add fwmark 7 lookup 100
                  ip route add 10.9.0.0/24 dev b0 src 10.9.0.1 table 100
                  ip rule add iif b0 lookup 100";
    if !set_up(script) {
        return;
    }
    for (options, (_, listener)) in ["", "--mark 7"].iter().zip(&twins) {
        let relay = Start::to(([10, 9, 0, 2], 9000).into()).options(options).start();
        let (mut requester, mut target) = relay.session(listener);
        net::assert_passes(&mut requester, &mut target, b"routed");
    }
}

#[test]
fn a_capture_sees_the_dscp_in_every_packet_to_either_side() {
    let Some(gateway) = Gateway::new() else { return };
    let listener = gateway.listen("10.2.0.2:9000");
    let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
    let captures = [gateway.requester.run(raw), gateway.target.run(raw)];
    let start = Start::to(net::address(&listener)).options("--dscp 46");
    let _relay = start.start_on(8000).unwrap();
    let mut requester = gateway.connect("10.1.0.1:8000");
    let mut far = net::accept(&listener);
    net::assert_passes(&mut requester, &mut far, b"there");
    net::assert_passes(&mut far, &mut requester, b"and back");
    for capture in captures {
        capture.set_nonblocking(true).unwrap();
        let codes: Vec<_> = iter::from_fn(|| next_dscp(&capture)).collect();
        // At least a handshake, bytes and their acknowledgements.
        assert!(codes.len() > 2, "{codes:?}");
        assert!(codes.iter().all(|&code| code == 46), "{codes:?}");
    }
}

/// Returns the DSCP of the next packet, which begins with its IPv4 header. None if no packet is left.
fn next_dscp(mut capture: &Socket) -> Option<u8> {
    let mut packet = [0; 2048];
    let length = capture.read(&mut packet).ok()?;
    Some(packet[..length][1] >> 2)
}

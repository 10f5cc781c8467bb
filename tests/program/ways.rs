//! Routing: marks, DSCP, interfaces and VRFs, on networks that each test makes for itself.
//!
//! A network namespace needs root, and nft its package. Without them, a test prints why it is skipped, and proves
//! nothing.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use tcprelay::cli::{Request, parse};
use tcprelay::{Log, Relay as InProcess};

use crate::admission::own_network;
use crate::support::line::{on, with};
use crate::support::net::{self, End};
use crate::support::skip::skipped;
use crate::support::{STARTED, Start, free_port, run};

/// Another host: a network namespace of its own.
pub struct Neighbour(File);

impl Neighbour {
    /// Returns a neighbour that has this end of a veth pair, set up by the script. Prints a message and returns None
    /// where that is impossible.
    pub fn at(device: &str, script: &str) -> Option<Self> {
        let network = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let neighbour = Self(network.join().unwrap());
        let path = format!("/proc/{}/fd/{}", std::process::id(), neighbour.0.as_raw_fd());
        let moved = Command::new("ip").args(["link", "set", device, "netns", &path]).status().unwrap();
        let script = format!("set -e; ip link set lo up; {script}");
        let is_set_up = moved.success()
            && neighbour.run(|| Command::new("sh").args(["-c", &script]).status().unwrap().success());
        if !is_set_up {
            skipped(format_args!("the neighbour at {device} cannot be set up"));
        }
        is_set_up.then_some(neighbour)
    }

    /// Runs `work` in the neighbour's network.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            there.join().unwrap()
        })
    }
}

/// Returns the number of packets that the rule with this comment has counted.
fn counted(comment: &str) -> u64 {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    let rules = String::from_utf8(output.stdout).unwrap();
    let rule = rules.lines().find(|line| line.contains(comment)).unwrap_or_else(|| panic!("{rules}"));
    rule.split_once("packets ").unwrap().1.split(' ').next().unwrap().parse().unwrap()
}

/// Returns a command that sets up these rules for outgoing packets.
fn count_rules(rules: &str) -> String {
    let rules = rules.trim().replace('\n', ";");
    format!("nft 'table inet t {{ chain output {{ type filter hook output priority 0; {rules}; }}; }}'")
}

#[test]
fn packets_to_the_target_have_the_mark_and_those_to_the_requester_have_none() {
    let script = count_rules(
        "tcp dport 9000 meta mark 7 counter comment marked
         tcp dport 9000 meta mark != 7 counter comment unmarked
         tcp sport 8000 meta mark 7 counter comment back",
    );
    if !own_network(&script) {
        return;
    }
    let listener = net::listen_on(([127, 0, 0, 1], 9000).into(), 16);
    for options in ["--mark 7", "--mark 7 --user 65534:65534"] {
        let before = counted("marked");
        let relay = Start::to(net::address(&listener)).options(options).start_on(8000).unwrap();
        let (mut requester, mut target) = relay.session(&listener);
        net::assert_passes(&mut requester, &mut target, b"marked");
        net::assert_passes(&mut target, &mut requester, b"not marked");
        assert!(counted("marked") > before + 1, "{options}");
    }
    assert_eq!((counted("unmarked"), counted("back")), (0, 0));
}

#[test]
fn packets_to_both_sides_have_the_dscp() {
    let script = count_rules(
        "tcp dport 9000 ip dscp 10 counter comment to4
         tcp dport 9000 ip dscp != 10 counter comment not_to4
         tcp sport 8000 ip dscp 10 counter comment back4
         tcp sport 8000 ip dscp != 10 counter comment not_back4
         tcp dport 9000 ip6 dscp 10 counter comment to6
         tcp dport 9000 ip6 dscp != 10 counter comment not_to6
         tcp sport 8000 ip6 dscp 10 counter comment back6
         tcp sport 8000 ip6 dscp != 10 counter comment not_back6",
    );
    if !own_network(&script) {
        return;
    }
    let listeners =
        ["127.0.0.1", "::1"].map(|host| net::listen_on(SocketAddr::new(host.parse().unwrap(), 9000), 16));
    // An IPv4 listener, IPv4 at a listener of both families, and IPv6.
    for (target, bind, requester) in
        [(0, "", "127.0.0.1"), (0, "--bind ::", "127.0.0.1"), (1, "--bind ::", "::1")]
    {
        let listener = &listeners[target];
        let options = format!("--dscp 10 {bind}");
        let relay = Start::to(net::address(listener)).options(&options).start_on(8000).unwrap();
        let mut requester = net::connect(SocketAddr::new(requester.parse().unwrap(), 8000));
        let mut target = net::accept(listener);
        net::assert_passes(&mut requester, &mut target, b"to");
        net::assert_passes(&mut target, &mut requester, b"back");
        drop(relay);
    }
    for rule in ["to4", "back4", "to6", "back6"] {
        assert!(counted(&format!("\"{rule}\"")) > 1, "{rule}");
        assert_eq!(counted(&format!("\"not_{rule}\"")), 0, "not {rule}");
    }
}

/// Interfaces with addresses: d0 has two of each family, and e0 others.
const INTERFACES: &str = "for name in d e; do
                              ip link add ${name}0 type veth peer name ${name}1
                              ip link set ${name}0 up
                              ip link set ${name}1 up
                          done
                          ip addr add 10.9.0.1/24 dev d0
                          ip addr add 10.9.0.2/24 dev d0
                          ip addr add 2001:db8:9::1/64 dev d0 nodad
                          ip addr add 2001:db8:9::2/64 dev d0 nodad
                          ip addr add 10.8.0.1/24 dev e0
                          ip addr add 2001:db8:8::1/64 dev e0 nodad";

#[test]
fn a_relay_on_an_interface_listens_nowhere_else() {
    if !own_network(INTERFACES) {
        return;
    }
    let listener = net::listen();
    for (port, interface, served, refused) in [
        (8000, "lo", ["127.0.0.1", "127.3.2.1"], ["10.9.0.1", "10.8.0.1"]),
        // This host's own connections come in on the interface that has the address.
        (8001, "d0", ["10.9.0.1", "10.9.0.2"], ["127.0.0.1", "10.8.0.1"]),
    ] {
        let options = format!("--bind-interface {interface}");
        let _relay = Start::to(net::address(&listener)).options(&options).start_on(port).unwrap();
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
        for ip in served {
            net::assert_passes(&mut net::connect(at(ip)), &mut net::accept(&listener), b"served");
        }
        for ip in refused {
            let refused = std::net::TcpStream::connect(at(ip)).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{ip} on {interface}");
        }
    }
}

#[test]
fn on_an_interface_the_relays_own_port_is_a_loop_only_at_addresses_of_that_interface() {
    if !own_network(INTERFACES) {
        return;
    }
    for (interface, target, is_loop) in [
        ("lo", "127.0.0.1", true),
        ("lo", "127.3.2.1", true),
        ("lo", "::1", true),
        ("lo", "10.9.0.1", false),
        ("d0", "10.9.0.1", true),
        ("d0", "10.9.0.2", true),
        ("d0", "2001:db8:9::1", true),
        ("d0", "2001:db8:9::2", true),
        ("d0", "10.8.0.1", false),
        ("d0", "2001:db8:8::1", false),
        ("d0", "127.0.0.1", false),
    ] {
        let options = ["--check", "--bind", "::", "--bind-interface", interface, "8000", target];
        let run = run(&[&options[..], &["8000", "ANY", "1", "30", "1", "4000"]].concat());
        let expected = if is_loop { Some(2) } else { Some(0) };
        assert_eq!(run.code, expected, "{target} on {interface}: {}", run.stdout);
    }
}

#[test]
fn an_inherited_socket_is_on_the_interface_or_is_refused() {
    if !own_network("") {
        return;
    }
    // Each call has its own port, because a child that another test forks may hold a closed socket for a moment.
    let listen = |port: u16, interface: Option<&[u8]>| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        socket2::SockRef::from(&listener).bind_device(interface).unwrap();
        let line = format!("--bind-interface lo {port} 192.0.2.7 80 ANY 1 30 0 4000");
        let Ok(Request::Run(config)) = parse(line.split(' ').map(Into::into)) else { panic!() };
        let log = Log::stdout(config.log_style()).unwrap();
        InProcess::with_listener(config, log, listener).map_err(|error| error.to_string())
    };
    let refusal =
        "Error: --bind-interface lo contradicts the socket passed in, which listens on 127.0.0.1:8000.";
    assert_eq!(listen(8000, None).unwrap_err(), refusal);
    assert!(listen(8001, Some(b"lo")).is_ok());
}

/// Returns two neighbours with the same address, behind the interfaces a0 and b0. Prints a message and returns None
/// where that is impossible.
pub fn twins() -> Option<[(Neighbour, TcpListener); 2]> {
    let script = "for wire in a b; do
                      ip link add ${wire}0 type veth peer name ${wire}1
                      ip link set ${wire}0 up
                  done";
    if !own_network(script) {
        return None;
    }
    let twin = |wire: &str| {
        let script = format!("ip link set {wire}1 up; ip addr add 10.9.0.2/24 dev {wire}1");
        let neighbour = Neighbour::at(&format!("{wire}1"), &script)?;
        let listener = neighbour.run(|| net::listen_on(([10, 9, 0, 2], 9000).into(), 16));
        Some((neighbour, listener))
    };
    Some([twin("a")?, twin("b")?])
}

/// Runs a script in this test's own network. Prints a message and returns false if it fails.
pub fn set_up(script: &str) -> bool {
    let done = Command::new("sh").args(["-ec", script]).status().unwrap().success();
    if !done {
        skipped(format_args!("not possible here: {script}"));
    }
    done
}

#[test]
fn the_target_is_reached_through_the_interface_that_was_chosen() {
    let Some(twins) = twins() else { return };
    if !set_up("ip addr add 10.9.0.1/24 dev a0; ip addr add 10.9.0.1/24 dev b0") {
        return;
    }
    for (interface, (_, listener)) in ["a0", "b0"].iter().zip(&twins) {
        let options = format!("--source-interface {interface}");
        let mut relay = Start::to(([10, 9, 0, 2], 9000).into()).options(&options).start();
        let mut requester = relay.connect();
        let mut target = net::accept(listener);
        net::assert_passes(&mut requester, &mut target, b"through");
        // Without its interface, a session ends, and the log has the reason.
        drop((requester, target));
        if *interface == "b0" {
            assert!(set_up("ip link del b0"));
            relay.log.wait(34, 1);
            let mut requester = relay.connect();
            relay.log.wait(27, 2);
            let reason = "The connection from 127.0.0.1 failed: No such device (error number 19).";
            relay.log.expect_text(reason);
            assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
        }
    }
}

#[test]
fn a_vrf_has_its_own_target() {
    let Some(twins) = twins() else { return };
    let script = "ip link add red type vrf table 10
                  ip link set red up
                  ip link set b0 master red
                  ip addr add 10.9.0.1/24 dev a0
                  ip addr add 10.9.0.1/24 dev b0";
    if !set_up(script) {
        return;
    }
    for (options, (_, listener)) in ["", "--source-interface red"].iter().zip(&twins) {
        let relay = Start::to(([10, 9, 0, 2], 9000).into()).options(options).start();
        let mut requester = relay.connect();
        net::assert_passes(&mut requester, &mut net::accept(listener), b"through");
    }
    // This relay serves requesters of the VRF alone.
    let _relay =
        Start::to(([10, 9, 0, 2], 9000).into()).options("--bind-interface red").start_on(8000).unwrap();
    let try_from =
        |neighbour: &Neighbour| neighbour.run(|| std::net::TcpStream::connect("10.9.0.1:8000").is_ok());
    assert_eq!(twins.each_ref().map(|(neighbour, _)| try_from(neighbour)), [false, true]);
}

#[test]
fn an_interface_that_is_not_there_is_refused() {
    for option in ["--source-interface", "--bind-interface"] {
        let run = run(&with(&[option, "no-such-if"]));
        let takes = "an interface of this host: see 'ip link'";
        assert_eq!(run.stdout, format!("Error: {option} cannot be \"no-such-if\". It takes {takes}.\n"));
        assert_eq!(run.code, Some(2));
    }
}

#[test]
fn an_option_that_is_not_permitted_is_refused_with_the_cure() {
    let cure = "CAP_NET_ADMIN: start as root, run 'setcap cap_net_admin=+ep' on the program, or set \
                AmbientCapabilities=CAP_NET_ADMIN in its unit.";
    assert_not_permitted("--mark", "7", cure);
    assert_not_permitted("--source", "requester", cure);
}

/// Asserts that the option is refused without privileges, and that the refusal names the ones that it needs.
#[track_caller]
pub fn assert_not_permitted(option: &str, value: &str, needs: &str) {
    let program = crate::support::TCPRELAY;
    let output = Command::new("setpriv")
        .args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", program])
        .args(on(free_port(), &[option, value]))
        .output();
    match output {
        Ok(output) if output.status.code() != Some(127) => {
            let text = "cannot be used: Operation not permitted (error number 1). It needs";
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert_eq!(stdout, format!("Error: {option} {text} {needs}\n"));
            assert_eq!(output.status.code(), Some(1));
        }
        other => skipped(format_args!("setpriv cannot be run here: {other:?}")),
    }
}

#[test]
fn with_a_dscp_and_a_source_interface_a_session_relays_as_usual() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).options("--dscp 46 --source-interface lo").start();
    relay.assert_relays(&listener);
    relay.log.expect_all(&STARTED, 1);
}

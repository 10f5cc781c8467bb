//! Each option, as one who tries it for the first time would.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write, pipe};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, SystemTime};

use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::catalogue::{STOPPED, filled, message};
use crate::support::faults::Faults;
use crate::support::net::{self, End};
use crate::support::{self, Log, Relay, STARTED, Start, TCPRELAY, eventually, run, run_with};

/// A command line that is right. Should it ever be run, it ends by itself.
const RIGHT: [&str; 8] = ["8080", "192.0.2.7", "80", "ANY", "1", "30", "1", "4000"];

/// [`RIGHT`] behind these options.
fn with<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [options, &RIGHT].concat()
}

fn at(ip: [u8; 4], relay: &Relay) -> SocketAddr {
    (ip, relay.port).into()
}

/// The message about a requester with this address.
fn of_requester(number: u8, requester: &str) -> String {
    filled(number, &[("<rqst IP addr>", requester)])
}

/// Whether this machine has IPv6; one that has not has nothing to show of it.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// Starts a relay whose lines no `Start` knows, and which are therefore read here.
fn start_with_log(start: Start) -> (Relay, Log) {
    let (reader, writer) = pipe().unwrap();
    (start.stdout(writer).start(), Log::of(reader))
}

/// A requester of either family.
#[track_caller]
fn connect_to(address: SocketAddr) -> TcpStream {
    let requester = TcpStream::connect_timeout(&address, support::PATIENCE).unwrap();
    requester.set_read_timeout(Some(support::PATIENCE)).unwrap();
    requester
}

/// A session that has been seen to relay.
#[track_caller]
fn session(relay: &Relay, from: Ipv4Addr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut requester = relay.connect_from(from);
    let mut target = net::accept(listener);
    net::assert_passes(&mut requester, &mut target, b"hello");
    (requester, target)
}

/// The relay has sent nothing and reset it.
#[track_caller]
fn assert_dropped(mut requester: TcpStream) {
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
}

/// Ends a session in an order that leaves no doubt about who ended it: the requester.
#[track_caller]
fn end((requester, mut target): (TcpStream, TcpStream)) {
    drop(requester);
    assert_eq!(net::read_all(&mut target).1, End::Clean);
}

/// The next line that begins like this.
#[track_caller]
fn wait_for(log: &mut Log, beginning: &str) -> String {
    loop {
        let line = log.line().text;
        if line.starts_with(beginning) {
            return line;
        }
    }
}

// ----- --bind and --source

#[test]
fn bound_to_both_families_it_takes_requesters_of_ipv4_for_what_they_are() {
    if !has_ipv6() {
        return;
    }
    let listener = net::listen();
    let options = "--bind :: --allow ::1/128";
    let mut relay = Start::to(net::address(&listener)).acl("127.0.0.1/32").options(options).start();
    relay.assert_relays(&listener);
    relay.log.expect_all(&STARTED, 1);
    relay.log.expect(34, 1);

    let mut six = connect_to((Ipv6Addr::LOCALHOST, relay.port).into());
    net::assert_passes(&mut six, &mut net::accept(&listener), b"hello");
    relay.log.expect_text(&of_requester(16, "::1"));
    relay.log.expect_text(&of_requester(18, "::1"));

    let stranger = relay.connect_from([127, 0, 0, 2].into());
    assert_dropped(stranger);
    wait_for(&mut relay.log, &of_requester(16, "127.0.0.2"));
    wait_for(&mut relay.log, &of_requester(17, "127.0.0.2"));
}

#[test]
fn bound_to_one_address_it_is_not_reached_at_another() {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).options("--bind 127.0.0.2").start();
    let mut requester = net::connect(at([127, 0, 0, 2], &relay));
    net::assert_passes(&mut requester, &mut net::accept(&listener), b"hello");
    assert!(TcpStream::connect(at([127, 0, 0, 1], &relay)).is_err());
}

#[test]
#[cfg(target_os = "linux")]
fn the_broadcast_address_of_a_network_cannot_be_bound_to() {
    let told = "Error: --bind cannot be \"127.255.255.255\". It takes an address to listen on, not that of a \
                broadcast.\n";
    for check in [&[][..], &["--check"]] {
        let run = run(&[check, &with(&["--bind", "127.255.255.255"])].concat());
        assert_eq!((run.stdout.as_str(), run.code), (told, Some(2)));
    }
}

#[test]
fn the_target_sees_the_source() {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).options("--source 127.0.0.9").start();
    let _requester = relay.connect();
    let target = net::accept(&listener);
    assert_eq!(target.peer_addr().unwrap().ip(), Ipv4Addr::new(127, 0, 0, 9));
}

// ----- --reuse-port

#[test]
fn of_two_that_share_a_port_one_may_go() {
    let listener = net::listen();
    let start = Start::to(net::address(&listener)).options("--reuse-port");
    let mut first = start.start();
    let mut second = start.start_on(first.port).unwrap();

    // Who gets a connection is the kernel's choice, by its ports: sooner or later each gets one.
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
    // The place of the one that went can be taken again.
    let second = start.start_on(first.port).unwrap();
    drop(first);
    second.assert_relays(&listener);
}

#[test]
fn a_port_is_shared_only_by_those_that_all_agree() {
    let start = Start::to(([127, 0, 0, 1], 9).into());
    let relay = start.start();
    let sharing = Start::to(([127, 0, 0, 1], 9).into()).options("--reuse-port");
    assert!(sharing.start_on(relay.port).is_none());
}

// ----- --allow, --deny, --max-per-source, --sessions

#[test]
fn a_deny_wins_and_then_the_acl_or_any_allow_admits() {
    let listener = net::listen();
    let options = "--allow 127.0.1.0/24 --allow 127.0.2.7/32 --deny 127.0.1.9/32 --deny 127.0.0.128/25";
    let mut relay = Start::to(net::address(&listener)).acl("127.0.0.0/24").options(options).start();
    let cases = [
        ([127, 0, 0, 1], true),
        ([127, 0, 0, 200], false),
        ([127, 0, 1, 1], true),
        ([127, 0, 1, 9], false),
        ([127, 0, 2, 7], true),
        ([127, 0, 2, 8], false),
    ];
    for (ip, admitted) in cases {
        let ip = Ipv4Addr::from(ip);
        let mut requester = relay.connect_from(ip);
        wait_for(&mut relay.log, &of_requester(16, &ip.to_string()));
        let verdict = relay.log.line().text;
        assert_eq!(verdict, of_requester(if admitted { 18 } else { 17 }, &ip.to_string()));
        if admitted {
            net::assert_passes(&mut requester, &mut net::accept(&listener), b"hello");
        } else {
            assert_dropped(requester);
        }
    }
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
    wait_for(&mut relay.log, text);
    let _others = [session(&relay, other, &listener), session(&relay, other, &listener)];
    assert_dropped(relay.connect_from(other));

    end(first);
    relay.log.wait(34, 1);
    let _third = session(&relay, one, &listener);
    assert_dropped(relay.connect_from(one));
}

#[test]
fn a_pool_of_any_size_says_what_it_needs_and_holds_what_it_was_told() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).options("--sessions 2").start();
    let needs = relay.log.line().text;
    assert!(needs.starts_with("A pool of 2 sessions needs up to "), "{needs}");
    // Two sockets and two buffers each, and little on top.
    let figures: Vec<u64> = needs.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [_, descriptors, kib] = figures[..] else { panic!("{needs}") };
    assert!((4..=64).contains(&descriptors) && (17..=18).contains(&kib), "{needs}");
    let first = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    let _second = relay.session(&listener);
    relay.log.expect_all(&STARTED, 2);
    assert_dropped(relay.connect());
    relay.log.expect_all(&[16, 18, 21], 0);
    end(first);
    relay.log.expect(34, 1);
    relay.assert_relays(&listener);
}

#[test]
fn a_pool_that_the_limits_cannot_give_is_refused() {
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

// ----- --proxy-protocol

/// Reads a header, and nothing behind it: it must be there though the requester has sent nothing.
#[track_caller]
fn read_header(target: &mut TcpStream) -> Option<ProxiedAddress> {
    let mut bytes = Vec::new();
    loop {
        match ProxyHeader::parse(&bytes, ParseConfig::default()) {
            Ok((header, length)) => {
                assert_eq!(length, bytes.len());
                return header.proxied_address().cloned();
            }
            Err(Error::BufferTooShort) => bytes.extend(net::read_exactly(target, 1)),
            Err(error) => panic!("{error:?} in {bytes:?}"),
        }
    }
}

#[test]
fn the_target_is_told_who_connects_before_the_first_byte() {
    if !has_ipv6() {
        return;
    }
    let listener = net::listen();
    // Alike for the least buffer, for both versions and both families.
    for options in ["--bind :: --proxy-protocol v1", "--bind :: --proxy-protocol v2"] {
        let relay = Start::to(net::address(&listener)).buf(100).options(options).start();
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let mut requester = connect_to(SocketAddr::new(ip, relay.port));
            let mut target = net::accept(&listener);
            let told = read_header(&mut target).unwrap();
            assert_eq!(told.source, requester.local_addr().unwrap());
            assert_eq!(told.destination, requester.peer_addr().unwrap());

            let bytes = net::random(1, 10_000);
            net::assert_passes(&mut requester, &mut target, &bytes);
            // To the requester goes nothing but what the target sends.
            net::assert_passes(&mut target, &mut requester, &bytes);
            drop(requester);
            assert_eq!(net::read_all(&mut target), (Vec::new(), End::Clean));
        }
    }
}

#[test]
fn the_header_comes_first_though_bytes_wait_already() {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).buf(100).options("--proxy-protocol v1").start();
    relay.freeze();
    let mut requester = relay.connect();
    let bytes = net::random(2, 5_000);
    requester.write_all(&bytes).unwrap();
    drop(requester);
    relay.thaw();
    let mut target = net::accept(&listener);
    read_header(&mut target).unwrap();
    let (got, end) = net::read_all(&mut target);
    net::assert_same(&got, &bytes);
    assert_eq!(end, End::Clean);
}

// ----- the log

/// An object of the log.
#[track_caller]
fn object(log: &mut Log) -> Value {
    let line = log.line().text;
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_line_of_json_tells_what_the_text_tells_and_more() {
    let listener = net::listen();
    let start = Start::to(net::address(&listener)).options("--bind 127.0.0.1 --log-format json");
    let (relay, mut log) = start_with_log(start);
    let active = object(&mut log);
    assert_eq!((&active["number"], &active["event"]), (&15.into(), &"active".into()));
    assert_eq!(active.get("time"), None);
    let listening = object(&mut log);
    assert_eq!(listening["event"], "listening");
    assert_eq!(
        (&listening["address"], &listening["port"]),
        (&"127.0.0.1".into(), &relay.port.into()),
        "{listening}"
    );

    let (mut requester, mut target) = relay.session(&listener);
    net::assert_passes(&mut requester, &mut target, b"12345");
    net::assert_passes(&mut target, &mut requester, b"123");
    let address = requester.local_addr().unwrap();
    drop(requester);
    assert_eq!(net::read_all(&mut target).1, End::Clean);
    drop(target);
    for number in [16, 18, 26, 28, 31, 33, 37, 34] {
        let line = object(&mut log);
        assert_eq!(line["number"], number);
        assert_eq!(line["message"], message(number, 1));
        assert_eq!(line["requester"], "127.0.0.1");
        assert_eq!(line["requester_port"], address.port());
        if number >= 26 {
            assert_eq!(line["serial"], 1);
            assert_eq!(line["target"], "127.0.0.1");
            assert_eq!(line["target_port"], net::address(&listener).port());
        }
        if number == 34 {
            assert_eq!(line["bytes_to_target"], 5);
            assert_eq!(line["bytes_to_requester"], 3);
            assert_eq!(line["cause"], "requester_read_closure");
            assert!(line["duration_ms"].as_u64().unwrap() < 60_000);
        }
    }
    relay.signal(Signal::TERM);
    let last = object(&mut log);
    assert_eq!((&last["event"], &last["message"]), (&"stop_signal".into(), &STOPPED.into()));
    assert!(log.rest().is_empty());
}

#[test]
fn a_line_of_json_carries_the_error_number() {
    let (_refusing, target) = net::refusing();
    let (relay, mut log) = start_with_log(Start::to(target).options("--log-format json"));
    assert_dropped(relay.connect());
    let refused = loop {
        let line = object(&mut log);
        if line["event"] == "target_refused" {
            break line;
        }
    };
    assert_eq!(refused["errno"], rustix::io::Errno::CONNREFUSED.raw_os_error());
    assert_eq!(refused["cause"], "target_refused");
}

#[test]
fn what_keeps_it_from_starting_is_json_too() {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = net::address(&taken).port().to_string();
    let mut arguments = with(&["--log-format", "json"]);
    arguments[2] = &port;
    let run = run(&arguments);
    let line: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stdout));
    assert_eq!((&line["number"], run.code), (&12.into(), Some(1)));
}

#[test]
fn with_timestamps_every_line_begins_with_the_time_it_was_said() {
    let before = SystemTime::now() - Duration::from_secs(1);
    let listener = net::listen();
    let (relay, mut log) = start_with_log(Start::to(net::address(&listener)).options("--timestamps"));
    relay.assert_relays(&listener);
    relay.signal(Signal::TERM);
    let lines = log.rest();
    assert!(lines.len() > STARTED.len());
    for line in &lines {
        let (time, text) = line.split_once(' ').unwrap();
        assert_eq!(time.len(), "2000-01-01T00:00:00.000Z".len(), "{line}");
        let time = humantime::parse_rfc3339(time).unwrap();
        assert!(before <= time && time <= SystemTime::now(), "{line}");
        assert!(text.starts_with(|first: char| first.is_ascii_uppercase()), "{line}");
    }
    assert!(lines.last().unwrap().ends_with(STOPPED));
}

#[test]
fn with_timestamps_an_object_has_the_time() {
    let (_refusing, target) = net::refusing();
    let (relay, mut log) = start_with_log(Start::to(target).options("--timestamps --log-format json"));
    // Signals are heard from the first line on, which may come later than the port is open.
    let active = object(&mut log);
    relay.signal(Signal::TERM);
    for (event, line) in [("active", active), ("stop_signal", object(&mut log))] {
        assert_eq!(line["event"], event);
        humantime::parse_rfc3339(line["time"].as_str().unwrap()).unwrap();
    }
}

// ----- SIGUSR1

#[test]
fn the_status_has_the_totals_and_a_line_for_each_session() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).acl("127.0.0.0/30").start();
    let (mut requester, mut target) = relay.session(&listener);
    net::assert_passes(&mut requester, &mut target, b"12345");
    net::assert_passes(&mut target, &mut requester, b"123");
    relay.assert_relays(&listener);
    relay.log.wait(34, 2);
    assert_dropped(relay.connect_from([127, 0, 0, 9].into()));

    relay.signal(Signal::USR1);
    let totals = wait_for(&mut relay.log, "Status: ");
    assert_eq!(
        totals,
        "Status: 1 sessions, 2 accepted, 1 rejected, 0 refused, 0 expired, 0 dropped, 10 bytes to the target, \
         11 bytes to the requester, 0 log lines dropped."
    );
    let live = relay.log.line().text;
    assert!(
        live.starts_with("Status: session handler serial number 1 from 127.0.0.1 is relaying, "),
        "{live}"
    );
    assert!(live.ends_with(" 5 bytes to the target, 3 bytes to the requester."), "{live}");
    relay.assert_relays(&listener);
}

#[test]
fn the_status_of_many_sessions_comes_whole_through_a_small_pipe_that_is_read_late() {
    const SESSIONS: usize = 300;
    let (mut reader, writer) = pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).stdout(writer).start();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| relay.session(&listener)).collect();

    relay.signal(Signal::USR1);
    // It goes on though nobody reads.
    relay.assert_relays(&listener);
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains(&format!("serial number {SESSIONS} from 127.0.0.1 is ")) {
        assert!(net::readable_within(&reader, support::PATIENCE), "not whole:\n{text}");
        let count = reader.read(&mut bytes).unwrap();
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("Status: ")).collect();
    assert!(lines[0].contains(" accepted, "), "it begins with: {}", lines[0]);
    for serial in 1..=sessions.len() {
        let beginning = format!("Status: session handler serial number {serial} from ");
        assert_eq!(lines.iter().filter(|line| line.starts_with(&beginning)).count(), 1, "for {serial}");
    }
}

// ----- --check, --help and wrong values

#[test]
fn a_check_prints_a_command_line_that_means_the_same() {
    let port = support::free_port();
    let all = format!(
        "--bind :: --source 127.0.0.1 --source-interface lo --bind-interface lo --dscp 46 --reuse-port --allow 10.1.2.3/8 --allow any --deny fe80::1/10 \
         --max-per-source 3 --proxy-protocol v2 --log-level ends --timestamps --no-splice --check {port} \
         127.0.0.1 80 192.168.1.7/255.255.255.0 1 30 0 4000"
    );
    let first = run(&all.split_whitespace().collect::<Vec<_>>());
    assert_eq!((first.stdout.lines().count(), first.code), (1, Some(0)), "{}", first.stdout);
    let (listener, line) = first.stdout.trim_end().split_once(", as: ").unwrap();
    let listener = listener.split_once(' ').unwrap().1;
    assert_eq!(listener, format!("Would listen on [::]:{port}"));
    let again: Vec<_> = ["--check"].into_iter().chain(line.split_whitespace()).collect();
    // Only the time is another.
    assert!(run(&again).stdout.ends_with(&format!(" {listener}, as: {line}\n")));
    for part in ["--allow 10.0.0.0/8", "--allow ANY", "--deny fe80::/10", "192.168.1.0/24", "--no-splice"] {
        assert!(line.contains(part), "no {part} in {line}");
    }
}

/// A command line on this port.
fn on(port: u16, options: &[&'static str]) -> Vec<String> {
    let mut arguments: Vec<_> = with(options).into_iter().map(str::to_owned).collect();
    arguments[options.len()] = port.to_string();
    arguments
}

#[test]
fn a_check_of_what_cannot_be_bound_says_what_the_start_says() {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let taken = net::address(&taken).port();
    let cases = [
        on(taken, &[]),
        on(taken, &["--log-format", "json"]),
        // Whoever has it does not share it.
        on(taken, &["--reuse-port"]),
        on(support::free_port(), &["--bind", "192.0.2.1"]),
    ];
    for arguments in cases {
        let started = run(&arguments);
        let checked = run(&[&["--check".to_owned()], &arguments[..]].concat());
        assert_eq!(started.code, Some(1), "{arguments:?}: {}", started.stdout);
        assert_eq!(checked, started, "{arguments:?}");
    }
}

#[test]
fn a_check_lets_go_of_its_port() {
    let port = support::free_port();
    for _ in 0..2 {
        assert_eq!(run(&on(port, &["--check"])).code, Some(0));
    }
    drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
}

#[test]
fn a_check_takes_no_connection_from_relays_that_share_the_port() {
    const CHECKS: usize = 50;
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).options("--reuse-port").start();
    let (port, address) = (relay.port, relay.address());
    let checks = std::thread::spawn(move || {
        for _ in 0..CHECKS {
            assert_eq!(run(&on(port, &["--check", "--reuse-port"])).code, Some(0));
        }
    });
    // Each connection that is made meanwhile is the relay's.
    while !checks.is_finished() {
        let mut requester = connect_to(address);
        let mut target = net::accept(&listener);
        net::assert_passes(&mut requester, &mut target, b"hello");
    }
    checks.join().unwrap();
}

#[test]
fn a_check_tells_the_needs_and_the_limits_in_the_format_of_the_log() {
    let port = support::free_port();
    let limited = || Faults::new().descriptors(256);
    let text = run_with(limited(), &on(port, &["--check"]));
    let lines: Vec<_> = text.stdout.lines().collect();
    assert!(lines[0].starts_with(&format!("Would listen on 0.0.0.0:{port}, as: ")), "{}", lines[0]);
    assert_eq!(
        lines[1..],
        ["The limit of 256 descriptors is enough for 120 sessions, not for all 500 of the pool."]
    );
    assert_eq!(text.code, Some(0));

    let json = run_with(limited(), &on(port, &["--check", "--sessions", "50", "--log-format", "json"]));
    let objects: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<_> = objects.iter().map(|object| object["number"].as_u64()).collect();
    assert_eq!(numbers, [Some(116), Some(105)], "{}", json.stdout);
    assert_eq!((&objects[0]["address"], &objects[0]["port"]), (&"0.0.0.0".into(), &port.into()));
    assert_eq!(objects[1]["sessions"], 50);
}

#[test]
fn either_version_of_the_header_is_printed_by_a_check() {
    for version in ["v1", "v2"] {
        let port = support::free_port();
        let run = run(&on(port, &["--check", "--proxy-protocol", version]));
        assert!(run.stdout.contains(&format!(", as: --proxy-protocol {version} {port} ")), "{}", run.stdout);
    }
}

#[test]
fn what_cannot_start_here_is_told_by_a_check_as_by_the_start() {
    let port = support::free_port().to_string();
    let own = [&port, "127.0.0.1", &port, "ANY", "1", "30", "1", "4000"];
    let told = format!("Error: <trg host> 127.0.0.1 <trg port> {port} is where this relay itself listens.\n");
    let source = "Error: --source cannot be \"192.0.2.9\". It takes an address of this host.\n";
    let cases = [
        (own.to_vec(), told.as_str(), 2),
        // An address of the documentation's range, which no host has. It is no wrong command line: a host can get it.
        (with(&["--source", "192.0.2.9"]), source, 1),
    ];
    for (arguments, told, code) in cases {
        let checked = run(&[&["--check"], &arguments[..]].concat());
        assert_eq!((checked.stdout.as_str(), checked.code), (told, Some(code)));
    }
    let started = run(&with(&["--source", "192.0.2.9"]));
    assert_eq!((started.stdout.as_str(), started.code), (source, Some(1)));
}

#[test]
fn a_source_is_of_the_targets_family() {
    for (host, source, family) in [("192.0.2.7", "::1", "IPv4"), ("2001:db8::7", "127.0.0.1", "IPv6")] {
        let run = run(&["--source", source, "8080", host, "80", "ANY", "1", "30", "1", "4000"]);
        let takes = format!("one {family} address of this host, as <trg host> is {family}, or requester");
        assert_eq!(run.stdout, format!("Error: --source cannot be {source:?}. It takes {takes}.\n"));
        assert_eq!(run.code, Some(2));
    }
}

#[test]
fn a_wrong_value_of_an_option_gets_one_line_with_the_option_the_value_and_what_is_allowed() {
    let wrong: [(&str, &[&str], &[&str]); 17] = [
        ("--bind", &["", "x", "localhost", "127.0.0.1:80", "[::1]", "-1"], &["IPv4", "IPv6"]),
        ("--bind", &["224.0.0.1", "255.255.255.255", "ff02::1", "ff02::1%lo"], &["to listen on"]),
        (
            "--bind",
            &["fe80::1", "fe80::1%", "fe80::1%0", "fe80::1%no-such-if", "127.0.0.1%lo"],
            &["fe80::1%eth0"],
        ),
        ("--source", &["", "x", "127.0.0.1:80", "::1", "0.0.0.0", "-1"], &["IPv4"]),
        ("--source", &["224.0.0.1", "255.255.255.255", "127.0.0.1%lo", "fe80::1%lo"], &["IPv4"]),
        ("--allow", &["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/255.0.255.0", "-1"], &["ANY", "/8"]),
        ("--deny", &["", "all", "::1", "::1/129", "10.0.0.0/8,11.0.0.0/8"], &["ANY", "/8"]),
        ("--max-per-source", &["", "0", "-1", "+1", "1.5", "100001", "1e3"], &["1", "100000"]),
        ("--sessions", &["", "0", "-1", "+1", "100001", "99999999999999999999999"], &["1", "100000"]),
        ("--proxy-protocol", &["", "v3", "1", "V1", "-"], &["v1", "v2"]),
        ("--mark", &["", "0", "-1", "0x7", "4294967296"], &["1", "4294967295"]),
        ("--dscp", &["", "64", "-1", "EF"], &["0", "63"]),
        (
            "--user",
            &["", "root", "0", "no-such-user", "65534:", "1:4294967295"],
            &["other than root", "UID:GID"],
        ),
        ("--chroot", &["", "tmp", "/no/such/directory", "/etc/passwd"], &["directory"]),
        ("--source-interface", &["", "a/b", "a b", "longer-than-ifname"], &["interface", "ip link"]),
        ("--log-format", &["", "xml", "JSON", "-"], &["text", "json"]),
        ("--log-level", &["", "none", "ENDS", "-"], &["all", "ends", "problems"]),
    ];
    for (option, values, allowed) in wrong {
        for value in values {
            let (joined, right) = (format!("{option}={value}"), with(&[]));
            let separate = with(&[option, value]);
            let joined = [&[joined.as_str()], &right[..]].concat();
            let run = [run(&separate), run(&joined)];
            assert_eq!(run[0], run[1]);
            let (text, takes) = run[0].stdout.split_once(". It takes ").unwrap_or_else(|| panic!("{run:?}"));
            assert_eq!(text, format!("Error: {option} cannot be {value:?}"));
            assert!(allowed.iter().all(|allowed| takes.contains(allowed)), "{run:?}");
            assert_eq!((takes.lines().count(), run[0].code), (1, Some(2)));
        }
    }
}

#[test]
fn the_first_wrong_argument_comes_before_any_wrong_option() {
    let mut arguments = with(&["--sessions", "0", "--bind", "x"]);
    arguments[11] = "9";
    assert_eq!(run(&arguments).stdout.lines().next(), Some(&*message(8, 0)));
    assert!(run(&with(&["--sessions", "0", "--bind", "x"])).stdout.starts_with("Error: --bind "));
}

#[test]
fn options_may_stand_behind_the_arguments() {
    let port = support::free_port();
    let mut arguments = on(port, &[]);
    arguments.extend(["--check", "--sessions", "7"].map(str::to_owned));
    let run = run(&arguments);
    assert!(run.stdout.contains(&format!(", as: --sessions 7 {port} ")), "{}", run.stdout);
    assert_eq!(run.code, Some(0));
}

#[test]
fn the_help_fits_two_screens() {
    const ROWS: usize = 2 * 24;
    const COLUMNS: usize = 80;
    let help = run(&["--help"]).stdout;
    let rows: usize = help.lines().map(|line| line.len().div_ceil(COLUMNS).max(1)).sum();
    assert!(rows <= ROWS, "{rows} rows");
}

// ----- --no-splice

#[test]
fn without_splicing_a_stream_comes_through_as_well_and_no_pipe_is_made() {
    let listener = net::listen();
    let pipes = |relay: &Relay| {
        let fds = fs::read_dir(format!("/proc/{}/fd", relay.pid.as_raw_nonzero())).unwrap();
        fds.filter(|fd| {
            let link = fs::read_link(fd.as_ref().unwrap().path()).unwrap_or_default();
            link.to_string_lossy().starts_with("pipe:")
        })
        .count()
    };
    let start = Start::to(net::address(&listener)).options("--no-splice");
    let (relay, _log) = start_with_log(start);
    let before = pipes(&relay);
    let (mut requester, mut target) = relay.session(&listener);
    let bytes = net::random(3, 1 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| requester.write_all(&bytes).unwrap());
        net::assert_same(&net::read_exactly(&mut target, bytes.len()), &bytes);
    });
    eventually("no more pipes than the log's", || pipes(&relay) == before);
}

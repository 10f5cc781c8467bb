//! `--check` reports everything that a start would.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::Value;

use crate::support::faults::Faults;
use crate::support::line::{on, with};
use crate::support::net;
use crate::support::{self, Start, run, run_with};

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
    // Only the timestamp differs.
    assert!(run(&again).stdout.ends_with(&format!(" {listener}, as: {line}\n")));
    for part in ["--allow 10.0.0.0/8", "--allow ANY", "--deny fe80::/10", "192.168.1.0/24", "--no-splice"] {
        assert!(line.contains(part), "no {part} in {line}");
    }
}

#[test]
fn a_check_of_an_address_that_cannot_be_bound_prints_what_a_start_prints() {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let taken = net::address(&taken).port();
    let cases = [
        on(taken, &[]),
        on(taken, &["--log-format", "json"]),
        // The socket that has the port is not shared.
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
fn a_check_releases_its_port() {
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
    // The relay gets every connection that is made meanwhile.
    while !checks.is_finished() {
        let mut requester = net::connect(address);
        let mut target = net::accept(&listener);
        net::assert_passes(&mut requester, &mut target, b"hello");
    }
    checks.join().unwrap();
}

#[test]
fn a_check_prints_needs_and_limits_in_the_format_of_the_log() {
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
fn a_check_prints_either_version_of_the_proxy_header() {
    for version in ["v1", "v2"] {
        let port = support::free_port();
        let run = run(&on(port, &["--check", "--proxy-protocol", version]));
        assert!(run.stdout.contains(&format!(", as: --proxy-protocol {version} {port} ")), "{}", run.stdout);
    }
}

#[test]
fn a_check_refuses_a_loop_and_a_foreign_source_as_a_start_does() {
    let port = support::free_port().to_string();
    let own = [&port, "127.0.0.1", &port, "ANY", "1", "30", "1", "4000"];
    let own_listener =
        format!("Error: <trg host> 127.0.0.1 <trg port> {port} is where this relay itself listens.\n");
    let source = "Error: --source cannot be \"192.0.2.9\". It takes an address of this host.\n";
    let cases = [
        (own.to_vec(), own_listener.as_str(), 2),
        // An address of a documentation range, which no host has. The status is 1, because a host could get the
        // address later, so the command line is not wrong.
        (with(&["--source", "192.0.2.9"]), source, 1),
    ];
    for (arguments, refusal, code) in cases {
        let checked = run(&[&["--check"], &arguments[..]].concat());
        assert_eq!((checked.stdout.as_str(), checked.code), (refusal, Some(code)));
        assert_eq!(run(&arguments), checked);
    }
}

//! A relay that cannot start logs why: one of messages 11 to 14, with its reason.

use std::net::TcpListener;

use rustix::io::Errno;
use serde_json::Value;

use crate::support::catalogue::{message, reason};
use crate::support::faults::{Call, Faults};
use crate::support::line::{on, with};
use crate::support::{self, Run, net};

/// Asserts that the relay did not start, and that it logged this message, its reason, and nothing else.
#[track_caller]
fn assert_not_started(run: &Run, number: u8, address: &str, errno: Errno) {
    let failed = format!("Listening on {address} failed: {}.", reason(errno));
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, &*message(number, 0)), "{}", run.stdout);
    assert!(lines[1].starts_with(&failed), "{} does not begin with {failed}", lines[1]);
    assert_eq!(run.code, Some(1));
}

/// Asserts that the relay does not start under these faults, which have this errno. Returns the run.
#[track_caller]
fn assert_cannot_start(faults: Faults, number: u8, errno: Errno) -> Run {
    let port = support::free_port();
    let run = support::run_with(faults, &on(port, &[]));
    assert_not_started(&run, number, &format!("0.0.0.0:{port}"), errno);
    run
}

#[test]
fn a_failed_listener_socket_is_reported() {
    let run = assert_cannot_start(Faults::new().fail(Call::Socket, Errno::MFILE, &[]), 11, Errno::MFILE);
    assert!(run.stdout.contains("ulimit -n"), "{}", run.stdout);
}

#[test]
fn a_port_in_use_cannot_be_bound() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = net::address(&listener);
    let run = support::run(&on(address.port(), &[]));
    assert_not_started(&run, 12, &address.to_string(), Errno::ADDRINUSE);
    for cure in [format!("sport = :{}'", address.port()), "--reuse-port".into()] {
        assert!(run.stdout.contains(&cure), "no {cure} in {}", run.stdout);
    }
}

#[test]
fn a_port_that_is_not_permitted_cannot_be_bound() {
    let faults = Faults::new().fail(Call::Bind, Errno::ACCESS, &[]);
    let run = support::run_with(faults.clone(), &on(80, &[]));
    assert_not_started(&run, 12, "0.0.0.0:80", Errno::ACCESS);
    assert!(run.stdout.contains(" Ports below 1024 need CAP_NET_BIND_SERVICE: "), "{}", run.stdout);
    // An unprivileged port must have failed for another reason.
    let run = assert_cannot_start(faults, 12, Errno::ACCESS);
    assert!(!run.stdout.contains("CAP_NET_BIND_SERVICE"), "{}", run.stdout);
}

#[test]
fn an_address_of_another_machine_cannot_be_bound() {
    let run = support::run(&with(&["--bind", "192.0.2.1"]));
    assert_not_started(&run, 12, "192.0.2.1:8080", Errno::ADDRNOTAVAIL);
    assert!(run.stdout.contains("'ip address'"), "{}", run.stdout);
}

#[test]
fn as_json_the_reason_is_in_the_fields_of_the_message() {
    let faults = Faults::new().fail(Call::Bind, Errno::ACCESS, &[]);
    let run = support::run_with(faults, &on(80, &["--log-format", "json"]));
    assert_eq!((run.stdout.lines().count(), run.code), (1, Some(1)), "{}", run.stdout);
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&object["number"], &object["errno"]), (&12.into(), &13.into()), "{object}");
    assert_eq!((&object["address"], &object["port"]), (&"0.0.0.0".into(), &80.into()), "{object}");
    assert_eq!(object["reason"], "Permission denied");
    assert!(object["cure"].as_str().unwrap().starts_with("Ports below 1024 need "), "{object}");
}

#[test]
fn a_listener_that_cannot_listen_is_reported() {
    assert_cannot_start(Faults::new().fail(Call::Listen, Errno::OPNOTSUPP, &[]), 13, Errno::OPNOTSUPP);
}

#[test]
fn a_failed_poll_instance_is_reported() {
    assert_cannot_start(Faults::new().fail(Call::EpollCreate, Errno::MFILE, &[]), 14, Errno::MFILE);
}

#[test]
fn a_listener_that_cannot_be_polled_is_reported() {
    assert_cannot_start(Faults::new().fail(Call::EpollControl, Errno::NOMEM, &[]), 14, Errno::NOMEM);
}

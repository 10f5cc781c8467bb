//! `--log-format json` and `--timestamps`: the lines of the log as objects, and with the time.

use std::io::pipe;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use super::assert_dropped;
use crate::support::catalogue::{STOPPED, message};
use crate::support::line::on;
use crate::support::net::{self, End};
use crate::support::{Log, Relay, STARTED, Start, run};

/// Starts a relay, and returns it with its log. `Start` waits for message 15 as plain text, so it cannot read this
/// log.
fn start_with_log(start: Start) -> (Relay, Log) {
    let (reader, writer) = pipe().unwrap();
    (start.stdout(writer).start(), Log::of(reader))
}

/// Returns the next line of the log as an object.
#[track_caller]
fn object(log: &mut Log) -> Value {
    let line = log.line().text;
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_json_line_has_the_text_and_its_values() {
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
fn a_json_line_has_the_error_number() {
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
fn a_failed_start_is_logged_as_json_too() {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let run = run(&on(net::address(&taken).port(), &["--log-format", "json"]));
    let line: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stdout));
    assert_eq!((&line["number"], run.code), (&12.into(), Some(1)));
}

#[test]
fn with_timestamps_every_line_begins_with_the_time_of_its_event() {
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
    // The relay handles signals from its first line on. The port may be open before that.
    let active = object(&mut log);
    relay.signal(Signal::TERM);
    for (event, line) in [("active", active), ("stop_signal", object(&mut log))] {
        assert_eq!(line["event"], event);
        humantime::parse_rfc3339(line["time"].as_str().unwrap()).unwrap();
    }
}

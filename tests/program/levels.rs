//! `--log-level`, the lines that each level keeps, and the priorities of lines in the journal.

use std::io::pipe;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::catalogue::{STOPPED, message};
use crate::support::{self, Log, Relay, Start, eventually, net, process};

/// A script that starts the relay and sets nothing.
const PLAIN: &str = "exec \"$0\" \"$@\"";
/// Sets `JOURNAL_STREAM` to the relay's STDOUT, as systemd does where STDOUT is the journal.
const JOURNAL: &str = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/$$/fd/1); exec \"$0\" \"$@\"";
/// Sets `JOURNAL_STREAM` to another file.
const ELSEWHERE: &str = "export JOURNAL_STREAM=$(stat -L -c %d:%i /); exec \"$0\" \"$@\"";

#[track_caller]
fn start(target: SocketAddr, options: &str, script: &str) -> (Relay, Log) {
    let (reader, writer) = pipe().unwrap();
    let start = Start::to(target).acl("127.0.0.1/32").options(options).shell(script);
    (start.stdout(writer).start(), Log::of(reader))
}

/// Returns the log of a relay that rejects a requester, serves a session, logs its status, and is stopped.
#[track_caller]
fn lines(options: &str, script: &str) -> Vec<String> {
    let listener = net::listen();
    let (mut relay, mut log) = start(net::address(&listener), options, script);
    net::read_all(&mut relay.connect_from(Ipv4Addr::new(127, 0, 0, 9)));
    let descriptors = process::descriptors(relay.pid).len();
    relay.assert_relays(&listener);
    eventually("the session has ended", || process::descriptors(relay.pid).len() == descriptors);
    relay.signal(Signal::USR1);
    while !log.line().text.contains("Status: ") {}
    relay.signal(Signal::TERM);
    relay.wait();
    log.rest();
    log.seen().to_vec()
}

/// Returns the log of a relay whose target refuses a session, and that is then stopped.
#[track_caller]
fn lines_of_refused(options: &str, script: &str) -> Vec<String> {
    let (_socket, target) = net::refusing();
    let (mut relay, mut log) = start(target, options, script);
    net::read_all(&mut relay.connect());
    relay.signal(Signal::TERM);
    relay.wait();
    log.rest()
}

#[track_caller]
fn assert_begin(lines: &[String], starts: &[&str]) {
    let all = lines.iter().zip(starts).all(|(line, start)| line.starts_with(start));
    assert!(all && lines.len() == starts.len(), "not {starts:#?}, but {lines:#?}");
}

const ACTIVE: &str = "The relayer is now active. ";
const STATUS: &str = "Status: 0 sessions, 1 accepted, 1 rejected, ";

#[test]
fn level_ends_keeps_the_start_the_end_of_each_connection_and_the_status() {
    let (end, refused) = (message(34, 1), message(27, 1));
    let rejected = "Connection from 127.0.0.9 rejected due to ACL mismatch.";
    assert_begin(&lines("--log-level ends", PLAIN), &[ACTIVE, rejected, &end, STATUS, STOPPED]);
    assert_begin(&lines_of_refused("--log-level ends", PLAIN), &[ACTIVE, &refused, STOPPED]);
}

#[test]
fn level_problems_keeps_failures_and_the_status() {
    assert_begin(&lines("--log-level problems", PLAIN), &[STATUS]);
    assert_begin(&lines_of_refused("--log-level problems", PLAIN), &[&message(27, 1)]);
}

#[test]
fn a_relay_that_cannot_start_logs_the_error_at_every_level() {
    for level in ["all", "ends", "problems"] {
        let arguments = ["--log-level", level, "--bind", "192.0.2.1"];
        let run = support::run(
            &[&arguments[..], &["8080", "127.0.0.1", "9", "ANY", "1", "30", "0", "100"]].concat(),
        );
        assert!(run.stdout.starts_with(&message(12, 0)), "{level}: {}", run.stdout);
    }
}

#[test]
fn in_the_journal_lines_carry_their_priority() {
    let (end, refused) = (format!("<6>{}", message(34, 1)), format!("<4>{}", message(27, 1)));
    let (active, stopped) = (format!("<6>{ACTIVE}"), format!("<6>{STOPPED}"));
    let lines = lines("--log-level ends", JOURNAL);
    assert_begin(&lines, &[&active, "<6>Connection", &end, &format!("<6>{STATUS}"), &stopped]);
    assert_begin(&lines_of_refused("--log-level ends", JOURNAL), &[&active, &refused, &stopped]);
}

#[test]
fn in_the_journal_the_time_and_a_json_object_follow_the_priority() {
    let lines = lines_of_refused("--log-level problems --log-format json --timestamps", JOURNAL);
    assert_begin(&lines, &["<4>{\"time\":"]);
    let object: Value = serde_json::from_str(&lines[0]["<4>".len()..]).unwrap();
    assert_eq!((&object["number"], &object["reason"]), (&27.into(), &"Connection refused".into()));
    assert_begin(&lines_of_refused("--log-level problems --timestamps", JOURNAL), &["<4>2"]);
}

#[test]
fn in_the_journal_a_failed_start_has_the_priority_of_an_error() {
    let script = format!("{JOURNAL} --bind 192.0.2.1 8080 127.0.0.1 9 ANY 1 30 0 100");
    let output = std::process::Command::new("sh").args(["-c", &script, support::TCPRELAY]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    assert_begin(&lines, &[&format!("<3>{}", message(12, 0)), "<3>Listening on 192.0.2.1:8080 failed: "]);
}

#[test]
fn outside_the_journal_no_line_carries_a_priority() {
    assert_begin(&lines_of_refused("--log-level problems", ELSEWHERE), &[&message(27, 1)]);
}

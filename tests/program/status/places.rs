//! The addresses and Unix sockets on which the status is served.

use std::fs;
use std::io::pipe;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use super::{answer, body, request};
use crate::support::line::on;
use crate::support::{self, Folder, Start, net, run};

/// Returns the option for a status at this path.
fn at(place: &Path) -> String {
    format!("--status {}", place.display())
}

fn is_socket(place: &Path) -> bool {
    fs::symlink_metadata(place).is_ok_and(|file| file.file_type().is_socket())
}

/// Returns the metrics that a relay serves on this Unix socket.
#[track_caller]
fn scrape(place: &Path) -> String {
    body(&answer(UnixStream::connect(place).unwrap(), &request("/metrics")))
}

#[test]
fn a_status_that_cannot_be_served_is_refused_with_the_cure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = net::address(&taken).port();
    let folder = Folder::new();
    let (place, file) = (folder.join("taken"), folder.join("file"));
    let _listener = UnixListener::bind(&place).unwrap();
    fs::write(&file, "not a socket").unwrap();
    for (status, cure) in [
        (port.to_string(), "Another socket has the port"),
        (place.display().to_string(), "Another process listens there"),
        (file.display().to_string(), "or it is no socket"),
        ("/nowhere/to/be/found".into(), "Its folder does not exist."),
        ("192.0.2.9:9100".into(), "This host does not have the address"),
    ] {
        for check in [&["--check"][..], &[]] {
            let run = run(&on(support::free_port(), &[check, &["--status", &status]].concat()));
            assert_eq!(run.code, Some(1), "{run:?}");
            let shown =
                if status.contains(['/', ':']) { status.clone() } else { format!("127.0.0.1:{status}") };
            let start = format!("Error: The status cannot be served on {shown}: ");
            assert!(run.stdout.starts_with(&start) && run.stdout.contains(cure), "{run:?}");
            assert_eq!(run.stdout.lines().count(), 1, "{run:?}");
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"not a socket");
    assert!(is_socket(&place));
}

#[test]
fn a_unix_socket_is_served_and_removed_at_the_end_and_a_stale_one_is_replaced() {
    let listener = net::listen();
    let folder = Folder::new();
    let place = folder.join("socket");
    let start = Start::to(net::address(&listener)).options(&at(&place));
    let mut relay = start.start();
    relay.log.expect_text(&format!("The status is served on {}.", place.display()));
    assert!(scrape(&place).contains("\ntcprelay_sessions 0\n"));
    // A killed relay leaves its file behind.
    relay.signal(Signal::KILL);
    relay.wait();
    assert!(is_socket(&place));

    let mut relay = start.start();
    assert!(scrape(&place).contains("\ntcprelay_sessions 0\n"));
    relay.signal(Signal::TERM);
    assert_eq!(relay.wait().code(), Some(0));
    assert!(!place.exists());
}

#[test]
fn a_check_leaves_no_file_and_a_relay_that_runs_keeps_its_own() {
    let folder = Folder::new();
    let place = folder.join("socket");
    let check = || run(&on(support::free_port(), &["--check", "--status", place.to_str().unwrap()]));
    let alone = check();
    assert_eq!(alone.code, Some(0), "{alone:?}");
    assert!(alone.stdout.contains(&format!("{} ", at(&place))), "{alone:?}");
    assert!(!place.exists());

    let listener = net::listen();
    let _relay = Start::to(net::address(&listener)).options(&at(&place)).start();
    let beside = check();
    assert_eq!(beside.code, Some(1), "{beside:?}");
    assert!(beside.stdout.contains("Another process listens there"), "{beside:?}");
    assert!(scrape(&place).contains("\ntcprelay_sessions 0\n"));
}

#[test]
fn a_relay_does_not_remove_the_file_of_its_successor() {
    let listener = net::listen();
    let folder = Folder::new();
    let place = folder.join("socket");
    let start = Start::to(net::address(&listener)).options(&at(&place));
    let mut old = start.start();
    fs::remove_file(&place).unwrap();
    let _new = start.start();
    old.signal(Signal::TERM);
    old.wait();
    assert!(is_socket(&place));
}

#[test]
fn the_json_log_has_the_address_of_the_status() {
    let listener = net::listen();
    let (reader, writer) = pipe().unwrap();
    let port = support::free_port();
    let options = format!("--log-format json --status {port}");
    let _relay = Start::to(net::address(&listener)).options(&options).stdout(writer).start();
    let mut log = support::Log::of(reader);
    let line = log.wait_text("status_listening").text;
    let object: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["status"], format!("127.0.0.1:{port}"));
    assert_eq!(object["number"], 125);
}

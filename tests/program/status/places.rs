//! The addresses and Unix sockets on which the status is served.

use std::fs;
use std::io::pipe;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use super::{answer, body, request};
use crate::support::{self, Start, net, run};

/// The path of a Unix socket. The file is removed with this value.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        // The path of a Unix socket is limited to about 100 bytes, and the folder of the tests may be deeper than
        // that.
        Self(std::env::temp_dir().join(format!("tcprelay.{name}.{}", std::process::id())))
    }

    fn option(&self) -> String {
        format!("--status {}", self.0.display())
    }

    fn is_socket(&self) -> bool {
        fs::symlink_metadata(&self.0).is_ok_and(|file| file.file_type().is_socket())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_status_that_cannot_be_served_is_refused_with_the_cure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = net::address(&taken).port();
    let place = Place::new("taken");
    let _listener = UnixListener::bind(&place.0).unwrap();
    let file = Place::new("file");
    fs::write(&file.0, "not a socket").unwrap();
    for (status, cure) in [
        (port.to_string(), "Another socket has the port"),
        (place.0.display().to_string(), "Another process listens there"),
        (file.0.display().to_string(), "or it is no socket"),
        ("/nowhere/to/be/found".into(), "Its folder does not exist."),
        ("192.0.2.9:9100".into(), "This host does not have the address"),
    ] {
        for check in [&["--check"][..], &[]] {
            let fwd_port = support::free_port().to_string();
            let arguments = [&fwd_port, "127.0.0.1", "80", "ANY", "1", "30", "1", "4000"];
            let run = run(&[check, &["--status", &status], &arguments].concat());
            assert_eq!(run.code, Some(1), "{run:?}");
            let shown =
                if status.contains(['/', ':']) { status.clone() } else { format!("127.0.0.1:{status}") };
            let start = format!("Error: The status cannot be served on {shown}: ");
            assert!(run.stdout.starts_with(&start) && run.stdout.contains(cure), "{run:?}");
            assert_eq!(run.stdout.lines().count(), 1, "{run:?}");
        }
    }
    assert_eq!(fs::read(&file.0).unwrap(), b"not a socket");
    assert!(place.is_socket());
}

#[test]
fn a_unix_socket_is_served_and_removed_at_the_end_and_a_stale_one_is_replaced() {
    let listener = net::listen();
    let place = Place::new("served");
    let start = Start::to(net::address(&listener)).options(&place.option());
    let mut relay = start.start();
    relay.log.expect_text(&format!("The status is served on {}.", place.0.display()));
    let scrape = || body(&answer(UnixStream::connect(&place.0).unwrap(), &request("/metrics")));
    assert!(scrape().contains("\ntcprelay_sessions 0\n"));
    // A killed relay leaves its file behind.
    relay.signal(Signal::KILL);
    relay.wait();
    assert!(place.is_socket());

    let mut relay = start.start();
    assert!(scrape().contains("\ntcprelay_sessions 0\n"));
    relay.signal(Signal::TERM);
    assert_eq!(relay.wait().code(), Some(0));
    assert!(!place.0.exists());
}

#[test]
fn a_check_leaves_no_file() {
    let place = Place::new("check");
    let path = place.0.display().to_string();
    let fwd_port = support::free_port().to_string();
    let arguments =
        ["--check", "--status", &path, &fwd_port, "127.0.0.1", "80", "ANY", "1", "30", "1", "4000"];
    let first = run(&arguments);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stdout.contains(&format!("--status {path} ")), "{first:?}");
    assert!(!place.0.exists());
}

#[test]
fn a_relay_does_not_remove_the_file_of_its_successor() {
    let listener = net::listen();
    let place = Place::new("successor");
    let start = Start::to(net::address(&listener)).options(&place.option());
    let mut old = start.start();
    fs::remove_file(&place.0).unwrap();
    let _new = start.start();
    old.signal(Signal::TERM);
    old.wait();
    assert!(place.is_socket());
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

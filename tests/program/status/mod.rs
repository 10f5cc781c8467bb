//! `--status`: pages over HTTP, beside the sessions and at no cost to them.

mod pages;
mod places;
mod requests;
#[cfg(target_os = "linux")]
mod targets;
mod tools;

use std::io::{Read, Write};
use std::net::SocketAddr;

use serde_json::Value;

use crate::support::net::{self, End};
use crate::support::{self, Relay, Start};

/// Starts a relay that serves its status on a free port. Returns it, and the address of the status.
#[track_caller]
fn served(start: impl FnOnce(String) -> Start) -> (Relay, SocketAddr) {
    let port = support::free_port();
    let mut relay = start(format!("--status {port}")).start();
    relay.log.expect_text(&format!("The status is served on 127.0.0.1:{port}."));
    (relay, ([127, 0, 0, 1], port).into())
}

/// Sends a request, and returns the whole answer, which must end cleanly.
#[track_caller]
fn ask(status: SocketAddr, request: &str) -> String {
    answer(net::connect(status), request)
}

#[track_caller]
fn answer(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let (bytes, end) = net::read_all(&mut stream);
    assert_eq!(end, End::Clean);
    String::from_utf8(bytes).unwrap()
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Returns the body of a page, which must be whole.
#[track_caller]
fn page(status: SocketAddr, path: &str) -> String {
    body(&ask(status, &request(path)))
}

#[track_caller]
fn body(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    body.to_owned()
}

#[track_caller]
fn json(status: SocketAddr) -> Value {
    serde_json::from_str(&page(status, "/status.json")).unwrap()
}

/// Returns the value of a sample, which must be there once.
#[track_caller]
fn metric(metrics: &str, sample: &str) -> String {
    let values: Vec<_> =
        metrics.lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')).collect();
    assert_eq!(values.len(), 1, "{sample} in\n{metrics}");
    values[0].to_owned()
}

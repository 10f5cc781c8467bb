//! Relays whose log has no reader.

use std::io::Read;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::catalogue::{dropped, is_whole, message};
use super::{Log, Relay, STARTED, Start, eventually, net, process};

/// The number of log lines of one session of [`Relay::assert_relays`].
pub const LINES_OF_A_SESSION: usize = STARTED.len() + 1;

/// Opens and ends this many sessions, one after the other. Returns once the relay has closed all of them and sleeps.
#[track_caller]
pub fn serve(relay: &Relay, listener: &TcpListener, sessions: usize) {
    // Let the relay finish with earlier sessions.
    process::settle(relay.pid);
    let idle = process::descriptors(relay.pid).len();
    for _ in 0..sessions {
        relay.assert_relays(listener);
        eventually("both sockets closed", || process::descriptors(relay.pid).len() == idle);
    }
    process::settle(relay.pid);
}

/// Moves enough bytes in both directions to expose a relay that blocks on its log.
#[track_caller]
pub fn move_bytes(relay: &Relay, listener: &TcpListener) {
    let (mut requester, mut target) = relay.session(listener);
    let bytes = net::random(1, 1_000_000);
    for _ in 0..4 {
        net::assert_moves(&mut requester, &mut target, &bytes);
        net::assert_moves(&mut target, &mut requester, &bytes);
    }
    net::reset(requester);
    net::read_all(&mut target);
}

/// Asserts that every line is whole. Returns the number of lines that arrived, and of those reported as dropped.
#[track_caller]
pub fn count<'a>(lines: impl IntoIterator<Item = &'a str>) -> (usize, usize) {
    let (mut came, mut missing) = (0, 0);
    for line in lines {
        assert!(is_whole(line), "not a whole line: {line:?}");
        match dropped(line) {
            Some(0) => panic!("a report of no dropped lines"),
            Some(count) => missing += count,
            None => came += 1,
        }
    }
    (came, missing)
}

/// Asserts that a relay with its log on `writer` goes on while `reader` is not read. Afterwards, each line must have
/// arrived or been reported as dropped.
pub fn goes_on_unread(writer: OwnedFd, reader: impl Read + AsFd + Send + 'static) {
    goes_on_unread_as(|start| start.start(), writer, reader);
}

/// Asserts the same of a relay that `start` starts.
pub fn goes_on_unread_as(
    start: impl FnOnce(Start) -> Relay,
    writer: OwnedFd,
    reader: impl Read + AsFd + Send + 'static,
) {
    // More sessions than the queue and the relay can hold lines of.
    const UNREAD: usize = 200;
    let listener = net::listen();
    let queue = reader.as_fd().try_clone_to_owned().unwrap();
    let relay = start(Start::to(net::address(&listener)).stdout(writer));
    serve(&relay, &listener, UNREAD);
    move_bytes(&relay, &listener);

    // From here on the log is read.
    let mut log = Log::of(reader);
    let last = UNREAD as u64 + 3;
    eventually("the log is read", || !net::readable_within(&queue, Duration::ZERO));
    serve(&relay, &listener, 1);
    eventually("the log is read", || !net::readable_within(&queue, Duration::ZERO));
    // The dropped lines have been reported by now, so this session's lines must all arrive.
    serve(&relay, &listener, 1);
    log.wait(34, last);
    let lines: Vec<_> = log.seen().iter().map(String::as_str).collect();
    let (came, missing) = count(lines.iter().copied());
    let said = 1 + LINES_OF_A_SESSION * (UNREAD + 3);
    assert!(missing > 0, "the queue was too large for this test");
    assert_eq!(came + missing, said, "{missing} lines were reported as dropped");
    // The report of dropped lines comes before the lines that were logged after it.
    let tail = &lines[lines.len() - LINES_OF_A_SESSION..];
    assert_eq!(tail[0], message(16, last));
}

/// Asserts that a relay whose log is broken for good goes on serving, and does not keep retrying the log.
#[track_caller]
pub fn goes_on(relay: &mut Relay, listener: &TcpListener) {
    serve(relay, listener, 20);
    move_bytes(relay, listener);
    process::settle(relay.pid);
    process::assert_rests(relay.pid, Duration::from_millis(500));
    relay.assert_alive();
}

//! Relays whose log has no reader.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use super::catalogue::{dropped, is_whole, message};
use super::{Log, Relay, STARTED, Start, eventually, net, process};

/// What a session of [`Relay::assert_relays`] says from beginning to end.
pub const LINES_OF_A_SESSION: usize = STARTED.len() + 1;

/// Serves this many sessions, one after the other, and is through with them when this returns.
#[track_caller]
pub fn serve(relay: &Relay, listener: &TcpListener, sessions: usize) {
    // Whatever was before is over.
    process::settle(relay.pid);
    let idle = process::descriptors(relay.pid).len();
    for _ in 0..sessions {
        relay.assert_relays(listener);
        eventually("both sockets closed", || process::descriptors(relay.pid).len() == idle);
    }
    process::settle(relay.pid);
}

/// Moves enough in both directions to notice a relay that waits for its log.
#[track_caller]
pub fn move_bytes(relay: &Relay, listener: &TcpListener) {
    let (mut requester, mut target) = relay.session(listener);
    let bytes = net::random(1, 1_000_000);
    for _ in 0..4 {
        move_some(&mut requester, &mut target, &bytes);
        move_some(&mut target, &mut requester, &bytes);
    }
    net::reset(requester);
    net::read_all(&mut target);
}

fn move_some(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    thread::scope(|scope| {
        scope.spawn(|| from.write_all(bytes).unwrap());
        net::assert_same(&net::read_exactly(to, bytes.len()), bytes);
    });
}

/// Every line is whole; returns how many there are, and how many are said to be missing.
#[track_caller]
pub fn count<'a>(lines: impl IntoIterator<Item = &'a str>) -> (usize, usize) {
    let (mut came, mut missing) = (0, 0);
    for line in lines {
        assert!(is_whole(line), "not a whole line: {line:?}");
        match dropped(line) {
            Some(0) => panic!("nothing is no news"),
            Some(count) => missing += count,
            None => came += 1,
        }
    }
    (came, missing)
}

/// The relay writes its log to `writer`, and nobody reads from `reader` for a while.
pub fn goes_on_unread(writer: OwnedFd, reader: impl Read + AsFd + Send + 'static) {
    goes_on_unread_as(|start| start.start(), writer, reader);
}

/// The same of a relay that is started in a way of its own.
pub fn goes_on_unread_as(
    start: impl FnOnce(Start) -> Relay,
    writer: OwnedFd,
    reader: impl Read + AsFd + Send + 'static,
) {
    // More than the queue and the relay hold back.
    const UNREAD: usize = 200;
    let listener = net::listen();
    let queue = reader.as_fd().try_clone_to_owned().unwrap();
    let relay = start(Start::to(net::address(&listener)).stdout(writer));
    serve(&relay, &listener, UNREAD);
    move_bytes(&relay, &listener);

    // Now somebody reads.
    let mut log = Log::of(reader);
    let last = UNREAD as u64 + 3;
    eventually("the log is read", || !net::readable_within(&queue, Duration::ZERO));
    serve(&relay, &listener, 1);
    eventually("the log is read", || !net::readable_within(&queue, Duration::ZERO));
    // Whatever was held back has been told by now, so nothing of this one can be missing.
    serve(&relay, &listener, 1);
    log.wait(34, last);
    let lines: Vec<_> = log.seen().iter().map(String::as_str).collect();
    let (came, missing) = count(lines.iter().copied());
    let said = 1 + LINES_OF_A_SESSION * (UNREAD + 3);
    assert!(missing > 0, "the queue was too large for this test");
    assert_eq!(came + missing, said, "{missing} are said to be missing");
    // The count stands before what was said later.
    let tail = &lines[lines.len() - LINES_OF_A_SESSION..];
    assert_eq!(tail[0], message(16, last));
}

/// The relay's log is out of order for good; it serves on, and does not try for ever.
#[track_caller]
pub fn goes_on(relay: &mut Relay, listener: &TcpListener) {
    serve(relay, listener, 20);
    move_bytes(relay, listener);
    process::settle(relay.pid);
    process::assert_rests(relay.pid, Duration::from_millis(500));
    relay.assert_alive();
}

//! Urgent bytes arrive in their place, whatever surrounds them.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{Stage, for_all};
use crate::support::net::{self, End};
use crate::support::{Start, process};

#[test]
fn an_urgent_byte_arrives_in_its_place_and_stops_nothing() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        first.write_all(b"abc").unwrap();
        net::send_urgent(&first, b'!');
        first.write_all(b"def").unwrap();
        assert_eq!(net::read_exactly(&mut second, 7), b"abc!def");
        net::assert_passes(&mut second, &mut first, b"heard");
        drop(first);
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Clean));
        drop(second);
        stage.ends_by(side);
    });
}

/// Returns whether the other end leaves bytes of this end unread for 300 ms.
fn stay_unread(stream: &TcpStream) -> bool {
    let since = Instant::now();
    while process::unread_by_peer(stream) > 0 {
        if since.elapsed() > Duration::from_millis(300) {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn bytes_behind_an_urgent_one_arrive_though_only_the_end_was_reported() {
    let listener = net::listen();
    // With a small receive buffer, the stream stalls sooner.
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let start = Start::to(net::address(&listener)).options("--no-splice");
    let relay = start.start();
    let (mut requester, mut target) = relay.session(&listener);
    let mut sent = Vec::new();
    // The target does not read. Once the relay's queues are full, the relay stops reading, too. It still wakes up to
    // look at its send queue, so a sleeping process is no proof that the stream has stalled.
    while !stay_unread(&requester) {
        let more = net::random(sent.len() as u64, 150_000);
        requester.write_all(&more).unwrap();
        sent.extend(more);
    }
    requester.write_all(b"more").unwrap();
    process::settle(relay.pid);
    // After an EOF each way the connection hangs up, and epoll reports that even to a relay that is not reading.
    target.shutdown(Shutdown::Write).unwrap();
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Clean));
    requester.write_all(b"abc").unwrap();
    net::send_urgent(&requester, b'!');
    requester.write_all(b"def").unwrap();
    requester.shutdown(Shutdown::Write).unwrap();
    process::settle(relay.pid);
    sent.extend(b"moreabc!def");
    let (heard, end) = net::read_all(&mut target);
    net::assert_same(&heard, &sent);
    assert_eq!(end, End::Clean);
}

#[test]
fn urgent_bytes_that_wait_in_a_queue_with_others_all_arrive() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        // All of these bytes and the EOF are there when the relay reads for the first time.
        stage.relay.freeze();
        first.write_all(b"abc").unwrap();
        net::send_urgent(&first, b'!');
        first.write_all(b"def").unwrap();
        net::send_urgent(&first, b'?');
        first.shutdown(Shutdown::Write).unwrap();
        stage.relay.thaw();
        let (heard, end) = net::read_all(&mut second);
        assert_eq!((str::from_utf8(&heard).unwrap(), end), ("abc!def?", End::Clean));
        net::assert_passes(&mut second, &mut first, b"heard");
        drop(second);
        assert_eq!(net::read_all(&mut first), (Vec::new(), End::Clean));
        stage.ends_by(side);
    });
}

#[test]
fn an_urgent_byte_that_another_one_follows_at_once_is_not_lost() {
    for_all(|side, buf| {
        let (stage, first, mut second) = Stage::set(side, buf);
        stage.relay.freeze();
        net::send_urgent(&first, b'!');
        net::send_urgent(&first, b'?');
        (&first).write_all(b"abc").unwrap();
        stage.relay.thaw();
        assert_eq!(net::read_exactly(&mut second, 5), b"!?abc");
        drop(first);
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Clean));
        drop(second);
        stage.ends_by(side);
    });
}

//! Bytes arrive whole, in order, once, in both directions at once; a slow reader stops its writer.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tcprelay::internal::limits::{LOOK_PAUSE, SHARE};

use crate::support::net::{self, End};
use crate::support::skip::skipped;
use crate::support::{self, PATIENCE, Start, eventually, process};

const MIB: usize = 1024 * 1024;

/// Sends all of `bytes` and ends the stream.
fn send(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Sends and receives on both sides at the same time, each to the end.
fn exchange(requester: &TcpStream, upload: &[u8], target: &TcpStream, download: &[u8]) {
    thread::scope(|scope| {
        scope.spawn(|| send(requester, upload));
        scope.spawn(|| send(target, download));
        let uploaded = scope.spawn(|| net::read_all(&mut &*target));
        let (downloaded, end) = net::read_all(&mut &*requester);
        net::assert_same(&downloaded, download);
        assert_eq!(end, End::Clean);
        let (uploaded, end) = uploaded.join().unwrap();
        net::assert_same(&uploaded, upload);
        assert_eq!(end, End::Clean);
    });
}

fn relays_8_mib_both_ways_at_once(buf: usize) {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).buf(buf).start();
    let (requester, target) = relay.session(&listener);
    let (upload, download) = (net::random(1, 8 * MIB), net::random(2, 8 * MIB));
    exchange(&requester, &upload, &target, &download);
}

#[test]
fn both_directions_at_once_arrive_whole_through_the_smallest_buffers() {
    relays_8_mib_both_ways_at_once(100);
}

#[test]
fn both_directions_at_once_arrive_whole_through_buffers_of_1460_bytes() {
    relays_8_mib_both_ways_at_once(1460);
}

#[test]
fn both_directions_at_once_arrive_whole_through_the_largest_buffers() {
    relays_8_mib_both_ways_at_once(4000);
}

#[test]
fn forty_streams_at_once_do_not_mix() {
    const STREAMS: u64 = 40;
    let relay = Start::to(net::echo()).buf(1460).start();
    thread::scope(|scope| {
        for number in 0..STREAMS {
            let address = relay.address();
            scope.spawn(move || {
                let mut requester = net::connect(address);
                let bytes = net::random(number, MIB / 4);
                let sender = requester.try_clone().unwrap();
                thread::scope(|scope| {
                    scope.spawn(|| send(&sender, &bytes));
                    let (echoed, end) = net::read_all(&mut requester);
                    net::assert_same(&echoed, &bytes);
                    assert_eq!(end, End::Clean);
                });
            });
        }
    });
}

#[test]
fn requests_of_every_size_are_echoed_at_once() {
    // Requests and replies take turns, so no request may wait for the next one to push it out.
    let relay = Start::to(net::echo()).buf(100).start();
    let mut requester = relay.connect();
    for size in (1..=64).chain([99, 100, 101, 199, 200, 201, 1460, 4000, 65_536, 100_000]) {
        let bytes = net::random(size as u64, size);
        requester.write_all(&bytes).unwrap();
        net::assert_same(&net::read_exactly(&mut requester, size), &bytes);
    }
}

/// Bytes, far more than the kernel's buffers hold between a writer and a reader that has stopped.
const MORE_THAN_QUEUES: usize = 256 * MIB;

/// Asserts that a reader that stops also stops its writer, and that waiting costs the relay next to nothing. Every
/// byte must arrive once the reader goes on.
fn stops_and_goes_on(relay: &support::Relay, writer: &TcpStream, reader: &mut TcpStream) {
    // The length is a prime, so that a piece lost or doubled shifts all that follows.
    let pattern = net::random(3, 1_000_003);
    let sent = AtomicUsize::new(0);
    let stop = AtomicUsize::new(MORE_THAN_QUEUES);
    let memory = process::memory_kib(relay.pid);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = writer;
            while sent.load(Ordering::Acquire) < stop.load(Ordering::Acquire) {
                let from = sent.load(Ordering::Acquire) % pattern.len();
                let until = pattern.len().min(from + 100_000);
                let count = net::uninterrupted(|| writer.write(&pattern[from..until])).unwrap();
                sent.fetch_add(count, Ordering::AcqRel);
            }
            writer.shutdown(Shutdown::Write).unwrap();
        });

        // The queues fill up until nothing moves any more.
        let mut before = 0;
        eventually("the writer stands still", || {
            let now = sent.load(Ordering::Acquire);
            let still = now == before && now > 0;
            before = now;
            thread::sleep(Duration::from_millis(200));
            still
        });
        let stopped_at = sent.load(Ordering::Acquire);
        assert!(stopped_at < MORE_THAN_QUEUES, "nothing stops the writer");
        let (woken, since) = (process::sleeps(relay.pid), Instant::now());
        let worked = process::processor_time(relay.pid);
        thread::sleep(Duration::from_secs(1));
        let wakes = process::sleeps(relay.pid) - woken;
        // The relay looks at its send queues no more often than this, and soon less often.
        let looks = since.elapsed().as_millis() / LOOK_PAUSE.as_millis() + 1;
        assert!(u128::from(wakes) <= looks, "{wakes} wake-ups for {looks} looks");
        assert!(process::processor_time(relay.pid) <= worked + Duration::from_millis(10), "it is busy");
        let grown = process::memory_kib(relay.pid).saturating_sub(memory);
        assert!(grown <= 256, "waiting took {grown} KiB");

        // A few MiB more, so that the stream moves on before it ends.
        stop.store(stopped_at + 8 * MIB, Ordering::Release);
        let received = read_repeated(&pattern, reader);
        assert_eq!(received, sent.load(Ordering::Acquire));
    });
}

/// Reads up to EOF, and asserts that the bytes repeat the pattern. Returns their number.
fn read_repeated(pattern: &[u8], reader: &mut TcpStream) -> usize {
    let mut received = 0;
    let mut chunk = vec![0; 128 * 1024];
    loop {
        let count = net::uninterrupted(|| reader.read(&mut chunk)).unwrap();
        if count == 0 {
            return received;
        }
        let mut rest = &chunk[..count];
        while !rest.is_empty() {
            let from = received % pattern.len();
            let length = rest.len().min(pattern.len() - from);
            net::assert_same(&rest[..length], &pattern[from..from + length]);
            rest = &rest[length..];
            received += length;
        }
    }
}

#[test]
fn a_requester_that_stops_reading_stops_the_target_and_can_go_on() {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).start();
    let (mut requester, mut target) = relay.session(&listener);
    // The other direction is not affected.
    net::assert_passes(&mut requester, &mut target, b"before");
    stops_and_goes_on(&relay, &target, &mut requester);
    net::assert_passes(&mut requester, &mut target, b"after");
}

#[test]
fn a_target_that_stops_reading_stops_the_requester_and_can_go_on() {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).buf(1460).start();
    let (mut requester, mut target) = relay.session(&listener);
    net::assert_passes(&mut target, &mut requester, b"before");
    stops_and_goes_on(&relay, &requester, &mut target);
    net::assert_passes(&mut target, &mut requester, b"after");
}

#[test]
fn bytes_left_over_from_a_turn_are_served_without_another_event() {
    // More than the relay takes from one stream in a turn.
    const PLENTY: usize = SHARE + SHARE / 2;
    if receive_queue_max() < 4 * PLENTY {
        return skipped("the kernel's receive queues are too small");
    }
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).start();
    let (mut requester, mut target) = relay.session(&listener);
    let bytes = net::random(4, PLENTY);
    // A stream that flows makes the kernel enlarge the queues on its path.
    for _ in 0..10 {
        net::assert_moves(&mut target, &mut requester, &bytes);
    }

    relay.freeze();
    target.write_all(&bytes).unwrap();
    // No byte may wait on this side, because its arrival at the relay would be another event.
    eventually("all bytes wait at the relay", || process::unread_by_peer(&target) == PLENTY);
    relay.thaw();
    net::assert_same(&net::read_exactly(&mut requester, PLENTY), &bytes);
    net::assert_passes(&mut requester, &mut target, b"all of it");
}

/// Returns the size to which the kernel lets a socket's receive queue grow, with the overhead of its packets.
fn receive_queue_max() -> usize {
    let sizes = fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").unwrap();
    sizes.split_whitespace().next_back().unwrap().parse().unwrap()
}

#[test]
fn one_greedy_stream_does_not_starve_a_small_one() {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).start();
    let (greedy_requester, greedy_target) = relay.session(&listener);
    let (mut requester, mut target) = relay.session(&listener);
    let moved = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let chunk = vec![7; MIB];
            // Fails when the reader has gone.
            while (&greedy_target).write_all(&chunk).is_ok() {}
        });
        scope.spawn(|| {
            let mut chunk = vec![0; MIB];
            while let Ok(count @ 1..) = net::uninterrupted(|| (&greedy_requester).read(&mut chunk)) {
                moved.fetch_add(count, Ordering::Relaxed);
            }
        });
        eventually("the greedy stream flows", || moved.load(Ordering::Relaxed) > 4 * MIB);
        let start = Instant::now();
        for _ in 0..100 {
            net::assert_passes(&mut requester, &mut target, b"ping");
            net::assert_passes(&mut target, &mut requester, b"pong");
        }
        // A relay that serves one stream for long at a time takes far more time for 200 messages.
        let took = start.elapsed();
        // Ends the greedy session. The second shutdown may be too late, and fail.
        let _ = greedy_requester.shutdown(Shutdown::Both);
        let _ = greedy_target.shutdown(Shutdown::Both);
        assert!(took < PATIENCE / 4, "200 small messages took {took:?}");
    });
}

#[test]
fn without_splicing_a_stream_comes_through_as_well_and_no_pipe_is_made() {
    let listener = net::listen();
    let pipes = |relay: &support::Relay| {
        let fds = fs::read_dir(format!("/proc/{}/fd", relay.pid.as_raw_nonzero())).unwrap();
        fds.filter(|fd| {
            let link = fs::read_link(fd.as_ref().unwrap().path()).unwrap_or_default();
            link.to_string_lossy().starts_with("pipe:")
        })
        .count()
    };
    let relay = Start::to(net::address(&listener)).options("--no-splice").start();
    let before = pipes(&relay);
    let (mut requester, mut target) = relay.session(&listener);
    let bytes = net::random(3, 1 << 20);
    net::assert_moves(&mut requester, &mut target, &bytes);
    eventually("no more pipes than the log's", || pipes(&relay) == before);
}

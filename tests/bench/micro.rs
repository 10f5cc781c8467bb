//! `cargo bench --bench micro`: times the parts that run for every message or session, in nanoseconds.
//!
//! Each part is timed in batches of many calls, and the median batch counts. `cargo test --all-targets`
//! runs this with short batches, as a smoke test.
#![allow(missing_docs)]
#![allow(clippy::print_stdout, clippy::unwrap_used)]
// Counts become figures with three digits.
#![allow(clippy::cast_precision_loss)]

#[path = "../support/random.rs"]
#[allow(dead_code, unreachable_pub, clippy::panic)]
mod random;
mod scripted;

use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use random::Random;
use scripted::Scripted;
use tcprelay::internal::acl::Entry;
use tcprelay::internal::buffer::Buffer;
use tcprelay::internal::channel::{Channel, Ends, Step};
use tcprelay::internal::limits::{BUF_MAX, IDLE_SECONDS, LINE_BYTES, SESSIONS, SHARE};
use tcprelay::internal::message::{Identity, Message, Serial, Summary};
use tcprelay::internal::splice::Pipes;
use tcprelay::internal::stream::{Readiness, Socket};
use tcprelay::internal::wheel::Wheel;

const BATCHES: usize = 31;
const BATCH: Duration = Duration::from_millis(10);
const SMOKE_BATCH: Duration = Duration::from_micros(100);

/// The longest idle timeout, in nanoseconds. No timer here is further away.
const IDLE_TIMEOUT: u64 = *IDLE_SECONDS.end() * 1_000_000_000;

/// Far more sessions than the original had.
const MANY_SESSIONS: usize = 18_000;

/// Width of the names in the table.
const NAMES: usize = 48;

fn main() {
    // cargo bench passes this, cargo test does not.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let stopwatch = Stopwatch { batch: if is_bench { BATCH } else { SMOKE_BATCH } };
    println!("| {:<NAMES$} | ns per call | slowest tenth |", "");
    println!("| {} | ----------: | ------------: |", "-".repeat(NAMES));
    for armed in [1, SESSIONS, MANY_SESSIONS] {
        rearm(&stopwatch, armed);
        arm_and_disarm(&stopwatch, armed);
        expire(&stopwatch, armed);
        next(&stopwatch, armed);
    }
    for size in [64, BUF_MAX] {
        pump(&stopwatch, size);
    }
    match_acl(&stopwatch);
    format_messages(&stopwatch);
}

// ----- timed parts

/// Times moving the deadline of one timer while others are armed, the cost of a timer that fired early.
fn rearm(stopwatch: &Stopwatch, armed: usize) {
    let (mut wheel, origin) = wheel_with(armed);
    let mut deadlines = deadlines(origin);
    stopwatch.time(&format!("wheel: rearm, {armed} armed"), || wheel.arm(0, deadlines()));
}

/// Times arming and disarming a timer while others are armed, the cost of a short session.
fn arm_and_disarm(stopwatch: &Stopwatch, armed: usize) {
    let (mut wheel, origin) = wheel_with(armed);
    let mut deadlines = deadlines(origin);
    stopwatch.time(&format!("wheel: arm and disarm, {armed} armed"), || {
        wheel.arm(armed, deadlines());
        wheel.disarm(armed);
    });
}

/// Times the expiry of the next timer, which is then armed again, so that as many remain. On its way the
/// timer comes down through the levels of the wheel, which is part of the cost.
fn expire(stopwatch: &Stopwatch, armed: usize) {
    let (mut wheel, _) = wheel_with(armed);
    stopwatch.time(&format!("wheel: next, expire and rearm, {armed} armed"), || {
        let now = wheel.next().unwrap();
        if let Some(timer) = wheel.expire(now) {
            wheel.arm(timer, now + Duration::from_nanos(IDLE_TIMEOUT));
        }
    });
}

/// Times the query for the next wake-up, which comes once a turn.
fn next(stopwatch: &Stopwatch, armed: usize) {
    let (wheel, _) = wheel_with(armed);
    stopwatch.time(&format!("wheel: next, {armed} armed"), || wheel.next());
}

/// Times a channel that moves `size` bytes from one socket to the other.
fn pump(stopwatch: &Stopwatch, size: usize) {
    let readable = Readiness { readable: true, ..Readiness::default() };
    let writable = Readiness { writable: true, ..Readiness::default() };
    let mut channel = Channel::new(Buffer::new(BUF_MAX, b"").unwrap());
    let mut pipes = Pipes::new(0);
    let mut from = Socket::accepted(Scripted::default());
    let mut to = Socket::accepted(Scripted::default());
    to.note(writable);
    stopwatch.time(&format!("channel: pump a message of {size} bytes"), || {
        from.stream_mut().send(size);
        from.note(readable);
        to.note(writable);
        let step =
            channel.pump(Ends { from: &mut from, to: &mut to, pipes: &mut pipes, share: SHARE, last: false });
        assert_eq!(step, Step::Waiting);
    });
    assert_eq!(to.stream().received(), from.stream().sent());
}

/// Times the decision on a requester.
fn match_acl(stopwatch: &Stopwatch) {
    let requester: IpAddr = "192.168.100.77".parse().unwrap();
    let mapped: IpAddr = "::ffff:192.168.100.77".parse().unwrap();
    for (text, requester) in [
        ("ANY", requester),
        ("192.168.100.0/24", requester),
        ("192.168.100.0/24", mapped),
        ("10.0.0.0/8", requester),
    ] {
        let entry: Entry = text.parse().unwrap();
        let name = format!("ACL: {requester} in {text}");
        stopwatch.time(&name, || black_box(&entry).contains(black_box(requester)));
    }
}

/// Times formatting a line of the log as text.
fn format_messages(stopwatch: &Stopwatch) {
    let requester: SocketAddr = "192.168.100.77:50123".parse().unwrap();
    let target = "10.20.30.40:8080".parse::<SocketAddr>().unwrap().into();
    let session = Identity { serial: Serial::new(123_456).unwrap(), requester, target };
    for message in [
        Message::Attempt { requester },
        Message::Allocated { session },
        Message::Connected { session },
        Message::RequesterReadClosure { session, summary: Summary::default() },
    ] {
        let mut line = String::with_capacity(LINE_BYTES);
        stopwatch.time(&format!("message {}: format as text", message.number()), || {
            line.clear();
            write!(line, "{}", black_box(&message)).unwrap();
            line.len()
        });
    }
}

// ----- wheels

/// Returns a wheel whose timers `0..armed` are armed, with one more that is not.
fn wheel_with(armed: usize) -> (Wheel, Instant) {
    let origin = Instant::now();
    let mut wheel = Wheel::new(armed + 1, origin);
    let mut deadlines = deadlines(origin);
    for timer in 0..armed {
        wheel.arm(timer, deadlines());
    }
    (wheel, origin)
}

/// Returns a source of pseudo-random deadlines within the longest idle timeout.
fn deadlines(origin: Instant) -> impl FnMut() -> Instant {
    let mut random = Random(1);
    move || origin + Duration::from_nanos(random.below(IDLE_TIMEOUT))
}

// ----- time

/// Times calls, and prints a row of the table for each part.
struct Stopwatch {
    /// Shortest time of a batch of calls.
    batch: Duration,
}

impl Stopwatch {
    fn time<T>(&self, name: &str, mut call: impl FnMut() -> T) {
        let calls = self.calls_per_batch(&mut call);
        let mut batches: Vec<_> = (0..BATCHES).map(|_| nanoseconds_per_call(calls, &mut call)).collect();
        batches.sort_by(f64::total_cmp);
        let (median, slow) = (batches[BATCHES / 2], batches[BATCHES * 9 / 10]);
        println!("| {name:<NAMES$} | {median:>11.1} | {slow:>13.1} |");
    }

    /// Doubles the number of calls until they last long enough, which warms the caches as well.
    fn calls_per_batch<T>(&self, call: &mut impl FnMut() -> T) -> u64 {
        let mut calls = 1;
        while nanoseconds_per_call(calls, call) * (calls as f64) < self.batch.as_nanos() as f64 {
            calls *= 2;
        }
        calls
    }
}

fn nanoseconds_per_call<T>(calls: u64, call: &mut impl FnMut() -> T) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(call());
    }
    start.elapsed().as_nanos() as f64 / calls as f64
}

//! Both sides of a session see the same as over a direct connection.
//!
//! Each case also runs over a direct connection. The relay must show the same outcome, with small and large
//! buffers, and with copied and spliced bytes. A few cases cannot be the same, most of them because a relay accepts
//! before it knows how the target answers:
//!
//! | case | directly | over the relay |
//! |---|---|---|
//! | refused | the connect fails | the connect succeeds, and is reset at once |
//! | unreachable | the connect fails | the connect succeeds, and is reset at once |
//! | no answer | the connect does not end | the connect succeeds, and is reset after c t/o |
//! | the sender resets, the reader has stopped | the reader's kernel keeps its bytes | so does the relay, for a grace of 2 s |
//!
//! The cases here are written by hand; `differential` generates thousands.

#[cfg(target_os = "linux")]
mod differential;
mod unavailable;

use crate::support::net::{self, End};
use crate::support::{self, Relay, Start, eventually};
use socket2::SockRef;
use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use tcprelay::internal::stream::Stream as _;

/// The time that a busy machine may add to a bound.
const BUSY: Duration = Duration::from_secs(3);

/// The path of the bytes from side to side.
struct Route {
    name: &'static str,
    /// The relay; None for a direct connection.
    relay: Option<Relay>,
    listener: TcpListener,
}

/// The relays: their names, buffers and options.
const RELAYS: [(&str, usize, &str); 4] = [
    ("buffers of 100 bytes", 100, ""),
    ("buffers of 4000 bytes", 4000, ""),
    ("buffers of 100 bytes, copied", 100, "--no-splice"),
    ("buffers of 4000 bytes, copied", 4000, "--no-splice"),
];

impl Route {
    fn direct() -> Self {
        Self { name: "directly", relay: None, listener: net::listen() }
    }

    /// Starts a relay with `start`'s settings.
    fn over((name, buf, options): (&'static str, usize, &'static str), start: fn(Start) -> Start) -> Self {
        let listener = net::listen();
        let relay = start(Start::to(net::address(&listener))).buf(buf).options(options).start();
        Self { name, relay: Some(relay), listener }
    }

    /// Connects, and returns the requester's end and the target's.
    #[track_caller]
    fn connect(&mut self) -> (TcpStream, TcpStream) {
        if let Some(relay) = &mut self.relay {
            let ends = relay.session(&self.listener);
            while !relay.log.line().text.ends_with("target-to-requester channel is now active.") {}
            return ends;
        }
        let requester = net::connect(net::address(&self.listener));
        (requester, net::accept(&self.listener))
    }
}

/// The side that acts first in a case.
#[derive(Clone, Copy, Debug)]
enum First {
    Requester,
    Target,
}

/// Asserts that a case has the same outcome directly and over every relay, whichever side is first.
#[track_caller]
fn same_everywhere<T: Debug + PartialEq + Send>(
    start: fn(Start) -> Start,
    case: impl Fn(TcpStream, TcpStream) -> T + Sync,
) {
    let case = &case;
    // The sessions run side by side, because a case may wait.
    let view = |mut route: Route| {
        let sessions = [First::Requester, First::Target].map(|first| (first, route.connect()));
        thread::scope(|scope| {
            let views = sessions.map(|(first, (requester, target))| {
                scope.spawn(move || match first {
                    First::Requester => case(requester, target),
                    First::Target => case(target, requester),
                })
            });
            views.map(|view| view.join().unwrap())
        })
    };
    let view = &view;
    thread::scope(|scope| {
        let views = RELAYS.map(|relay| (relay.0, scope.spawn(move || view(Route::over(relay, start)))));
        let expected = view(Route::direct());
        for (name, seen) in views {
            assert_eq!(seen.join().unwrap(), expected, "with {name}");
        }
    });
}

/// Keeps the default settings.
fn plain(start: Start) -> Start {
    start
}

/// Reads to the end, asserts that the bytes are `words`, and returns the end.
#[track_caller]
fn hear(stream: &mut impl Read, words: &[u8]) -> End {
    let (heard, end) = net::read_all(stream);
    net::assert_same(&heard, words);
    end
}

#[test]
fn a_half_close_leaves_the_other_direction_open() {
    same_everywhere(plain, |mut first, mut second| {
        let (question, answer) = (net::random(1, 30_000), net::random(2, 60_000));
        first.write_all(&question).unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        let asked = hear(&mut second, &question);
        for part in answer.chunks(20_000) {
            second.write_all(part).unwrap();
        }
        second.shutdown(Shutdown::Write).unwrap();
        (asked, hear(&mut first, &answer))
    });
}

#[test]
fn an_eof_before_any_byte_is_an_eof() {
    same_everywhere(plain, |mut first, mut second| {
        first.shutdown(Shutdown::Write).unwrap();
        let seen = net::read_all(&mut second);
        drop(second);
        (seen, net::read_all(&mut first))
    });
}

#[test]
fn a_reset_while_nothing_moves_is_a_reset() {
    same_everywhere(plain, |first, mut second| {
        net::reset(first);
        net::read_all(&mut second)
    });
}

#[test]
fn a_reset_after_a_half_close_is_a_reset() {
    same_everywhere(plain, |mut first, mut second| {
        second.shutdown(Shutdown::Write).unwrap();
        let ended = net::read_all(&mut first);
        net::reset(first);
        (ended, net::read_all(&mut second))
    });
}

/// Returns the number of bytes that this end has sent and its peer's kernel has not acknowledged. It asks the
/// socket itself, because connections of other tests make the kernel's table long and slow to read.
fn unacknowledged(stream: &TcpStream) -> usize {
    let socket = mio::net::TcpStream::from_std(stream.try_clone().unwrap());
    socket.unacknowledged().unwrap().try_into().unwrap()
}

#[test]
fn bytes_sent_before_a_reset_arrive_before_it() {
    same_everywhere(plain, |mut first, mut second| {
        let words = net::random(3, 30_000);
        first.write_all(&words).unwrap();
        eventually("the other kernel has it", || unacknowledged(&first) == 0);
        net::reset(first);
        // The second side reads only long after the reset.
        thread::sleep(Duration::from_millis(200));
        hear(&mut second, &words)
    });
}

/// Sends to a peer that does not read until no byte moves any more. Returns the bytes sent.
fn send_until_stuck(stream: &mut TcpStream) -> Vec<u8> {
    let words = net::random(4, 1 << 20);
    let mut sent = Vec::new();
    stream.set_nonblocking(true).unwrap();
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(300) {
        let from = sent.len() % words.len();
        match stream.write(&words[from..words.len().min(from + 65_536)]) {
            Ok(count) => {
                sent.extend_from_slice(&words[from..from + count]);
                since = Instant::now();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    stream.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn bytes_acknowledged_before_a_reset_arrive_though_the_reader_is_late() {
    same_everywhere(plain, |mut first, mut second| {
        let sent = send_until_stuck(&mut first);
        let acknowledged = sent.len() - unacknowledged(&first);
        net::reset(first);
        thread::sleep(Duration::from_millis(200));
        let (heard, end) = net::read_all(&mut second);
        net::assert_same(&heard, &sent[..heard.len()]);
        assert!(heard.len() >= acknowledged, "{} of {acknowledged} bytes", heard.len());
        end
    });
}

#[test]
fn a_reader_that_has_stopped_holds_a_cut_session_only_for_the_grace() {
    const GRACE: Duration = Duration::from_secs(2);
    thread::scope(|scope| {
        for relay in RELAYS {
            scope.spawn(move || {
                let mut route = Route::over(relay, plain);
                let (mut requester, mut target) = route.connect();
                let sent = send_until_stuck(&mut requester);
                let start = Instant::now();
                net::reset(requester);
                let relay = route.relay.as_mut().unwrap();
                let line = relay.log.expect(34, 1);
                assert!(line.at - start < GRACE + BUSY, "{}: {:?}", route.name, line.at - start);
                // The target loses the bytes that it had not taken, so it must see a reset.
                let (heard, end) = net::read_all(&mut target);
                net::assert_same(&heard, &sent[..heard.len()]);
                assert_eq!(end, End::Reset);
                relay.assert_relays(&route.listener);
            });
        }
    });
}

#[test]
fn an_answer_before_a_close_over_unread_bytes_arrives_and_then_the_reset() {
    same_everywhere(plain, |mut first, mut second| {
        // The second side refuses an upload as too large, and closes.
        first.write_all(&net::random(5, 40_000)).unwrap();
        eventually("the other kernel has it", || unacknowledged(&first) == 0);
        net::read_exactly(&mut second, 1000);
        assert!(net::readable_within(&second, support::PATIENCE));
        second.write_all(b"413").unwrap();
        assert!(net::readable_within(&first, support::PATIENCE), "no answer");
        drop(second);
        thread::sleep(Duration::from_millis(200));
        net::read_all(&mut first)
    });
}

#[test]
fn an_early_close_stops_a_writer_that_goes_on() {
    same_everywhere(plain, |mut first, mut second| {
        first.write_all(&[7; 10_000]).unwrap();
        net::read_exactly(&mut second, 100);
        assert!(net::readable_within(&second, support::PATIENCE));
        drop(second);
        // The writes of the first side must fail soon, not after gigabytes.
        let start = Instant::now();
        loop {
            match first.write_all(&[7; 16_000]) {
                Ok(()) => assert!(start.elapsed() < support::PATIENCE, "the writes never fail"),
                Err(error) => {
                    return matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
                }
            }
        }
    });
}

/// Sends urgent bytes in the middle of others, and an EOF behind them if `with_end`.
fn urgent(with_end: bool) {
    same_everywhere(plain, |mut first, mut second| {
        // The reader takes urgent bytes inline, because the relay sends them to every reader as ordinary ones.
        SockRef::from(&second).set_out_of_band_inline(true).unwrap();
        let mut seen = Vec::new();
        for round in 0..3 {
            first.write_all(b"abc").unwrap();
            net::send_urgent(&first, b'!');
            if round > 0 {
                first.write_all(b"def").unwrap();
            }
            let length = if round > 0 { 7 } else { 4 };
            if !with_end {
                seen.push(net::read_exactly(&mut second, length));
            }
        }
        if with_end {
            first.shutdown(Shutdown::Write).unwrap();
            let (heard, end) = net::read_all(&mut second);
            assert_eq!(end, End::Clean);
            seen.push(heard);
        }
        second.write_all(b"heard").unwrap();
        seen.push(net::read_exactly(&mut first, 5));
        seen
    });
}

#[test]
fn urgent_bytes_are_in_their_place() {
    urgent(false);
}

#[test]
fn urgent_bytes_before_an_eof_are_in_their_place() {
    urgent(true);
}

#[test]
fn twenty_thousand_sends_of_one_byte_reach_a_reader_that_is_late() {
    same_everywhere(plain, |mut first, mut second| {
        let words = net::random(6, 20_000);
        let sender = thread::spawn({
            let words = words.clone();
            move || {
                for byte in &words {
                    first.write_all(std::slice::from_ref(byte)).unwrap();
                }
                first.shutdown(Shutdown::Write).unwrap();
                first
            }
        });
        thread::sleep(Duration::from_millis(300));
        let heard = hear(&mut second, &words);
        drop(second);
        (heard, net::read_all(&mut sender.join().unwrap()))
    });
}

#[test]
fn a_reader_that_is_slow_for_longer_than_the_idle_timeout_gets_everything() {
    // The kernel holds more bytes than the slow reader takes in 2.5 s. The relay does not see them move.
    same_everywhere(
        |start| start.idle_timeout(1),
        |mut first, mut second| {
            let words = net::random(7, 3_000_000);
            let sender = thread::spawn({
                let words = words.clone();
                move || {
                    first.write_all(&words).unwrap();
                    first
                }
            });
            let mut heard = Vec::new();
            for _ in 0..25 {
                heard.extend(net::read_exactly(&mut second, 20_000));
                thread::sleep(Duration::from_millis(100));
            }
            heard.extend(net::read_exactly(&mut second, words.len() - heard.len()));
            net::assert_same(&heard, &words);
            let mut first = sender.join().unwrap();
            net::assert_passes(&mut second, &mut first, b"thank you");
            true
        },
    );
}

//! Random scripts for both ends of a session. Each is played over a direct connection and over a relay, and both
//! ends must see the same.
//!
//! `script.rs` writes them, `play.rs` plays them. Each relay serves many of them at a time.
//!
//! A script that fails prints its seed. `DIFFERENTIAL_SEED=<seed> cargo test --test program differential` plays that
//! one again, and prints its steps. `cargo test --release --test program -- --ignored differential` plays
//! `DIFFERENTIAL_SEEDS` more.

mod play;
mod script;

use std::collections::HashSet;
use std::io::{Read as _, empty};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use socket2::SockRef;

use self::play::{Play, Seen};
use self::script::Script;
use super::{RELAYS, Route, plain};
use crate::support::random::{Random, number};
use crate::support::{Log, Relay, net};

/// Scripts of a `cargo test`: a few seconds' worth.
const SEEDS: u64 = 500;
/// Scripts of the long test: about two minutes on two processors, in a debug build as well.
const MANY_SEEDS: u64 = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
/// Scripts that are played at a time.
const PLAYERS: usize = 16;

/// Relays beyond those of the matrix. The small pool has one slot for each player, so a session that outlives its
/// script turns another one away.
const OTHERS: [(&str, usize, &str); 2] =
    [("a PROXY header in front", 4000, "--proxy-protocol v1"), ("a small pool", 100, "--sessions 16")];

/// A route that many scripts use at the same time.
struct Lane {
    name: &'static str,
    /// The address that its requesters connect to.
    address: SocketAddr,
    /// Whether its targets have small receive buffers.
    narrow: bool,
    has_header: bool,
    doors: Mutex<Doors>,
    /// The ends that the relay has logged; None for a direct connection.
    ends: Option<Mutex<Ends>>,
}

/// The part of a lane that opens sessions, one at a time. So the connection that the target accepts belongs to the
/// session that is being opened.
struct Doors {
    route: Route,
    opened: u64,
}

/// The sessions that have ended, by serial number.
struct Ends {
    log: Log,
    ended: HashSet<u64>,
}

impl Lane {
    fn new(mut route: Route, options: &str, narrow: bool) -> Self {
        if narrow {
            SockRef::from(&route.listener).set_recv_buffer_size(net::NARROW).unwrap();
        }
        let address = route.relay.as_ref().map_or(net::address(&route.listener), Relay::address);
        let log = route.relay.as_mut().map(|relay| std::mem::replace(&mut relay.log, Log::of(empty())));
        Self {
            name: route.name,
            address,
            narrow,
            has_header: options.contains("--proxy-protocol"),
            doors: Mutex::new(Doors { route, opened: 0 }),
            ends: log.map(|log| Mutex::new(Ends { log, ended: HashSet::new() })),
        }
    }

    fn direct(narrow: bool) -> Self {
        Self::new(Route::direct(), "", narrow)
    }

    fn over((name, buf, options): (&'static str, usize, &'static str), narrow: bool) -> Self {
        Self::new(Route::over((name, buf, options), plain), options, narrow)
    }

    /// Plays a script, waits for the end of the session, and returns what both ends have seen.
    fn play(&self, seed: u64, script: &Script, traced: bool) -> Vec<Seen> {
        if traced {
            eprintln!("  {}", self.name);
        }
        let mut doors = self.doors.lock().unwrap();
        let requester =
            if script.narrow { net::connect_narrow(self.address) } else { net::connect(self.address) };
        let mut play = Play::new(seed, requester);
        play.play(&script.early, traced);
        let mut target = net::accept(&doors.route.listener);
        doors.opened += 1;
        let serial = doors.opened;
        drop(doors);
        if self.has_header {
            skip_header(&mut target);
        }
        play.accept(target);
        play.play(&script.steps, traced);
        let view = play.close();
        self.wait_for_end(serial);
        view
    }

    /// Waits until the relay has logged the end of this session.
    fn wait_for_end(&self, serial: u64) {
        let Some(ends) = &self.ends else { return };
        loop {
            let mut ends = ends.lock().unwrap();
            if ends.ended.remove(&serial) {
                return;
            }
            let line = ends.log.line().text;
            assert!(!line.contains("dropped"), "{}: {line}", self.name);
            let of_session = line.strip_prefix("Session handler serial number ").unwrap_or_default();
            if let Some((serial, end)) = of_session.split_once(" terminated due to ") {
                assert!(end.ends_with(" closure."), "{}: {line}", self.name);
                ends.ended.insert(serial.parse().unwrap());
            }
        }
    }
}

/// Reads a header of version 1, and no byte beyond it.
fn skip_header(target: &mut TcpStream) {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n") {
        let mut byte = [0];
        target.read_exact(&mut byte).unwrap();
        header.extend(byte);
    }
    assert!(header.starts_with(b"PROXY TCP4 127.0.0.1 "), "{}", header.escape_ascii());
}

/// All lanes: two direct ones, with large and with small receive buffers at the target, and those over the relays.
struct Lanes {
    direct: [Lane; 2],
    relayed: Vec<Lane>,
}

impl Lanes {
    fn new() -> Self {
        let rows = RELAYS.into_iter().chain(OTHERS).enumerate();
        // The narrow ones are the first and the last relay of the matrix, which differ in both settings.
        let relayed = rows.map(|(at, row)| Lane::over(row, [0, 3].contains(&at))).collect();
        Self { direct: [false, true].map(Lane::direct), relayed }
    }

    /// Plays the script of a seed directly and over one of the relays.
    fn run(&self, seed: u64, traced: bool) {
        let mut random = Random(seed);
        let relayed = &self.relayed[random.index(self.relayed.len())];
        let script = Script::random(random, relayed.narrow);
        if traced {
            eprintln!("{script:#?}");
        }
        let expected = self.direct[usize::from(relayed.narrow)].play(seed, &script, traced);
        let is_failed = |seen: &Seen| matches!(seen, Seen::Wrong(..) | Seen::Stuck(_) | Seen::Error(..));
        assert!(!expected.iter().any(is_failed), "directly: {expected:?}");
        let view = relayed.play(seed, &script, traced);
        assert_eq!(view, expected, "with {}, left, and directly, right", relayed.name);
    }
}

/// Plays the script of each seed, or only that of `DIFFERENTIAL_SEED` if it is set.
fn run_seeds(seeds: Range<u64>) {
    let one = number("DIFFERENTIAL_SEED");
    let seeds = one.map_or(seeds, |seed| seed..seed + 1);
    let lanes = Lanes::new();
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                while failed.lock().unwrap().is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| lanes.run(seed, one.is_some()))).is_err() {
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "Scripts have failed: DIFFERENTIAL_SEED is one of {failed:?}.");
}

#[test]
fn scripts_show_both_ends_what_a_direct_connection_shows() {
    run_seeds(0..SEEDS);
}

#[test]
#[ignore = "takes minutes"]
fn many_more_scripts_show_both_ends_what_a_direct_connection_shows() {
    run_seeds(SEEDS..SEEDS + number("DIFFERENTIAL_SEEDS").unwrap_or(MANY_SEEDS));
}

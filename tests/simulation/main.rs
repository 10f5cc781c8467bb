//! The real pool, with whole sessions on simulated connections and a virtual clock.
//!
//! Each seed makes another relay: another mixture of arrivals, short reads and writes, full buffers,
//! interruptions, pauses, urgent bytes, refused splices, EOFs, resets, timeouts, drains and stops, in
//! another order.
//!
//! `model/src/kernel` simulates the connections, and `model/src/world` the peers of a session. `plan.rs`
//! draws a relay's settings and its load, `gateway/` is the loop around the pool, and `host.rs` is the pool's
//! host. `turns.rs` judges each turn: which sessions are served, how soon, and for how many bytes.
//! `verdict.rs` judges each session: bytes arrive whole and in order, EOFs and aborts travel and are never
//! mistaken for each other, nothing waits that could go on, the cause is right, and no timer is early or late.
//!
//! The other modules test one part each: `sessions.rs` a session, `pace.rs` a channel, `latches.rs` a socket,
//! and `idle.rs` the idle clock.
//!
//! A failing run prints the command that repeats it, with its seed in `SIMULATION_SEED`. With that, a test runs
//! only the relay of this seed, and prints every turn of it.
//! `cargo test --release --test simulation -- --ignored` runs many more: `SIMULATION_SEEDS` relays, and a week
//! of `SIMULATION_SESSIONS` sessions.

// A test that cannot go on panics, and so does the subtraction of a later time. Byte counts fit every integer
// type here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::cast_possible_truncation, clippy::unchecked_time_subtraction, missing_docs, unreachable_pub)]
#![cfg(target_os = "linux")]

mod gateway;
mod host;
mod idle;
mod latches;
mod pace;
mod plan;
mod sessions;
mod turns;
mod verdict;

use std::num::NonZero;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::{Gateway, Life};
use plan::Plan;
use tcprelay_model::random::{Random, number};

/// Relays in a plain `cargo test`, which take a few seconds.
const SEEDS: u64 = 400;
/// Relays in the long test, which takes half an hour on two processors, and minutes in a debug build.
const MANY_SEEDS: u64 = if cfg!(debug_assertions) { 8_000 } else { 1_000_000 };
/// Sessions in the busy week, which takes about ten minutes.
const SESSIONS: u64 = if cfg!(debug_assertions) { 200_000 } else { 10_000_000 };

/// A kind of relays, with what `cargo test --test simulation` needs after it to repeat one of them.
#[derive(Clone, Copy)]
struct Kind {
    plan: fn(&mut Random) -> Plan,
    repeat: &'static str,
}

const ANY: Kind = Kind { plan: Plan::any, repeat: "some_seeds" };
const BUSY: Kind = Kind { plan: Plan::busy, repeat: "busy_week -- --ignored" };

/// Runs one relay. If it fails, prints the command that repeats it.
fn run(seed: u64, kind: Kind) -> Life {
    let traced = number("SIMULATION_SEED").is_some();
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let mut random = Random(seed);
        let plan = (kind.plan)(&mut random);
        if traced {
            eprintln!("{plan:#?}");
        }
        let life = Gateway::new(plan, random, traced).run();
        if seed.is_multiple_of(64) {
            judge_descriptors();
        }
        life
    }));
    attempt.unwrap_or_else(|panic| {
        eprintln!("failed; repeat: SIMULATION_SEED={seed} cargo test --test simulation {}", kind.repeat);
        resume_unwind(panic);
    })
}

/// Asserts that no descriptors leak, beyond the pipes of the relays that run at the same time.
fn judge_descriptors() {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open <= 64 * (threads + 1), "{open} descriptors are open");
}

/// Runs a relay for each seed on all processors, until `sessions_max` sessions have ended, or only for the seed
/// in `SIMULATION_SEED`. Returns the numbers of relays and sessions, and the sum of the relays' virtual time.
fn run_all(kind: Kind, seeds: Range<u64>, sessions_max: u64) -> (u64, u64, Duration) {
    let seeds = number("SIMULATION_SEED").map_or(seeds, |seed| seed..seed + 1);
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new((0, 0, Duration::ZERO));
    let work = || {
        while all.lock().unwrap().1 < sessions_max {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let life = run(seed, kind);
            let (relays, sessions, time) = &mut *all.lock().unwrap();
            (*relays, *sessions, *time) = (*relays + 1, *sessions + life.sessions, *time + life.time);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    all.into_inner().unwrap()
}

/// Runs a relay of any kind for each seed.
fn run_seeds(seeds: Range<u64>) {
    let (relays, sessions, _) = run_all(ANY, seeds, u64::MAX);
    eprintln!("{relays} relays, {sessions} sessions");
}

#[test]
fn random_relays_of_some_seeds_keep_every_promise() {
    run_seeds(0..SEEDS);
}

#[test]
#[ignore = "takes minutes"]
fn random_relays_of_many_seeds_keep_every_promise() {
    run_seeds(SEEDS..SEEDS + number("SIMULATION_SEEDS").unwrap_or(MANY_SEEDS));
}

#[test]
#[ignore = "takes minutes"]
fn a_busy_week_leaks_nothing_loses_nothing_and_is_never_late() {
    let most = number("SIMULATION_SESSIONS").unwrap_or(SESSIONS);
    let (relays, sessions, time) = run_all(BUSY, 0..u64::MAX, most);
    eprintln!("{relays} relays, {sessions} sessions, {} virtual hours", time.as_secs() / 3600);
}

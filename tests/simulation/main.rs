//! The real pool with whole sessions on simulated connections and a virtual clock: thousands of seeded
//! relays, each another mixture of arrivals, short reads and writes, full buffers, interruptions,
//! pauses, urgent bytes, refused splices, EOFs, resets, timeouts, drains and stops, in another order.
//!
//! `model/src/kernel` is the connections, `model/src/world` the peers of a session; `plan.rs` says
//! what a relay is like, `gateway.rs` is the loop around the pool, `host.rs` its host. `turns.rs` judges
//! each turn: who is served, how soon, for how many bytes. `verdict.rs` judges each session: bytes
//! arrive whole and in order, ends and aborts travel and are never taken for each other, nothing waits
//! that could go on, the right cause is named, no timer is early or late.
//!
//! A run that fails prints its seed. `SIMULATION_SEED=<seed> cargo test --test simulation seeds` runs that one
//! again, and prints every turn of it. `cargo test --release --test simulation -- --ignored` runs many more:
//! `SIMULATION_SEEDS` relays, and a week of `SIMULATION_SESSIONS` sessions.

// A test that cannot go on says so by panicking, and so does a time before the start; counts of bytes fit
// every integer here.
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

/// Relays of a `cargo test`: a few seconds' worth.
const SEEDS: u64 = 400;
/// Relays of the long test: about half an hour on two processors, and minutes in a debug build.
const MANY_SEEDS: u64 = if cfg!(debug_assertions) { 8_000 } else { 1_000_000 };
/// Sessions of the busy week: ten minutes.
const SESSIONS: u64 = if cfg!(debug_assertions) { 200_000 } else { 10_000_000 };

/// Runs one relay; where it fails, its seed is named.
fn run(seed: u64, plan: impl FnOnce(&mut Random) -> Plan) -> Life {
    let traced = number("SIMULATION_SEED").is_some();
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let mut random = Random(seed);
        let plan = plan(&mut random);
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
        eprintln!("The run with SIMULATION_SEED={seed} has failed.");
        resume_unwind(panic);
    })
}

/// The tests that run at a time have a relay's pipes each. More would be a leak.
fn judge_descriptors() {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open <= 64 * (threads + 1), "{open} descriptors are open");
}

/// Runs relays for these seeds on all processors, until they have had so many sessions; in all: the
/// relays, their sessions, their time.
fn run_all(seeds: Range<u64>, sessions_max: u64, plan: fn(&mut Random) -> Plan) -> (u64, u64, Duration) {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new((0, 0, Duration::ZERO));
    let work = || {
        while all.lock().unwrap().1 < sessions_max {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let life = run(seed, plan);
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

/// Runs a relay for each seed, or for the one that the environment asks for.
fn run_seeds(seeds: Range<u64>) {
    let seeds = number("SIMULATION_SEED").map_or(seeds, |seed| seed..seed + 1);
    let (relays, sessions, _) = run_all(seeds, u64::MAX, Plan::any);
    eprintln!("{relays} relays, {sessions} sessions");
}

#[test]
fn seeds_of_every_order_of_events_keep_every_promise() {
    run_seeds(0..SEEDS);
}

#[test]
#[ignore = "takes minutes"]
fn seeds_of_every_order_of_events_keep_every_promise_for_long() {
    run_seeds(SEEDS..SEEDS + number("SIMULATION_SEEDS").unwrap_or(MANY_SEEDS));
}

#[test]
#[ignore = "takes minutes"]
fn a_busy_week_leaks_nothing_loses_nothing_and_is_never_late() {
    let most = number("SIMULATION_SESSIONS").unwrap_or(SESSIONS);
    let (relays, sessions, time) = run_all(0..u64::MAX, most, Plan::busy);
    eprintln!("{relays} relays, {sessions} sessions, {} virtual hours", time.as_secs() / 3600);
}

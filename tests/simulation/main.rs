//! Whole sessions on simulated connections and a virtual clock: thousands of seeded runs, each
//! another mixture of short reads and writes, full buffers, interruptions, pauses, urgent bytes,
//! refused splices, ends, resets and timeouts, in another order.
//!
//! `simulation/kernel.rs` is the connections, `world.rs` the peers and the time, `relay.rs` the loop
//! around the session, and `verdict.rs` what must be true: that bytes arrive whole and in order, that
//! ends and aborts travel and are never taken for each other, that nothing waits which could go on,
//! that the right cause is told, that no timeout is early, that every pipe comes back. `pace.rs` is
//! about one channel on such connections: how it moves bytes, which no peer can tell.
//!
//! A run that fails prints its seed. `SIMULATION_SEED=<seed> cargo test --test simulation` runs that
//! one again, and tells every turn of it; `cargo test --test simulation -- --ignored` runs many more.

// A test that cannot go on says so by panicking; counts of bytes fit every integer here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::cast_possible_truncation, missing_docs, unreachable_pub)]
#![cfg(target_os = "linux")]

mod latches;
mod pace;
mod relay;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use relay::Relay;
use tcprelay::internal::splice::Pipes;
use tcprelay_model::kernel::Random;
use tcprelay_model::world::World;

/// Runs of a `cargo test`: a few seconds' worth.
const RUNS: u64 = 3_000;
/// Runs of the long test.
const MANY_RUNS: u64 = 100_000;

/// Runs the seeds, each in its own world; all share the pipes, as sessions do.
fn run(seeds: impl Iterator<Item = u64>) {
    let mut pipes = Pipes::new(true);
    let most = verdict::count(&mut pipes);
    for seed in seeds {
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            let mut random = Random(seed);
            let splicing = random.below(4) > 0;
            let world = World::random(random, splicing);
            let shared_pipes =
                if splicing { std::mem::replace(&mut pipes, Pipes::new(false)) } else { Pipes::new(false) };
            let outcome = Relay::new(world, shared_pipes).run();
            verdict::judge(&outcome);
            if splicing {
                pipes = verdict::returned(outcome.pipes, most);
            }
        }));
        if let Err(panic) = attempt {
            eprintln!("The run with SIMULATION_SEED={seed} has failed.");
            resume_unwind(panic);
        }
    }
}

/// The seed that the environment asks for, instead of `all`.
fn seeds(all: std::ops::Range<u64>) -> std::ops::Range<u64> {
    match std::env::var("SIMULATION_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SIMULATION_SEED is a number");
            seed..seed + 1
        }
        Err(_) => all,
    }
}

#[test]
fn in_every_order_of_events_bytes_ends_and_aborts_travel_and_nothing_stalls() {
    run(seeds(0..RUNS));
}

#[test]
#[ignore = "takes minutes"]
fn in_every_order_of_events_bytes_ends_and_aborts_travel_and_nothing_stalls_for_long() {
    run(seeds(RUNS..MANY_RUNS));
}

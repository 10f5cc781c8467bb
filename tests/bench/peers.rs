//! `cargo bench --bench peers`: the relay beside every peer that is installed, on loopback.
//!
//! Each load runs on each relay in turn, round by round (A B C, A B C, ...), and the median counts,
//! so that a machine whose speed drifts is as unfair to one as to the other. The main figure is
//! the processor time that a relay itself uses for the work.
//!
//! The load generator and the target are threads of this program: nothing else must be installed.
//!
//! `cargo test --all-targets` runs this too: then it is one short round, to show that it works.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr)]
// Counts become figures with three digits.
#![allow(clippy::cast_precision_loss)]

mod chart;
mod client;
mod contestants;
mod downloads;
mod loads;
mod options;
mod process;
mod results;
mod stop;
mod table;
mod target;
mod turns;

use std::io;
use std::process::ExitCode;

use contestants::{Contestant, Running, Workplace};
use loads::Load;
use options::Options;
use results::Results;
use target::Target;

/// Beside the [[bench]] target that draws it, so that the README can show it.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peers.svg");

fn main() -> ExitCode {
    let options = Options::from_command_line();
    match compare(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and tells; false if a figure of our own relay is missing.
fn compare(options: &Options) -> io::Result<bool> {
    stop::on_signals()?;
    process::raise_descriptor_limit();
    let (installed, missing) = contestants::find(options);
    for contestant in missing {
        println!("not installed: {} (Debian: {})", contestant.name, contestant.package);
    }
    let results = measure_all(&installed, options)?;
    tell(&results, &installed, options)?;
    Ok(results.is_complete(contestants::OURS))
}

fn measure_all(installed: &[Contestant], options: &Options) -> io::Result<Results> {
    let target = Target::start()?;
    let workplace = Workplace::new()?;
    let mut results = Results::default();
    for &load in &options.loads {
        for round in 1..=options.rounds {
            eprintln!("{}: round {round} of {}", load.name(), options.rounds);
            for contestant in in_order(installed, round) {
                match measure(contestant, load, &target, &workplace, options) {
                    Ok(values) => results.add(load, contestant.name, &values),
                    Err(error) => results.fail(load, contestant.name, &error),
                }
                if stop::requested() {
                    return Err(io::Error::other("stopped by a signal"));
                }
            }
        }
    }
    Ok(results)
}

/// Another order in each round: the machine is not the same after one relay as after another. With six
/// relays and six rounds, each comes after each of the others once.
fn in_order(installed: &[Contestant], round: u16) -> Vec<&Contestant> {
    const PRIME: usize = 7;
    let mut order: Vec<_> = installed.iter().enumerate().collect();
    order.sort_by_key(|(index, _)| (index + 1) * usize::from(round) % PRIME);
    order.into_iter().map(|(_, contestant)| contestant).collect()
}

/// One load on one relay, started for it and ended after it.
fn measure(
    contestant: &Contestant,
    load: Load,
    target: &Target,
    workplace: &Workplace,
    options: &Options,
) -> io::Result<Vec<f64>> {
    let relay = Running::start(contestant, target.address(), workplace)?;
    load.measure(&relay, target, options.time)
}

fn tell(results: &Results, installed: &[Contestant], options: &Options) -> io::Result<()> {
    let names: Vec<_> = installed.iter().map(|contestant| contestant.name).collect();
    println!("\n{}\n", conditions(installed, options));
    println!("{}", table::render(results, &options.loads, &names));
    for failure in results.failures() {
        println!("failed: {failure}");
    }
    if options.is_whole {
        let caption = format!("On loopback, {}", options.rounds());
        chart::draw(results, &names, &caption, CHART)?;
        println!("chart: tests/bench/peers.svg");
    } else {
        println!("chart: left as it is; only a run of every load on every relay draws it");
    }
    Ok(())
}

/// What the figures were measured with.
fn conditions(installed: &[Contestant], options: &Options) -> String {
    let versions: Vec<_> = installed.iter().map(Contestant::name_and_version).collect();
    format!(
        "{}; {}; {} of {} s each.",
        process::machine(),
        versions.join(", "),
        options.rounds(),
        options.time.as_secs_f64()
    )
}

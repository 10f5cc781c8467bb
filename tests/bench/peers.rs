//! `cargo bench --bench peers`: measures the relay beside every peer that is installed, on loopback.
//!
//! Each load runs on each relay in turn, round by round, and the median counts. So a machine whose speed
//! drifts is equally unfair to all of them. The main figure is the processor time that a relay itself uses
//! for the work.
//!
//! Yardsticks are measured as well:
//!
//! - `tcprelay-quiet`: our relay without the log of each connection, which no peer writes
//! - `floor`: the fewest system calls with which a relay on epoll can move the same bytes
//! - `direct`: no relay at all
//! - `dnat`: the kernel's translation of addresses
//!
//! The load generator and the target are threads of this program, so nothing else needs to be installed.
//! With `--counts` the program counts instructions and system calls instead. Only with `--chart` it draws the
//! chart that the README shows.
//!
//! Three threads are busy, so on two processors the scheduler's time slices show in every tail. With
//! `chrt -f 1 cargo bench --bench peers`, root keeps them and other programs out. Then ratios of processor
//! times agree within a few hundredths from run to run.
//!
//! `cargo test --all-targets` runs one short round of this, as a smoke test.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr)]
// Counts become figures with three digits.
#![allow(clippy::cast_precision_loss)]

mod chart;
mod client;
mod contestants;
mod counts;
mod downloads;
mod figures;
mod floor;
mod link;
mod loads;
mod measures;
mod namespace;
mod options;
mod paced;
mod process;
mod recipes;
mod results;
mod running;
mod stop;
mod table;
mod target;
mod turns;

use std::env;
use std::io;
use std::process::ExitCode;

use contestants::{Contestant, DNAT, Kind, OURS};
use loads::Load;
use measures::Scene;
use options::Options;
use results::Results;
use running::{Job, Running, Workplace};
use target::Target;

/// Path of the chart, beside the benchmark that draws it. The README shows it from there.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peers.svg");

/// Descriptors for everything but the kept sessions.
const OTHER_DESCRIPTORS: u64 = 1000;

/// Time that a load takes beside the measured time, in seconds.
const OVERHEAD: f64 = 0.7;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [first, port, target] if first == floor::ARGUMENT => floor::run(port, target).map(|()| true),
        _ => compare(&mut Options::from_command_line()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and reports, or counts. Returns false if a figure of our own relay, or any count, is missing.
fn compare(options: &mut Options) -> io::Result<bool> {
    let is_chosen = |name| options.relays.as_ref().is_none_or(|names| names.iter().any(|one| one == name));
    if !options.counts && is_chosen(DNAT) {
        namespace::enter()?;
    }
    stop::on_signals()?;
    // This process has both ends of each session, so it needs two descriptors for it, like a relay.
    let enough = 2 * options.kept as u64 + OTHER_DESCRIPTORS;
    let most = process::raise_descriptor_limit(enough).saturating_sub(OTHER_DESCRIPTORS) / 2;
    options.kept = options.kept.min(usize::try_from(most).unwrap_or(usize::MAX));
    let (found, missing) = contestants::find(options);
    for line in missing {
        println!("{line}");
    }
    if options.counts {
        return counts::compare(&found);
    }
    let runs = options.loads.len() * found.len() * usize::from(options.rounds);
    let minutes = (options.time.as_secs_f64() + OVERHEAD) * runs as f64 / 60.0;
    eprintln!("about {minutes:.0} minutes; --loads, --only and --rounds make it less");
    let results = measure_all(&found, options)?;
    report(&results, &found, options)?;
    Ok(results.is_complete(OURS))
}

fn measure_all(contestants: &[Contestant], options: &Options) -> io::Result<Results> {
    let target = Target::start()?;
    let workplace = Workplace::new()?;
    let mut results = Results::default();
    for &load in &options.loads {
        for round in 1..=options.rounds {
            eprintln!("{}: round {round} of {}", load.name(), options.rounds);
            for contestant in in_order(contestants, round) {
                match measure(contestant, load, &target, &workplace, options) {
                    Ok(values) => results.add(load, round, contestant.name, &values),
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

/// Returns the contestants in another order in each round, because a relay leaves the machine in a state that
/// affects the next one.
fn in_order(contestants: &[Contestant], round: u16) -> Vec<&Contestant> {
    // Greater than the number of contestants, so that no two get the same key.
    const PRIME: usize = 31;
    let mut order: Vec<_> = contestants.iter().enumerate().collect();
    order.sort_by_key(|(index, _)| (index + 1) * usize::from(round) % PRIME);
    order.into_iter().map(|(_, contestant)| contestant).collect()
}

/// Measures one load on one relay, which is started for it and ended after it.
fn measure(
    contestant: &Contestant,
    load: Load,
    target: &Target,
    workplace: &Workplace,
    options: &Options,
) -> io::Result<Vec<Option<f64>>> {
    let link = load.link()?;
    let link = link.as_ref();
    let destination = loads::destination(load, target, link);
    let job = Job { target: destination, sessions: load.sessions(options.kept), log: load.log() };
    let relay = &Running::start(contestant, &job, workplace)?;
    load.measure(&Scene { relay, target, link, time: options.time, kept: options.kept })
}

fn report(results: &Results, contestants: &[Contestant], options: &Options) -> io::Result<()> {
    println!("\n{}\n", conditions(contestants, options));
    println!("{}", table::render(results, &options.loads, contestants));
    println!("A ratio is that of the medians, with the least and the greatest of any round.\n");
    for failure in results.failures() {
        println!("failed: {failure}");
    }
    for contestant in contestants {
        print!("{}", contestant.configuration());
    }
    if options.chart {
        let is_charted = |contestant: &&Contestant| contestant.kind != Kind::Yardstick;
        let relays = contestants.iter().filter(is_charted).map(|contestant| contestant.name);
        let caption = format!("On loopback, {}", options.rounds());
        chart::draw(results, &relays.collect::<Vec<_>>(), &caption, CHART)?;
        println!("chart: tests/bench/peers.svg");
    }
    Ok(())
}

/// Returns the conditions of the measurement, in words.
fn conditions(contestants: &[Contestant], options: &Options) -> String {
    let versions: Vec<_> = contestants.iter().map(Contestant::name_and_version).collect();
    format!(
        "{}; {}; {} of {} s each; kept sessions: {}.",
        process::machine(),
        versions.join(", "),
        options.rounds(),
        options.time.as_secs_f64(),
        options.kept
    )
}

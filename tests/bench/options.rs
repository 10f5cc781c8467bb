//! The command line behind `cargo bench --bench peers --`.

use std::env;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::contestants::{self, Contestant};
use crate::loads::Load;
use crate::namespace;

const ROUNDS: u16 = 6;
const SECONDS: f64 = 1.5;
/// Sessions that the load `kept` keeps.
const KEPT: usize = 10_000;
/// The kernel's default range has 28,232 ports, and other loads need some.
const KEPT_MAX: i64 = 25_000;

/// The relays and loads to measure, and how long.
pub struct Options {
    pub rounds: u16,
    /// Time of one load on one relay.
    pub time: Duration,
    /// Names of the relays to measure; `None`: all.
    pub relays: Option<Vec<String>>,
    /// Relays that the command line adds.
    pub peers: Vec<Contestant>,
    pub loads: Vec<Load>,
    /// Sessions that the load `kept` keeps, if descriptors allow.
    pub kept: usize,
    /// Counts are taken instead of times.
    pub counts: bool,
    /// The chart is drawn.
    pub chart: bool,
}

impl Options {
    /// Reads the command line. Ends the program with an explanation if it is wrong.
    pub fn from_command_line() -> Self {
        // cargo bench passes this. cargo test does not, and its arguments are meant for a test harness.
        if env::args().any(|argument| argument == "--bench") {
            Self::from(&command().get_matches())
        } else {
            Self::smoke()
        }
    }

    /// Returns the rounds in words, as in `median of 3 rounds`.
    pub fn rounds(&self) -> String {
        match self.rounds {
            1 => "one round".to_owned(),
            rounds => format!("median of {rounds} rounds"),
        }
    }

    /// Returns the options of a smoke test: as little as shows that everything works.
    fn smoke() -> Self {
        Self {
            rounds: 1,
            time: Duration::from_millis(100),
            relays: None,
            peers: Vec::new(),
            loads: Load::ALL.to_vec(),
            kept: 100,
            counts: false,
            chart: false,
        }
    }
}

impl From<&ArgMatches> for Options {
    fn from(matches: &ArgMatches) -> Self {
        let listed =
            |name| matches.get_many::<String>(name).map(|values| values.cloned().collect::<Vec<_>>());
        let (relays, loads) = (listed("only"), listed("loads"));
        let is_listed =
            |load: &Load| loads.as_ref().is_none_or(|names| names.iter().any(|name| name == load.name()));
        Self {
            rounds: matches.get_one("rounds").copied().unwrap_or(ROUNDS),
            time: Duration::from_secs_f64(matches.get_one("seconds").copied().unwrap_or(SECONDS)),
            peers: matches.get_many("peer").into_iter().flatten().cloned().collect(),
            loads: Load::ALL.into_iter().filter(is_listed).collect(),
            kept: matches.get_one("kept").copied().map_or(KEPT, |kept: u16| usize::from(kept)),
            counts: matches.get_flag("counts"),
            chart: matches.get_flag("chart"),
            relays,
        }
    }
}

fn command() -> Command {
    let rounds = format!("Rounds, of which the median counts [default: {ROUNDS}]");
    let seconds = format!("Seconds of one load on one relay [default: {SECONDS}]");
    let kept = format!("Sessions that the load `kept` keeps, if descriptors allow [default: {KEPT}]");
    let peer = "Another relay: a command line in which {port} and {target} (or {host} and {target-port}) \
                stand for what it is to do, {sessions} for what it must have room for";
    Command::new("peers")
        .bin_name("cargo bench --bench peers --")
        .about(
            "Measures the relay beside its peers, the kernel's own way and the least possible, on loopback.",
        )
        .arg(option("rounds", "N").help(rounds).value_parser(value_parser!(u16).range(1..=99)))
        .arg(option("seconds", "N").help(seconds).value_parser(parse_seconds))
        .arg(option("kept", "N").help(kept).value_parser(value_parser!(u16).range(1..=KEPT_MAX)))
        .arg(list("only", "RELAY,...", everyone()).help("Only these relays"))
        .arg(list("loads", "LOAD,...", Load::ALL.map(Load::name)).help("Only these loads"))
        .arg(
            option("peer", "NAME=COMMAND")
                .help(peer)
                .action(ArgAction::Append)
                .value_parser(contestants::parse),
        )
        .arg(flag("counts").help("Instructions and system calls for a fixed script, instead of times"))
        .arg(
            flag("chart")
                .help("Draws tests/bench/peers.svg anew, from every load on every relay that is found")
                .conflicts_with_all(["counts", "loads", "only"]),
        )
        .arg(flag("bench").hide(true))
        .arg(flag(namespace::ARGUMENT.trim_start_matches('-')).hide(true))
}

fn option(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value)
}

fn flag(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue)
}

fn list(name: &'static str, value: &'static str, of: impl Into<PossibleValuesParser>) -> Arg {
    option(name, value).value_delimiter(',').value_parser(of.into())
}

fn everyone() -> Vec<&'static str> {
    contestants::ALL.iter().map(|contestant| contestant.name).collect()
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds.ok_or_else(|| "it takes 0.1 to 60".to_owned())
}

//! The values that were measured, and how relays compare.

use std::collections::BTreeMap;
use std::io;

use crate::contestants::{Contestant, Kind};
use crate::figures::{Better, Figure};
use crate::loads::Load;

/// All values of all rounds.
#[derive(Default)]
pub struct Results {
    /// The values by figure and relay, then by round.
    values: BTreeMap<(&'static str, &'static str), BTreeMap<u16, f64>>,
    /// Relays that failed, each with a text.
    failures: Vec<(&'static str, String)>,
}

/// One relay's figure divided by another's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio of the medians.
    pub of_medians: f64,
    /// The least and the greatest ratio of any round.
    pub spread: (f64, f64),
}

impl Results {
    /// Adds the values of a round of `load`.
    pub fn add(&mut self, load: Load, round: u16, relay: &'static str, values: &[Option<f64>]) {
        for (figure, value) in load.figures().iter().zip(values) {
            if let Some(value) = value {
                self.values.entry((figure.name, relay)).or_default().insert(round, *value);
            }
        }
    }

    /// Adds a failure under `load`.
    pub fn fail(&mut self, load: Load, relay: &'static str, error: &io::Error) {
        self.failures.push((relay, format!("{relay}, {}: {error}", load.name())));
    }

    /// Returns the failures, in words.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.failures.iter().map(|(_, text)| text.as_str())
    }

    /// Returns the median of the rounds; `None` if there is no value.
    pub fn median(&self, figure: &Figure, relay: &'static str) -> Option<f64> {
        let mut values: Vec<_> = self.rounds(figure, relay)?.values().copied().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let even = values.len() % 2 == 0;
        Some(if even { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] })
    }

    /// Returns the peer with the best median; `None` if no peer has a value.
    pub fn best_peer(&self, figure: &Figure, contestants: &[Contestant]) -> Option<&'static str> {
        let peers = contestants.iter().filter(|contestant| contestant.kind == Kind::Peer);
        let medians = peers.filter_map(|peer| Some((peer.name, self.median(figure, peer.name)?)));
        let best = match figure.better {
            Better::Less => medians.min_by(|(_, one), (_, other)| one.total_cmp(other)),
            Better::More => medians.max_by(|(_, one), (_, other)| one.total_cmp(other)),
        };
        best.map(|(name, _)| name)
    }

    /// Returns the figure of `relay` divided by that of `other`; `None` if either has no value.
    pub fn ratio(&self, figure: &Figure, relay: &'static str, other: &'static str) -> Option<Ratio> {
        let of_medians = self.median(figure, relay)? / self.median(figure, other)?;
        let others = self.rounds(figure, other)?;
        let in_rounds = self.rounds(figure, relay)?.iter();
        let ratios = in_rounds.filter_map(|(round, value)| Some(value / others.get(round)?));
        let spread = ratios.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), ratio| {
            (ratio.min(least), ratio.max(most))
        });
        Some(Ratio { of_medians, spread })
    }

    /// Returns whether `relay` had no failure.
    pub fn is_complete(&self, relay: &str) -> bool {
        !self.failures.iter().any(|&(failed, _)| failed == relay)
    }

    fn rounds(&self, figure: &Figure, relay: &'static str) -> Option<&BTreeMap<u16, f64>> {
        self.values.get(&(figure.name, relay)).filter(|rounds| !rounds.is_empty())
    }
}

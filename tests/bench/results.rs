//! What was measured, and how relays compare.

use std::collections::BTreeMap;
use std::io;

use crate::contestants::OURS;
use crate::loads::{Better, Figure, Load};

/// All values of all rounds.
#[derive(Default)]
pub struct Results {
    /// By figure and relay, one a round.
    values: BTreeMap<(&'static str, &'static str), Vec<f64>>,
    /// Relays with what went wrong.
    failures: Vec<(&'static str, String)>,
}

impl Results {
    /// Adds what a round of `load` gave.
    pub fn add(&mut self, load: Load, relay: &'static str, values: &[f64]) {
        for (figure, &value) in load.figures().iter().zip(values) {
            self.values.entry((figure.name, relay)).or_default().push(value);
        }
    }

    /// Adds what went wrong under `load`.
    pub fn fail(&mut self, load: Load, relay: &'static str, error: &io::Error) {
        self.failures.push((relay, format!("{relay}, {}: {error}", load.name())));
    }

    /// What went wrong, in words.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.failures.iter().map(|(_, text)| text.as_str())
    }

    /// The median of the rounds; `None` if there is no value.
    pub fn median(&self, figure: &Figure, relay: &'static str) -> Option<f64> {
        let mut values = self.values.get(&(figure.name, relay))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let even = values.len() % 2 == 0;
        Some(if even { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] })
    }

    /// The best value that a relay other than ours has.
    pub fn best_peer(&self, figure: &Figure, relays: &[&'static str]) -> Option<f64> {
        let peers = relays.iter().filter(|&&relay| relay != OURS);
        let values = peers.filter_map(|relay| self.median(figure, relay));
        match figure.better {
            Better::Less => values.min_by(f64::total_cmp),
            Better::More => values.max_by(f64::total_cmp),
        }
    }

    /// Whether nothing went wrong with `relay`.
    pub fn is_complete(&self, relay: &str) -> bool {
        !self.failures.iter().any(|&(failed, _)| failed == relay)
    }
}

//! The rates of the last minute, from samples of the totals.
//!
//! A sample is taken when the loop is awake anyway. While the loop sleeps, nothing is counted. So the next
//! sample holds for all of that time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{RATE_PERIOD, RATE_SAMPLE, RATE_SAMPLES};
use crate::pool::totals::Totals;

/// Samples of the totals, the oldest first.
#[derive(Debug)]
pub(super) struct Rates {
    samples: VecDeque<(Instant, Totals)>,
}

/// The counts of the last [`RATE_PERIOD`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lately {
    pub(super) accepted: u64,
    pub(super) to_target: u64,
    pub(super) to_requester: u64,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self { samples: VecDeque::with_capacity(RATE_SAMPLES) }
    }

    /// Returns whether it is time for a sample.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.samples.back().is_none_or(|&(at, _)| now >= at + RATE_SAMPLE)
    }

    /// Takes a sample: `totals` were reached before `now`, and have not changed since.
    pub(super) fn sample(&mut self, now: Instant, totals: Totals) {
        if self.samples.len() == RATE_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, totals));
    }

    /// Returns the counts of the period before `now`.
    pub(super) fn lately(&self, now: Instant, totals: &Totals) -> Lately {
        let since = |at: Instant| now.saturating_duration_since(at);
        let sample = self.samples.iter().find(|&&(at, _)| since(at) <= RATE_PERIOD);
        sample.map_or(Lately::default(), |(_, before)| Lately {
            accepted: totals.accepted - before.accepted,
            to_target: totals.to_target - before.to_target,
            to_requester: totals.to_requester - before.to_requester,
        })
    }
}

/// Returns bytes per second: `bytes` are those of the last period, or of a younger relay's whole life.
pub(super) fn a_second(bytes: u64, age: Duration) -> u64 {
    bytes / age.min(RATE_PERIOD).as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_ends_a_minute_ago_whether_the_loop_slept_or_not() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let totals = |accepted| Totals { accepted, ..Totals::default() };
        let mut rates = Rates::new();
        // One connection a second.
        for second in 0..200 {
            assert!(rates.is_due(at(second)));
            rates.sample(at(second), totals(second));
            assert!(!rates.is_due(at(second) + RATE_SAMPLE / 2));
        }
        assert_eq!(rates.lately(at(199), &totals(199)).accepted, 60);
        // The loop sleeps from then on.
        assert_eq!(rates.lately(at(229), &totals(199)).accepted, 30);
        rates.sample(at(500), totals(199));
        assert_eq!(rates.lately(at(500), &totals(200)).accepted, 1);
    }

    #[test]
    fn a_young_relay_has_rates_of_its_own_time() {
        for (seconds, rate) in [(0, 600), (1, 600), (10, 60), (60, 10), (1000, 10)] {
            assert_eq!(a_second(600, Duration::from_secs(seconds)), rate);
        }
    }
}

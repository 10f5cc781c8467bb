//! The choice, step by step, and against a slow, plain model.

mod names;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::relay::now;

fn target(place: usize) -> Destination {
    SocketAddr::from(([192, 0, 2, 1 + u8::try_from(place).unwrap()], 80)).into()
}

fn choice(targets: usize) -> Choice {
    Choice::new((0..targets).map(target))
}

/// Returns the state of a session that has tried nothing.
fn fresh() -> Tried {
    Tried::default()
}

#[test]
fn the_first_target_is_tried_first_and_the_next_one_after_a_failure() {
    let (mut choice, now) = (choice(2), now());
    let mut tried = fresh();
    assert_eq!(choice.next(tried, now), Some(target(0)));
    assert!(choice.failed(target(0), Failure::Refused, &mut tried, now), "the first rest is news");
    assert_eq!(choice.next(tried, now), Some(target(1)));
    assert!(choice.failed(target(1), Failure::Expired, &mut tried, now));
    assert_eq!(choice.next(tried, now), None);
    assert_eq!(choice.targets()[0].failures, [1, 0, 0, 0]);
    assert_eq!(choice.targets()[1].failures, [0, 1, 0, 0]);
}

#[test]
fn a_target_rests_and_then_one_session_tries_it() {
    let (mut choice, now) = (choice(2), now());
    choice.failed(target(0), Failure::Refused, &mut fresh(), now);
    assert_eq!(choice.next(fresh(), now + TARGET_REST_MIN / 10 * 9), Some(target(1)));
    let over = now + TARGET_REST_MIN;
    assert_eq!([choice.next(fresh(), over), choice.next(fresh(), over)], [Some(target(0)), Some(target(1))]);
    // The trial has no result, so another session tries.
    let lapsed = over + TARGET_TRIAL_MAX;
    assert_eq!(choice.next(fresh(), lapsed), Some(target(0)));
    assert!(choice.answered(target(0)), "it rested");
    assert!(!choice.answered(target(0)), "it is up");
    assert_eq!([choice.next(fresh(), lapsed), choice.next(fresh(), lapsed)], [Some(target(0)); 2]);
}

#[test]
fn a_rest_doubles_with_each_failed_trial_up_to_30_seconds() {
    let (mut choice, mut now) = (choice(2), now());
    choice.failed(target(0), Failure::Refused, &mut fresh(), now);
    for rest in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(choice.next(fresh(), now + rest * TARGET_REST_MIN / 10 * 9), Some(target(1)), "{rest}");
        now += rest * TARGET_REST_MIN;
        assert_eq!(choice.next(fresh(), now), Some(target(0)), "{rest}");
        assert!(!choice.failed(target(0), Failure::Expired, &mut fresh(), now), "it rested");
    }
    choice.answered(target(0));
    choice.failed(target(0), Failure::Refused, &mut fresh(), now);
    assert_eq!(choice.next(fresh(), now + TARGET_REST_MIN), Some(target(0)), "rests start short again");
}

#[test]
fn connects_that_had_begun_before_a_rest_do_not_make_it_longer() {
    let (mut choice, now) = (choice(2), now());
    for _ in 0..200 {
        choice.failed(target(0), Failure::Refused, &mut fresh(), now);
    }
    assert_eq!(choice.next(fresh(), now + TARGET_REST_MIN), Some(target(0)));
    assert_eq!(choice.targets()[0].failures, [200, 0, 0, 0]);
}

#[test]
fn targets_that_all_rest_are_tried_in_order() {
    let (mut choice, now) = (choice(3), now());
    for place in [2, 0, 1] {
        choice.failed(target(place), Failure::Unreachable, &mut fresh(), now);
    }
    let mut tried = fresh();
    for place in 0..3 {
        assert_eq!(choice.next(tried, now), Some(target(place)));
        choice.failed(target(place), Failure::Unreachable, &mut tried, now);
    }
    assert_eq!(choice.next(tried, now), None);
}

#[test]
fn errors_of_this_host_do_not_make_a_target_rest() {
    let (mut choice, now) = (choice(2), now());
    assert!(!choice.failed(target(0), Failure::Own, &mut fresh(), now));
    assert_eq!(choice.next(fresh(), now), Some(target(0)));
    // Nor do they end a rest, and the trial passes to the next session.
    choice.failed(target(0), Failure::Refused, &mut fresh(), now);
    choice.failed(target(0), Failure::Own, &mut fresh(), now);
    assert_eq!(choice.next(fresh(), now), Some(target(1)));
    let over = now + TARGET_REST_MIN;
    assert_eq!(choice.next(fresh(), over), Some(target(0)));
    choice.failed(target(0), Failure::Own, &mut fresh(), over);
    assert_eq!([choice.next(fresh(), over), choice.next(fresh(), over)], [Some(target(0)), Some(target(1))]);
}

#[test]
fn each_error_maps_to_its_kind_of_failure() {
    let refused = |error: Errno| Unreached { cause: Cause::TargetRefused, errno: Some(error.raw_os_error()) };
    for (unreached, failure) in [
        (refused(Errno::CONNREFUSED), Failure::Refused),
        (refused(Errno::TIMEDOUT), Failure::Expired),
        (Unreached { cause: Cause::ConnectTimeout, errno: None }, Failure::Expired),
        (refused(Errno::HOSTUNREACH), Failure::Unreachable),
        (refused(Errno::NETUNREACH), Failure::Unreachable),
        (refused(Errno::PERM), Failure::Unreachable),
        (refused(Errno::MFILE), Failure::Own),
        (refused(Errno::ADDRNOTAVAIL), Failure::Own),
        (refused(Errno::NOBUFS), Failure::Own),
        (refused(Errno::AFNOSUPPORT), Failure::Own),
        (Unreached { cause: Cause::ConnectNotStarted, errno: Some(1) }, Failure::Own),
    ] {
        assert_eq!(Failure::from(unreached), failure, "{unreached:?}");
    }
}

#[test]
fn a_target_that_is_given_twice_is_kept_once() {
    let choice = Choice::new([target(0), target(1), target(0)]);
    let addresses: Vec<_> = choice.targets().iter().map(|target| target.target).collect();
    assert_eq!(addresses, [target(0), target(1)]);
}

/// One target of the model, with the events since it last answered.
#[derive(Clone, Default)]
struct Plain {
    /// The times of the failures that began a rest.
    rests: Vec<Instant>,
    /// When a session began to try it after the last rest; `None`: no session has.
    trial: Option<Instant>,
    /// Whether an error of this host ended the trial.
    passed_on: bool,
}

impl Plain {
    /// Returns when the target may be tried; `None`: at any time.
    fn opens_at(&self) -> Option<Instant> {
        let last = *self.rests.last()?;
        let rest = (1..self.rests.len()).fold(1, |rest, _| 30.min(rest * 2));
        Some(match self.trial {
            Some(_) if self.passed_on => last,
            Some(begun) => begun + TARGET_TRIAL_MAX,
            None => last + rest * TARGET_REST_MIN,
        })
    }

    fn is_open(&self, now: Instant) -> bool {
        self.opens_at().is_none_or(|at| at <= now)
    }

    fn fails(&mut self, failure: Failure, now: Instant) {
        if failure == Failure::Own {
            self.passed_on |= self.trial.is_some();
        } else if self.trial.is_some() && !self.passed_on || self.is_open(now) {
            self.rests.push(now);
            (self.trial, self.passed_on) = (None, false);
        }
    }
}

/// Returns the place of the target that a session gets next.
fn plain_next(model: &mut [Plain], tried: &[usize], now: Instant) -> Option<usize> {
    let untried = (0..model.len()).filter(|place| !tried.contains(place));
    let place = untried.clone().find(|&place| model[place].is_open(now)).or(untried.min())?;
    if model[place].is_open(now) && !model[place].rests.is_empty() {
        (model[place].trial, model[place].passed_on) = (Some(now), false);
    }
    Some(place)
}

proptest! {
    /// Sessions come, fail, succeed and vanish in any order, at any time.
    #[test]
    fn the_choice_behaves_as_the_plain_model(
        targets in 1..5_usize,
        steps in prop::collection::vec((0..8_u8, 0..4_usize, 0..2_500_u64), 1..150),
    ) {
        let mut choice = choice(targets);
        let mut model = vec![Plain::default(); targets];
        // The connecting sessions: the place that each is trying, and those that it has tried.
        let mut sessions: Vec<(usize, Tried, Vec<usize>)> = Vec::new();
        let mut now = now();
        for (what, which, time) in steps {
            now += Duration::from_millis(time * time / 1_000);
            let session = (!sessions.is_empty()).then(|| sessions.remove(which % sessions.len()));
            let (tried, places) = match (what, session) {
                (0..=2, session) | (_, session @ None) => {
                    sessions.extend(session);
                    (fresh(), Vec::new())
                }
                (3, Some((place, ..))) => {
                    prop_assert_eq!(choice.answered(target(place)), !model[place].rests.is_empty());
                    model[place] = Plain::default();
                    continue;
                }
                (4, Some(_)) => continue,
                (_, Some((place, mut tried, mut places))) => {
                    let failure = Failure::ALL[usize::from(what) % Failure::ALL.len()];
                    let was_up = model[place].rests.is_empty();
                    model[place].fails(failure, now);
                    places.push(place);
                    let is_news = choice.failed(target(place), failure, &mut tried, now);
                    prop_assert_eq!(is_news, was_up && failure != Failure::Own);
                    (tried, places)
                }
            };
            let expected = plain_next(&mut model, &places, now);
            prop_assert_eq!(choice.next(tried, now), expected.map(target));
            prop_assert_eq!(expected.is_none(), places.len() == targets);
            sessions.extend(expected.map(|place| (place, tried, places)));
        }
    }
}

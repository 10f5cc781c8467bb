//! The wheel against a list of deadlines, and at the borders of its levels.

use proptest::prelude::*;

use super::*;

fn at(origin: Instant, ticks: u64) -> Instant {
    origin + TICK * u32::try_from(ticks).unwrap()
}

/// Lets time jump to each `next` until nothing is armed. Returns the timers that fired, with their ticks.
fn run_dry(wheel: &mut Wheel) -> Vec<(usize, u64)> {
    let mut fired = Vec::new();
    while let Some(next) = wheel.next() {
        while let Some(timer) = wheel.expire(next) {
            fired.push((timer, wheel.now));
        }
    }
    fired
}

#[test]
fn a_timer_fires_at_its_deadline_on_every_level_with_one_wake_up() {
    for ticks in [1, 2, 63, 64, 65, 4_095, 4_096, 4_097, 180_000, 262_143, 262_144, 9_999_999] {
        let origin = Instant::now();
        let mut wheel = Wheel::new(1, origin);
        wheel.arm(0, at(origin, ticks));
        assert_eq!(wheel.next(), Some(at(origin, ticks)));
        assert_eq!(wheel.expire(at(origin, ticks - 1)), None, "early at {ticks}");
        assert_eq!(wheel.next(), Some(at(origin, ticks)));
        assert_eq!(wheel.expire(at(origin, ticks)), Some(0), "due at {ticks}");
        assert_eq!(wheel.next(), None);
    }
}

#[test]
fn a_deadline_between_two_ticks_fires_at_the_later_one() {
    let origin = Instant::now();
    let mut wheel = Wheel::new(1, origin);
    wheel.arm(0, at(origin, 5) + Duration::from_nanos(1));
    assert_eq!(wheel.expire(at(origin, 6).checked_sub(Duration::from_nanos(1)).unwrap()), None);
    assert_eq!(wheel.expire(at(origin, 6)), Some(0));
}

#[test]
fn arming_again_replaces_the_deadline_and_disarming_takes_it_away() {
    let origin = Instant::now();
    let mut wheel = Wheel::new(2, origin);
    wheel.arm(0, at(origin, 10));
    wheel.arm(1, at(origin, 10));
    wheel.arm(0, at(origin, 500));
    wheel.disarm(1);
    wheel.disarm(1);
    assert_eq!(wheel.deadline(0), Some(at(origin, 500)));
    assert_eq!(wheel.deadline(1), None);
    assert_eq!(run_dry(&mut wheel), [(0, 500)]);
}

#[test]
fn a_timer_that_fires_within_a_tick_of_the_deadline_is_left_alone() {
    let origin = Instant::now();
    let mut wheel = Wheel::new(1, origin);
    for (deadline, armed) in [(10, 10), (12, 10), (9, 10), (8, 8), (7, 8), (6, 6)] {
        wheel.arm_by(0, at(origin, deadline));
        assert_eq!(wheel.deadline(0), Some(at(origin, armed)), "asked for {deadline}");
    }
}

#[test]
fn a_timer_that_is_due_is_taken_once_and_no_other_is() {
    let origin = Instant::now();
    let mut wheel = Wheel::new(3, origin);
    wheel.arm(0, at(origin, 10));
    wheel.arm(1, at(origin, 11));
    let due = |wheel: &mut Wheel| [0, 1, 2].map(|timer| wheel.take_due(timer, at(origin, 10)));
    assert_eq!(due(&mut wheel), [true, false, false]);
    assert_eq!(due(&mut wheel), [false; 3]);
    assert_eq!(run_dry(&mut wheel), [(1, 11)]);
}

#[test]
fn a_deadline_beyond_the_reach_fires_early_and_can_be_armed_again() {
    let origin = Instant::now();
    let mut wheel = Wheel::new(1, origin);
    let far = origin + Duration::from_secs(u64::from(u32::MAX));
    wheel.arm(0, far);
    let first = wheel.next().unwrap();
    assert!(first < far && first >= origin + Duration::from_secs(45 * 3600));
    assert_eq!(wheel.expire(first), Some(0));
    wheel.arm(0, far);
    assert!(wheel.next().unwrap() > first);
}

#[test]
fn after_a_long_sleep_everything_due_fires_and_nothing_else() {
    let origin = Instant::now();
    let mut wheel = Wheel::new(500, origin);
    for timer in 0..500 {
        wheel.arm(timer, at(origin, 1 + (timer as u64) * 37));
    }
    let mut fired = Vec::new();
    while let Some(timer) = wheel.expire(at(origin, 9_000)) {
        fired.push(timer);
    }
    fired.sort_unstable();
    assert_eq!(fired, (0..=243).collect::<Vec<_>>());
}

#[test]
fn each_slot_of_a_level_holds_its_own_part_of_the_time() {
    let origin = Instant::now();
    let mut wheel = Wheel::new(SLOTS, origin);
    for timer in 1..SLOTS {
        wheel.arm(timer, at(origin, (timer << shift(1)) as u64));
    }
    assert_eq!(wheel.occupied, [0, !1, 0, 0]);
}

#[derive(Clone, Debug)]
enum Operation {
    Arm(usize, u64),
    Disarm(usize),
    Pass(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let span = || prop_oneof![0..70_u64, 0..5_000_u64, 0..300_000_u64, 0..20_000_000_u64];
    prop_oneof![
        4 => (0..8_usize, span()).prop_map(|(timer, ticks)| Operation::Arm(timer, ticks)),
        1 => (0..8_usize).prop_map(Operation::Disarm),
        3 => span().prop_map(Operation::Pass),
    ]
}

proptest! {
    #[test]
    fn the_wheel_does_what_a_list_of_deadlines_would(operations in prop::collection::vec(operation(), 1..80)) {
        let origin = Instant::now();
        let mut wheel = Wheel::new(8, origin);
        let mut model = [None::<u64>; 8];
        let mut now = 0;
        for operation in operations {
            match operation {
                Operation::Arm(timer, ticks) => {
                    wheel.arm(timer, at(origin, now + ticks));
                    let armed = wheel.tick(wheel.deadline(timer).unwrap());
                    // The wheel may lag. Then a deadline that has passed, or is out of reach, fires earlier.
                    let lag = now - wheel.now;
                    let least = if ticks == 0 { wheel.now + 1 } else { now + ticks.min(REACH - lag) };
                    prop_assert!((least..=now + ticks.max(1)).contains(&armed));
                    prop_assert!(lag <= u64::from(TICKS_PER_SECOND));
                    model[timer] = Some(armed);
                }
                Operation::Disarm(timer) => {
                    wheel.disarm(timer);
                    model[timer] = None;
                }
                Operation::Pass(ticks) => {
                    now += ticks;
                    let mut due: Vec<_> =
                        (0..8).filter(|&timer| model[timer].is_some_and(|deadline| deadline <= now)).collect();
                    let mut fired: Vec<_> =
                        std::iter::from_fn(|| wheel.expire(at(origin, now))).collect();
                    fired.sort_unstable();
                    due.sort_unstable();
                    prop_assert_eq!(&fired, &due);
                    for timer in due {
                        model[timer] = None;
                    }
                }
            }
            // The wheel never wakes its owner late, and too early only for a timer disarmed since.
            let earliest = model.iter().flatten().min();
            match (wheel.next(), earliest) {
                (Some(next), Some(&tick)) => prop_assert!(next <= at(origin, tick)),
                (None, Some(_)) => prop_assert!(false, "a timer is armed, but nothing would wake"),
                (_, None) => {}
            }
        }
    }
}

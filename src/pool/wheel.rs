//! Deadlines: a hierarchical timer wheel without allocation, ticking or wake-ups of its own.
//!
//! Four levels of 64 slots. A slot of level 0 is one tick wide, a slot of level n is 64^n ticks
//! wide. A timer hangs in the slot of the lowest level that can tell its deadline from now; when
//! time enters a slot of a higher level, its timers move down. Each slot remembers the earliest
//! deadline in it, so that the owner can sleep until exactly then: nothing is due, nothing wakes.
//!
//! A timer further away than the wheel reaches (45 hours) hangs in its last slot and fires early;
//! the owner, who knows the real deadline, arms it again. The same holds for an idle timeout that
//! was postponed by traffic: the wheel is not told, the timer fires early and is armed again.

use std::time::{Duration, Instant};

use crate::limits::TICK;

const LEVELS: usize = 4;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// How far the wheel reaches, in ticks: all slots of the highest level but the current one.
const REACH: u64 = (SLOTS as u64 - 1) << shift(LEVELS - 1);
/// "No timer" and "no slot", in the links.
const NONE: usize = usize::MAX;

/// Timers by number, `0..capacity`, each with at most one deadline.
#[derive(Debug)]
pub struct Wheel {
    origin: Instant,
    /// The tick up to which everything has fired.
    now: u64,
    timers: Vec<Timer>,
    slots: Vec<Slot>,
    /// A bit for each slot of a level that holds a timer.
    occupied: [u64; LEVELS],
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    /// In ticks since the origin.
    deadline: u64,
    /// Where it hangs, or [`NONE`] while it is not armed.
    slot: usize,
    previous: usize,
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    first: usize,
    /// No timer in the slot is due before this tick. It may be too early, never too late.
    earliest: u64,
}

const EMPTY: Slot = Slot { first: NONE, earliest: u64::MAX };

/// The width of a level's slots, as a shift of ticks.
const fn shift(level: usize) -> usize {
    SLOT_BITS * level
}

/// The slot of a level that `tick` lies in, counted from the level's first.
#[allow(clippy::cast_possible_truncation)] // Only the low bits count.
fn index(level: usize, tick: u64) -> usize {
    (tick >> shift(level)) as usize % SLOTS
}

impl Wheel {
    /// A wheel for the timers `0..capacity`, none of them armed; time begins at `origin`.
    #[must_use]
    pub fn new(capacity: usize, origin: Instant) -> Self {
        let unarmed = Timer { deadline: 0, slot: NONE, previous: NONE, next: NONE };
        Self {
            origin,
            now: 0,
            timers: vec![unarmed; capacity],
            slots: vec![EMPTY; LEVELS * SLOTS],
            occupied: [0; LEVELS],
        }
    }

    /// Arms `timer` to fire at `deadline` (rounded up to the next tick), in place of what it was
    /// armed for. A deadline that has passed fires at the next tick.
    pub fn arm(&mut self, timer: usize, deadline: Instant) {
        self.disarm(timer);
        let since = deadline.saturating_duration_since(self.origin);
        let ticks = since.as_nanos().div_ceil(TICK.as_nanos());
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        self.timers[timer].deadline = ticks.clamp(self.now + 1, self.now + REACH);
        self.hang(timer);
    }

    /// Takes `timer` out, if it is armed.
    pub fn disarm(&mut self, timer: usize) {
        let Timer { slot, previous, next, .. } = self.timers[timer];
        if slot == NONE {
            return;
        }
        self.timers[timer].slot = NONE;
        if next != NONE {
            self.timers[next].previous = previous;
        }
        if previous == NONE {
            self.slots[slot].first = next;
            if next == NONE {
                self.vacate(slot);
            }
        } else {
            self.timers[previous].next = next;
        }
    }

    /// When `timer` fires, if it is armed.
    #[must_use]
    pub fn deadline(&self, timer: usize) -> Option<Instant> {
        let Timer { deadline, slot, .. } = self.timers[timer];
        (slot != NONE).then(|| self.instant(deadline))
    }

    /// When the owner must next call [`expire`](Self::expire); `None` while no timer is armed.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let earliest = (0..LEVELS).filter_map(|level| {
            let ahead = self.first_occupied(level, self.now)?;
            Some(self.slots[level * SLOTS + (index(level, self.now) + ahead) % SLOTS].earliest)
        });
        earliest.min().map(|tick| self.instant(tick))
    }

    /// Takes out one timer whose deadline is `now` or earlier. Call it until it says `None`.
    pub fn expire(&mut self, now: Instant) -> Option<usize> {
        let since = now.saturating_duration_since(self.origin).as_nanos() / TICK.as_nanos();
        let until = u64::try_from(since).unwrap_or(u64::MAX);
        loop {
            // Everything due at the current tick hangs in one slot of level 0.
            let due = self.slots[index(0, self.now)].first;
            if due != NONE {
                self.disarm(due);
                return Some(due);
            }
            if self.now >= until {
                return None;
            }
            self.advance(until);
        }
    }

    /// Moves time on: to the next tick at which a slot is to be emptied, at most to `until`.
    fn advance(&mut self, until: u64) {
        let next = (0..LEVELS).filter_map(|level| {
            // From the slot after the current one on: the current one is empty.
            let start = (self.now >> shift(level)) + 1;
            let ahead = self.first_occupied(level, start << shift(level))?;
            Some((start + ahead as u64) << shift(level))
        });
        self.now = next.min().unwrap_or(until).min(until);
        for level in (1..LEVELS).rev() {
            self.move_down(level * SLOTS + index(level, self.now));
        }
    }

    /// How many slots after that of `tick` the first occupied one of a level comes.
    fn first_occupied(&self, level: usize, tick: u64) -> Option<usize> {
        // The slots ahead of now form a circle.
        #[allow(clippy::cast_possible_truncation)] // It is less than SLOTS.
        let ahead = self.occupied[level].rotate_right(index(level, tick) as u32);
        (ahead != 0).then(|| ahead.trailing_zeros() as usize)
    }

    /// Hangs the timers of a slot that time has entered into the slots below it.
    fn move_down(&mut self, slot: usize) {
        let mut timer = self.slots[slot].first;
        self.vacate(slot);
        while timer != NONE {
            let next = self.timers[timer].next;
            self.hang(timer);
            timer = next;
        }
    }

    /// Hangs a timer into the slot that its deadline asks for.
    fn hang(&mut self, timer: usize) {
        let deadline = self.timers[timer].deadline;
        debug_assert!((self.now..=self.now + REACH).contains(&deadline));
        // The highest bit in which the deadline differs from now tells the level.
        let differs = (deadline ^ self.now) | (SLOTS as u64 - 1);
        let level = (differs.ilog2() as usize / SLOT_BITS).min(LEVELS - 1);
        let slot = level * SLOTS + index(level, deadline);
        let Slot { first, earliest } = self.slots[slot];
        if first != NONE {
            self.timers[first].previous = timer;
        }
        self.timers[timer] = Timer { deadline, slot, previous: NONE, next: first };
        self.slots[slot] = Slot { first: timer, earliest: earliest.min(deadline) };
        self.occupied[level] |= 1 << (slot % SLOTS);
    }

    fn vacate(&mut self, slot: usize) {
        self.slots[slot] = EMPTY;
        self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
    }

    fn instant(&self, tick: u64) -> Instant {
        let nanos = u128::from(tick) * TICK.as_nanos();
        let since = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.origin + since
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(origin: Instant, ticks: u64) -> Instant {
        origin + TICK * u32::try_from(ticks).unwrap()
    }

    /// Lets time jump to each `next` until nothing is armed; what fired, and at which tick.
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
                        model[timer] = Some(now + ticks.clamp(1, REACH));
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
                // It never wakes its owner late; too early only for what was disarmed since.
                let earliest = model.iter().flatten().min();
                match (wheel.next(), earliest) {
                    (Some(next), Some(&tick)) => prop_assert!(next <= at(origin, tick)),
                    (None, Some(_)) => prop_assert!(false, "a timer is armed, but nothing would wake"),
                    (_, None) => {}
                }
            }
        }
    }
}

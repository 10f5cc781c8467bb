//! Deadlines: a hierarchical timer wheel without allocation, ticking or wake-ups of its own.
//!
//! There are four levels of 64 slots. A slot of level 0 is one tick wide, a slot of level n is 64^n ticks
//! wide. A timer's level is the highest one at which the slot of its deadline differs from that of now.
//! When time enters a slot of a higher level, its timers move down. Each slot knows the earliest deadline
//! in it, so the owner sleeps until exactly then. While nothing is due, nothing wakes it.
//!
//! A timer beyond the reach of the wheel (45 hours) hangs in its last slot and fires early. The owner knows
//! the real deadline and arms it again. An idle timeout that traffic has postponed works in the same way:
//! traffic does not touch the wheel, so the timer fires early and is armed again.

use std::time::{Duration, Instant};

use crate::limits::{SESSIONS_MAX, TICK};

const LEVELS: usize = 4;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// The reach of the wheel, in ticks: all slots of the highest level but the current one.
const REACH: u64 = (SLOTS as u64 - 1) << shift(LEVELS - 1);
/// "No timer" and "no slot", in the links.
const NONE: u32 = u32::MAX;
/// The longest time for which [`Wheel::expire`] skips moving the wheel while nothing is due.
const LAG_MAX: Duration = Duration::from_secs(1);
const TICK_NANOS: u32 = TICK.subsec_nanos();
const TICKS_PER_SECOND: u32 = 1_000_000_000 / TICK_NANOS;

const _: () = assert!(SESSIONS_MAX + LEVELS * SLOTS < NONE as usize);
// Whole ticks make a second, so no conversion needs more than 64 bits.
const _: () = assert!(TICK.as_secs() == 0 && TICK_NANOS * TICKS_PER_SECOND == 1_000_000_000);

/// Timers by number, `0..capacity`, each with at most one deadline.
#[derive(Debug)]
pub struct Wheel {
    origin: Instant,
    /// The tick up to which everything has fired. It may lag behind, by [`LAG_MAX`] at most.
    now: u64,
    /// A time no later than the next deadline; `None`: no timer is armed.
    next: Option<Instant>,
    /// The time before which nothing is due and the lag is short enough.
    quiet_until: Instant,
    timers: Vec<Timer>,
    slots: Vec<Slot>,
    /// For each level, a bit for each slot that holds a timer.
    occupied: [u64; LEVELS],
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    /// In ticks since the origin.
    deadline: u64,
    /// The slot in which it hangs, or [`NONE`] while it is not armed.
    slot: u32,
    // There is a timer for each of many sessions, so the links are kept small.
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    first: u32,
    /// A tick before which no timer in the slot is due.
    earliest: u64,
}

const EMPTY: Slot = Slot { first: NONE, earliest: u64::MAX };

/// Returns the width of a level's slots, as a shift of ticks.
const fn shift(level: usize) -> usize {
    SLOT_BITS * level
}

/// Returns the slot that `tick` lies in, counted from the level's first slot.
#[allow(clippy::cast_possible_truncation)] // Only the low bits count.
fn index(level: usize, tick: u64) -> usize {
    (tick >> shift(level)) as usize % SLOTS
}

impl Wheel {
    /// Returns a wheel for the timers `0..capacity`, none of them armed. Time begins at `origin`.
    #[must_use]
    pub fn new(capacity: usize, origin: Instant) -> Self {
        let unarmed = Timer { deadline: 0, slot: NONE, previous: NONE, next: NONE };
        Self {
            origin,
            now: 0,
            next: None,
            quiet_until: origin,
            timers: vec![unarmed; capacity],
            slots: vec![EMPTY; LEVELS * SLOTS],
            occupied: [0; LEVELS],
        }
    }

    /// Arms `timer` to fire at `deadline`, rounded up to the next tick, and forgets its earlier deadline. A
    /// deadline that has passed fires at the next tick at the latest.
    pub fn arm(&mut self, timer: usize, deadline: Instant) {
        self.disarm(timer);
        let since = deadline.saturating_duration_since(self.origin);
        let tick = ticks(since.as_secs(), since.subsec_nanos().div_ceil(TICK_NANOS));
        let tick = tick.clamp(self.now + 1, self.now + REACH);
        self.timers[timer].deadline = tick;
        self.hang(link(timer));
        let due = self.instant(tick);
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
        self.quiet_until = self.quiet_until.min(due);
    }

    /// Arms `timer` to fire at `deadline`, unless it already fires at most a tick later.
    pub fn arm_by(&mut self, timer: usize, deadline: Instant) {
        let Timer { deadline: armed, slot, .. } = self.timers[timer];
        if slot == NONE || deadline < self.instant(armed - 1) {
            self.arm(timer, deadline);
        }
    }

    /// Disarms `timer`, if it is armed.
    pub fn disarm(&mut self, timer: usize) {
        let Timer { slot, previous, next, .. } = self.timers[timer];
        if slot == NONE {
            return;
        }
        self.timers[timer].slot = NONE;
        if next != NONE {
            self.timers[next as usize].previous = previous;
        }
        if previous == NONE {
            self.slots[slot as usize].first = next;
            if next == NONE {
                self.vacate(slot as usize);
                self.next = self.earliest();
            }
        } else {
            self.timers[previous as usize].next = next;
        }
    }

    /// Returns when `timer` fires; `None`: it is not armed.
    #[must_use]
    pub fn deadline(&self, timer: usize) -> Option<Instant> {
        let Timer { deadline, slot, .. } = self.timers[timer];
        (slot != NONE).then(|| self.instant(deadline))
    }

    /// Disarms `timer` and returns true, if its deadline is `now` or earlier.
    pub fn take_due(&mut self, timer: usize, now: Instant) -> bool {
        let is_due = self.deadline(timer).is_some_and(|deadline| deadline <= now);
        if is_due {
            self.disarm(timer);
        }
        is_due
    }

    /// Returns when the owner must next call [`expire`](Self::expire); `None`: no timer is armed.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Returns whether no timer is due at `now`. It may return false although none is.
    #[must_use]
    pub fn is_quiet(&self, now: Instant) -> bool {
        now < self.quiet_until
    }

    /// Disarms and returns one timer whose deadline is `now` or earlier. The owner calls it until it returns
    /// `None`.
    pub fn expire(&mut self, now: Instant) -> Option<usize> {
        if self.is_quiet(now) {
            return None;
        }
        let until = self.tick(now);
        loop {
            // Everything due at the current tick hangs in one slot of level 0.
            let due = self.slots[index(0, self.now)].first;
            if due != NONE {
                self.disarm(due as usize);
                return Some(due as usize);
            }
            if self.now >= until {
                self.next = self.earliest();
                let latest = now + LAG_MAX;
                self.quiet_until = self.next.map_or(latest, |next| next.min(latest));
                return None;
            }
            self.advance(until);
        }
    }

    /// Returns the earliest deadline that the slots hold.
    fn earliest(&self) -> Option<Instant> {
        let earliest = (0..LEVELS).filter_map(|level| {
            let ahead = self.first_occupied(level, self.now)?;
            Some(self.slots[level * SLOTS + (index(level, self.now) + ahead) % SLOTS].earliest)
        });
        earliest.min().map(|tick| self.instant(tick))
    }

    /// Advances to the next tick at which time enters an occupied slot, but not beyond `until`.
    fn advance(&mut self, until: u64) {
        let next = (0..LEVELS).filter_map(|level| {
            // Start at the slot after the current one, which is empty.
            let start = (self.now >> shift(level)) + 1;
            let ahead = self.first_occupied(level, start << shift(level))?;
            Some((start + ahead as u64) << shift(level))
        });
        self.now = next.min().unwrap_or(until).min(until);
        for level in (1..LEVELS).rev() {
            self.move_down(level * SLOTS + index(level, self.now));
        }
    }

    /// Returns the distance from the slot of `tick` to the first occupied slot of a level; `None`: all are
    /// empty.
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
            let next = self.timers[timer as usize].next;
            self.hang(timer);
            timer = next;
        }
    }

    /// Hangs a timer into the slot of its deadline.
    fn hang(&mut self, timer: u32) {
        let deadline = self.timers[timer as usize].deadline;
        debug_assert!((self.now..=self.now + REACH).contains(&deadline));
        // The highest bit in which the deadline differs from now determines the level.
        let differs = (deadline ^ self.now) | (SLOTS as u64 - 1);
        let level = (differs.ilog2() as usize / SLOT_BITS).min(LEVELS - 1);
        let slot = level * SLOTS + index(level, deadline);
        let Slot { first, earliest } = self.slots[slot];
        if first != NONE {
            self.timers[first as usize].previous = timer;
        }
        self.timers[timer as usize] = Timer { deadline, slot: link(slot), previous: NONE, next: first };
        self.slots[slot] = Slot { first: timer, earliest: earliest.min(deadline) };
        self.occupied[level] |= 1 << (slot % SLOTS);
    }

    fn vacate(&mut self, slot: usize) {
        self.slots[slot] = EMPTY;
        self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
    }

    /// Returns the last tick that is not after `at`.
    fn tick(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        ticks(since.as_secs(), since.subsec_nanos() / TICK_NANOS)
    }

    #[allow(clippy::cast_possible_truncation)] // It is less than the ticks of a second.
    fn instant(&self, tick: u64) -> Instant {
        let per_second = u64::from(TICKS_PER_SECOND);
        self.origin + Duration::new(tick / per_second, (tick % per_second) as u32 * TICK_NANOS)
    }
}

/// Converts the number of a timer or a slot. There are far fewer than a `u32` can count.
#[allow(clippy::cast_possible_truncation)]
fn link(number: usize) -> u32 {
    number as u32
}

/// Returns the ticks of whole seconds, plus the `rest` of another one in ticks.
fn ticks(seconds: u64, rest: u32) -> u64 {
    seconds.saturating_mul(u64::from(TICKS_PER_SECOND)).saturating_add(u64::from(rest))
}

#[cfg(test)]
mod tests;

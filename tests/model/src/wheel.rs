//! Operations on the timer wheel against a list of deadlines.
//!
//! An input is a list of operations of four bytes each: the kind and the timer in one byte, an amount
//! of 16 bits, and its unit.

use std::time::{Duration, Instant};

use tcprelay::internal::limits::TICK;
use tcprelay::internal::wheel::Wheel;

const TIMERS: usize = 8;
/// The wheel reaches at least this far, as its documentation says: 45 hours, in ticks.
const REACH: u64 = 45 * 3600 * 100;
/// Ticks in a unit: one; about a third of level 0; the slot widths of levels 1 to 3.
const UNITS: [u64; 5] = [1, 20, 64, 4096, 262_144];
/// Kinds of operations: arm (two of them), disarm, let time pass, sleep until the wheel's next wake-up.
const KINDS: u8 = 5;

/// The model: deadlines in nanoseconds since the origin.
struct Model {
    armed: [Option<u64>; TIMERS],
    now: u64,
}

/// Checks one input.
///
/// # Panics
/// The wheel and the model disagree.
pub fn check(input: &[u8]) {
    let origin = Instant::now();
    let at = |nanos: u64| origin + Duration::from_nanos(nanos);
    let tick = u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX);
    let mut wheel = Wheel::new(TIMERS, origin);
    let mut model = Model { armed: [None; TIMERS], now: 0 };
    for operation in input.chunks_exact(4) {
        let (kind, timer) = (operation[0] % KINDS, usize::from(operation[0] / KINDS) % TIMERS);
        let unit = UNITS[usize::from(operation[3]) % UNITS.len()];
        let count = u64::from(u16::from_le_bytes([operation[1], operation[2]]));
        // About a week at most, so that the model's nanoseconds do not overflow.
        let count = if unit > 64 { count % 256 } else { count };
        // The rest of the unit's byte puts the time a little after a tick.
        let nanos = count * unit * tick + u64::from(operation[3] / 5) * 31;
        match kind {
            0 | 1 => {
                let deadline = model.now + nanos;
                wheel.arm(timer, at(deadline));
                arm(&mut model, &wheel, timer, deadline, tick, origin);
            }
            2 => {
                wheel.disarm(timer);
                model.armed[timer] = None;
            }
            3 => model.now += nanos,
            // Like the owner, sleeps until the wheel's next wake-up.
            _ => {
                if let Some(next) = wheel.next() {
                    let next = u64::try_from((next - origin).as_nanos()).unwrap_or(u64::MAX);
                    model.now = next;
                }
            }
        }
        if kind >= 3 {
            let now = at(model.now);
            expire(&mut model, &mut wheel, now);
        }
        for timer in 0..TIMERS {
            assert_eq!(wheel.deadline(timer), model.armed[timer].map(at), "the deadline of timer {timer}");
        }
        let earliest = model.armed.iter().flatten().min().copied().map(at);
        match (wheel.next(), earliest) {
            (Some(next), Some(earliest)) => assert!(next <= earliest, "the wheel would wake its owner late"),
            (None, Some(_)) => panic!("a timer is armed, but nothing would wake its owner"),
            (_, None) => {}
        }
    }
}

/// Checks the tick for which a timer was armed, and notes it. A deadline is rounded up to a tick. One that
/// has passed fires at the next tick at the latest. One beyond the wheel's reach may fire early, but no
/// earlier than after [`REACH`] ticks.
fn arm(model: &mut Model, wheel: &Wheel, timer: usize, deadline: u64, tick: u64, origin: Instant) {
    let wanted = deadline.div_ceil(tick);
    let nearest = wanted.min(model.now / tick + REACH);
    let (nearest, wanted) = match model.now / tick {
        now if wanted <= now => (0, now + 1),
        _ => (nearest, wanted),
    };
    let armed = wheel.deadline(timer).map_or(0, |instant| (instant - origin).as_nanos());
    let armed = u64::try_from(armed).unwrap_or(u64::MAX) / tick;
    assert!((nearest..=wanted).contains(&armed), "armed for tick {armed}, not {wanted}");
    model.armed[timer] = Some(armed * tick);
}

/// Checks that every timer that is due fires once, and that no other does.
fn expire(model: &mut Model, wheel: &mut Wheel, now: Instant) {
    while let Some(timer) = wheel.expire(now) {
        let deadline = model.armed[timer].take();
        assert!(
            deadline.is_some_and(|deadline| deadline <= model.now),
            "timer {timer} fired at {deadline:?}"
        );
    }
    let late = model.armed.iter().flatten().find(|&&deadline| deadline <= model.now);
    assert_eq!(late, None, "a timer that is due has not fired");
    if let Some(next) = wheel.next() {
        assert!(next > now, "every due timer has fired, but the wheel makes its owner spin");
    }
}

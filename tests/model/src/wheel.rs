//! Operations on the timer wheel against a list of deadlines.
//!
//! An input is a list of operations of four bytes each: what to do and to which timer, then by how
//! much (16 bits), then in which unit.

use std::time::{Duration, Instant};

use tcprelay::internal::limits::TICK;
use tcprelay::internal::wheel::Wheel;

const TIMERS: usize = 8;
/// The wheel reaches at least this far, as its documentation says: 45 hours, in ticks.
const REACH: u64 = 45 * 3600 * 100;
/// Ticks that make a unit: one; a third of level 0; about the sizes of levels 1 to 3.
const UNITS: [u64; 5] = [1, 20, 64, 4096, 262_144];
/// Kinds of operations: arm (twice as often), disarm, let time pass, sleep until the wheel says.
const KINDS: u8 = 5;

/// The model: deadlines in nanoseconds since the origin.
struct Model {
    armed: [Option<u64>; TIMERS],
    now: u64,
}

/// Checks one input.
///
/// # Panics
/// Where the wheel and the model disagree.
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
        // Years, but not so many that the model's nanoseconds overflow.
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
            // As the owner does: it sleeps until the wheel says.
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
            (Some(next), Some(earliest)) => assert!(next <= earliest, "it would wake its owner late"),
            (None, Some(_)) => panic!("a timer is armed, but nothing would wake its owner"),
            (_, None) => {}
        }
    }
}

/// A deadline is rounded up to a tick; one that has passed fires at the next tick at the latest; one beyond
/// the wheel's reach fires early, but not much earlier than the wheel reaches.
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

/// Every timer that is due fires, once, and no other does.
fn expire(model: &mut Model, wheel: &mut Wheel, now: Instant) {
    while let Some(timer) = wheel.expire(now) {
        let deadline = model.armed[timer].take();
        assert!(
            deadline.is_some_and(|deadline| deadline <= model.now),
            "timer {timer} fired at {deadline:?}"
        );
    }
    let late = model.armed.iter().flatten().find(|&&deadline| deadline <= model.now);
    assert_eq!(late, None, "it has not fired");
    if let Some(next) = wheel.next() {
        assert!(next > now, "all that is due has fired, but it would not let its owner sleep");
    }
}

//! The idle clock against a send queue whose every movement is known.

use std::time::{Duration, Instant};

use tcprelay::internal::idle::IdleClock;
use tcprelay::internal::limits::{DELAYED_ACK_MAX, LATE_MAX, TICK, WATCH_BYTES};
use tcprelay_model::random::Random;

/// The unit of epoll's timeout, which is rounded up.
const EPOLL: Duration = Duration::from_millis(1);

/// An event at a send queue.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The relay writes bytes, and the queue takes them.
    Write(u32),
    /// The peer's kernel acknowledges bytes.
    Acknowledge(u32),
    /// The relay shuts the socket down for writing.
    Fin,
}

use Event::{Acknowledge, Fin, Write};

/// The life of a session, as times since its start.
#[derive(Debug)]
struct Outcome {
    /// When it was found idle.
    ended: Duration,
    /// When a byte last moved.
    moved: Duration,
    /// When the relay last wrote.
    written: Duration,
    /// When it looked at the queue.
    looks: Vec<Duration>,
}

impl Outcome {
    /// Returns how late the session was found idle, after asserting that it was not early.
    fn late(&self, timeout: Duration) -> Duration {
        let due = self.moved + timeout;
        assert!(self.ended >= due, "{:?} early: {self:?}", due - self.ended);
        self.ended - due
    }

    /// Returns how late it may be found idle.
    fn late_max(&self) -> Duration {
        LATE_MAX.max((self.moved - self.written) / 20)
    }
}

/// Makes each event happen at its time after the start. The timer fires as the wheel and epoll make it,
/// up to a tick and a millisecond late. The kernel reports the length of the queue if `is_known`.
fn run(timeout: Duration, events: &[(Duration, Event)], is_known: bool) -> Outcome {
    let origin = Instant::now();
    let mut clock = IdleClock::new(origin);
    let (mut queued, mut events) = (0, events.iter().peekable());
    let mut outcome =
        Outcome { ended: Duration::ZERO, moved: Duration::ZERO, written: Duration::ZERO, looks: Vec::new() };
    let mut fired = Duration::ZERO;
    loop {
        let deadline = clock.deadline(timeout) - origin;
        let ticks = deadline.as_nanos().div_ceil(TICK.as_nanos());
        let fires_at = TICK * u32::try_from(ticks).unwrap() + EPOLL;
        if let Some(&(at, event)) = events.next_if(|&&(at, _)| at <= fires_at) {
            match event {
                Write(count) => {
                    (queued, outcome.moved, outcome.written) = (queued + count, at, at);
                    clock.note_movement(u64::from(count), origin + at);
                }
                Acknowledge(count) => (queued, outcome.moved) = (queued - count, at),
                Fin => {
                    queued += 1;
                    clock.note_fin();
                }
            }
            continue;
        }
        let now = origin + fires_at;
        assert!(fires_at > fired, "the timer fires twice at the same time");
        fired = fires_at;
        if clock.wants_look() {
            outcome.looks.push(fires_at);
            clock.look(is_known.then_some(queued), now);
        }
        if clock.is_idle(timeout, now) {
            return Outcome { ended: fires_at, ..outcome };
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Returns a random history of writes of at least `least` bytes, and of acknowledgements.
fn history(random: &mut Random, least: u32) -> Vec<(Duration, Event)> {
    let (mut at, mut queued) = (Duration::ZERO, 0);
    let mut events = Vec::new();
    for _ in 0..=random.below(12) {
        let pause = 1 << random.below(22);
        at += Duration::from_micros(random.below(pause) + 1);
        if queued == 0 || random.once_in(4) {
            let count = least + random.below(100_000) as u32;
            queued += count;
            events.push((at, Write(count)));
        } else {
            let count = if random.once_in(4) { queued } else { 1 + random.below(u64::from(queued)) as u32 };
            queued -= count;
            events.push((at, Acknowledge(count)));
        }
    }
    events
}

#[test]
fn after_bulk_the_clock_is_never_early_and_at_most_a_twentieth_late() {
    for seed in 0..20_000 {
        let mut random = Random(seed);
        // Longer than every pause in a history, so that the session ends after it.
        let timeout = 5 * SECOND;
        let outcome = run(timeout, &history(&mut random, WATCH_BYTES), true);
        let (late, most) = (outcome.late(timeout), outcome.late_max());
        assert!(late <= most, "{late:?} late, at most {most:?} allowed, seed {seed}: {outcome:?}");
    }
}

#[test]
fn a_few_bytes_that_are_acknowledged_soon_count_as_having_arrived_at_once() {
    for arrives_after in (0..3_000).step_by(7).map(millis) {
        let events = [(SECOND, Write(100)), (SECOND + arrives_after, Acknowledge(100))];
        let outcome = run(5 * SECOND, &events, true);
        let due = outcome.moved + 5 * SECOND;
        let early = if arrives_after <= DELAYED_ACK_MAX { arrives_after } else { Duration::ZERO };
        assert!(outcome.ended + early >= due, "{outcome:?}");
        assert!(outcome.ended <= due + outcome.late_max(), "{outcome:?}");
    }
}

#[test]
fn a_late_acknowledgement_is_movement_after_bulk_but_not_after_a_few_bytes() {
    let run = |count| run(5 * SECOND, &[(SECOND, Write(count)), (millis(1_200), Acknowledge(count))], true);
    let few = run(WATCH_BYTES - 1);
    assert!(few.ended <= few.written + 5 * SECOND + LATE_MAX, "{few:?}");
    let bulk = run(WATCH_BYTES);
    assert!(bulk.late(5 * SECOND) <= bulk.late_max(), "{bulk:?}");
}

#[test]
fn bytes_that_are_still_queued_at_the_first_look_have_not_moved_since_they_were_written() {
    let written_at = Instant::now();
    for (queued, idle_for) in [(5_000, millis(15)), (4_999, Duration::ZERO)] {
        let mut clock = IdleClock::new(written_at);
        clock.note_movement(5_000, written_at);
        clock.look(Some(queued), written_at + millis(15));
        assert_eq!(clock.idle_for(written_at + millis(15)), idle_for);
    }
}

#[test]
fn when_only_a_part_of_a_few_bytes_arrives_the_clock_is_as_punctual_as_after_bulk() {
    for (arrives_after, count) in [(millis(20), 60), (millis(240), 99), (millis(2000), 1)] {
        let events = [(SECOND, Write(100)), (SECOND + arrives_after, Acknowledge(count))];
        let outcome = run(5 * SECOND, &events, true);
        let (late, most) = (outcome.late(5 * SECOND), outcome.late_max());
        assert!(late <= most, "{late:?} late, at most {most:?} allowed: {outcome:?}");
    }
}

#[test]
fn where_the_queue_is_unknown_the_timeout_runs_from_the_last_write() {
    let events = [(SECOND, Write(100_000)), (2 * SECOND, Acknowledge(100_000))];
    let outcome = run(3 * SECOND, &events, false);
    assert_eq!(outcome.looks.len(), 1, "the clock looks again at a queue that is unknown");
    let late = outcome.ended - outcome.written - 3 * SECOND;
    assert!(late <= LATE_MAX, "{outcome:?}");
}

#[test]
fn a_session_with_stalled_bytes_looks_at_most_36_times_a_second_and_250_times_in_half_an_hour() {
    for written in [100, 1_000_000] {
        let outcome = run(1800 * SECOND, &[(SECOND, Write(written))], true);
        assert!(outcome.looks.len() < 250, "{} looks", outcome.looks.len());
        for (number, &look) in outcome.looks.iter().enumerate() {
            let within = outcome.looks[number..].iter().take_while(|&&other| other < look + SECOND).count();
            assert!(within <= 36, "{within} looks within a second");
        }
        assert!(outcome.late(1800 * SECOND) <= LATE_MAX, "{outcome:?}");
    }
}

#[test]
fn a_session_with_empty_queues_looks_once() {
    for written in [100, 1_000_000] {
        let events = [(SECOND, Write(written)), (SECOND, Acknowledge(written))];
        assert_eq!(run(60 * SECOND, &events, true).looks.len(), 1);
    }
    assert_eq!(run(60 * SECOND, &[], true).looks.len(), 0);
}

#[test]
fn an_eof_that_is_passed_on_behind_stalled_bytes_is_not_movement() {
    for written in [100, 1_000_000] {
        let events = [(SECOND, Write(written)), (3 * SECOND, Fin)];
        let outcome = run(4 * SECOND, &events, true);
        assert!(outcome.late(4 * SECOND) <= LATE_MAX, "{outcome:?}");
    }
}

#[test]
fn a_byte_that_arrives_just_as_an_eof_is_passed_on_is_movement() {
    let events = [(SECOND, Write(100_000)), (3 * SECOND, Fin), (3 * SECOND, Acknowledge(1))];
    let outcome = run(4 * SECOND, &events, true);
    assert!(outcome.late(4 * SECOND) <= outcome.late_max(), "{outcome:?}");
}

//! The plan of one simulated relay: its pool, its load and its end.

use std::time::Duration;

use tcprelay::internal::limits::{EVENTS_PER_TURN, PIPE_BYTES_MIN, PIPES_BYTES_MAX};
use tcprelay::internal::pool::Settings;
use tcprelay::internal::session::Timeouts;
use tcprelay_model::random::Random;
use tcprelay_model::world::Load;

/// The kinds of sessions on a busy gateway.
const BUSY: [Load; 32] = {
    let mut loads = [Load::Light; 32];
    loads[0] = Load::Interactive;
    loads[1] = Load::Any;
    loads
};

/// The kinds of sessions on a jammed gateway.
const CROWDED: [Load; 4] = [Load::Bulk, Load::Bulk, Load::Interactive, Load::Any];

/// The plan of a relay's life.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Settings,
    /// Requesters that connect.
    pub arrivals: u64,
    /// The longest time between two arrivals, in microseconds; at least 1.
    pub gap: u64,
    /// The kinds of sessions, each as likely as its share of the list.
    pub loads: &'static [Load],
    /// Targets beside the first one.
    pub backups: u8,
    /// Addresses that requesters connect from.
    pub sources: u64,
    /// Reports that one turn takes from the kernel.
    pub events_per_turn: usize,
    pub accepts_per_turn: usize,
    /// Descriptors for sockets; a session takes two.
    pub descriptors: usize,
    /// The longest time that a turn takes besides moving bytes, in microseconds; at least 1.
    pub turn: u64,
    /// All events that are due at a time are reported in the same turn.
    pub in_batches: bool,
    /// One in this many connects cannot begin, and one in this many registrations fails; 0: none.
    pub faults: u64,
    pub finish: Finish,
}

/// How the relay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It drains once all requesters were accepted.
    Late,
    /// It drains at this time.
    Drain(Duration),
    /// It stops at this time, with or without sessions.
    Stop(Duration),
}

impl Plan {
    /// Returns a random relay, and now and then a jammed one.
    pub fn any(random: &mut Random) -> Self {
        if random.once_in(50) { Self::jam(random) } else { Self::random(random) }
    }

    /// Returns a random relay, mostly a small one.
    fn random(random: &mut Random) -> Self {
        use Load::{Any, Bulk, Interactive, Light};
        let mixtures: [&[Load]; 6] =
            [&[Any], &[Any], &[Any, Light], &[Any, Interactive], &[Bulk, Interactive], &[Bulk]];
        let crowd = random.once_in(400);
        let sessions = if crowd { 600 } else { random.pick(&[1, 2, 3, 8]) };
        let arrivals = if crowd { 500 } else { random.pick(&[1, 1, 2, 4, 12]) };
        let loads = if crowd { &[Light][..] } else { random.pick(&mixtures) };
        let at = Duration::from_micros(1 << random.below(24));
        let spacious = if random.once_in(4) { PIPES_BYTES_MAX } else { 3 * PIPE_BYTES_MIN };
        Self {
            settings: Settings {
                sessions,
                buf: random.pick(&[100, 101, 1_000, 4_000]),
                timeouts: Timeouts {
                    connect: Duration::from_secs(1 + random.below(3)),
                    idle: Duration::from_secs(random.pick(&[1, 1, 2, 30])),
                },
                max_per_source: random.pick(&[None, None, None, Some(1), Some(2)]),
                pipe_bytes: random.pick(&[0, PIPE_BYTES_MIN, 2 * PIPE_BYTES_MIN, spacious]),
            },
            arrivals,
            gap: random.pick(&[1, 1_000, 100_000, 3_000_000]),
            loads,
            backups: random.pick(&[0, 0, 0, 1, 2, 7]),
            sources: 1 + random.below(4),
            events_per_turn: random.pick(&[1, 2, 7, EVENTS_PER_TURN]),
            accepts_per_turn: random.pick(&[1, 64]),
            descriptors: if random.once_in(4) { 2 + random.below(8) as usize } else { 2 * sessions },
            turn: random.pick(&[100, 100, 100, 2_000, 30_000]),
            in_batches: random.once_in(2),
            faults: random.pick(&[0, 0, 30]),
            finish: match random.below(6) {
                0 => Finish::Drain(at),
                1 => Finish::Stop(at),
                _ => Finish::Late,
            },
        }
    }

    /// Returns a relay with more to do than its turns can hold. Sessions expire while they wait to be served.
    fn jam(random: &mut Random) -> Self {
        let calm = Self::random(random);
        let sessions = 30;
        let idle = Duration::from_secs(1);
        Self {
            settings: Settings {
                sessions,
                max_per_source: None,
                timeouts: Timeouts { idle, ..calm.settings.timeouts },
                ..calm.settings
            },
            arrivals: 40,
            gap: random.pick(&[1_000, 50_000]),
            loads: random.pick(&[&CROWDED[..], &[Load::Interactive], &[Load::Flood]]),
            events_per_turn: random.pick(&[1, 3, EVENTS_PER_TURN]),
            descriptors: 2 * sessions,
            turn: random.pick(&[10_000, 60_000]),
            in_batches: true,
            ..calm
        }
    }

    /// Returns a busy gateway of the usual size.
    pub fn busy(random: &mut Random) -> Self {
        let arrivals = 10_000;
        // Two gaps of the day, and one of the night.
        let gap = random.pick(&[3_000, 6_000, 400_000]);
        let end = Duration::from_micros(arrivals * gap * 3 / 8);
        Self {
            settings: Settings {
                sessions: random.pick(&[300, 500]),
                buf: random.pick(&[1_000, 4_000]),
                timeouts: Timeouts {
                    connect: Duration::from_secs(1 + random.below(3)),
                    idle: Duration::from_secs(random.pick(&[1, 2])),
                },
                max_per_source: random.pick(&[None, Some(100)]),
                pipe_bytes: PIPES_BYTES_MAX,
            },
            arrivals,
            gap,
            loads: &BUSY,
            backups: random.pick(&[0, 2]),
            sources: 50,
            events_per_turn: random.pick(&[16, EVENTS_PER_TURN]),
            accepts_per_turn: 64,
            descriptors: random.pick(&[400, 1_000]),
            turn: 100,
            in_batches: true,
            faults: 1_000,
            finish: random.pick(&[Finish::Late, Finish::Drain(end), Finish::Stop(end)]),
        }
    }
}

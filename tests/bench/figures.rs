//! The figures that the loads measure.

/// One number that a load measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
    /// The chart shows it. At most one figure of each load is charted.
    pub is_charted: bool,
}

/// The better one of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
}

use Better::{Less, More};

const REQUEST: &str = "µs per request";
const CONNECTION: &str = "µs per connection";
const GIB: &str = "s per GiB";

pub const STREAM: [Figure; 3] = [
    figure("one stream: processor time", GIB, Less).charted(),
    figure("one stream: the same with both ends", GIB, Less),
    figure("one stream: throughput", "Gbit/s", More),
];
pub const STREAMS: [Figure; 3] = [
    figure("eight streams: processor time", GIB, Less),
    figure("eight streams: the same with both ends", GIB, Less),
    figure("eight streams: throughput", "Gbit/s", More).charted(),
];
pub const LINK_20: [Figure; 2] = [
    figure("one stream, 20 ms link: processor time", GIB, Less),
    figure("one stream, 20 ms link: throughput", "Gbit/s", More),
];
pub const LINK_100: [Figure; 2] = [
    figure("one stream, 100 ms link: processor time", GIB, Less),
    figure("one stream, 100 ms link: throughput", "Gbit/s", More),
];
pub const ROUND_TRIP: [Figure; 4] = [
    figure("one kept connection: processor time", REQUEST, Less),
    figure("one kept connection: the same with both ends", REQUEST, Less),
    figure("one kept connection: p50", "ms", Less),
    figure("one kept connection: p99", "ms", Less),
];
pub const REQUESTS: [Figure; 5] = [
    figure("64 kept connections: processor time", REQUEST, Less).charted(),
    figure("64 kept connections: the same with both ends", REQUEST, Less),
    figure("64 kept connections: rate", "requests/s", More),
    figure("64 kept connections: p50", "ms", Less),
    figure("64 kept connections: p99", "ms", Less),
];
pub const PACED_5000: [Figure; 4] = [
    figure("5,000 requests a second: processor time", REQUEST, Less),
    figure("5,000 requests a second: p50", "ms", Less),
    figure("5,000 requests a second: p99", "ms", Less),
    figure("5,000 requests a second: p99.9", "ms", Less),
];
pub const PACED_20000: [Figure; 4] = [
    figure("20,000 requests a second: processor time", REQUEST, Less),
    figure("20,000 requests a second: p50", "ms", Less),
    figure("20,000 requests a second: p99", "ms", Less).charted(),
    figure("20,000 requests a second: p99.9", "ms", Less),
];
pub const CONNECTIONS: [Figure; 3] = [
    figure("short connections: processor time", CONNECTION, Less).charted(),
    figure("short connections: the same with both ends", CONNECTION, Less),
    figure("short connections: rate", "connections/s", More),
];
pub const GREETING: [Figure; 3] = [
    figure("the target speaks first: processor time", CONNECTION, Less),
    figure("the target speaks first: rate", "connections/s", More),
    figure("the target speaks first: p99", "ms", Less),
];
pub const MIXED: [Figure; 4] = [
    figure("requests beside four downloads: rate", "requests/s", More),
    figure("requests beside four downloads: p50", "ms", Less),
    figure("requests beside four downloads: p99", "ms", Less).charted(),
    figure("four downloads beside requests: rate", "MB/s", More),
];
pub const LOG_PIPE: [Figure; 2] = [
    figure("short connections, slow pipe as log: processor time", CONNECTION, Less),
    figure("short connections, slow pipe as log: rate", "connections/s", More),
];
pub const LOG_SOCKET: [Figure; 2] = [
    figure("short connections, slow socket as log: processor time", CONNECTION, Less),
    figure("short connections, slow socket as log: rate", "connections/s", More),
];
pub const LOG_FILE: [Figure; 2] = [
    figure("short connections, synchronous file as log: processor time", CONNECTION, Less),
    figure("short connections, synchronous file as log: rate", "connections/s", More),
];
pub const MEMORY: [Figure; 2] =
    [figure("memory (PSS): idle", "KiB", Less), figure("memory (PSS): 400 sessions", "KiB", Less).charted()];
pub const KEPT: [Figure; 3] = [
    figure("many kept sessions: memory (PSS)", "KiB each", Less),
    figure("many kept sessions: processor time beside", REQUEST, Less),
    figure("many kept sessions: the same", CONNECTION, Less),
];

const fn figure(name: &'static str, unit: &'static str, better: Better) -> Figure {
    Figure { name, unit, better, is_charted: false }
}

impl Figure {
    const fn charted(self) -> Self {
        Self { is_charted: true, ..self }
    }
}

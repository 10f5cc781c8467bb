//! The loads, and the figures that each of them gives.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::client::{Client, Tally, Work};
use crate::contestants::Running;
use crate::downloads::Downloads;
use crate::process;
use crate::target::{ASK, REPLY_BYTES, REQUEST_BYTES, Target};

/// Connections that ask again and again.
const KEPT: usize = 64;
/// Requesters that open a connection for each request.
const OPENERS: usize = 16;
/// Requesters beside downloads.
const BESIDE: usize = 16;
/// Downloads beside requesters, and the bytes that each takes in a second.
const DOWNLOADS: usize = 4;
const DOWNLOAD_RATE: u64 = 100_000_000;
/// Sessions whose memory is measured.
const SESSIONS: usize = 400;

/// Is not counted: streams get up to speed, connections are made.
const WARM_UP: Duration = Duration::from_millis(150);
/// Lets a relay come to rest before its memory is looked at.
const REST: Duration = Duration::from_millis(150);
/// For a reply on an otherwise idle relay.
const PATIENCE: Duration = Duration::from_secs(3);

/// One kind of work for a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Stream,
    Streams,
    Requests,
    Connections,
    Mixed,
    Memory,
}

/// What a load measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
    /// Whether the chart shows it: one or two of each load say enough.
    pub is_charted: bool,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
}

const STREAM: [Figure; 2] = [
    figure("one stream: processor time", "s per GiB", Better::Less).charted(),
    figure("one stream: throughput", "Gbit/s", Better::More),
];
const STREAMS: [Figure; 2] = [
    figure("eight streams: processor time", "s per GiB", Better::Less),
    figure("eight streams: throughput", "Gbit/s", Better::More).charted(),
];
const REQUESTS: [Figure; 4] = [
    figure("64 kept connections: processor time", "µs per request", Better::Less).charted(),
    figure("64 kept connections: rate", "requests/s", Better::More),
    figure("64 kept connections: p50", "ms", Better::Less),
    figure("64 kept connections: p99", "ms", Better::Less),
];
const CONNECTIONS: [Figure; 2] = [
    figure("short connections: processor time", "µs per connection", Better::Less).charted(),
    figure("short connections: rate", "connections/s", Better::More),
];
const MIXED: [Figure; 4] = [
    figure("requests beside four downloads: rate", "requests/s", Better::More),
    figure("requests beside four downloads: p50", "ms", Better::Less),
    figure("requests beside four downloads: p99", "ms", Better::Less).charted(),
    figure("four downloads beside requests: rate", "MB/s", Better::More),
];
const MEMORY: [Figure; 2] = [
    figure("memory (PSS): idle", "KiB", Better::Less),
    figure("memory (PSS): 400 sessions", "KiB", Better::Less).charted(),
];

const fn figure(name: &'static str, unit: &'static str, better: Better) -> Figure {
    Figure { name, unit, better, is_charted: false }
}

impl Figure {
    const fn charted(self) -> Self {
        Self { is_charted: true, ..self }
    }
}

impl Load {
    pub const ALL: [Self; 6] =
        [Self::Stream, Self::Streams, Self::Requests, Self::Connections, Self::Mixed, Self::Memory];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Streams => "streams",
            Self::Requests => "requests",
            Self::Connections => "connections",
            Self::Mixed => "mixed",
            Self::Memory => "memory",
        }
    }

    /// What [`measure`](Self::measure) returns, in this order.
    pub const fn figures(self) -> &'static [Figure] {
        match self {
            Self::Stream => &STREAM,
            Self::Streams => &STREAMS,
            Self::Requests => &REQUESTS,
            Self::Connections => &CONNECTIONS,
            Self::Mixed => &MIXED,
            Self::Memory => &MEMORY,
        }
    }

    /// Puts the load on a relay for some time.
    pub fn measure(self, relay: &Running, target: &Target, time: Duration) -> io::Result<Vec<f64>> {
        let values = match self {
            Self::Stream => streams(relay, target, 1, time),
            Self::Streams => streams(relay, target, 8, time),
            Self::Requests => requests(relay, time),
            Self::Connections => connections(relay, time),
            Self::Mixed => mixed(relay, time),
            Self::Memory => memory(relay),
        }?;
        debug_assert_eq!(values.len(), self.figures().len());
        Ok(values)
    }
}

fn streams(relay: &Running, target: &Target, count: usize, time: Duration) -> io::Result<Vec<f64>> {
    const GIB: f64 = (1_u64 << 30) as f64;
    let mut client = Client::connect(relay.address(), Work::Upload, count)?;
    client.run(WARM_UP)?;
    let before = target.uploaded();
    let (tally, processor) = timed(relay, &mut client, time)?;
    let bytes = some(target.uploaded() - before)?;
    Ok(vec![processor.as_secs_f64() / (bytes / GIB), bytes * 8.0 / 1e9 / tally.took.as_secs_f64()])
}

fn requests(relay: &Running, time: Duration) -> io::Result<Vec<f64>> {
    let mut client = Client::connect(relay.address(), Work::Ask, KEPT)?;
    client.run(WARM_UP)?;
    let (mut tally, processor) = timed(relay, &mut client, time)?;
    let count = some(tally.replies.len() as u64)?;
    let (p50, p99) = (percentile(&mut tally.replies, 50), percentile(&mut tally.replies, 99));
    Ok(vec![processor.as_secs_f64() * 1e6 / count, count / tally.took.as_secs_f64(), p50, p99])
}

fn connections(relay: &Running, time: Duration) -> io::Result<Vec<f64>> {
    let mut client = Client::connect(relay.address(), Work::AskOnce, OPENERS)?;
    client.run(WARM_UP)?;
    let (tally, processor) = timed(relay, &mut client, time)?;
    let count = some(tally.replies.len() as u64)?;
    Ok(vec![processor.as_secs_f64() * 1e6 / count, count / tally.took.as_secs_f64()])
}

fn mixed(relay: &Running, time: Duration) -> io::Result<Vec<f64>> {
    let downloads = Downloads::start(relay.address(), DOWNLOADS, DOWNLOAD_RATE)?;
    let mut client = Client::connect(relay.address(), Work::Ask, BESIDE)?;
    client.run(WARM_UP)?;
    let before = downloads.received();
    let (mut tally, _) = timed(relay, &mut client, time)?;
    let bytes = (downloads.received() - before) as f64;
    let count = some(tally.replies.len() as u64)?;
    let seconds = tally.took.as_secs_f64();
    let (p50, p99) = (percentile(&mut tally.replies, 50), percentile(&mut tally.replies, 99));
    Ok(vec![count / seconds, p50, p99, bytes / 1e6 / seconds])
}

fn memory(relay: &Running) -> io::Result<Vec<f64>> {
    thread::sleep(REST);
    let idle = process::memory_kib(relay.pid())?;
    let sessions: Vec<_> = (0..SESSIONS).map(|_| used_session(relay)).collect::<io::Result<_>>()?;
    thread::sleep(REST);
    let busy = process::memory_kib(relay.pid())?;
    drop(sessions);
    Ok(vec![idle as f64, busy as f64])
}

/// A session that has relayed something in both directions.
fn used_session(relay: &Running) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&relay.address(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[ASK; REQUEST_BYTES])?;
    stream.read_exact(&mut [0; REPLY_BYTES])?;
    Ok(stream)
}

/// Runs the client, and says what it did and the processor time that this cost the relay.
fn timed(relay: &Running, client: &mut Client, time: Duration) -> io::Result<(Tally, Duration)> {
    let before = process::processor_time(relay.pid())?;
    let tally = client.run(time)?;
    let after = process::processor_time(relay.pid())?;
    if tally.failures > 0 {
        return Err(io::Error::other(format!("{} connections failed", tally.failures)));
    }
    // A child that has just ended may be counted neither as running nor as ended.
    Ok((tally, after.saturating_sub(before)))
}

/// Nothing is divided by zero.
fn some(count: u64) -> io::Result<f64> {
    if count == 0 { Err(io::Error::other("nothing came through")) } else { Ok(count as f64) }
}

/// In milliseconds.
fn percentile(replies: &mut [Duration], percent: usize) -> f64 {
    let index = (replies.len() * percent / 100).min(replies.len() - 1);
    let (_, reply, _) = replies.select_nth_unstable(index);
    reply.as_secs_f64() * 1e3
}

//! The measurement of each load on a relay.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Socket, Type};

use crate::client::{Client, Tally, Work};
use crate::downloads::Downloads;
use crate::link::Link;
use crate::paced::Paced;
use crate::process::{memory_kib, own_processor_time, processor_time};
use crate::running::Running;
use crate::target::{ASK, REPLY_BYTES, REQUEST_BYTES, Target};

/// Kept connections, on which one request follows another.
const KEPT: usize = 64;
/// Requesters that open a connection for each request.
const OPENERS: usize = 16;
/// Requesters beside downloads.
const BESIDE: usize = 16;
/// Downloads beside requesters.
const DOWNLOADS: usize = 4;
/// Bytes that each download takes in a second.
const DOWNLOAD_RATE: u64 = 100_000_000;
/// Sessions whose memory is measured.
const SESSIONS: usize = 400;

/// Source address of the idle sessions. Their ports, like other hosts', are not taken from the relay's.
const REQUESTER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Time before the measurement, in which connections open and streams get up to speed.
const WARM_UP: Duration = Duration::from_millis(150);
/// Time without work after which a relay is at rest, so that its memory is read.
const REST: Duration = Duration::from_millis(150);
/// Longest wait for that rest. Some relays have timers that never let them rest.
const REST_PATIENCE: Duration = Duration::from_secs(2);
/// Longest wait for a reply of an otherwise idle relay.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest wait until all sessions of [`kept`] are open.
const OPENING_PATIENCE: Duration = Duration::from_secs(30);

const GIB: f64 = (1_u64 << 30) as f64;

/// A relay, its target, and the time of the measurement.
pub struct Scene<'a> {
    pub relay: &'a Running,
    pub target: &'a Target,
    pub link: Option<&'a Link>,
    pub time: Duration,
    /// Sessions that [`kept`] keeps.
    pub kept: usize,
}

/// The processor time that some work took.
struct Cost {
    /// The relay's processor time; `None` if no process relays.
    relay: Option<Duration>,
    /// The relay's processor time and that of this program, which is both ends.
    all: Duration,
}

type Values = Vec<Option<f64>>;

pub fn streams(scene: &Scene, count: usize) -> io::Result<Values> {
    let (cost, bytes, tally) = upload(scene, count, WARM_UP, || scene.target.uploaded())?;
    Ok(vec![cost.relay_per(bytes / GIB), Some(cost.all_per(bytes / GIB)), Some(gigabits(bytes, &tally))])
}

pub fn link(scene: &Scene) -> io::Result<Values> {
    let link = scene.link.ok_or(io::ErrorKind::NotConnected)?;
    // Five beats for the windows to grow, and at least five to measure.
    let (beats, scene) = (link.beat() * 5, &Scene { time: scene.time.max(link.beat() * 5), ..*scene });
    let (cost, bytes, tally) = upload(scene, 1, beats, || link.taken())?;
    Ok(vec![cost.relay_per(bytes / GIB), Some(gigabits(bytes, &tally))])
}

pub fn round_trip(scene: &Scene) -> io::Result<Values> {
    let (mut tally, cost, count) = ask(scene, 1, scene.time)?;
    let (p50, p99) = (percentile(&mut tally.replies, 500), percentile(&mut tally.replies, 990));
    Ok(vec![cost.relay_micros_per(count), Some(cost.all_micros_per(count)), p50, p99])
}

pub fn requests(scene: &Scene) -> io::Result<Values> {
    let (mut tally, cost, count) = ask(scene, KEPT, scene.time)?;
    let (p50, p99) = (percentile(&mut tally.replies, 500), percentile(&mut tally.replies, 990));
    Ok(vec![
        cost.relay_micros_per(count),
        Some(cost.all_micros_per(count)),
        Some(rate(count, &tally)),
        p50,
        p99,
    ])
}

pub fn paced(scene: &Scene, rate: u32) -> io::Result<Values> {
    let mut client = Paced::connect(scene.relay.address(), KEPT, rate)?;
    client.run(WARM_UP)?;
    let (mut tally, cost) = timed(scene, || client.run(scene.time))?;
    let count = some(tally.replies.len() as u64)?;
    let [p50, p99, p999] = [500, 990, 999].map(|share| percentile(&mut tally.replies, share));
    Ok(vec![cost.relay_micros_per(count), p50, p99, p999])
}

pub fn connections(scene: &Scene) -> io::Result<Values> {
    let (tally, cost, count) = connect(scene, Work::AskOnce, scene.time)?;
    Ok(vec![cost.relay_micros_per(count), Some(cost.all_micros_per(count)), Some(rate(count, &tally))])
}

pub fn greeting(scene: &Scene) -> io::Result<Values> {
    let (mut tally, cost, count) = connect(scene, Work::BeGreeted, scene.time)?;
    let p99 = percentile(&mut tally.replies, 990);
    Ok(vec![cost.relay_micros_per(count), Some(rate(count, &tally)), p99])
}

pub fn logged_connections(scene: &Scene) -> io::Result<Values> {
    let (tally, cost, count) = connect(scene, Work::AskOnce, scene.time)?;
    Ok(vec![cost.relay_micros_per(count), Some(rate(count, &tally))])
}

pub fn mixed(scene: &Scene) -> io::Result<Values> {
    let downloads = Downloads::start(scene.relay.address(), DOWNLOADS, DOWNLOAD_RATE)?;
    let mut client = Client::connect(scene.relay.address(), Work::Ask, BESIDE)?;
    client.run(WARM_UP)?;
    let before = downloads.received();
    let (mut tally, _) = timed(scene, || client.run(scene.time))?;
    let bytes = (downloads.received() - before) as f64;
    let count = some(tally.replies.len() as u64)?;
    let (p50, p99) = (percentile(&mut tally.replies, 500), percentile(&mut tally.replies, 990));
    Ok(vec![Some(rate(count, &tally)), p50, p99, Some(bytes / 1e6 / tally.took.as_secs_f64())])
}

pub fn memory(scene: &Scene) -> io::Result<Values> {
    let idle = resting_memory(scene)?;
    let sessions = used_sessions(scene, SESSIONS)?;
    let busy = resting_memory(scene)?;
    drop(sessions);
    Ok(vec![idle, busy])
}

pub fn kept(scene: &Scene) -> io::Result<Values> {
    let sessions = used_sessions(scene, scene.kept)?;
    let memory = resting_memory(scene)?;
    let (_, request, requests) = ask(scene, KEPT, scene.time / 2)?;
    let (_, connection, connections) = connect(scene, Work::AskOnce, scene.time / 2)?;
    drop(sessions);
    let memory = memory.map(|kib| kib / scene.kept as f64);
    Ok(vec![memory, request.relay_micros_per(requests), connection.relay_micros_per(connections)])
}

// ----- steps that several measurements share

fn upload(
    scene: &Scene,
    count: usize,
    warm_up: Duration,
    taken: impl Fn() -> u64,
) -> io::Result<(Cost, f64, Tally)> {
    let mut client = Client::connect(scene.relay.address(), Work::Upload, count)?;
    client.run(warm_up)?;
    let before = taken();
    let (tally, cost) = timed(scene, || client.run(scene.time))?;
    Ok((cost, some(taken() - before)?, tally))
}

/// Sends requests on kept connections; returns the tally, its cost and the number of requests.
fn ask(scene: &Scene, connections: usize, time: Duration) -> io::Result<(Tally, Cost, f64)> {
    work(scene, Client::connect(scene.relay.address(), Work::Ask, connections)?, time)
}

/// Opens short connections; returns the tally, its cost and the number of connections.
fn connect(scene: &Scene, how: Work, time: Duration) -> io::Result<(Tally, Cost, f64)> {
    work(scene, Client::connect(scene.relay.address(), how, OPENERS)?, time)
}

fn work(scene: &Scene, mut client: Client, time: Duration) -> io::Result<(Tally, Cost, f64)> {
    client.run(WARM_UP)?;
    let (tally, cost) = timed(scene, || client.run(time))?;
    let count = some(tally.replies.len() as u64)?;
    Ok((tally, cost, count))
}

/// Opens sessions and relays a few bytes in both directions of each.
fn used_sessions(scene: &Scene, count: usize) -> io::Result<Vec<TcpStream>> {
    let start = Instant::now();
    let mut sessions = Vec::with_capacity(count);
    while sessions.len() < count {
        if start.elapsed() > OPENING_PATIENCE {
            let text = format!("{} of {count} sessions in {OPENING_PATIENCE:?}", sessions.len());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        sessions.push(used_session(scene)?);
    }
    Ok(sessions)
}

fn used_session(scene: &Scene) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // The connect chooses the port, among all that are free towards this relay.
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::from((REQUESTER, 0)).into())?;
    socket.connect_timeout(&scene.relay.address().into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[ASK; REQUEST_BYTES])?;
    stream.read_exact(&mut [0; REPLY_BYTES])?;
    Ok(stream)
}

fn resting_memory(scene: &Scene) -> io::Result<Option<f64>> {
    let Some(pid) = scene.relay.pid() else { return Ok(None) };
    await_rest(pid)?;
    Ok(Some(memory_kib(pid)? as f64))
}

/// Waits until a relay has used no processor time for a while.
fn await_rest(pid: u32) -> io::Result<()> {
    let start = Instant::now();
    let mut before = None;
    while start.elapsed() < REST_PATIENCE {
        let spent = Some(processor_time(pid)?);
        if before == spent {
            break;
        }
        before = spent;
        thread::sleep(REST);
    }
    Ok(())
}

/// Lets a client work; returns its tally and the processor time that the work took.
fn timed(scene: &Scene, work: impl FnOnce() -> io::Result<Tally>) -> io::Result<(Tally, Cost)> {
    let times = || -> io::Result<_> {
        let relay = scene.relay.pid().map(processor_time).transpose()?;
        Ok((relay, own_processor_time(process::id())?))
    };
    let (relay_before, own_before) = times()?;
    let tally = work()?;
    let (relay_after, own_after) = times()?;
    if tally.failures > 0 {
        return Err(io::Error::other(format!("{} connections failed", tally.failures)));
    }
    // A child that has just ended may be counted neither as running nor as ended.
    let relay = relay_after.zip(relay_before).map(|(after, before)| after.saturating_sub(before));
    let all = own_after.saturating_sub(own_before) + relay.unwrap_or_default();
    Ok((tally, Cost { relay, all }))
}

impl Cost {
    fn relay_per(&self, count: f64) -> Option<f64> {
        self.relay.map(|time| time.as_secs_f64() / count)
    }

    fn all_per(&self, count: f64) -> f64 {
        self.all.as_secs_f64() / count
    }

    fn relay_micros_per(&self, count: f64) -> Option<f64> {
        self.relay_per(count / 1e6)
    }

    fn all_micros_per(&self, count: f64) -> f64 {
        self.all_per(count / 1e6)
    }
}

/// Returns a count to divide by; 0 is an error.
fn some(count: u64) -> io::Result<f64> {
    if count == 0 { Err(io::Error::other("nothing came through")) } else { Ok(count as f64) }
}

fn rate(count: f64, tally: &Tally) -> f64 {
    count / tally.took.as_secs_f64()
}

fn gigabits(bytes: f64, tally: &Tally) -> f64 {
    bytes * 8.0 / 1e9 / tally.took.as_secs_f64()
}

/// Returns the time in milliseconds within which `of_a_thousand` of a thousand replies came; `None` without
/// replies.
fn percentile(replies: &mut [Duration], of_a_thousand: usize) -> Option<f64> {
    let last = replies.len().checked_sub(1)?;
    let index = (replies.len() * of_a_thousand / 1000).min(last);
    let (_, reply, _) = replies.select_nth_unstable(index);
    Some(reply.as_secs_f64() * 1e3)
}

//! How each load is put on a relay, and what is read off.

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

/// Where sessions that rest come from: like other hosts, they do not share the relay's ports.
const REQUESTER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Is not counted: streams get up to speed, connections are made.
const WARM_UP: Duration = Duration::from_millis(150);
/// Lets a relay come to rest before its memory is looked at.
const REST: Duration = Duration::from_millis(150);
/// For a reply on an otherwise idle relay.
const PATIENCE: Duration = Duration::from_secs(3);
/// For all the sessions of [`kept`] to be there.
const OPENING_PATIENCE: Duration = Duration::from_secs(30);

const GIB: f64 = (1_u64 << 30) as f64;

/// A relay, what it leads to, and for how long it is measured.
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
    /// The relay's, if there is a process that relays.
    relay: Option<Duration>,
    /// With that of this program, which is both ends.
    all: Duration,
}

type Values = Vec<Option<f64>>;

pub fn streams(scene: &Scene, count: usize) -> io::Result<Values> {
    let (cost, bytes, tally) = upload(scene, count, WARM_UP, || scene.target.uploaded())?;
    Ok(vec![cost.relay_per(bytes / GIB), Some(cost.all_per(bytes / GIB)), Some(gigabits(bytes, &tally))])
}

pub fn link(scene: &Scene) -> io::Result<Values> {
    let link = scene.link.ok_or(io::ErrorKind::NotConnected)?;
    // Some beats for the windows to grow, and some to measure.
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

// ----- what several of them do

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

/// Kept connections ask; what they did, its cost, and how many requests that were.
fn ask(scene: &Scene, connections: usize, time: Duration) -> io::Result<(Tally, Cost, f64)> {
    work(scene, Client::connect(scene.relay.address(), Work::Ask, connections)?, time)
}

/// Short connections; what they did, its cost, and how many they were.
fn connect(scene: &Scene, how: Work, time: Duration) -> io::Result<(Tally, Cost, f64)> {
    work(scene, Client::connect(scene.relay.address(), how, OPENERS)?, time)
}

fn work(scene: &Scene, mut client: Client, time: Duration) -> io::Result<(Tally, Cost, f64)> {
    client.run(WARM_UP)?;
    let (tally, cost) = timed(scene, || client.run(time))?;
    let count = some(tally.replies.len() as u64)?;
    Ok((tally, cost, count))
}

/// Sessions that have relayed something in both directions.
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
    // The connect chooses the port, from all that are free towards this relay.
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
    thread::sleep(REST);
    Ok(Some(memory_kib(pid)? as f64))
}

/// Lets a client work, and says what it did and the processor time that this took.
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

/// Nothing is divided by zero.
fn some(count: u64) -> io::Result<f64> {
    if count == 0 { Err(io::Error::other("nothing came through")) } else { Ok(count as f64) }
}

fn rate(count: f64, tally: &Tally) -> f64 {
    count / tally.took.as_secs_f64()
}

fn gigabits(bytes: f64, tally: &Tally) -> f64 {
    bytes * 8.0 / 1e9 / tally.took.as_secs_f64()
}

/// The time in milliseconds within which so many of a thousand replies came.
fn percentile(replies: &mut [Duration], of_a_thousand: usize) -> Option<f64> {
    let last = replies.len().checked_sub(1)?;
    let index = (replies.len() * of_a_thousand / 1000).min(last);
    let (_, reply, _) = replies.select_nth_unstable(index);
    Some(reply.as_secs_f64() * 1e3)
}

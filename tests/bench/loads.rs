//! The loads, and the needs of each.

use std::io;
use std::time::Duration;

use crate::figures::{self, Figure};
use crate::link::Link;
use crate::measures::{self, Scene};
use crate::running::LogTo;
use crate::target::Target;

/// The original's pool, in sessions.
const SESSIONS: usize = 500;
/// Room for the sessions that work beside the kept ones, with some to spare.
const SESSIONS_BESIDE: usize = 100;

/// One kind of work for a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// One upload.
    Stream,
    /// Eight uploads.
    Streams,
    /// One upload to a peer that reads once every 20 ms.
    Link20,
    /// The same, every 100 ms.
    Link100,
    /// One request after another, on one kept connection.
    RoundTrip,
    /// The same, on 64 connections at once.
    Requests,
    /// 5,000 requests a second, whether or not earlier ones were answered.
    Paced5000,
    /// The same, four times as often.
    Paced20000,
    /// A connection for each request.
    Connections,
    /// The same, with a greeting that the target sends first.
    Greeting,
    /// Requests beside downloads.
    Mixed,
    /// Short connections, while the log's pipe is read more slowly than lines come.
    LogPipe,
    /// The same, with a socket such as the journal's.
    LogSocket,
    /// The same, while the log's file system is slow.
    LogFile,
    /// Idle sessions.
    Memory,
    /// Many idle sessions beside some busy ones.
    Kept,
}

impl Load {
    pub const ALL: [Self; 16] = [
        Self::Stream,
        Self::Streams,
        Self::Link20,
        Self::Link100,
        Self::RoundTrip,
        Self::Requests,
        Self::Paced5000,
        Self::Paced20000,
        Self::Connections,
        Self::Greeting,
        Self::Mixed,
        Self::LogPipe,
        Self::LogSocket,
        Self::LogFile,
        Self::Memory,
        Self::Kept,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Streams => "streams",
            Self::Link20 => "link-20",
            Self::Link100 => "link-100",
            Self::RoundTrip => "round-trip",
            Self::Requests => "requests",
            Self::Paced5000 => "paced-5000",
            Self::Paced20000 => "paced-20000",
            Self::Connections => "connections",
            Self::Greeting => "greeting",
            Self::Mixed => "mixed",
            Self::LogPipe => "log-pipe",
            Self::LogSocket => "log-socket",
            Self::LogFile => "log-file",
            Self::Memory => "memory",
            Self::Kept => "kept",
        }
    }

    /// Returns the figures whose values [`measure`](Self::measure) returns, in the same order.
    pub const fn figures(self) -> &'static [Figure] {
        match self {
            Self::Stream => &figures::STREAM,
            Self::Streams => &figures::STREAMS,
            Self::Link20 => &figures::LINK_20,
            Self::Link100 => &figures::LINK_100,
            Self::RoundTrip => &figures::ROUND_TRIP,
            Self::Requests => &figures::REQUESTS,
            Self::Paced5000 => &figures::PACED_5000,
            Self::Paced20000 => &figures::PACED_20000,
            Self::Connections => &figures::CONNECTIONS,
            Self::Greeting => &figures::GREETING,
            Self::Mixed => &figures::MIXED,
            Self::LogPipe => &figures::LOG_PIPE,
            Self::LogSocket => &figures::LOG_SOCKET,
            Self::LogFile => &figures::LOG_FILE,
            Self::Memory => &figures::MEMORY,
            Self::Kept => &figures::KEPT,
        }
    }

    /// Starts the link that stands in for the target; `None` if the load needs none.
    pub fn link(self) -> io::Result<Option<Link>> {
        let beat = match self {
            Self::Link20 => Duration::from_millis(20),
            Self::Link100 => Duration::from_millis(100),
            _ => return Ok(None),
        };
        Link::start(beat).map(Some)
    }

    /// Returns whether the target greets each connection.
    pub fn is_greeted(self) -> bool {
        self == Self::Greeting
    }

    /// Returns the number of sessions that the relay must have room for, where [`Load::Kept`] keeps `kept`.
    pub fn sessions(self, kept: usize) -> usize {
        if self == Self::Kept { kept + SESSIONS_BESIDE } else { SESSIONS }
    }

    pub fn log(self) -> LogTo {
        match self {
            Self::LogPipe => LogTo::SlowPipe,
            Self::LogSocket => LogTo::SlowSocket,
            Self::LogFile => LogTo::SynchronousFile,
            _ => LogTo::File,
        }
    }

    /// Puts the load on a relay, and returns a value for each figure; `None` where it has none.
    pub fn measure(self, scene: &Scene) -> io::Result<Vec<Option<f64>>> {
        let values = match self {
            Self::Stream => measures::streams(scene, 1),
            Self::Streams => measures::streams(scene, 8),
            Self::Link20 | Self::Link100 => measures::link(scene),
            Self::RoundTrip => measures::round_trip(scene),
            Self::Requests => measures::requests(scene),
            Self::Paced5000 => measures::paced(scene, 5000),
            Self::Paced20000 => measures::paced(scene, 20_000),
            Self::Connections => measures::connections(scene),
            Self::Greeting => measures::greeting(scene),
            Self::Mixed => measures::mixed(scene),
            Self::LogPipe | Self::LogSocket | Self::LogFile => measures::logged_connections(scene),
            Self::Memory => measures::memory(scene),
            Self::Kept => measures::kept(scene),
        }?;
        assert_eq!(values.len(), self.figures().len(), "{} has another number of figures", self.name());
        Ok(values)
    }
}

/// Returns the address to which the relay leads under `load`.
pub fn destination(load: Load, target: &Target, link: Option<&Link>) -> std::net::SocketAddr {
    match link {
        Some(link) => link.address(),
        None if load.is_greeted() => target.greeter(),
        None => target.address(),
    }
}

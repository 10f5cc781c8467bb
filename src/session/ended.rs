//! The facts about a session: which one it is, what it has done, and why it ended.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::session::Side;
use crate::sys;

/// The number of an allocated session: from 1, rising by 1, never used again in a run.
pub type Serial = NonZeroU64;

/// Who a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its serial number.
    pub serial: Serial,
    /// The address that the requester connected from.
    pub requester: SocketAddr,
    /// The target that its bytes go to.
    pub target: Destination,
}

/// A target: its address, or its name while that has no known address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The address that is connected to.
    Address(SocketAddr),
    /// The name, which lives as long as the process, and the port.
    Name(&'static str, u16),
}

impl Destination {
    /// Returns the address, if it is known.
    #[must_use]
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Name(..) => None,
        }
    }

    /// Returns the TCP port.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name(_, port) => port,
        }
    }
}

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// What a session had done when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Bytes delivered to the target.
    pub to_target: u64,
    /// Bytes delivered to the requester.
    pub to_requester: u64,
    /// From the allocation of the session to its end.
    pub duration: Duration,
    /// The operating system's error number, where an error ended the session.
    pub errno: Option<i32>,
}

/// A live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Which one.
    pub identity: Identity,
    /// How far it has come.
    pub phase: Progress,
    /// What it has done up to now; its duration is its age.
    pub summary: Summary,
    /// Time since a byte last moved.
    pub idle: Duration,
}

/// How far a live session has come. `Display` writes the word that the log uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The target has not answered yet.
    Connecting,
    /// Bytes flow.
    Relaying,
    /// An abort delivers what is left.
    Ending,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Relaying => "relaying",
            Self::Ending => "ending",
        })
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Message 20.
    ConnectNotStarted,
    /// Message 24.
    IdleTimeout,
    /// Message 25.
    ConnectTimeout,
    /// Message 27.
    TargetRefused,
    /// Messages 29 and 30.
    RelayNotStarted(Side),
    /// Messages 32 and 36: no memory for the buffer of the channel that reads from this side.
    NoBuffer(Side),
    /// Messages 34 and 38: this side closed, or reading from it failed.
    ReadClosure(Side),
    /// Messages 35 and 39: writing to this side failed.
    WriteClosure(Side),
}

/// Why a session could not reach a target. [`Failure`](crate::Failure) has its kinds, and is made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// The cause of the session's end, if this was the last target.
    #[doc(hidden)] // Its type is the sessions' own: `Failure` is for users.
    pub cause: Cause,
    /// The operating system's error number; `None`: no answer came in time.
    pub errno: Option<i32>,
}

impl Unreached {
    /// Returns the failure of a system call.
    pub(crate) fn new(cause: Cause, error: &std::io::Error) -> Self {
        Self { cause, errno: Some(sys::errno(error)) }
    }
}

/// A session that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which one it was.
    pub identity: Identity,
    /// Why it ended.
    pub cause: Cause,
    /// What it had done.
    pub summary: Summary,
}

//! The facts about a session: its identity, its bytes, and the cause of its end.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::session::Side;
use crate::sys;

/// The number of an allocated session. It starts at 1, rises by 1, and is never reused in a run.
pub type Serial = NonZeroU64;

/// The serial number and the addresses of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its serial number.
    pub serial: Serial,
    /// The address that the requester connected from.
    pub requester: SocketAddr,
    /// The target that it relays to.
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

/// The bytes, the duration and the error of a session that has ended, or of a live one up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Bytes delivered to the target.
    pub to_target: u64,
    /// Bytes delivered to the requester.
    pub to_requester: u64,
    /// From the allocation of the session to its end.
    pub duration: Duration,
    /// The operating system's error number; `None`: no error ended the session.
    pub errno: Option<i32>,
}

/// A live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its serial number and addresses.
    pub identity: Identity,
    /// The phase that it is in.
    pub phase: Progress,
    /// Its bytes up to now. The duration is its age.
    pub summary: Summary,
    /// Time since a byte last moved.
    pub idle: Duration,
}

/// The phase of a live session. `Display` writes the word that the log uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The target has not answered yet.
    Connecting,
    /// Bytes flow.
    Relaying,
    /// One side's connection is dead, and its last bytes are being delivered.
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

/// The cause of a session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connect could not begin, or its socket could not be registered (message 20).
    ConnectNotStarted,
    /// No byte moved for the idle timeout (message 24).
    IdleTimeout,
    /// The target did not answer within the connect timeout (message 25).
    ConnectTimeout,
    /// The connect failed, whatever the error (message 27).
    TargetRefused,
    /// The socket of this side could not be registered (messages 29 and 30).
    RelayNotStarted(Side),
    /// There was no memory for the buffer of the channel that reads from this side (messages 32 and 36).
    NoBuffer(Side),
    /// This side sent EOF, or reading from it failed (messages 34 and 38).
    ReadClosure(Side),
    /// Writing to this side failed (messages 35 and 39).
    WriteClosure(Side),
}

/// The reason why a session could not reach a target. [`Failure`](crate::Failure) is its kind, and is made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// The cause of the session's end, if this was the last target.
    #[doc(hidden)] // `Cause` is internal. `Failure` is for users.
    pub cause: Cause,
    /// The operating system's error number; `None`: there was no error, as when no answer came in time.
    pub errno: Option<i32>,
}

impl Unreached {
    /// Returns the failure of a system call.
    pub(crate) fn new(cause: Cause, error: &std::io::Error) -> Self {
        Self { cause, errno: Some(sys::errno(error)) }
    }
}

/// The facts about a session that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its serial number and addresses.
    pub identity: Identity,
    /// The cause of its end.
    pub cause: Cause,
    /// Its bytes, its duration and its error.
    pub summary: Summary,
}

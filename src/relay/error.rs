//! Errors that keep a relay from starting or from going on. Each becomes a message.

use std::error::Error;
use std::net::SocketAddr;
use std::{fmt, io};

use crate::config::error::ConfigError;
use crate::config::host::Host;
use crate::config::status::StatusAddress;
use crate::log::message::Message;
use crate::log::reason::{ListenFailure, OptionFailure};
use crate::relay::status::unavailable;

/// Why a relay cannot start. Its text is a message of the catalogue.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The clock is too coarse for the ticks of the relay's timers: message 1.
    ClockTooCoarse,
    /// A system call failed while the relay was about to listen on `address`: messages 11 to 14.
    Listen {
        /// The step that failed.
        step: ListenStep,
        /// The address to listen on.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// A setting has a value that does not work on this host: message 112.
    Config(ConfigError),
    /// This host does not have the address of `--source`, or does not have it yet: message 112.
    SourceNotHere {
        /// The address.
        address: Host,
    },
    /// The system lacks an option, or does not permit it: message 132.
    OptionUnavailable {
        /// The option.
        option: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The target is where the relay itself listens: message 113.
    OwnListener {
        /// The target.
        target: SocketAddr,
    },
    /// The pool needs more than the limits of the process allow: message 114.
    PoolTooLarge {
        /// The sessions of `--sessions`.
        sessions: usize,
        /// Their need and the limit, in words.
        need: String,
    },
    /// The socket passed in is not one listening TCP socket: message 115.
    InheritedSocket,
    /// The status cannot be served at `status`: message 137.
    Status {
        /// The address or the path to serve it at.
        status: StatusAddress,
        /// The system's error.
        source: io::Error,
    },
    /// An argument contradicts the socket passed in: message 130.
    InheritedOtherwise {
        /// The argument that contradicts the socket, as it was given.
        given: String,
        /// The address of the socket.
        address: SocketAddr,
    },
}

/// The steps of a start that make system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenStep {
    /// Making the socket, and setting its options: message 11.
    Socket,
    /// Binding it: message 12.
    Bind,
    /// Listening: message 13.
    Listen,
    /// Making the poll instance, and registering with it: message 14.
    Poll,
}

impl ListenStep {
    /// Returns a conversion from an error of this step, for a listener at `address`.
    pub fn failed(self, address: SocketAddr) -> impl Fn(io::Error) -> StartError {
        move |source| StartError::Listen { step: self, address, source }
    }
}

impl From<&StartError> for Message {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::ClockTooCoarse => Self::ClockTooCoarse {},
            StartError::Listen { step, address, source } => {
                let failure = ListenFailure { address: *address, errno: source.into() };
                match step {
                    ListenStep::Socket => Self::ListenerSocket { failure },
                    ListenStep::Bind => Self::ListenerBind { failure },
                    ListenStep::Listen => Self::ListenerListen { failure },
                    ListenStep::Poll => Self::PollUnavailable { failure },
                }
            }
            StartError::Config(error) => error.clone().into(),
            StartError::SourceNotHere { address } => Self::InvalidOption {
                option: "--source",
                given: address.to_string(),
                allowed: "an address of this host".into(),
            },
            StartError::OptionUnavailable { option, source } => {
                Self::OptionUnavailable { failure: OptionFailure { option, errno: source.into() } }
            }
            StartError::OwnListener { target } => Self::OwnListener { target: *target },
            StartError::PoolTooLarge { sessions, need } => {
                Self::PoolTooLarge { sessions: *sessions, need: need.clone() }
            }
            StartError::InheritedSocket => Self::InheritedSocket {},
            StartError::Status { status, source } => unavailable(status, source),
            StartError::InheritedOtherwise { given, address } => {
                Self::InheritedOtherwise { given: given.clone(), address: *address }
            }
        }
    }
}

impl From<StartError> for Message {
    fn from(error: StartError) -> Self {
        (&error).into()
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Message::from(self).fmt(f)
    }
}

impl StartError {
    /// Returns whether the command line asks for something that this host cannot do. Otherwise the system has failed.
    #[must_use]
    pub fn refuses_the_command_line(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::OwnListener { .. }
                | Self::PoolTooLarge { .. }
                | Self::InheritedOtherwise { .. }
        )
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Listen { source, .. }
            | Self::OptionUnavailable { source, .. }
            | Self::Status { source, .. } => Some(source),
            Self::Config(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a relay cannot go on: waiting for events failed. Its text is message 110.
#[derive(Debug)]
pub struct WaitError(pub(crate) io::Error);

impl From<&WaitError> for Message {
    fn from(error: &WaitError) -> Self {
        Self::WaitFailed { errno: (&error.0).into() }
    }
}

impl From<WaitError> for Message {
    fn from(error: WaitError) -> Self {
        (&error).into()
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Message::from(self).fmt(f)
    }
}

impl Error for WaitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

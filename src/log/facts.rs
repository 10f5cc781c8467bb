//! Facts as messages: the end of a session, by its cause, and a refused value.

use std::fmt;

use crate::config::error::{Argument, ConfigError};
use crate::log::message::Message;
use crate::session::Side;
use crate::session::ended::{Cause, Ended, Identity, Summary};

impl Message {
    /// Returns the session that has ended, and its summary. None: the message does not report the end of a session.
    ///
    /// The messages that report it have a field `summary`. Every allocated session (message 26) gets exactly one,
    /// unless a stop, the absolute timeout or a failed wait cuts it off.
    #[must_use]
    pub fn session_end(&self) -> Option<(Identity, Summary)> {
        match *self {
            Self::ConnectNotStarted { session, summary }
            | Self::IdleTimeout { session, summary }
            | Self::ConnectTimeout { session, summary }
            | Self::TargetRefused { session, summary }
            | Self::RequesterRelayNotStarted { session, summary }
            | Self::TargetRelayNotStarted { session, summary }
            | Self::RequesterBuffer { session, summary }
            | Self::TargetBuffer { session, summary }
            | Self::RequesterReadClosure { session, summary }
            | Self::TargetReadClosure { session, summary }
            | Self::TargetWriteClosure { session, summary }
            | Self::RequesterWriteClosure { session, summary } => Some((session, summary)),
            _ => None,
        }
    }

    /// Returns the message that reports the end of a session.
    pub(crate) fn of_end(Ended { cause, identity: session, summary }: Ended) -> Self {
        use Side::{Requester, Target};
        match cause {
            Cause::ConnectNotStarted => Self::ConnectNotStarted { session, summary },
            Cause::IdleTimeout => Self::IdleTimeout { session, summary },
            Cause::ConnectTimeout => Self::ConnectTimeout { session, summary },
            Cause::TargetRefused => Self::TargetRefused { session, summary },
            Cause::RelayNotStarted(Requester) => Self::RequesterRelayNotStarted { session, summary },
            Cause::RelayNotStarted(Target) => Self::TargetRelayNotStarted { session, summary },
            Cause::NoBuffer(Requester) => Self::RequesterBuffer { session, summary },
            Cause::NoBuffer(Target) => Self::TargetBuffer { session, summary },
            Cause::ReadClosure(Requester) => Self::RequesterReadClosure { session, summary },
            Cause::ReadClosure(Target) => Self::TargetReadClosure { session, summary },
            Cause::WriteClosure(Requester) => Self::RequesterWriteClosure { session, summary },
            Cause::WriteClosure(Target) => Self::TargetWriteClosure { session, summary },
        }
    }
}

impl From<ConfigError> for Message {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Argument { argument, given } => match argument {
                Argument::FwdPort => Self::InvalidFwdPort { given },
                Argument::TrgHost => Self::InvalidTrgHost { given },
                Argument::TrgPort => Self::InvalidTrgPort { given },
                Argument::Acl => Self::InvalidAcl { given },
                Argument::ConnectTimeout => Self::InvalidConnectTimeout { given },
                Argument::IdleTimeout => Self::InvalidIdleTimeout { given },
                Argument::AbsoluteTimeout => Self::InvalidAbsoluteTimeout { given },
                Argument::Buf => Self::InvalidBuf { given },
            },
            ConfigError::Option { option, given, allowed } => Self::InvalidOption { option, given, allowed },
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = Message::from(self.clone());
        message.fmt(f)?;
        message.reason().map_or(Ok(()), |reason| write!(f, " {reason}"))
    }
}

impl std::error::Error for ConfigError {}

//! The messages about the end of a session.

use crate::log::message::Message;
use crate::session::Side;
use crate::session::ended::{Cause, Ended, Identity, Summary};

impl Message {
    /// Returns which session has ended and what it had done, if the message is about the end of a session.
    ///
    /// A stop cuts all sessions without a message for each.
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

    /// Returns the message about the end of a session.
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

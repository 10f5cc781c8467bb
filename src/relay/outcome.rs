//! How a relay has ended.

use crate::log::message::Message;

/// Why a relay ended. Its last message says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The absolute timeout has expired: message 23.
    AbsoluteTimeout,
    /// It was asked to stop, or twice to drain: message 100.
    Stopped,
    /// It was asked to drain, and its last session has ended: message 102.
    Drained,
}

impl Outcome {
    /// Returns the last message of the relay.
    pub(super) fn message(self) -> Message {
        match self {
            Self::AbsoluteTimeout => Message::AbsoluteTimeout {},
            Self::Stopped => Message::StopSignal {},
            Self::Drained => Message::Drained {},
        }
    }
}

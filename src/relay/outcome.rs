//! How a relay has ended.

use crate::log::message::Message;

/// Why a relay ended. Its last message says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The absolute timeout expired: message 23.
    AbsoluteTimeout,
    /// A request to stop, or a second one to drain: message 100.
    Stopped,
    /// The end of the last session of a drain: message 102.
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

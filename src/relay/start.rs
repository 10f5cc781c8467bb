//! What a pool needs, and what the limits of the process give.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{OWN_DESCRIPTORS, PIPES};
use crate::log::message::Message;

/// What a pool needs at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) sessions: usize,
    pub(crate) descriptors: u64,
    pub(crate) bytes: u64,
}

impl Needs {
    /// Of so many sessions, each of which takes so many bytes.
    pub(crate) fn of_pool(sessions: usize, session_bytes: usize) -> Self {
        let descriptors = 2 * sessions + 2 * PIPES + OWN_DESCRIPTORS;
        Self { sessions, descriptors: descriptors as u64, bytes: (sessions * session_bytes) as u64 }
    }

    /// Whether the limits of the process can give that.
    ///
    /// # Errors
    /// Message 114.
    pub(crate) fn check(self) -> Result<(), Message> {
        let Self { sessions, descriptors, bytes } = self;
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        if descriptors > most {
            let need = format!("{descriptors} descriptors, and the limit is {most}");
            return Err(Message::PoolTooLarge(sessions, need));
        }
        for resource in [Resource::As, Resource::Data] {
            let most = getrlimit(resource).current.unwrap_or(u64::MAX);
            if bytes > most {
                let need = format!("{} KiB of memory, and the limit is {} KiB", bytes / 1024, most / 1024);
                return Err(Message::PoolTooLarge(sessions, need));
            }
        }
        Ok(())
    }

    /// Raises the soft limit of descriptors as far as it is needed and may go.
    ///
    /// # Errors
    /// Message 104, where not all sessions will have theirs.
    pub(crate) fn raise_descriptor_limit(self) -> Result<(), Message> {
        let limit = raise_descriptor_limit(self.descriptors);
        let enough = limit.saturating_sub(OWN_DESCRIPTORS as u64) / 2;
        if enough < self.sessions as u64 {
            return Err(Message::DescriptorLimit(limit, enough, self.sessions));
        }
        Ok(())
    }
}

/// Raises the soft limit towards `wanted`; the limit that is in force then.
fn raise_descriptor_limit(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let raised = wanted.min(maximum.unwrap_or(u64::MAX));
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => raised,
        Err(_) => current,
    }
}

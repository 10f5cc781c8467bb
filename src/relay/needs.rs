//! The needs of a pool, and the limits that the process and the machine set.

use mio::net::TcpStream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::limits::{OWN_DESCRIPTORS, PIPES_MAX, SHARE_ELSEWHERE, STATUS_DESCRIPTORS};
use crate::log::message::Message;
use crate::relay::error::StartError;
use crate::session::Session;

/// The needs of a pool with all sessions live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub(super) sessions: usize,
    pub(super) descriptors: u64,
    pub(super) bytes: u64,
    /// Descriptors beside those of sessions and pipes.
    own_descriptors: u64,
}

impl Needs {
    pub(super) fn of(config: &Config) -> Self {
        let session_bytes = 2 * config.buf + size_of::<Session<TcpStream>>() + SHARE_ELSEWHERE;
        let of_status = if config.status.is_some() { STATUS_DESCRIPTORS } else { 0 };
        // Each name asks for addresses of both families at once.
        let of_names = 2 * config.targets().filter(|target| target.address().is_none()).count();
        Self::of_pool(config.sessions(), session_bytes, OWN_DESCRIPTORS + of_status + of_names)
    }

    /// Returns the needs of `sessions` sessions of `session_bytes` bytes each, and of the relay's
    /// `own_descriptors`.
    fn of_pool(sessions: usize, session_bytes: usize, own_descriptors: usize) -> Self {
        let descriptors = (2 * sessions + 2 * PIPES_MAX + own_descriptors) as u64;
        let bytes = (sessions * session_bytes) as u64;
        Self { sessions, descriptors, bytes, own_descriptors: own_descriptors as u64 }
    }

    /// Returns message 105, which reports the needs.
    pub(super) fn message(self) -> Message {
        let Self { sessions, descriptors, bytes, .. } = self;
        Message::PoolNeeds { sessions, descriptors, kib: bytes.div_ceil(1024) }
    }

    /// Checks that the limits of the process meet the needs.
    ///
    /// # Errors
    /// Message 114.
    pub(super) fn check(self) -> Result<(), StartError> {
        let Self { sessions, descriptors, bytes, .. } = self;
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        if descriptors > most {
            let need = format!("{descriptors} descriptors, and the limit is {most}");
            return Err(StartError::PoolTooLarge { sessions, need });
        }
        for resource in [Resource::As, Resource::Data] {
            let most = getrlimit(resource).current.unwrap_or(u64::MAX);
            if bytes > most {
                let need = format!("{} KiB of memory, and the limit is {} KiB", bytes / 1024, most / 1024);
                return Err(StartError::PoolTooLarge { sessions, need });
            }
        }
        Ok(())
    }

    /// Raises the soft limit of descriptors to the needs, but not above the hard limit.
    ///
    /// # Errors
    /// Message 104, if the limit stays too low for all sessions.
    pub(super) fn raise_descriptor_limit(self) -> Result<(), Message> {
        let limit = raise_descriptor_limit(self.descriptors);
        let enough_for = limit.saturating_sub(self.own_descriptors) / 2;
        if enough_for < self.sessions as u64 {
            return Err(Message::DescriptorLimit { limit, enough_for, sessions: self.sessions });
        }
        Ok(())
    }
}

/// Raises the soft limit towards `wanted`. Returns the limit that is in force then.
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

/// Returns the kernel memory that pipes may hold on this machine.
pub(super) fn pipe_bytes() -> usize {
    #[cfg(target_os = "linux")]
    {
        use crate::limits::{PIPES_BYTES_MAX, PIPES_MEMORY_SHARE};

        let info = rustix::system::sysinfo();
        #[allow(clippy::useless_conversion)] // 32 bits wide on some systems.
        let memory = u64::try_from(info.totalram).unwrap_or(u64::MAX).saturating_mul(info.mem_unit.into());
        usize::try_from(memory / PIPES_MEMORY_SHARE).unwrap_or(usize::MAX).min(PIPES_BYTES_MAX)
    }
    #[cfg(not(target_os = "linux"))]
    0
}

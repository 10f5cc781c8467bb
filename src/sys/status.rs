//! The system calls of the status: the kernel's figures for this process, and sending an answer.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use socket2::Socket;

/// Two files of /proc about this process. They are opened once, because a later root directory may lack /proc.
#[derive(Debug)]
pub(crate) struct Process {
    #[cfg(target_os = "linux")]
    memory: Option<std::fs::File>,
    #[cfg(target_os = "linux")]
    descriptors: Option<std::fs::File>,
}

impl Process {
    #[cfg(target_os = "linux")]
    pub(crate) fn open() -> Self {
        let open = |path| std::fs::File::open(path).ok();
        Self { memory: open("/proc/self/statm"), descriptors: open("/proc/self/fd") }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn open() -> Self {
        Self {}
    }

    /// Closes /proc/self/fd, because an open directory leads out of every root directory. From then on, the number
    /// of open descriptors is unknown.
    pub(crate) fn close_folder(&mut self) {
        #[cfg(target_os = "linux")]
        {
            self.descriptors = None;
        }
    }

    /// Returns the resident memory in bytes; `None`: the system does not say.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        use std::os::unix::fs::FileExt as _;

        use nix::unistd::{SysconfVar, sysconf};

        let mut text = [0; 64];
        let length = self.memory.as_ref()?.read_at(&mut text, 0).ok()?;
        // The second number counts resident pages.
        let pages = str::from_utf8(&text[..length]).ok()?.split(' ').nth(1)?.parse::<u64>().ok()?;
        let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok()??;
        Some(pages * u64::try_from(page_bytes).ok()?)
    }

    /// Returns the number of open descriptors; `None`: the system does not say. Linux reports it from 6.2 on, as
    /// the size of /proc/self/fd. Counting the entries would take long if there are many.
    #[cfg(target_os = "linux")]
    pub(crate) fn open_descriptors(&self) -> Option<u64> {
        let length = self.descriptors.as_ref()?.metadata().ok()?.len();
        Some(length).filter(|&length| length > 0)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        None
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn open_descriptors(&self) -> Option<u64> {
        None
    }
}

/// Returns the limit of open descriptors; `None`: there is none.
pub(crate) fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Returns the processor time that this process has used.
pub(crate) fn cpu_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    time.map_or(Duration::ZERO, Duration::from)
}

/// Sends bytes. A connection that takes no more is an error, and raises no SIGPIPE.
pub(crate) fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL)?);
    #[cfg(not(target_os = "linux"))]
    socket.send(bytes)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_figures_agree_with_other_files_of_proc() {
        let process = Process::open();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident: u64 = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
        // Other tests run meanwhile, and the kernel counts lazily.
        let measured = process.resident_bytes().unwrap();
        assert!((resident / 4..resident * 4).contains(&measured), "{measured} for {resident}");
        if let Some(count) = process.open_descriptors() {
            assert!((5..100_000).contains(&count), "{count}");
        }
        assert!(cpu_time() > Duration::ZERO);
    }
}

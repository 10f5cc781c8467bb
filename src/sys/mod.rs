//! System calls and nothing else.

pub(crate) mod net;
pub(crate) mod output;
pub(crate) mod outq;
pub(crate) mod pipe;
pub(crate) mod tcp;

use std::io;
use std::time::Duration;

/// The operating system's number of an error; 0 for one that is not the system's.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Calls again what a signal interrupted.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Returns the resolution of the monotonic clock; zero where the kernel doesn't say.
pub(crate) fn clock_resolution() -> Duration {
    nix::time::ClockId::CLOCK_MONOTONIC.res().map_or(Duration::ZERO, Duration::from)
}

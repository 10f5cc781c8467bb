//! System calls and nothing else.

pub(crate) mod net;
pub(crate) mod output;
pub(crate) mod outq;
pub(crate) mod pipe;
pub(crate) mod privileges;
#[cfg(feature = "status")]
pub(crate) mod status;
pub(crate) mod way;

use std::io;
use std::time::Duration;

use rustix::io::Errno;

/// The peer has reset the connection.
pub(crate) const ECONNRESET: i32 = Errno::CONNRESET.raw_os_error();
/// The connection takes no more bytes.
pub(crate) const EPIPE: i32 = Errno::PIPE.raw_os_error();
/// The process has reached its descriptor limit.
pub(crate) const NO_MORE_DESCRIPTORS: i32 = Errno::MFILE.raw_os_error();
/// The system does not support this address family.
pub(crate) const NO_SUCH_FAMILY: i32 = Errno::AFNOSUPPORT.raw_os_error();

/// Returns whether an error of splice(2) means only that splicing does not work here. The connection is fine.
pub(crate) fn is_splice_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, OutOfMemory, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | OutOfMemory | PermissionDenied | Unsupported)
}

/// Returns the operating system's number of an error; 0: the error is not the system's.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Repeats a call for as long as signals interrupt it.
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

//! Requests that come as signals to the process.

use std::io;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGXFSZ};

use crate::log::Sink;
use crate::relay::Relay;
use crate::relay::control::Requests;

impl<S: Sink> Relay<S> {
    /// Lets signals make the requests of a [`Handle`](crate::Handle). Needs the feature `signals`.
    ///
    /// SIGTERM, SIGINT and SIGHUP stop, SIGQUIT drains, SIGUSR1 reports. Where targets may be names, SIGHUP looks
    /// them up instead. Elsewhere, a SIGHUP that was ignored before stays ignored. SIGXFSZ no longer kills the
    /// process when a log file reaches its size limit.
    ///
    /// A signal reaches every relay of the process that has called this. Without a call, the library leaves
    /// the signals alone.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn listen_to_signals(&self) -> io::Result<()> {
        let Requests { stop, drain, report, look_up, .. } = &self.control.requests;
        // A closed terminal stops the relay, unless nohup(1) or its like has had SIGHUP ignored. A relay
        // that resolves names looks them up instead, which does no harm under nohup.
        let hang_up = if self.config.resolve() {
            Some((SIGHUP, look_up))
        } else {
            (!ignores(SIGHUP)).then_some((SIGHUP, stop))
        };
        let requests = [(SIGTERM, stop), (SIGINT, stop), (SIGQUIT, drain), (SIGUSR1, report)];
        for (signal, request) in requests.into_iter().chain(hang_up) {
            // In this order, so that the woken loop finds the request.
            signal_hook::flag::register(signal, Arc::clone(request))?;
            signal_hook::low_level::pipe::register(signal, self.control.wake.try_clone()?)?;
        }
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(())
    }
}

/// Returns whether the process ignores this signal, as it does under nohup(1). Returns true where the
/// system does not say, so that the signal is left alone.
fn ignores(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}

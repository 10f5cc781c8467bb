//! Requests from outside the loop: stop, drain, report. They come as signals or from an embedder.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::net::UnixStream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGXFSZ};

use crate::sys;

/// What may be asked of a running relay. A request that is made again before it was seen is one.
#[derive(Clone, Debug, Default)]
struct Requests {
    stop: Arc<AtomicBool>,
    drain: Arc<AtomicBool>,
    report: Arc<AtomicBool>,
}

/// Asks a running relay for things, from any thread.
#[derive(Debug)]
pub struct Handle {
    requests: Requests,
    wake: StdUnixStream,
}

impl Handle {
    /// Ends the relay at once; its sessions are cut.
    pub fn stop(&self) {
        self.ask(&self.requests.stop);
    }

    /// Ends the relay after its last session; it accepts no more. Asked twice, it stops.
    pub fn drain(&self) {
        self.ask(&self.requests.drain);
    }

    /// Logs the totals and the live sessions.
    pub fn report(&self) {
        self.ask(&self.requests.report);
    }

    fn ask(&self, request: &AtomicBool) {
        request.store(true, Ordering::SeqCst);
        // A full socket wakes the relay as well as one more byte would.
        let _ = (&self.wake).write(&[0]);
    }
}

/// The relay's end: a socket that becomes readable, and what was asked.
#[derive(Debug)]
pub(crate) struct Control {
    requests: Requests,
    woken: UnixStream,
    wake: StdUnixStream,
}

impl Control {
    pub(crate) fn new() -> io::Result<Self> {
        let (wake, woken) = StdUnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Self { requests: Requests::default(), woken: UnixStream::from_std(woken), wake })
    }

    /// The socket to register with the poll instance.
    pub(crate) fn socket(&mut self) -> &mut UnixStream {
        &mut self.woken
    }

    pub(crate) fn handle(&self) -> io::Result<Handle> {
        Ok(Handle { requests: self.requests.clone(), wake: self.wake.try_clone()? })
    }

    /// Lets signals ask, and keeps a log file at its size limit from killing the process.
    pub(crate) fn listen_to_signals(&self) -> io::Result<()> {
        let Requests { stop, drain, report } = &self.requests;
        // A closed terminal stops the relay, unless nohup(1) or its like has asked for the opposite.
        let hang_up = (!sys::ignores(SIGHUP)).then_some((SIGHUP, stop));
        let requests = [(SIGTERM, stop), (SIGINT, stop), (SIGQUIT, drain), (SIGUSR1, report)];
        for (signal, request) in requests.into_iter().chain(hang_up) {
            // In this order, so that the woken loop finds the request.
            signal_hook::flag::register(signal, Arc::clone(request))?;
            signal_hook::low_level::pipe::register(signal, self.wake.try_clone()?)?;
        }
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(())
    }

    /// Empties the socket, so that the next request wakes again.
    pub(crate) fn acknowledge(&mut self) {
        let mut bytes = [0; 64];
        while matches!(self.woken.read(&mut bytes), Ok(count) if count > 0) {}
    }

    pub(crate) fn take_stop(&self) -> bool {
        self.requests.stop.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn take_drain(&self) -> bool {
        self.requests.drain.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn take_report(&self) -> bool {
        self.requests.report.swap(false, Ordering::SeqCst)
    }
}

//! Requests to stop: the run ends in an orderly way, and ends the relays that it has started.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Makes SIGHUP, SIGINT and SIGTERM request a stop instead of ending the program at once.
pub fn on_signals() -> io::Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&REQUESTED))?;
    }
    Ok(())
}

/// Returns whether a signal has requested a stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

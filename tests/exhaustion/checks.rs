//! What these tests check of a relay: its sockets, a failed accept, and its rest.

use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use crate::support::catalogue::filled;
use crate::support::{Relay, process};

/// Returns the number of sockets that a relay has open. Its pipes do not count, because it keeps them for later
/// channels, but there must be few.
#[track_caller]
pub fn sockets(relay: &Relay) -> usize {
    // The ends of the pipes that all sessions share, and a few more for its STDIO.
    const PIPE_ENDS: usize = 32 + 4;
    let open = process::descriptors(relay.pid);
    let open: Vec<_> = open.iter().filter_map(|number| process::descriptor_is(relay.pid, *number)).collect();
    let pipes = open.iter().filter(|is| is.starts_with("pipe:")).count();
    assert!(pipes <= PIPE_ENDS, "{pipes} ends of pipes are open");
    open.iter().filter(|is| is.starts_with("socket:[")).count()
}

/// Returns the relay's line about a failed accept.
pub fn accept_failed(errno: Errno) -> String {
    filled(22, &[("<err num>", &errno.raw_os_error().to_string())])
}

/// Asserts that the relay does not retry a failing call without a pause.
#[track_caller]
pub fn assert_does_not_spin(relay: &Relay) {
    // A pause costs next to nothing, and a spinning relay exceeds this even where many relays spin at once. User and
    // kernel time come in ticks of 10 ms each, so up to 20 ms of this are an error of the measurement.
    const MOST: Duration = Duration::from_millis(30);
    let before = process::processor_time(relay.pid);
    thread::sleep(Duration::from_millis(250));
    let spent = process::processor_time(relay.pid).saturating_sub(before);
    assert!(spent < MOST, "the relay works for {spent:?} with nothing to do");
}

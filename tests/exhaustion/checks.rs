//! The sockets of a relay.

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

//! The sockets of a relay.

use crate::support::{Relay, process};

/// How many sockets it has. Pipes stay for the next channel that needs them: they do not count, and there
/// are never many.
#[track_caller]
pub fn sockets(relay: &Relay) -> usize {
    // Of the pipes that all sessions share; some more may be its STDIO.
    const PIPE_ENDS: usize = 32 + 4;
    let open = process::descriptors(relay.pid);
    let open: Vec<_> = open.iter().filter_map(|number| process::descriptor_is(relay.pid, *number)).collect();
    let pipes = open.iter().filter(|is| is.starts_with("pipe:")).count();
    assert!(pipes <= PIPE_ENDS, "{pipes} ends of pipes");
    open.iter().filter(|is| is.starts_with("socket:[")).count()
}

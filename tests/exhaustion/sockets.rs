//! The sockets of a relay.

use std::fs;

use crate::support::{Relay, process};

/// How many sockets it has. Pipes stay for the next who needs them, and so does the one socket that asks about
/// the kernel's queues: neither counts, and there are never many.
#[track_caller]
pub fn sockets(relay: &Relay) -> usize {
    // Of the pipes that all sessions share; some more may be its STDIO.
    const PIPE_ENDS: usize = 32 + 4;
    let open = process::descriptors(relay.pid);
    let open: Vec<_> = open.iter().filter_map(|number| process::descriptor_is(relay.pid, *number)).collect();
    let pipes = open.iter().filter(|is| is.starts_with("pipe:")).count();
    assert!(pipes <= PIPE_ENDS, "{pipes} ends of pipes");
    let netlink = fs::read_to_string("/proc/net/netlink").unwrap();
    let netlink: Vec<_> = netlink.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let numbers = open.iter().filter_map(|is| is.strip_prefix("socket:[")?.strip_suffix(']'));
    numbers.filter(|number| !netlink.contains(number)).count()
}

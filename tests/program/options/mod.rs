//! Each option, used as a new user would use it.

mod addresses;
mod checks;
mod log_lines;
mod pool;
mod proxy_header;
mod values;

use std::net::{Ipv6Addr, TcpListener, TcpStream};

use crate::support::net::{self, End};

/// A valid command line. If a test runs it by mistake, the absolute timeout ends the relay after 1 s.
const RIGHT: [&str; 8] = ["8080", "192.0.2.7", "80", "ANY", "1", "30", "1", "4000"];

/// Returns [`RIGHT`] with these options before it.
fn with<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [options, &RIGHT].concat()
}

/// Returns [`RIGHT`] with these options before it, and this forwarding port.
fn on(port: u16, options: &[&'static str]) -> Vec<String> {
    let mut arguments: Vec<_> = with(options).into_iter().map(str::to_owned).collect();
    arguments[options.len()] = port.to_string();
    arguments
}

/// Returns whether this machine has IPv6. Without it, a test of IPv6 proves nothing.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// Asserts that the relay sends the requester nothing and resets it.
#[track_caller]
fn assert_dropped(mut requester: TcpStream) {
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
}

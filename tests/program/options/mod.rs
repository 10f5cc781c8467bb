//! Each option, as one who tries it for the first time would.

mod addresses;
mod checks;
mod log_lines;
mod pool;
mod proxy_header;
mod values;

use std::net::{Ipv6Addr, TcpListener, TcpStream};

use crate::support::net::{self, End};

/// A command line that is right. Should it ever be run, it ends by itself.
const RIGHT: [&str; 8] = ["8080", "192.0.2.7", "80", "ANY", "1", "30", "1", "4000"];

/// [`RIGHT`] behind these options.
fn with<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [options, &RIGHT].concat()
}

/// A command line on this port.
fn on(port: u16, options: &[&'static str]) -> Vec<String> {
    let mut arguments: Vec<_> = with(options).into_iter().map(str::to_owned).collect();
    arguments[options.len()] = port.to_string();
    arguments
}

/// Whether this machine has IPv6; one that has not has nothing to show of it.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// The relay has sent nothing and reset it.
#[track_caller]
fn assert_dropped(mut requester: TcpStream) {
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
}

//! Each option, used as a new user would use it.

mod addresses;
mod checks;
mod log_lines;
mod pool;
mod proxy_header;
mod values;

use std::net::TcpStream;

use crate::support::net::{self, End};

/// Asserts that the relay sends the requester nothing and resets it.
#[track_caller]
fn assert_dropped(mut requester: TcpStream) {
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
}

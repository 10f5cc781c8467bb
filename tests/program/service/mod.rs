//! Under a service manager: a socket passed in, the notification of readiness, draining, and a restart that no
//! requester notices.

mod draining;
mod passed_in;
mod restarts;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use crate::support::{Relay, Start, net};

const DRAINED: &str = "The last session has ended. This process will now terminate.";

/// The shell gets the socket as STDIN, and passes it on as descriptor 3, as a service manager does.
const ONE_SOCKET: &str = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&0 0</dev/null"#;

fn draining(sessions: usize) -> String {
    format!("Drain signal received. No more connections are accepted. Sessions that go on: {sessions}.")
}

/// Returns the start of a relay that gets `socket` the way a service manager passes it.
fn passing(script: &str, socket: impl Into<OwnedFd>, target: SocketAddr) -> Start {
    Start::to(target).shell(script).stdin(socket)
}

/// Starts a relay on a listener that stays open here as well, and waits until it is ready.
#[track_caller]
fn on(listener: &TcpListener, target: SocketAddr) -> Relay {
    let address = net::address(listener);
    let start = passing(ONE_SOCKET, listener.try_clone().unwrap(), target);
    let mut relay = start.start_on(address.port()).unwrap();
    relay.log.expect_text(&format!("Listening on {address}."));
    relay
}

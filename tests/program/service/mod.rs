//! Under a service manager: a socket passed in, the notification of readiness, draining, and a restart that no
//! requester notices.

mod draining;
mod passed_in;
mod restarts;

use std::io::pipe;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::catalogue::filled;
use crate::support::net;
use crate::support::{Log, TCPRELAY, eventually};

const DRAINED: &str = "The last session has ended. This process will now terminate.";

/// The shell gets the socket as STDIN, and passes it on as descriptor 3, as a service manager does.
const ONE_SOCKET: &str = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&0 0</dev/null"#;

fn draining(sessions: usize) -> String {
    format!("Drain signal received. No more connections are accepted. Sessions that go on: {sessions}.")
}

/// A relay started the way a service manager starts one. It dies with this value.
struct Service {
    child: Child,
    log: Log,
}

impl Service {
    /// Starts a relay with `socket` as its listener.
    fn start(script: &str, socket: impl Into<OwnedFd>, fwd_port: u16, target: SocketAddr) -> Self {
        Self::start_with("", script, socket, fwd_port, target)
    }

    /// Starts a relay with `socket` as its listener, and with these options.
    fn start_with(
        options: &str,
        script: &str,
        socket: impl Into<OwnedFd>,
        fwd_port: u16,
        target: SocketAddr,
    ) -> Self {
        let (reader, writer) = pipe().unwrap();
        // Under load, the thread that reads the log may be late, and the relay must not drop lines.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20);
        let arguments =
            [fwd_port.to_string(), target.ip().to_string(), target.port().to_string(), "ANY".to_owned()];
        let child = Command::new("sh")
            .args(["-c", script, TCPRELAY])
            .args(options.split_whitespace())
            .args(arguments)
            .args(["3", "60", "0", "4000"])
            .stdin(Stdio::from(socket.into()))
            .stdout(writer)
            .spawn()
            .unwrap();
        Self { child, log: Log::of(reader) }
    }

    /// Starts a relay on a listener that stays open here as well, and waits until it is ready.
    #[track_caller]
    fn on(listener: &TcpListener, target: SocketAddr) -> Self {
        let address = net::address(listener);
        let mut service = Self::start(ONE_SOCKET, listener.try_clone().unwrap(), address.port(), target);
        service.expect_active(address.port(), target);
        service.log.expect_text(&format!("Listening on {address}."));
        service
    }

    #[track_caller]
    fn expect_active(&mut self, port: u16, target: SocketAddr) {
        let (port, host) = (port.to_string(), target.ip().to_string());
        let target_port = target.port().to_string();
        let values =
            [("<fwd port>", port.as_str()), ("<trg host>", &host), ("<trg port>", target_port.as_str())];
        self.log.expect_text(&filled(15, &values));
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    #[track_caller]
    fn wait(&mut self) -> Option<i32> {
        eventually("ended", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only if the relay has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens a session through `to`, and checks that it relays.
#[track_caller]
fn session(to: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    net::relayed(net::connect(to), listener)
}

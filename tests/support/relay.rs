//! A running relay, and a run that ends by itself.

use std::ffi::OsStr;
use std::io::{Read, pipe};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::catalogue::message;
use super::faults::Faults;
use super::log::Log;
use super::start::Through;
use super::{PATIENCE, eventually, net, process};

/// A running relay. Dropping the value kills the process.
pub struct Relay {
    child: Kill,
    pub pid: Pid,
    pub port: u16,
    pub log: Log,
}

impl Relay {
    /// Returns the relay that runs in `child` and listens on `port`.
    pub(super) fn new(child: Child, port: u16, log: Log) -> Self {
        Self { pid: Pid::from_child(&child), child: Kill(child), port, log }
    }

    /// Reads the log up to message 15, and the line with the address after it if `bound`. Returns false if the port
    /// was taken.
    #[track_caller]
    pub(super) fn says_ready(&mut self, active: &str, bound: bool) -> bool {
        loop {
            let line = self.log.line().text;
            if line == active {
                if bound {
                    let line = self.log.line().text;
                    assert!(line.starts_with("Listening on "), "{line}");
                }
                return true;
            }
            if line == message(12, 0) || line == message(13, 0) {
                return false;
            }
            // Before message 15, a line that is no error is a remark, such as one on the limits.
            assert!(!line.starts_with("Error: "), "the relay said: {line}");
        }
    }

    /// Waits until the relay listens. Returns false if the process ended instead.
    pub(super) fn listens(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if process::polls(self.pid) && net::is_listened_on(self.port) {
                return true;
            }
            if self.child.0.try_wait().unwrap().is_some() {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("the relay does not listen");
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Connects a requester.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        net::connect(self.address())
    }

    /// Connects a requester from this address.
    #[track_caller]
    pub fn connect_from(&self, ip: Ipv4Addr) -> TcpStream {
        net::connect_from(ip, self.address())
    }

    /// Opens a session. Returns the requester's connection, and the target's as `listener` accepted it.
    #[track_caller]
    pub fn session(&self, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let requester = self.connect();
        let connected = net::readable_within(listener, PATIENCE);
        assert!(connected, "the relay does not connect to its target; {}", self.log.take_last());
        (requester, net::accept(listener))
    }

    /// Asserts that the relay relays a new session to `listener`.
    #[track_caller]
    pub fn assert_relays(&self, listener: &TcpListener) {
        let (mut requester, mut target) = self.session(listener);
        net::assert_passes(&mut requester, &mut target, b"there");
        net::assert_passes(&mut target, &mut requester, b"and back");
        drop(requester);
        assert_eq!(net::read_all(&mut target), (Vec::new(), net::End::Clean));
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Stops the process, and returns once it is stopped.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        eventually("stopped", || process::state(self.pid) == 'T');
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for the relay to end by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child.0)
    }

    #[track_caller]
    pub fn assert_alive(&mut self) {
        let ended = self.child.0.try_wait().unwrap();
        assert!(ended.is_none(), "the relay ended: {ended:?}");
    }
}

/// Waits for a child to end by itself, for [`PATIENCE`] at most.
#[track_caller]
fn wait(child: &mut Child) -> ExitStatus {
    let pidfd =
        rustix::process::pidfd_open(Pid::from_child(child), rustix::process::PidfdFlags::empty()).unwrap();
    assert!(net::readable_within(&pidfd, PATIENCE), "the relay does not end");
    child.wait().unwrap()
}

/// A run of the binary that ended by itself.
#[derive(Debug, PartialEq)]
pub struct Run {
    pub stdout: String,
    /// The exit code, or None if a signal ended the process.
    pub code: Option<i32>,
}

/// Runs the binary to its end with these arguments.
#[track_caller]
pub fn run<A: AsRef<OsStr>>(arguments: &[A]) -> Run {
    finish(&Through::Nothing, arguments)
}

/// Runs the binary to its end with these arguments under these faults.
#[track_caller]
pub fn run_with<A: AsRef<OsStr>>(faults: Faults, arguments: &[A]) -> Run {
    finish(&Through::Launcher(faults), arguments)
}

#[track_caller]
fn finish<A: AsRef<OsStr>>(through: &Through, arguments: &[A]) -> Run {
    let (mut output, stdout) = pipe().unwrap();
    let mut relay = Kill(through.spawn(arguments, Stdio::null(), stdout.into()));
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let code = wait(&mut relay.0).code();
    let stdout = String::from_utf8(reader.join().unwrap()).unwrap();
    Run { stdout, code }
}

/// A child process that does not outlive the test, even if the test fails.
pub struct Kill(pub Child);

impl Drop for Kill {
    fn drop(&mut self) {
        // Either can fail only if the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! The start of a relay: its command line, and the conditions that it is started under.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::faults::Faults;
use super::log::Log;
use super::relay::Relay;
use super::{TCPRELAY, catalogue, process};

/// The start of a relay: the command line without the port, and the conditions that it is started under.
///
/// The defaults: every address may connect, 3 s to connect, 1,800 s idle, no absolute timeout, buffers of 4,000
/// bytes.
pub struct Start {
    target: (String, String),
    acl: String,
    connect: String,
    idle: String,
    absolute: String,
    buf: String,
    options: String,
    through: Through,
    stdin: Option<OwnedFd>,
    stdout: Stdout,
}

/// The way in which the test starts the binary.
pub(super) enum Through {
    /// Directly.
    Nothing,
    /// A shell script that gets the binary as `$0` and its arguments as `$@`.
    Shell(String),
    /// The launcher, which applies these faults first.
    Launcher(Faults),
}

/// The destination of the relay's lines.
enum Stdout {
    /// Through a pipe to [`Log`].
    Log,
    To(OwnedFd),
}

impl Start {
    pub fn to(target: SocketAddr) -> Self {
        Self::to_host(&target.ip().to_string(), &target.port().to_string())
    }

    /// Returns the start of a relay with this target: a host and a port as on a command line.
    pub fn to_host(host: &str, port: &str) -> Self {
        Self {
            target: (host.to_owned(), port.to_owned()),
            acl: "ANY".into(),
            connect: "3".into(),
            idle: "1800".into(),
            absolute: "0".into(),
            buf: "4000".into(),
            options: String::new(),
            through: Through::Nothing,
            stdin: None,
            stdout: Stdout::Log,
        }
    }

    pub fn acl(mut self, acl: &str) -> Self {
        self.acl = acl.into();
        self
    }

    /// Sets the connect timeout, in seconds.
    pub fn connect_timeout(mut self, seconds: u32) -> Self {
        self.connect = seconds.to_string();
        self
    }

    /// Sets the idle timeout, in seconds.
    pub fn idle_timeout(mut self, seconds: u32) -> Self {
        self.idle = seconds.to_string();
        self
    }

    /// Sets the absolute timeout, in seconds.
    pub fn absolute_timeout(mut self, seconds: u32) -> Self {
        self.absolute = seconds.to_string();
        self
    }

    pub fn buf(mut self, bytes: usize) -> Self {
        self.buf = bytes.to_string();
        self
    }

    /// Sets the options before the arguments, as on a command line.
    pub fn options(mut self, options: &str) -> Self {
        self.options = options.into();
        self
    }

    pub fn faults(mut self, faults: Faults) -> Self {
        self.through = Through::Launcher(faults);
        self
    }

    pub fn shell(mut self, script: &str) -> Self {
        self.through = Through::Shell(script.into());
        self
    }

    /// Gives the relay, or the shell script, this for its STDIN.
    pub fn stdin(mut self, from: impl Into<OwnedFd>) -> Self {
        self.stdin = Some(from.into());
        self
    }

    /// Gives the relay this for its STDOUT. Its [`Log`] then stays empty.
    pub fn stdout(mut self, to: impl Into<OwnedFd>) -> Self {
        self.stdout = Stdout::To(to.into());
        self
    }

    /// Starts the relay, and returns once it listens.
    #[track_caller]
    pub fn start(&self) -> Relay {
        for _ in 0..20 {
            if let Some(relay) = self.start_on(free_port()) {
                return relay;
            }
        }
        panic!("no free port after many attempts");
    }

    /// Starts the relay on `port`. Returns None if another socket has the port.
    #[track_caller]
    pub fn start_on(&self, port: u16) -> Option<Relay> {
        let mut relay = self.launch(port);
        let ready = match &self.stdout {
            Stdout::Log => relay.says_ready(&self.active_line(port), self.options.contains("--bind ")),
            Stdout::To(_) => relay.listens(),
        };
        ready.then_some(relay)
    }

    /// Starts the relay on `port`, and returns before it is ready. It may refuse to start.
    #[track_caller]
    pub fn launch(&self, port: u16) -> Relay {
        // Hundreds of sessions and many relays at once need more descriptors than the default of some systems, 256.
        process::raise_own_descriptor_limit();
        let (stdout, log) = match &self.stdout {
            Stdout::Log => Log::piped(),
            Stdout::To(file) => (file.try_clone().unwrap(), Log::none()),
        };
        let stdin = self.stdin.as_ref().map_or(Stdio::null(), |file| file.try_clone().unwrap().into());
        Relay::new(self.through.spawn(&self.arguments(port), stdin, stdout), port, log)
    }

    /// Returns message 15 as this relay must print it.
    pub fn active_line(&self, port: u16) -> String {
        // Message 15 leaves out the zone, and shows an IPv4-mapped address as IPv4.
        let host = self.target.0.split('%').next().unwrap_or_default();
        let host = host.parse().map_or(host.to_owned(), |ip: IpAddr| ip.to_canonical().to_string());
        catalogue::filled(
            15,
            &[("<fwd port>", &port.to_string()), ("<trg host>", &host), ("<trg port>", &self.target.1)],
        )
    }

    fn arguments(&self, port: u16) -> Vec<String> {
        let (host, target_port) = &self.target;
        let (port, options) = (port.to_string(), self.options.split_whitespace());
        let arguments =
            [&port, host, target_port, &self.acl, &self.connect, &self.idle, &self.absolute, &self.buf];
        options.chain(arguments.map(String::as_str)).map(str::to_owned).collect()
    }
}

impl Through {
    /// Starts the binary. Under faults, its STDIN is empty.
    #[track_caller]
    pub(super) fn spawn<A: AsRef<OsStr>>(&self, arguments: &[A], stdin: Stdio, stdout: OwnedFd) -> Child {
        let mut command = match self {
            Through::Nothing => Command::new(TCPRELAY),
            Through::Shell(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", script.as_str(), TCPRELAY]);
                shell
            }
            Through::Launcher(faults) => return faults.spawn(arguments, stdout),
        };
        command.args(arguments).stdin(stdin).stdout(stdout).spawn().unwrap()
    }
}

/// Returns a port that is free now. It is below the kernel's ephemeral range, so no outgoing connection of another
/// test can take it or hold it in `TIME_WAIT`.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Each process begins elsewhere in the range, because test binaries may run side by side.
        let offset = std::process::id() * 101 + TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + offset % COUNT).unwrap();
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

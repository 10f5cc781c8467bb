//! What the integration tests stand on: the real binary on a free port, its log read as it comes, sockets and
//! targets that misbehave on demand, faults in its system calls, and what the kernel knows about its process.
//!
//! Nothing here waits by sleeping for what can be waited for, and nothing waits for ever.

// Every test file compiles this module for itself and uses only a part of it.
#![allow(dead_code, unreachable_pub, missing_docs)]
// A test that cannot go on says so by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod catalogue;
pub mod faults;
pub mod net;
pub mod process;
pub mod siege;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, pipe};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use catalogue::message;
use faults::Faults;

/// The binary under test.
pub const TCPRELAY: &str = env!("CARGO_BIN_EXE_tcprelay");

/// How long something that must happen may take. Long, for a busy machine: only a failing test waits for all
/// of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Messages of a session that goes well, up to the point where bytes flow.
pub const STARTED: [u8; 7] = [16, 18, 26, 28, 31, 33, 37];

/// Waits until `condition` holds; for what only /proc tells, and nobody announces.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A relay to be: the command line but for the port, and the conditions that it is started under.
///
/// Unless told otherwise: anyone may connect, 3 s to connect, 1,800 s idle, no absolute timeout, buffers of
/// 4,000 bytes.
pub struct Start {
    target: (String, String),
    acl: String,
    connect: String,
    idle: String,
    absolute: String,
    buf: String,
    options: String,
    through: Through,
    stdout: Stdout,
}

/// What stands between the test and the relay's first instruction.
enum Through {
    Nothing,
    /// A shell script that gets the binary as `$0` and its arguments as `$@`.
    Shell(String),
    Launcher(Faults),
}

/// Where the relay's lines go.
enum Stdout {
    /// Through a pipe to [`Log`].
    Log,
    To(OwnedFd),
}

impl Start {
    pub fn to(target: SocketAddr) -> Self {
        Self::to_host(&target.ip().to_string(), &target.port().to_string())
    }

    /// To a target as one would type it: host and port.
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
            stdout: Stdout::Log,
        }
    }

    pub fn acl(mut self, acl: &str) -> Self {
        self.acl = acl.into();
        self
    }

    /// c t/o, in seconds.
    pub fn connect_timeout(mut self, seconds: u32) -> Self {
        self.connect = seconds.to_string();
        self
    }

    /// i t/o, in seconds.
    pub fn idle_timeout(mut self, seconds: u32) -> Self {
        self.idle = seconds.to_string();
        self
    }

    /// a t/o, in seconds.
    pub fn absolute_timeout(mut self, seconds: u32) -> Self {
        self.absolute = seconds.to_string();
        self
    }

    pub fn buf(mut self, bytes: usize) -> Self {
        self.buf = bytes.to_string();
        self
    }

    /// What goes before the arguments, as one would type it.
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

    /// Gives the relay this for its STDOUT; its [`Log`] then stays empty.
    pub fn stdout(mut self, to: impl Into<OwnedFd>) -> Self {
        self.stdout = Stdout::To(to.into());
        self
    }

    /// Starts it, and returns once it listens.
    #[track_caller]
    pub fn start(&self) -> Relay {
        for _ in 0..20 {
            if let Some(relay) = self.start_on(free_port()) {
                return relay;
            }
        }
        panic!("no free port after many attempts");
    }

    /// Starts it on `port`, or returns None if somebody else was there first.
    #[track_caller]
    pub fn start_on(&self, port: u16) -> Option<Relay> {
        // Hundreds of sessions, and many relays at once, take more than the 256 that some systems begin with.
        process::raise_own_descriptor_limit();
        let (stdout, log) = match &self.stdout {
            Stdout::Log => Log::piped(),
            Stdout::To(file) => (file.try_clone().unwrap(), Log::none()),
        };
        let child = self.through.spawn(&self.arguments(port), stdout);
        let mut relay = Relay { pid: Pid::from_child(&child), child: Kill(child), port, log };
        let ready = match &self.stdout {
            Stdout::Log => relay.says_ready(&self.active_line(port), self.options.contains("--bind ")),
            Stdout::To(_) => relay.listens(),
        };
        ready.then_some(relay)
    }

    /// Message 15 as this relay has to print it.
    fn active_line(&self, port: u16) -> String {
        // A zone is not in the message, and a mapped address is IPv4 there.
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
    /// Starts the binary with `stdout` as its STDOUT and nothing to read.
    #[track_caller]
    fn spawn<A: AsRef<OsStr>>(&self, arguments: &[A], stdout: OwnedFd) -> Child {
        let mut command = match self {
            Through::Nothing => Command::new(TCPRELAY),
            Through::Shell(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", script.as_str(), TCPRELAY]);
                shell
            }
            Through::Launcher(faults) => return faults.spawn(arguments, stdout),
        };
        command.args(arguments).stdin(Stdio::null()).stdout(stdout).spawn().unwrap()
    }
}

/// A port that nobody uses now, below the range that the kernel hands out by itself: connections that wait
/// out their end cannot hold it, and the outgoing ones of other tests cannot take it.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // A start of its own for each process: test binaries may run side by side.
        let offset = std::process::id() * 101 + TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + offset % COUNT).unwrap();
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// A running relay. It dies with this value.
pub struct Relay {
    child: Kill,
    pub pid: Pid,
    pub port: u16,
    pub log: Log,
}

impl Relay {
    /// Reads the log up to message 15, and the address behind it where one was asked for; false if the port
    /// was taken.
    #[track_caller]
    fn says_ready(&mut self, active: &str, bound: bool) -> bool {
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
            // Anything else before message 15 is a remark on what it was started under.
            assert!(!line.starts_with("Error: "), "the relay said: {line}");
        }
    }

    /// Waits until it listens; false if the process ended instead.
    fn listens(&mut self) -> bool {
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

    /// A requester.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        net::connect(self.address())
    }

    /// A requester with this address.
    #[track_caller]
    pub fn connect_from(&self, ip: Ipv4Addr) -> TcpStream {
        net::connect_from(ip, self.address())
    }

    /// A session: its requester, and the target's end as `listener` accepted it.
    #[track_caller]
    pub fn session(&self, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let requester = self.connect();
        let connected = net::readable_within(listener, PATIENCE);
        assert!(connected, "the relay does not connect to its target; {}", self.log.last());
        (requester, net::accept(listener))
    }

    /// Proves that it relays now, with a session of its own to `listener`.
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

    /// Stops it, and returns once it is stopped.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        eventually("stopped", || process::state(self.pid) == 'T');
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for it to end by itself.
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

/// Waits for a child to end by itself, within bounds.
#[track_caller]
fn wait(child: &mut Child) -> ExitStatus {
    let pidfd =
        rustix::process::pidfd_open(Pid::from_child(child), rustix::process::PidfdFlags::empty()).unwrap();
    assert!(net::readable_within(&pidfd, PATIENCE), "the relay does not end");
    child.wait().unwrap()
}

/// A run of the binary that ends by itself: what it printed and how it ended.
#[derive(Debug, PartialEq)]
pub struct Run {
    pub stdout: String,
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
    let mut relay = Kill(through.spawn(arguments, stdout.into()));
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let code = wait(&mut relay.0).code();
    let stdout = String::from_utf8(reader.join().unwrap()).unwrap();
    Run { stdout, code }
}

/// A child that does not outlive the test, however that ends.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A line of the log, and when it came.
#[derive(Clone, Debug)]
pub struct Line {
    pub text: String,
    pub at: Instant,
}

/// The relay's lines, read by a thread as they come.
pub struct Log {
    lines: Receiver<Line>,
    seen: Vec<String>,
}

impl Log {
    /// A pipe for the relay to write to, and what comes out of it.
    fn piped() -> (OwnedFd, Self) {
        let (reader, writer) = pipe().unwrap();
        // On a busy machine the reader may come late, and these lines are not to be dropped for that. A
        // kernel that grants less is all right.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20);
        (writer.into(), Self::of(reader))
    }

    /// A relay whose lines go elsewhere.
    fn none() -> Self {
        Self::of(std::io::empty())
    }

    /// The lines that come out of `source`.
    pub fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut bytes = Vec::new();
            while source.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
                let at = Instant::now();
                let text = String::from_utf8_lossy(&bytes);
                // A terminal ends its lines with both.
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                if sender.send(Line { text, at }).is_err() {
                    return;
                }
                bytes.clear();
            }
        });
        let seen = Vec::new();
        Self { lines, seen }
    }

    /// The next line.
    #[track_caller]
    pub fn line(&mut self) -> Line {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.seen.push(line.text.clone());
                line
            }
            Err(error) => panic!("no line came ({error}) after\n{}", self.tail()),
        }
    }

    /// The next line must be this message.
    #[track_caller]
    pub fn expect(&mut self, number: u8, serial: u64) -> Line {
        self.expect_text(&message(number, serial))
    }

    #[track_caller]
    pub fn expect_text(&mut self, text: &str) -> Line {
        let line = self.line();
        assert_eq!(line.text, text, "the log so far:\n{}", self.tail());
        line
    }

    /// The next lines must be these messages; returns the last.
    #[track_caller]
    pub fn expect_all(&mut self, numbers: &[u8], serial: u64) -> Line {
        let last = numbers.last().unwrap();
        for number in &numbers[..numbers.len() - 1] {
            self.expect(*number, serial);
        }
        self.expect(*last, serial)
    }

    /// Skips lines until this message comes.
    #[track_caller]
    pub fn wait(&mut self, number: u8, serial: u64) -> Line {
        let text = message(number, serial);
        loop {
            let line = self.line();
            if line.text == text {
                return line;
            }
        }
    }

    /// Skips lines until one holds this text.
    #[track_caller]
    pub fn wait_text(&mut self, text: &str) -> Line {
        loop {
            let line = self.line();
            if line.text.contains(text) {
                return line;
            }
        }
    }

    /// What has come and was not looked at yet.
    pub fn pending(&mut self) -> Vec<Line> {
        let lines: Vec<_> = self.lines.try_iter().collect();
        self.seen.extend(lines.iter().map(|line| line.text.clone()));
        lines
    }

    /// Everything to the end of the log, which comes when the relay ends.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line.text),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("the log does not end"),
            }
        }
    }

    /// The last lines that nobody looked at, for the one who wonders what happened.
    fn last(&self) -> String {
        let lines: Vec<_> = self.lines.try_iter().map(|line| line.text).collect();
        format!("its last lines:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
    }

    /// Every line that was looked at so far.
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    fn tail(&self) -> String {
        let from = self.seen.len().saturating_sub(30);
        self.seen[from..].join("\n")
    }
}

//! Starting a relay, and ending it.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::contestants::{Contestant, Way};
use crate::namespace::Translation;
use crate::process;
use crate::recipes::Route;

/// Longest wait until a relay listens.
const START_PATIENCE: Duration = Duration::from_secs(3);
/// Longest wait until a relay under a tool listens, and until it has ended and written its results.
const TOOL_PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait until the sessions of a relay have ended.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// Time after which a relay that was asked to end is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Interval at which these waits look again.
const BEAT: Duration = Duration::from_millis(5);

/// Bytes that the reader of a slow log takes in each beat of its own: 400 KB a second, the log of about 650
/// sessions.
const SLOW_READ_BYTES: usize = 4096;
const SLOW_READ_BEAT: Duration = Duration::from_millis(10);

/// Ports to listen on, below those that the kernel gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// The job for which a relay is started.
pub struct Job {
    pub target: SocketAddr,
    /// Sessions that it must have room for.
    pub sessions: usize,
    pub log: LogTo,
}

/// Where a relay's STDOUT goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTo {
    File,
    /// A pipe that is read more slowly than the lines come.
    SlowPipe,
    /// A stream socket, as the journal's, that is read as slowly.
    SlowSocket,
    /// A file whose writes return once the line is on the disk.
    SynchronousFile,
}

/// A temporary folder for configurations and logs, removed when this is dropped.
pub struct Workplace {
    pub folder: PathBuf,
}

impl Workplace {
    pub fn new() -> io::Result<Self> {
        let folder = env::temp_dir().join(format!("tcprelay-peers-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn log(&self) -> PathBuf {
        self.folder.join("relay.log")
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An open way to the target. Dropping it closes the way and ends all its processes.
pub struct Running {
    address: SocketAddr,
    hold: Hold,
}

/// The resource that keeps a way open.
enum Hold {
    Nothing,
    Process(Child),
    Translation { _rule: Translation },
}

impl Running {
    /// Opens the way and waits until it accepts connections.
    pub fn start(contestant: &Contestant, job: &Job, workplace: &Workplace) -> io::Result<Self> {
        match contestant.way {
            Way::Direct => Ok(Self { address: job.target, hold: Hold::Nothing }),
            Way::Translation => {
                let address = (Ipv4Addr::LOCALHOST, free_port()?).into();
                let rule = Translation::add(address, job.target)?;
                Ok(Self { address, hold: Hold::Translation { _rule: rule } })
            }
            Way::Process { .. } | Way::Command { .. } => Self::spawn(contestant, job, workplace, &[]),
        }
    }

    /// Starts the relay's process, as an argument of `tool` if that is not empty.
    pub fn spawn(
        contestant: &Contestant,
        job: &Job,
        workplace: &Workplace,
        tool: &[String],
    ) -> io::Result<Self> {
        let program = contestant.program().ok_or(io::ErrorKind::NotFound)?;
        let port = free_port()?;
        let (target, sessions, folder) = (job.target, job.sessions, workplace.folder.as_path());
        let route = Route { program: &program, port, target, sessions, folder };
        let start = contestant.start(&route).ok_or(io::ErrorKind::NotFound)?;
        if let Some((path, text)) = start.configuration {
            fs::write(path, text)?;
        }
        let mut command = match tool {
            [] => Command::new(&program),
            [tool, arguments @ ..] => {
                let mut command = Command::new(tool);
                command.args(arguments).arg(&program);
                command
            }
        };
        let errors = File::create(workplace.log())?;
        command.args(start.arguments).stdin(Stdio::null()).stdout(job.log.open(&errors, workplace)?);
        // In a process group of its own, so that signals reach the processes that the relay may start.
        let child = command.stderr(errors).process_group(0).spawn()?;
        let mut running = Self { address: (Ipv4Addr::LOCALHOST, port).into(), hold: Hold::Process(child) };
        let patience = if tool.is_empty() { START_PATIENCE } else { TOOL_PATIENCE };
        running.wait_until_it_listens(patience, workplace)?;
        Ok(running)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the PID of the relay's process; `None` if no process relays.
    pub fn pid(&self) -> Option<u32> {
        match &self.hold {
            Hold::Process(child) => Some(child.id()),
            Hold::Nothing | Hold::Translation { .. } => None,
        }
    }

    /// Asks the relay, and the tool that it may run under, to end, and waits until they have.
    pub fn end(mut self) -> io::Result<()> {
        let Hold::Process(child) = &mut self.hold else { return Ok(()) };
        let start = Instant::now();
        let mut asked = None;
        while child.try_wait()?.is_none() {
            if start.elapsed() > TOOL_PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // Some relays miss a signal that comes just before they wait for events.
            if asked.is_none_or(|at: Instant| at.elapsed() > ASK_AGAIN) {
                signal_group(child, Signal::TERM);
                asked = Some(Instant::now());
            }
            thread::sleep(BEAT);
        }
        Ok(())
    }

    fn wait_until_it_listens(&mut self, patience: Duration, workplace: &Workplace) -> io::Result<()> {
        let Hold::Process(child) = &mut self.hold else { return Ok(()) };
        let start = Instant::now();
        while TcpStream::connect_timeout(&self.address, START_PATIENCE).is_err() {
            if child.try_wait()?.is_some() || start.elapsed() > patience {
                let log = fs::read_to_string(workplace.log()).unwrap_or_default();
                let last = log.lines().last().map_or(" and says nothing".into(), |line| format!(": {line}"));
                return Err(io::Error::other(format!("does not listen{last}")));
            }
            thread::sleep(BEAT);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Hold::Process(child) = &mut self.hold else { return };
        // A relay that forks for each session gets time to reap its children. A child that outlives
        // the relay would be reparented.
        let start = Instant::now();
        while start.elapsed() < END_PATIENCE && process::has_children(child.id()) {
            thread::sleep(BEAT);
        }
        signal_group(child, Signal::KILL);
        let _ = child.wait();
    }
}

/// Signals the relay's process group. Its ID is the child's PID, which the kernel does not reuse until the
/// child has been waited for. So no other group can be hit.
fn signal_group(child: &Child, signal: Signal) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

impl LogTo {
    fn open(self, file: &File, workplace: &Workplace) -> io::Result<Stdio> {
        match self {
            Self::File => Ok(file.try_clone()?.into()),
            Self::SlowPipe => {
                let (reader, writer) = io::pipe()?;
                thread::spawn(move || read_slowly(reader));
                Ok(writer.into())
            }
            Self::SlowSocket => {
                let (reader, writer) = UnixStream::pair()?;
                thread::spawn(move || read_slowly(reader));
                Ok(OwnedFd::from(writer).into())
            }
            Self::SynchronousFile => {
                let path = workplace.folder.join("relay.sync.log");
                let flags = OFlags::DSYNC.bits().cast_signed();
                let options = OpenOptions::new().create(true).append(true).custom_flags(flags).open(path)?;
                Ok(options.into())
            }
        }
    }
}

/// Reads until the last writer has closed its end.
fn read_slowly(mut log: impl Read) {
    let mut room = [0; SLOW_READ_BYTES];
    while log.read(&mut room).is_ok_and(|count| count > 0) {
        thread::sleep(SLOW_READ_BEAT);
    }
}

/// Returns a port on which nothing listens, another one at each call.
fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Simultaneous runs begin at different ports.
    let first = std::process::id() % u32::from(PORTS.end - PORTS.start);
    let first = u16::try_from(first).unwrap_or_default();
    for _ in PORTS {
        let port = PORTS.start + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

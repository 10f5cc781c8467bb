//! The floor: the fewest system calls with which a single-threaded relay on epoll can move the same bytes.
//!
//! It has no log, no timers, no limits and no safety: an error drops the session, and a reset arrives
//! as a clean EOF. No relay should be built this way. It shows the cost of the kernel's work alone.
//!
//! It runs as a process of its own: this program, started with [`ARGUMENT`].

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, SpliceFlags};
use slab::Slab;

/// `<this> <port> <target>` makes this program the floor.
pub const ARGUMENT: &str = "--floor";

const EVENTS_PER_TURN: usize = 512;
/// As large as the buffers of the relay that it is compared with.
const ROOM_BYTES: usize = 4000;
/// Size of a pipe. Once a read has filled the room, the bytes that follow are spliced.
const PIPE_BYTES: usize = 1 << 20;
const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
const LISTENER: u64 = u64::MAX;

/// Relays until the process is killed.
pub fn run(port: &str, target: &str) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let port: u16 = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    Floor::listen(port, target.parse().map_err(invalid)?)?.relay()
}

struct Floor {
    epoll: OwnedFd,
    listener: OwnedFd,
    target: SocketAddr,
    sessions: Slab<Session>,
    /// Keys of the sessions that can go on without a report.
    again: VecDeque<usize>,
    through: Through,
}

/// The buffer and the pipes that all sessions share.
struct Through {
    room: Vec<u8>,
    /// Empty pipes. The last one put back is used first, so the same few stay in the processor's cache.
    pipes: Vec<Pipe>,
}

/// A requester (0) and a target (1). A direction has the number of the side that it reads from.
struct Session {
    sides: [Side; 2],
    is_over: bool,
}

#[allow(clippy::struct_excessive_bools)] // Independent facts.
struct Side {
    socket: OwnedFd,
    readable: bool,
    writable: bool,
    /// The kernel has reported EOF or an error.
    ends: bool,
    /// EOF was passed on to the other side.
    ended: bool,
    /// Bytes that were read from it, and not yet written to the other side.
    held: Vec<u8>,
    /// The last read has filled the room, so the stream is spliced from now on.
    is_bulk: bool,
    /// A pipe with bytes from this side; `None` while there are none.
    pipe: Option<Pipe>,
}

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
}

/// The state in which a pump leaves a direction.
enum Flow {
    /// It waits for a report of the kernel.
    Waits,
    /// It can go on now.
    GoesOn,
    Ended,
}

impl Floor {
    fn listen(port: u16, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let socket = socket2::SockRef::from(&listener);
        socket.listen(4096)?;
        // Accepted sockets inherit the option, which saves a call.
        socket.set_tcp_nodelay(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let through = Through { room: vec![0; ROOM_BYTES], pipes: Vec::new() };
        let (listener, sessions, again) = (listener.into(), Slab::new(), VecDeque::new());
        Ok(Self { epoll, listener, target, sessions, again, through })
    }

    fn relay(mut self) -> io::Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_PER_TURN);
        loop {
            events.clear();
            let timeout = (!self.again.is_empty()).then(rustix::time::Timespec::default);
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref())?;
            let mut is_asked = false;
            let mut ready = mem::take(&mut self.again);
            for event in &events {
                match event.data.u64() {
                    LISTENER => is_asked = true,
                    number => {
                        let key = usize::try_from(number / 2).unwrap_or_default();
                        let Some(session) = self.sessions.get_mut(key) else { continue };
                        session.sides[usize::from(number % 2 == 1)].note(event.flags);
                        ready.push_back(key);
                    }
                }
            }
            for &key in &ready {
                self.serve(key);
            }
            // A slot is freed only now, so that no event of this turn meets a session in a reused one.
            for key in ready {
                if self.sessions.get(key).is_some_and(|session| session.is_over) {
                    self.sessions.remove(key);
                }
            }
            if is_asked {
                self.accept()?;
            }
        }
    }

    fn serve(&mut self, key: usize) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| !session.is_over) else { return };
        let mut goes_on = false;
        for from in [0, 1] {
            match session.pump(from, &mut self.through) {
                Ok(Flow::Waits) => {}
                Ok(Flow::GoesOn) => goes_on = true,
                Ok(Flow::Ended) if !session.sides[1 - from].ended => {}
                Ok(Flow::Ended) | Err(_) => session.is_over = true,
            }
        }
        if goes_on && !session.is_over && !self.again.contains(&key) {
            self.again.push_back(key);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let requester = match rustix::net::accept_with(&self.listener, flags) {
            Err(Errno::AGAIN | Errno::CONNABORTED) => return Ok(()),
            result => result?,
        };
        let family = if self.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let target = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&target, &self.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let slot = self.sessions.vacant_entry();
        let reports = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for (socket, number) in [&requester, &target].into_iter().zip(2 * slot.key() as u64..) {
            epoll::add(&self.epoll, socket, EventData::new_u64(number), reports)?;
        }
        slot.insert(Session { sides: [requester, target].map(Side::new), is_over: false });
        Ok(())
    }
}

impl Session {
    /// Moves bytes from one side to the other, at most one pipe of them.
    fn pump(&mut self, from: usize, through: &mut Through) -> rustix::io::Result<Flow> {
        let [requester, target] = &mut self.sides;
        let (from, to) = if from == 0 { (requester, target) } else { (target, requester) };
        if !from.pass_on(to, through)? || !from.readable || !to.writable || from.ended {
            return Ok(Flow::Waits);
        }
        let Some(count) = from.take(through)? else { return Ok(Flow::Waits) };
        let is_all = !from.is_bulk && from.ends && count < ROOM_BYTES;
        if from.pass_on(to, through)? && (count == 0 || is_all) {
            from.ended = true;
            // If the other direction has ended as well, both sockets are closed, which sends this FIN too.
            if !to.ended {
                rustix::net::shutdown(&to.socket, Shutdown::Write)?;
            }
            return Ok(Flow::Ended);
        }
        Ok(if from.readable { Flow::GoesOn } else { Flow::Waits })
    }
}

impl Side {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            readable: false,
            writable: false,
            ends: false,
            ended: false,
            held: Vec::new(),
            is_bulk: false,
            pipe: None,
        }
    }

    fn note(&mut self, flags: EventFlags) {
        let failed = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        self.readable |= failed || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
        self.writable |= failed || flags.contains(EventFlags::OUT);
        self.ends |= failed || flags.contains(EventFlags::RDHUP);
    }

    /// Takes the bytes that are there, and returns their number; `None` if the read would block.
    fn take(&mut self, through: &mut Through) -> rustix::io::Result<Option<usize>> {
        if self.is_bulk {
            let pipe = through.pipes.pop().map_or_else(Pipe::new, Ok)?;
            let moved = rustix::pipe::splice(&self.socket, None, &pipe.writer, None, PIPE_BYTES, SPLICE);
            let taken = unless_blocked(moved)?;
            self.readable = taken.is_some();
            self.pipe = Some(Pipe { held: taken.unwrap_or(0), ..pipe });
            return Ok(taken);
        }
        let received = rustix::net::recv(&self.socket, &mut through.room[..], RecvFlags::empty());
        let Some((count, _)) = unless_blocked(received)? else {
            self.readable = false;
            return Ok(None);
        };
        self.held.extend_from_slice(&through.room[..count]);
        self.is_bulk = count == ROOM_BYTES;
        // Nothing is behind a short read, except perhaps EOF.
        self.readable = self.is_bulk || self.ends;
        Ok(Some(count))
    }

    /// Writes the bytes that were read before; returns whether none of them are left.
    fn pass_on(&mut self, to: &mut Self, through: &mut Through) -> rustix::io::Result<bool> {
        if !self.held.is_empty() && to.writable {
            let sent = rustix::net::send(&to.socket, &self.held, SendFlags::NOSIGNAL);
            let count = unless_blocked(sent)?.unwrap_or(0);
            to.writable = count == self.held.len();
            self.held.drain(..count);
        }
        if let Some(mut pipe) = self.pipe.take() {
            if pipe.held > 0 && to.writable && self.held.is_empty() {
                let moved = rustix::pipe::splice(&pipe.reader, None, &to.socket, None, pipe.held, SPLICE);
                let count = unless_blocked(moved)?.unwrap_or(0);
                to.writable = count == pipe.held;
                pipe.held -= count;
            }
            if pipe.held == 0 {
                through.pipes.push(pipe);
            } else {
                self.pipe = Some(pipe);
            }
        }
        Ok(self.held.is_empty() && self.pipe.is_none())
    }
}

impl Pipe {
    fn new() -> rustix::io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES)?;
        Ok(Self { reader, writer, held: 0 })
    }
}

fn unless_blocked<T>(result: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match result {
        Err(Errno::AGAIN) => Ok(None),
        result => result.map(Some),
    }
}

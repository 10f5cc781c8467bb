//! The load generator: one thread that keeps any number of connections busy.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::stop;
use crate::target::{ASK, ASK_ONCE, REPLY_BYTES, REQUEST_BYTES, UPLOAD};
use crate::turns::{Next, Turns};

const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Longest wait for the first reply of a run.
const REPLY_PATIENCE: Duration = Duration::from_secs(3);
/// Size of an upload's writes, in bytes.
const WRITE_BYTES: usize = 128 << 10;

/// The work that each connection repeats.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Sends as fast as the relay takes the bytes.
    Upload,
    /// Sends a request and waits for the reply.
    Ask,
    /// As `Ask`, each time on a new connection.
    AskOnce,
    /// As `AskOnce`, after the target's greeting.
    BeGreeted,
}

/// The work that was done in some time.
#[derive(Default)]
pub struct Tally {
    pub took: Duration,
    /// Time that each reply took, from its request on, or from the connect where that is part of the work.
    pub replies: Vec<Duration>,
    /// Connections that failed or ended early.
    pub failures: usize,
}

impl Work {
    /// Returns whether a connection carries only one request.
    fn is_short(self) -> bool {
        matches!(self, Self::AskOnce | Self::BeGreeted)
    }
}

/// Connections to a relay.
pub struct Client {
    turns: Turns,
    address: SocketAddr,
    work: Work,
    /// The connections by number; `None` for those that have failed.
    connections: Vec<Option<Connection>>,
    bytes: Vec<u8>,
    tally: Tally,
}

struct Connection {
    stream: TcpStream,
    /// Start of the request or the connect that is under way.
    since: Instant,
    /// The target has not greeted yet.
    ungreeted: bool,
    asked: bool,
    /// Bytes of the reply or the greeting that have come.
    got: usize,
}

impl Client {
    /// Opens `count` connections.
    pub fn connect(address: SocketAddr, work: Work, count: usize) -> io::Result<Self> {
        let first_byte = match work {
            Work::Upload => UPLOAD,
            Work::Ask => ASK,
            Work::AskOnce | Work::BeGreeted => ASK_ONCE,
        };
        let mut client = Self {
            turns: Turns::new()?,
            address,
            work,
            connections: Vec::new(),
            bytes: vec![first_byte; WRITE_BYTES],
            tally: Tally::default(),
        };
        for number in 0..count {
            let connection = client.open(number)?;
            client.connections.push(Some(connection));
        }
        Ok(client)
    }

    /// Works for `time`, or longer on a busy machine until there is a reply. Requests that are under way at
    /// the end go on in the next run.
    pub fn run(&mut self, time: Duration) -> io::Result<Tally> {
        let start = Instant::now();
        self.tally = Tally::default();
        while start.elapsed() < self.end(time) && !stop::requested() {
            for number in self.turns.next(self.end(time).saturating_sub(start.elapsed()))? {
                self.serve(number)?;
            }
        }
        self.tally.took = start.elapsed();
        Ok(std::mem::take(&mut self.tally))
    }

    /// Returns how long a run of `time` lasts: longer while it still waits for its first reply.
    fn end(&self, time: Duration) -> Duration {
        let is_waiting = self.work != Work::Upload && self.tally.replies.is_empty();
        if is_waiting { time.max(REPLY_PATIENCE) } else { time }
    }

    fn open(&self, number: usize) -> io::Result<Connection> {
        let since = Instant::now();
        let mut stream = if self.work.is_short() {
            TcpStream::connect(self.address)?
        } else {
            TcpStream::from_std(connect(self.address)?)
        };
        self.turns.register(&mut stream, number)?;
        let ungreeted = self.work == Work::BeGreeted;
        Ok(Connection { stream, since, ungreeted, asked: false, got: 0 })
    }

    fn serve(&mut self, number: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[number] else { return Ok(()) };
        let next = match self.work {
            Work::Upload => connection.stream.write(&self.bytes).map(|_| Next::Again),
            Work::Ask => connection.ask_again(&self.bytes[..REQUEST_BYTES], &mut self.tally),
            Work::AskOnce | Work::BeGreeted => {
                connection.ask_once(&self.bytes[..REQUEST_BYTES], &mut self.tally)
            }
        };
        match next {
            Ok(Next::Wait) => {}
            Ok(Next::Again) => self.turns.again(number),
            Ok(Next::Close) => self.connections[number] = Some(self.open(number)?),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            Err(_) => {
                self.tally.failures += 1;
                let reopen = self.work.is_short();
                self.connections[number] = reopen.then(|| self.open(number)).transpose()?;
            }
        }
        Ok(())
    }
}

impl Connection {
    fn ask_again(&mut self, request: &[u8], tally: &mut Tally) -> io::Result<Next> {
        if self.asked {
            self.receive()?;
            if self.got < REPLY_BYTES {
                return Ok(Next::Again);
            }
            tally.replies.push(self.since.elapsed());
            self.got = 0;
        }
        // The target sends nothing before the next request, so waiting without having seen EAGAIN misses
        // no event.
        self.since = Instant::now();
        self.ask(request)?;
        Ok(Next::Wait)
    }

    fn ask_once(&mut self, request: &[u8], tally: &mut Tally) -> io::Result<Next> {
        if self.ungreeted {
            self.receive()?;
            if self.got == REPLY_BYTES {
                (self.ungreeted, self.got) = (false, 0);
            }
            return Ok(Next::Again);
        }
        if !self.asked {
            self.ask(request)?;
            return Ok(Next::Again);
        }
        if self.got < REPLY_BYTES {
            self.receive()?;
            return Ok(Next::Again);
        }
        // The target closes after its reply. Waiting for EOF includes the relay's passing it on.
        if self.stream.read(&mut [0])? > 0 {
            return Err(ErrorKind::InvalidData.into());
        }
        tally.replies.push(self.since.elapsed());
        Ok(Next::Close)
    }

    fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)?;
        self.asked = true;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut room = [0; REPLY_BYTES];
        match self.stream.read(&mut room[self.got..])? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.got += count;
                Ok(())
            }
        }
    }
}

/// Returns an established, non-blocking connection.
pub fn connect(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let stream = std::net::TcpStream::connect_timeout(&address, CONNECT_PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

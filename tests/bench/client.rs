//! The load generator: one thread that keeps any number of connections busy.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::stop;
use crate::target::{ASK, ASK_ONCE, REPLY_BYTES, REQUEST_BYTES, UPLOAD};
use crate::turns::{Next, Turns};

const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// For the first reply of a run.
const REPLY_PATIENCE: Duration = Duration::from_secs(3);
/// What an upload writes at once.
const WRITE_BYTES: usize = 128 << 10;

/// What each connection does, over and over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Sends as fast as the bytes are taken.
    Upload,
    /// Sends a request, waits for the reply.
    Ask,
    /// The same, each time on a new connection.
    AskOnce,
    /// The same, after the target's greeting.
    BeGreeted,
}

/// What was done in some time.
#[derive(Default)]
pub struct Tally {
    pub took: Duration,
    /// How long each reply took, from the request (or the connect, if it comes first) on.
    pub replies: Vec<Duration>,
    /// Connections that ended when they should not have.
    pub failures: usize,
}

impl Work {
    /// Whether a connection carries one request only.
    fn is_short(self) -> bool {
        matches!(self, Self::AskOnce | Self::BeGreeted)
    }
}

/// Connections to a relay.
pub struct Client {
    turns: Turns,
    address: SocketAddr,
    work: Work,
    /// `None` for those that have failed.
    connections: Vec<Option<Connection>>,
    bytes: Vec<u8>,
    tally: Tally,
}

struct Connection {
    stream: TcpStream,
    /// When what is under way began.
    since: Instant,
    /// The target has yet to greet.
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

    /// Works for some time, and on a busy machine until there is a reply. What is under way at the end
    /// goes on in the next run.
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

    /// When a run of so long ends, as things are.
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
        // Nothing more comes before the next request is there, so it is right to wait without
        // having seen that there is nothing to read.
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
        // The target closes; waiting for it means that the relay has passed the end on.
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

/// A connection that is there, and does not block.
pub fn connect(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let stream = std::net::TcpStream::connect_timeout(&address, CONNECT_PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

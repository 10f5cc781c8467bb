//! The target behind every relay: one thread that answers requests, takes uploads and sends downloads.
//! The first byte of a connection chooses.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Token, Waker};
use slab::Slab;

use crate::turns::{Next, Turns};

/// Size of a request, in bytes, like a short HTTP request.
pub const REQUEST_BYTES: usize = 64;
/// Size of a reply, in bytes, like a short HTTP reply.
pub const REPLY_BYTES: usize = 192;

/// First byte of requests that are answered one after another on one connection.
pub const ASK: u8 = b'a';
/// First byte of a request that is answered before the target closes the connection.
pub const ASK_ONCE: u8 = b'o';
/// First byte of an upload, whose bytes are counted.
pub const UPLOAD: u8 = b'u';
/// First byte that starts a download, which lasts until the connection is closed.
pub const DOWNLOAD: u8 = b'd';

/// Most bytes that one read takes.
const TAKE_BYTES: usize = 256 << 10;
/// Most bytes that one write sends. They are few, so that no request waits long behind a download.
const SEND_BYTES: usize = 64 << 10;

/// Longest wait for events. The waker ends it early.
const PATIENCE: Duration = Duration::from_secs(60);

const LISTENER: usize = usize::MAX;
const GREETER: usize = usize::MAX - 1;
const WAKER: usize = usize::MAX - 2;

/// The running target, which ends when this is dropped.
pub struct Target {
    address: SocketAddr,
    greeter: SocketAddr,
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    uploaded: AtomicU64,
    stop: AtomicBool,
}

impl Target {
    pub fn start() -> io::Result<Self> {
        let turns = Turns::new()?;
        let listener = listen(&turns, LISTENER)?;
        let greeter = listen(&turns, GREETER)?;
        let (address, greeter_address) = (listener.local_addr()?, greeter.local_addr()?);
        let waker = Waker::new(turns.registry(), Token(WAKER))?;
        let shared = Arc::new(Shared::default());
        let server = Server::new(turns, [listener, greeter], Arc::clone(&shared));
        // If the server's loop fails, no connection is answered, and the loads fail.
        let thread = thread::spawn(move || {
            server.run().unwrap_or_else(|error| eprintln!("the target has failed: {error}"));
        });
        Ok(Self { address, greeter: greeter_address, shared, waker, thread: Some(thread) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address at which the target first sends [`REPLY_BYTES`] to each connection.
    pub fn greeter(&self) -> SocketAddr {
        self.greeter
    }

    /// Returns the bytes of uploads that have arrived so far.
    pub fn uploaded(&self) -> u64 {
        self.shared.uploaded.load(Ordering::Relaxed)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn listen(turns: &Turns, number: usize) -> io::Result<TcpListener> {
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    // mio listens with a short backlog.
    socket2::SockRef::from(&listener).listen(4096)?;
    turns.register(&mut listener, number)?;
    Ok(listener)
}

struct Server {
    turns: Turns,
    listener: TcpListener,
    greeter: TcpListener,
    connections: Slab<Connection>,
    shared: Arc<Shared>,
    room: Vec<u8>,
    bytes: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// The first byte; `None` before it has come.
    wish: Option<u8>,
    /// Bytes of an incomplete request that have come.
    pending: usize,
}

impl Server {
    fn new(turns: Turns, [listener, greeter]: [TcpListener; 2], shared: Arc<Shared>) -> Self {
        let connections = Slab::new();
        Self {
            turns,
            listener,
            greeter,
            connections,
            shared,
            room: vec![0; TAKE_BYTES],
            bytes: vec![b'x'; SEND_BYTES],
        }
    }

    fn run(mut self) -> io::Result<()> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            for number in self.turns.next(PATIENCE)? {
                match number {
                    LISTENER | GREETER => self.accept(number == GREETER)?,
                    WAKER => {}
                    number => self.serve(number),
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, greets: bool) -> io::Result<()> {
        let listener = if greets { &self.greeter } else { &self.listener };
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The connection is gone already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let slot = self.connections.vacant_entry();
            self.turns.register(&mut stream, slot.key())?;
            // If the connection is gone already, serving it shows that.
            if greets {
                let _ = stream.write(&self.bytes[..REPLY_BYTES]);
            }
            slot.insert(Connection { stream, wish: None, pending: 0 });
        }
    }

    fn serve(&mut self, number: usize) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        let result = match connection.wish {
            Some(DOWNLOAD) => connection.send(&self.bytes),
            _ => connection.take(&mut self.room, &self.bytes, &self.shared.uploaded),
        };
        match result {
            Ok(Next::Wait) => {}
            Ok(Next::Again) => self.turns.again(number),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(Next::Close) | Err(_) => drop(self.connections.remove(number)),
        }
    }
}

impl Connection {
    fn send(&mut self, bytes: &[u8]) -> io::Result<Next> {
        self.stream.write(bytes).map(|_| Next::Again)
    }

    fn take(&mut self, room: &mut [u8], reply: &[u8], uploaded: &AtomicU64) -> io::Result<Next> {
        let count = self.stream.read(room)?;
        if count == 0 {
            return Ok(Next::Close);
        }
        match *self.wish.get_or_insert(room[0]) {
            UPLOAD => {
                uploaded.fetch_add(count as u64, Ordering::Relaxed);
                Ok(Next::Again)
            }
            DOWNLOAD => {
                self.stream.set_nodelay(true)?;
                Ok(Next::Again)
            }
            wish => self.answer(wish, count, &reply[..REPLY_BYTES]),
        }
    }

    fn answer(&mut self, wish: u8, count: usize, reply: &[u8]) -> io::Result<Next> {
        self.pending += count;
        if self.pending < REQUEST_BYTES {
            return Ok(Next::Again);
        }
        // A requester waits for its reply before it asks again, so nothing is left to read.
        self.pending = 0;
        self.stream.write_all(reply)?;
        Ok(if wish == ASK { Next::Wait } else { Next::Close })
    }
}

//! A link with a round trip of its own, played by its far end: it takes what has come once in each
//! beat, and so answers in bursts, as a distant reader does.
//!
//! This needs neither root nor a queueing discipline that few kernels have. It shows what a relay
//! does with windows that open rarely and wide, not what it does on a lossy path.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The most that is taken of a connection in a second: a link has a rate as well.
const BYTES_PER_SECOND: u64 = 100 << 20;
const ROOM_BYTES: usize = 256 << 10;

/// The far end of the link, in a thread of its own. It ends when this is dropped.
pub struct Link {
    address: SocketAddr,
    beat: Duration,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    taken: AtomicU64,
    stop: AtomicBool,
}

impl Link {
    pub fn start(beat: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let (address, shared) = (listener.local_addr()?, Arc::new(Shared::default()));
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || take(&listener, beat, &shared)
        });
        Ok(Self { address, beat, shared, thread: Some(thread) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn beat(&self) -> Duration {
        self.beat
    }

    /// Bytes that have arrived up to now.
    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn take(listener: &TcpListener, beat: Duration, shared: &Shared) {
    let most = u64::try_from(u128::from(BYTES_PER_SECOND) * beat.as_millis() / 1000).unwrap_or(u64::MAX);
    let mut room = vec![0; ROOM_BYTES];
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut next = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                streams.push(stream);
            }
        }
        streams.retain_mut(|stream| match take_once(stream, most, &mut room) {
            Ok(count) => {
                shared.taken.fetch_add(count, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        });
        next += beat;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Takes what is there, and no more than the link carries in a beat.
fn take_once(stream: &mut TcpStream, most: u64, room: &mut [u8]) -> io::Result<u64> {
    let mut taken = 0;
    while taken < most {
        match stream.read(room) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => taken += count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

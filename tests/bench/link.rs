//! A link with a round-trip time, simulated by its far end: the reader takes the bytes that have come once
//! in each beat, so its acknowledgements come in bursts, like a distant reader's.
//!
//! This needs neither root nor a queueing discipline that few kernels have. It shows how a relay copes with
//! windows that open rarely and wide, not how it copes with a lossy path.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Rate of the link: most bytes that are taken from a connection in a second.
const BYTES_PER_SECOND: u64 = 100 << 20;
const ROOM_BYTES: usize = 256 << 10;

/// The far end of the link, in a thread of its own, which ends when this is dropped.
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

    /// Returns the bytes that have been taken so far.
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

/// Takes the bytes that are there, up to the link's rate in a beat; returns their number.
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

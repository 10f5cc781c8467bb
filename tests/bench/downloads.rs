//! Downloads at a fixed rate, as the background of another load.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client;
use crate::target::DOWNLOAD;

/// Pause of the readers between two takes.
const BEAT: Duration = Duration::from_millis(1);
const TAKE_BYTES: usize = 64 << 10;

/// Readers in a thread of their own, which ends when this is dropped.
pub struct Downloads {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    received: AtomicU64,
    stop: AtomicBool,
}

struct Download {
    stream: TcpStream,
    received: u64,
}

impl Downloads {
    /// Starts `count` downloads of `rate` bytes a second each.
    pub fn start(address: SocketAddr, count: usize, rate: u64) -> io::Result<Self> {
        let downloads: io::Result<Vec<_>> = (0..count).map(|_| Download::start(address)).collect();
        let (downloads, shared) = (downloads?, Arc::new(Shared::default()));
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || receive(downloads, rate, &shared)
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Returns the bytes of all downloads that have arrived so far.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn receive(mut downloads: Vec<Download>, rate: u64, shared: &Shared) {
    let start = Instant::now();
    let mut room = vec![0; TAKE_BYTES];
    while !shared.stop.load(Ordering::Relaxed) {
        thread::sleep(BEAT);
        let due =
            u64::try_from(u128::from(rate) * start.elapsed().as_nanos() / 1_000_000_000).unwrap_or(u64::MAX);
        // A download that fails is dropped. The rate in the report shows that.
        downloads.retain_mut(|download| match download.catch_up(due, &mut room) {
            Ok(count) => {
                shared.received.fetch_add(count, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        });
    }
}

impl Download {
    fn start(address: SocketAddr) -> io::Result<Self> {
        let mut stream = client::connect(address)?;
        stream.write_all(&[DOWNLOAD])?;
        Ok(Self { stream, received: 0 })
    }

    /// Takes the bytes that are there, up to `due` in all plus one read; returns how many these were.
    fn catch_up(&mut self, due: u64, room: &mut [u8]) -> io::Result<u64> {
        let before = self.received;
        while self.received < due {
            match self.stream.read(room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.received - before)
    }
}

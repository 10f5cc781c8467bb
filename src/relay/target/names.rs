//! The driver of the resolver: the files, sockets and random numbers that resolve the names of targets.
//!
//! A lookup begins only when a session or a request asks for it. It looks at /etc/hosts and
//! /etc/resolv.conf, and reads them if they have changed. Each query has a socket of its own, whose port
//! and whose id are random: an off-path attacker must guess both. When the lookup is over, its sockets are
//! closed and no timer runs.
//!
//! Readiness is a hint here. A report on a closed socket may reach its successor in the slot, which then
//! makes a needless read.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, RandomState};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry};

use crate::limits::{NAME_FILE_BYTES, NAME_READ_BYTES, NAME_READS_PER_TURN};
use crate::relay::edge::name_socket_token;
use crate::resolve::{Action, Id, Key, Name, Outcome, Report, Resolver, Transport, Version};
use crate::sys::net::interface_index;
use crate::sys::uninterrupted;

/// The names of a relay's targets.
#[derive(Debug)]
pub(crate) struct Names {
    resolver: Resolver,
    /// The ids of the names, and the indexes of their targets.
    targets: Vec<(Id, usize)>,
    files: Files,
    /// The sockets by the slots of their keys; `None`: no query has the slot.
    sockets: Vec<Option<Socket>>,
}

/// The files that resolve names.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) hosts: PathBuf,
    pub(crate) conf: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), conf: "/etc/resolv.conf".into() }
    }
}

impl Files {
    /// Returns whether at least one of them can be read.
    pub(crate) fn can_be_read(&self) -> bool {
        [&self.hosts, &self.conf].into_iter().any(|path| version(path) != 0 && File::open(path).is_ok())
    }
}

/// The socket of one query.
#[derive(Debug)]
struct Socket {
    key: Key,
    stream: Stream,
    /// Whether the kernel has reported it, and no read has blocked or failed since.
    ready: bool,
}

#[derive(Debug)]
enum Stream {
    Udp(UdpSocket),
    /// The connection, and the unsent rest of the query.
    Tcp(TcpStream, Vec<u8>),
}

impl Names {
    /// Returns a driver for these names, each with the index of its target.
    pub(crate) fn new(files: Files, names: impl Iterator<Item = (usize, Name)>) -> Self {
        let mut resolver = Resolver::new(interface_index);
        let targets: Vec<_> = names.map(|(index, name)| (resolver.add(name), index)).collect();
        // Each name has one for each family of addresses.
        let sockets = targets.iter().flat_map(|_| [None, None]).collect();
        Self { resolver, targets, files, sockets }
    }

    /// Lets a session ask for the addresses of all names, which begins the lookups that are due. If an
    /// address is missing, the session waits for it until `until`.
    pub(crate) fn ask(&mut self, until: Instant, registry: &Registry, now: Instant) {
        for &(id, _) in &self.targets {
            self.resolver.addresses(id, now, until);
        }
        self.act(registry, now);
    }

    /// Looks a target's name up, because no connect to its addresses succeeded. It does so at most once a
    /// second, and never for a target that is an address.
    pub(crate) fn ask_now(&mut self, index: usize, registry: &Registry, now: Instant) {
        for &(id, _) in self.targets.iter().filter(|(_, target)| *target == index) {
            self.resolver.ask_now(id, now);
        }
        self.act(registry, now);
    }

    /// Looks all names up at once.
    pub(crate) fn ask_all(&mut self, registry: &Registry, now: Instant) {
        self.resolver.ask_all(now);
        self.act(registry, now);
    }

    /// Returns the index of a target and the news of its name; `None`: there is no news.
    pub(crate) fn next_report(&mut self) -> Option<(usize, Outcome)> {
        let Report { id, outcome } = self.resolver.next_report()?;
        let (_, index) = self.targets.iter().find(|(known, _)| *known == id)?;
        Some((*index, outcome))
    }

    /// Returns the numbers of lookups since the start: those that found addresses, and those that failed.
    pub(crate) fn lookups(&self) -> [u64; 2] {
        self.resolver.ended()
    }

    /// Returns when [`work`](Self::work) must be called and its reports must be taken, events or not; `None`:
    /// not before an event.
    #[inline]
    pub(crate) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        if self.resolver.has_report() || self.sockets.iter().flatten().any(|socket| socket.ready) {
            return Some(now);
        }
        self.resolver.wakes_at()
    }

    /// Returns whether no target is a name. Then a turn has nothing to do here.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Notes a report on the socket of a slot.
    pub(crate) fn note(&mut self, slot: usize) {
        if let Some(Some(socket)) = self.sockets.get_mut(slot) {
            socket.ready = true;
        }
    }

    /// Reads the sockets that are ready, expires the waits that are over, and acts for the resolver.
    pub(crate) fn work(&mut self, registry: &Registry, now: Instant) {
        for socket in self.sockets.iter_mut().flatten().filter(|socket| socket.ready) {
            let key = socket.key;
            if let Err(error) = socket.work(|bytes| self.resolver.received(key, bytes, now)) {
                self.resolver.failed(key, error.kind(), now);
            }
        }
        if self.resolver.wakes_at().is_some_and(|at| at <= now) {
            self.resolver.expire(now);
        }
        self.act(registry, now);
    }

    /// Carries out the resolver's actions. A relay without names makes no system call here.
    fn act(&mut self, registry: &Registry, now: Instant) {
        if self.targets.is_empty() {
            return;
        }
        while let Some(action) = self.resolver.next_action(random_id(), now) {
            match action {
                Action::ReadFiles { hosts, conf } => {
                    let hosts = read_changed(&self.files.hosts, hosts);
                    let conf = read_changed(&self.files.conf, conf);
                    self.resolver.files_read(as_text(hosts.as_ref()), as_text(conf.as_ref()), now);
                }
                Action::Open { key, server, transport, bytes } => {
                    match Socket::open(key, server, transport, bytes, registry) {
                        Ok(socket) => self.sockets[key.slot] = Some(socket),
                        Err(error) => self.resolver.failed(key, error.kind(), now),
                    }
                }
                // The close removes the socket from the poll instance.
                Action::Close(key) => self.sockets[key.slot] = None,
            }
        }
    }
}

impl Socket {
    /// Opens a socket and sends the query. The kernel chooses a random port, and drops whatever does not come
    /// from the server.
    fn open(
        key: Key,
        server: SocketAddr,
        transport: Transport,
        query: Vec<u8>,
        registry: &Registry,
    ) -> io::Result<Self> {
        let token = name_socket_token(key.slot);
        let stream = match transport {
            Transport::Udp => {
                let any = match server {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let mut socket = UdpSocket::bind(any)?;
                socket.connect(server)?;
                registry.register(&mut socket, token, Interest::READABLE)?;
                uninterrupted(|| socket.send(&query))?;
                Stream::Udp(socket)
            }
            Transport::Tcp => {
                let mut stream = TcpStream::connect(server)?;
                registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                Stream::Tcp(stream, query)
            }
        };
        Ok(Self { key, stream, ready: false })
    }

    /// Sends the rest of the query, and passes on a turn's share of the bytes that have arrived.
    ///
    /// # Errors
    /// The server cannot be reached, or has closed the connection.
    fn work(&mut self, mut received: impl FnMut(&[u8])) -> io::Result<()> {
        let mut bytes = [0; NAME_READ_BYTES];
        for _ in 0..NAME_READS_PER_TURN {
            match self.stream.exchange(&mut bytes) {
                Ok(count) => received(&bytes[..count]),
                Err(error) => {
                    self.ready = false;
                    // ENOTCONN: the TCP connect is still under way.
                    let waits = [ErrorKind::WouldBlock, ErrorKind::NotConnected];
                    return if waits.contains(&error.kind()) { Ok(()) } else { Err(error) };
                }
            }
        }
        Ok(())
    }
}

impl Stream {
    /// Sends the rest of the query, and then reads.
    fn exchange(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => uninterrupted(|| socket.recv(bytes)),
            Self::Tcp(stream, unsent) => {
                while !unsent.is_empty() {
                    match uninterrupted(|| stream.write(unsent))? {
                        0 => return Err(ErrorKind::WriteZero.into()),
                        sent => drop(unsent.drain(..sent)),
                    }
                }
                match uninterrupted(|| stream.read(bytes))? {
                    0 => Err(ErrorKind::UnexpectedEof.into()),
                    count => Ok(count),
                }
            }
        }
    }
}

/// Returns a random id for a query: 16 bits of a keyed hash, whose key comes from the system's randomness.
fn random_id() -> u16 {
    let [high, low, ..] = RandomState::new().hash_one(0).to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Reads a file, if its version is not the known one. A missing file counts as an empty one.
fn read_changed(path: &Path, known: Option<Version>) -> Option<(Version, String)> {
    let version = version(path);
    if known == Some(version) {
        return None;
    }
    let mut bytes = Vec::new();
    if version != 0
        && let Ok(file) = File::open(path)
    {
        // Half a file is better than none.
        let _ = file.take(NAME_FILE_BYTES).read_to_end(&mut bytes);
    }
    Some((version, String::from_utf8_lossy(&bytes).into_owned()))
}

/// Returns a number that changes whenever the file does; 0 if there is no regular file. Other files are never
/// opened, because a FIFO would block the loop.
fn version(path: &Path) -> Version {
    let Ok(file) = fs::metadata(path) else { return 0 };
    let marks = (file.mtime(), file.mtime_nsec(), file.ino(), file.size());
    let mixed = BuildHasherDefault::<DefaultHasher>::default().hash_one(marks);
    if file.is_file() { mixed.max(1).into() } else { 0 }
}

fn as_text(file: Option<&(Version, String)>) -> Option<(Version, &str)> {
    file.map(|(version, text)| (*version, text.as_str()))
}

#[cfg(test)]
mod tests;

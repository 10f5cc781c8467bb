//! The pool: a fixed number of slots for sessions, and what is asked of all sessions together.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Index, IndexMut};

use mio::net::TcpStream;
use slab::Slab;

use crate::config::Config;
use crate::limits::OWN_CONNECTION_CHAIN;
use crate::session::{Session, Side};

/// The ready queue, the wheel and the two allocations of its buffers take this of each session, in bytes.
const SHARE_ELSEWHERE: usize = 64;

/// All sessions, by key. A key is given out again once its session is gone.
#[derive(Debug)]
pub(crate) struct Pool {
    slots: Slab<Slot>,
    size: usize,
    /// Sessions from each address, where `--max-per-source` counts them.
    sources: HashMap<IpAddr, usize>,
    most_per_source: Option<usize>,
}

/// A session, and what the loop knows of it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) session: Session<TcpStream>,
    /// It is in a queue of the loop.
    pub(crate) queued: bool,
    /// For each side, whether what arrives there is not reported, as the session asked.
    pub(crate) muted: [bool; 2],
    /// The local port of its connection to the target, once it was asked for.
    target_end: Option<u16>,
}

impl Pool {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            slots: Slab::with_capacity(config.pool()),
            size: config.pool(),
            sources: HashMap::new(),
            most_per_source: config.max_per_source,
        }
    }

    /// Bytes that a session takes, its buffers among them.
    pub(crate) fn session_bytes(config: &Config) -> usize {
        2 * config.buf + size_of::<Slot>() + SHARE_ELSEWHERE
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.size
    }

    /// Takes a slot; the pool must not be full.
    pub(crate) fn insert(&mut self, session: Session<TcpStream>) -> usize {
        debug_assert!(!self.is_full());
        if self.most_per_source.is_some() {
            *self.sources.entry(session.address().ip().to_canonical()).or_default() += 1;
        }
        self.slots.insert(Slot { session, queued: false, muted: [false; 2], target_end: None })
    }

    /// Frees a slot.
    pub(crate) fn remove(&mut self, key: usize) -> Session<TcpStream> {
        let session = self.slots.remove(key).session;
        let source = session.address().ip().to_canonical();
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
        session
    }

    pub(crate) fn get(&self, key: usize) -> Option<&Slot> {
        self.slots.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut Slot> {
        self.slots.get_mut(key)
    }

    /// The sessions from this key on, with their keys.
    pub(crate) fn sessions_from(&self, first: usize) -> impl Iterator<Item = (usize, &Session<TcpStream>)> {
        (first..self.slots.capacity()).filter_map(|key| Some((key, &self.slots.get(key)?.session)))
    }

    /// Frees all slots.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Session<TcpStream>> {
        self.sources.clear();
        self.slots.drain().map(|slot| slot.session)
    }

    /// What one address may have in the pool, if this requester's has it.
    pub(crate) fn source_limit_reached(&self, requester: SocketAddr) -> Option<usize> {
        let count = self.sources.get(&requester.ip().to_canonical())?;
        self.most_per_source.filter(|most| count >= most)
    }

    /// Whether the requester is one of our own connections: the target leads back here in a way
    /// that could not be seen at start. Unchecked, each such session would make the next.
    ///
    /// One port that is the same proves nothing: the kernel lets two connections to different
    /// places share one. A whole chain of sessions, each the requester of the next, is a loop.
    pub(crate) fn has_made(&mut self, requester: SocketAddr) -> bool {
        // While there is plenty of room, the question is not worth a call for each session.
        if self.len() < self.size / 2 {
            return false;
        }
        let mut link = requester.port();
        (0..OWN_CONNECTION_CHAIN).all(|_| {
            let maker = self.slots.iter_mut().find_map(|(_, slot)| {
                let made = slot.target_end() == Some(link);
                made.then(|| slot.session.address().port())
            });
            maker.inspect(|&port| link = port).is_some()
        })
    }
}

impl Index<usize> for Pool {
    type Output = Slot;

    fn index(&self, key: usize) -> &Slot {
        &self.slots[key]
    }
}

impl IndexMut<usize> for Pool {
    fn index_mut(&mut self, key: usize) -> &mut Slot {
        &mut self.slots[key]
    }
}

impl Slot {
    /// The local port of the connection to the target, asked for once.
    fn target_end(&mut self) -> Option<u16> {
        if self.target_end.is_none() {
            let address = self.session.socket(Side::Target).stream().local_addr();
            self.target_end = address.ok().map(|address| address.port());
        }
        self.target_end
    }
}

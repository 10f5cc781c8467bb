//! The pool: a fixed number of slots for sessions, and what is asked of all sessions together.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Index, IndexMut};

use mio::net::TcpStream;
use slab::Slab;

use crate::config::Config;
use crate::pool::own::OwnEnds;
use crate::pool::sources::Sources;
use crate::session::Session;

/// The ready queue, the wheel and the two allocations of its buffers take this of each session, in bytes.
const SHARE_ELSEWHERE: usize = 64;

/// The tables of sources and of own connections take this of each session, in bytes: two entries for
/// each in a table of a power of two, and its end by key.
const SHARE_OF_TABLES: usize = 2 * 5 * 33 + 32;

/// All sessions, by key. A key is given out again once its session is gone.
#[derive(Debug)]
pub(crate) struct Pool {
    slots: Slab<Slot>,
    size: usize,
    /// Sessions from each source; `None`: `--max-per-source` does not limit them.
    sources: Option<Sources>,
    own: OwnEnds,
}

/// A session, and what the loop knows of it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) session: Session<TcpStream>,
    /// It is in a queue of the loop.
    pub(crate) queued: bool,
    /// For each side, whether what arrives there is not reported, as the session asked.
    pub(crate) muted: [bool; 2],
}

impl Pool {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            slots: Slab::with_capacity(config.pool()),
            size: config.pool(),
            sources: config.max_per_source.map(|max| Sources::new(config.pool(), max)),
            own: OwnEnds::new(config.pool()),
        }
    }

    /// Bytes that a session takes, its buffers among them.
    pub(crate) fn session_bytes(config: &Config) -> usize {
        2 * config.buf + size_of::<Slot>() + SHARE_ELSEWHERE + SHARE_OF_TABLES
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
        if let Some(sources) = &mut self.sources {
            sources.add(session.address().ip());
        }
        self.slots.insert(Slot { session, queued: false, muted: [false; 2] })
    }

    /// Frees a slot.
    pub(crate) fn remove(&mut self, key: usize) -> Session<TcpStream> {
        let session = self.slots.remove(key).session;
        self.own.remove(key);
        if let Some(sources) = &mut self.sources {
            sources.remove(session.address().ip());
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

    /// Frees all slots, at the end of the relay.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Session<TcpStream>> {
        self.slots.drain().map(|slot| slot.session)
    }

    /// Returns the per-source limit if the requester's source has reached it.
    pub(crate) fn source_limit_reached(&self, requester: IpAddr) -> Option<usize> {
        self.sources.as_ref()?.limit_reached(requester)
    }

    /// Returns whether half of the slots are taken.
    pub(crate) fn is_half_full(&self) -> bool {
        self.len() >= self.size / 2
    }

    /// Notes the relay's end of a session's connection to the target.
    pub(crate) fn note_own_end(&mut self, key: usize, end: SocketAddr) {
        self.own.add(key, end);
    }

    /// Returns whether the requester comes from the relay's end of a connection to the target.
    pub(crate) fn is_own_end(&self, requester: SocketAddr) -> bool {
        self.own.contains(requester)
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Instant;

    use super::*;
    use crate::cli::{Request, parse};
    use crate::session::ended::Serial;

    fn session(requester: SocketAddr) -> Session<TcpStream> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Session::new(Serial::MIN, requester, stream(), stream(), Instant::now())
    }

    #[test]
    fn a_session_that_is_gone_is_counted_for_no_source_and_has_no_own_end() {
        let line = "--max-per-source 1 8080 192.0.2.7 80 ANY 1 30 0 4000";
        let Ok(Request::Run(config)) = parse(line.split(' ').map(Into::into)) else { panic!() };
        let mut pool = Pool::new(&config);
        let requester: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let end: SocketAddr = "192.0.2.2:5000".parse().unwrap();
        let key = pool.insert(session(requester));
        pool.note_own_end(key, end);
        assert_eq!(pool.source_limit_reached(requester.ip()), Some(1));
        assert!(pool.is_own_end(end));
        pool.remove(key);
        assert_eq!(pool.source_limit_reached(requester.ip()), None);
        assert!(!pool.is_own_end(end));
    }
}

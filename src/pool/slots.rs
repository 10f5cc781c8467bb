//! The slots of the pool: sessions by key, their number for each source, and the relay's own connections.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::pool::own::OwnEnds;
use crate::pool::sources::Sources;
use crate::session::Session;
use crate::session::stream::Stream;

/// A fixed number of slots.
#[derive(Debug)]
pub struct Slots<S> {
    sessions: Slab<Session<S>>,
    size: usize,
    /// The number of sessions from each source; `None`: `--max-per-source` is not set.
    sources: Option<Sources>,
    own: OwnEnds,
}

impl<S: Stream> Slots<S> {
    pub(crate) fn new(size: usize, max_per_source: Option<usize>) -> Self {
        Self {
            sessions: Slab::with_capacity(size),
            size,
            sources: max_per_source.map(|max| Sources::new(size, max)),
            own: OwnEnds::new(size),
        }
    }

    /// Returns the number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Returns whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Returns whether every slot is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == self.size
    }

    /// Takes a slot; the pool must not be full.
    pub(crate) fn insert(&mut self, session: Session<S>) -> usize {
        debug_assert!(!self.is_full());
        if let Some(sources) = &mut self.sources {
            sources.add(session.identity().requester.ip());
        }
        self.sessions.insert(session)
    }

    /// Notes the relay's end of a session's connection to the target. Connections to two targets can have
    /// the same end, which is then noted only for the first of them.
    pub(crate) fn note_own_end(&mut self, key: usize, end: SocketAddr) {
        if self.own.add(end) {
            self.sessions[key].note_own_end(Some(end));
        }
    }

    /// Forgets the relay's end of a session's connection to the target.
    pub(crate) fn forget_own_end(&mut self, key: usize) {
        let session = &mut self.sessions[key];
        if let Some(end) = session.own_end() {
            self.own.remove(end);
            session.note_own_end(None);
        }
    }

    /// Frees a slot.
    pub(crate) fn remove(&mut self, key: usize) -> Session<S> {
        self.forget_own_end(key);
        let session = self.sessions.remove(key);
        if let Some(sources) = &mut self.sources {
            sources.remove(session.identity().requester.ip());
        }
        session
    }

    /// Returns the session of a key; `None`: the slot is free.
    #[must_use]
    pub fn get(&self, key: usize) -> Option<&Session<S>> {
        self.sessions.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut Session<S>> {
        self.sessions.get_mut(key)
    }

    /// Returns the sessions from a key on, with their keys.
    pub fn iter_from(&self, first: usize) -> impl Iterator<Item = (usize, &Session<S>)> {
        (first..self.size).filter_map(|key| Some((key, self.sessions.get(key)?)))
    }

    /// Frees all slots, at the end of the relay.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Session<S>> {
        self.sessions.drain()
    }

    /// Returns the per-source limit if the requester's source has reached it.
    #[must_use]
    pub fn source_limit_reached(&self, requester: IpAddr) -> Option<usize> {
        self.sources.as_ref()?.limit_reached(requester)
    }

    /// Returns whether half of the slots are taken once the next session has its own. From then on, the
    /// search for a loop is worth a call per session.
    #[must_use]
    pub fn watches_for_loops(&self) -> bool {
        2 * (self.len() + 1) >= self.size
    }

    /// Returns whether the requester's address is the relay's end of a connection to a target.
    #[must_use]
    pub fn is_own_end(&self, requester: SocketAddr) -> bool {
        self.own.contains(requester)
    }

    /// Returns whether a session has a connection from this end to this target. The search covers every
    /// slot, so the caller checks first that the requester's address is such an end, and asked for the target.
    #[must_use]
    pub fn has_connection(&self, end: SocketAddr, target: SocketAddr) -> bool {
        self.sessions
            .iter()
            .any(|(_, session)| session.own_end() == Some(end) && session.identity().target == target.into())
    }

    /// Checks that the table of own ends matches the sessions.
    ///
    /// # Panics
    /// The table does not match.
    pub(crate) fn check(&self) {
        let ends = self.sessions.iter().filter_map(|(_, session)| session.own_end());
        let known = ends.clone().filter(|&end| self.own.contains(end)).count();
        assert_eq!((known, ends.count()), (self.own.len(), self.own.len()), "each own end has one session");
    }
}

impl<S> Index<usize> for Slots<S> {
    type Output = Session<S>;

    fn index(&self, key: usize) -> &Session<S> {
        &self.sessions[key]
    }
}

impl<S> IndexMut<usize> for Slots<S> {
    fn index_mut(&mut self, key: usize) -> &mut Session<S> {
        &mut self.sessions[key]
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Instant;

    use mio::net::TcpStream;

    use super::*;
    use crate::session::ended::{Identity, Serial};

    #[test]
    fn a_removed_session_counts_for_no_source_and_has_no_own_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = listener.local_addr().unwrap();
        let stream = || TcpStream::connect(target).unwrap();
        let requester: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let end: SocketAddr = "192.0.2.2:5000".parse().unwrap();
        let identity = Identity { serial: Serial::MIN, requester, target: target.into() };
        let session = Session::new(identity, stream(), Some(stream()), Instant::now());

        let mut slots = Slots::new(2, Some(1));
        let key = slots.insert(session);
        slots.note_own_end(key, end);
        assert_eq!(slots.source_limit_reached(requester.ip()), Some(1));
        assert!(slots.is_own_end(end));
        slots.remove(key);
        assert_eq!(slots.source_limit_reached(requester.ip()), None);
        assert!(!slots.is_own_end(end));
    }

    #[test]
    fn an_end_that_two_connections_share_belongs_to_the_first_and_follows_its_session() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let [first, second, requester]: [SocketAddr; 3] =
            ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:4000"].map(|address| address.parse().unwrap());
        let [end, other_end] = [5000, 5001].map(|port| SocketAddr::from(([192, 0, 2, 9], port)));
        let mut slots = Slots::new(2, None);
        let [one, two] = [first, second].map(|target| {
            let identity = Identity { serial: Serial::MIN, requester, target: target.into() };
            let key = slots.insert(Session::new(identity, stream(), Some(stream()), Instant::now()));
            slots.note_own_end(key, end);
            key
        });
        slots.check();
        assert!(slots.has_connection(end, first) && !slots.has_connection(end, second));
        drop(slots.remove(two));
        assert!(slots.is_own_end(end));

        // The session goes on to another target.
        slots.forget_own_end(one);
        assert!(!slots.is_own_end(end));
        slots.note_own_end(one, other_end);
        assert!(slots.is_own_end(other_end) && slots.has_connection(other_end, first));
        slots.check();
        drop(slots.remove(one));
        assert!(!slots.is_own_end(other_end));
    }
}

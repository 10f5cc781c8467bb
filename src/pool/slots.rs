//! The slots of the pool: sessions by key, and how many each source has.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::session::Session;
use crate::session::stream::Stream;

/// A fixed number of slots.
#[derive(Debug)]
pub struct Slots<S> {
    sessions: Slab<Session<S>>,
    size: usize,
    /// Sessions from each address, where `--max-per-source` counts them.
    sources: HashMap<IpAddr, usize>,
    max_per_source: Option<usize>,
}

impl<S: Stream> Slots<S> {
    pub(crate) fn new(size: usize, max_per_source: Option<usize>) -> Self {
        Self { sessions: Slab::with_capacity(size), size, sources: HashMap::new(), max_per_source }
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
        if self.max_per_source.is_some() {
            *self.sources.entry(session.identity().requester.ip().to_canonical()).or_default() += 1;
        }
        self.sessions.insert(session)
    }

    /// Frees a slot.
    pub(crate) fn remove(&mut self, key: usize) -> Session<S> {
        let session = self.sessions.remove(key);
        let source = session.identity().requester.ip().to_canonical();
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
        session
    }

    /// Returns the session of a key.
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

    /// Frees all slots.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Session<S>> {
        self.sources.clear();
        self.sessions.drain()
    }

    /// Returns the per-source limit if the requester's address has reached it.
    #[must_use]
    pub fn source_limit_reached(&self, requester: SocketAddr) -> Option<usize> {
        let count = self.sources.get(&requester.ip().to_canonical())?;
        self.max_per_source.filter(|max| count >= max)
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

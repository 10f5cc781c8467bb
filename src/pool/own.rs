//! The relay's ends of its own connections to the target, to recognise one that comes back.
//!
//! A target that leads back to the relay, by address translation say, makes each session the
//! requester of the next. A requester that comes from one of these ends, and whose destination is
//! the target, is such a connection: two ends are one connection, which exists once in a kernel.
//! So no other requester is taken for one. Where the second end can't be seen, because another
//! machine translates addresses or another relay is in the loop, the loop ends by itself: it fills
//! the pool, the last connection is reset, and the reset travels back through all of its sessions.

use std::collections::HashSet;
use std::net::SocketAddr;

/// The ends, by address and port, of the sessions that a loop would be made of.
#[derive(Debug)]
pub(crate) struct OwnEnds {
    /// It has room for twice the sessions of the pool: a table that is at most half full reuses its
    /// deleted entries and never allocates.
    ends: HashSet<SocketAddr>,
    /// The end of each session in `ends`, by the session's key.
    by_key: Vec<Option<SocketAddr>>,
}

impl OwnEnds {
    /// Returns a table for so many sessions.
    pub(crate) fn new(sessions: usize) -> Self {
        Self { ends: HashSet::with_capacity(2 * sessions), by_key: Vec::with_capacity(sessions) }
    }

    /// Returns whether a requester comes from one of these ends.
    pub(crate) fn contains(&self, requester: SocketAddr) -> bool {
        self.ends.contains(&requester)
    }

    /// Adds the end of a session.
    pub(crate) fn add(&mut self, key: usize, end: SocketAddr) {
        if self.by_key.len() <= key {
            self.by_key.resize(key + 1, None);
        }
        self.by_key[key] = Some(end);
        self.ends.insert(end);
    }

    /// Removes the end of a session, if it has one here.
    pub(crate) fn remove(&mut self, key: usize) {
        if let Some(end) = self.by_key.get_mut(key).and_then(Option::take) {
            self.ends.remove(&end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_end_is_known_by_address_and_port_for_as_long_as_its_session_lasts() {
        let mut own = OwnEnds::new(4);
        own.add(2, at("192.0.2.1:4000"));
        assert!(own.contains(at("192.0.2.1:4000")));
        assert!(!own.contains(at("192.0.2.2:4000")));
        assert!(!own.contains(at("192.0.2.1:4001")));
        own.remove(1);
        own.remove(3);
        assert!(own.contains(at("192.0.2.1:4000")));
        own.remove(2);
        assert!(!own.contains(at("192.0.2.1:4000")));
    }

    #[test]
    fn however_many_sessions_come_and_go_the_tables_do_not_grow() {
        const SESSIONS: usize = 100;
        let mut own = OwnEnds::new(SESSIONS);
        let capacity = (own.ends.capacity(), own.by_key.capacity());
        for port in 0..u16::MAX {
            let key = usize::from(port) % SESSIONS;
            own.remove(key);
            own.add(key, SocketAddr::from(([192, 0, 2, 1], port)));
        }
        assert_eq!(own.ends.len(), SESSIONS);
        // Tombstones lower the capacity, and a table that grows raises it.
        assert!(own.ends.capacity() <= capacity.0 && own.by_key.capacity() == capacity.1);
    }
}

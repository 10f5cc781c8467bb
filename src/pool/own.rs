//! The relay's ends of its own connections to the target, to recognise one that comes back.
//!
//! A target that leads back to the relay, by address translation say, makes each session the
//! requester of the next. A requester that comes from one of these ends, and whose destination is
//! the target, is such a connection: two ends are one connection, which exists once in a kernel.
//! So no other requester is taken for one. Where the second end can't be seen, because another
//! machine translates addresses or another relay is in the loop, the loop ends by itself: it fills
//! the pool, the last connection is reset, and the reset travels back through all of its sessions.
//!
//! With `--source requester`, an end has the requester's address, and the kernel chooses its port without
//! knowing of the requester's own. A connection of the requester's from that very port that was taken on its
//! way to the target, untranslated, looks like the end. So only one whose address this host has translated
//! counts then: in its connection tracking, no two connections have the same ends. Other loops end by themselves.

use std::collections::HashSet;
use std::net::SocketAddr;

/// The ends, by address and port, of the sessions that a loop would be made of.
#[derive(Debug)]
pub(crate) struct OwnEnds {
    /// It has room for twice the sessions of the pool: a table that is at most half full reuses its
    /// deleted entries and never allocates.
    ends: HashSet<SocketAddr>,
}

impl OwnEnds {
    /// Returns a table for `sessions` sessions.
    pub(crate) fn new(sessions: usize) -> Self {
        Self { ends: HashSet::with_capacity(2 * sessions) }
    }

    /// Returns whether a requester comes from one of these ends.
    pub(crate) fn contains(&self, requester: SocketAddr) -> bool {
        self.ends.contains(&requester)
    }

    /// Adds the end of a session that connects. Returns false if it is another session's already.
    pub(crate) fn add(&mut self, end: SocketAddr) -> bool {
        self.ends.insert(end)
    }

    /// Returns the number of ends.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Removes the end of a session that is gone, or goes on to another target.
    pub(crate) fn remove(&mut self, end: SocketAddr) {
        self.ends.remove(&end);
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
        own.add(at("192.0.2.1:4000"));
        assert!(own.contains(at("192.0.2.1:4000")));
        assert!(!own.contains(at("192.0.2.2:4000")));
        assert!(!own.contains(at("192.0.2.1:4001")));
        own.remove(at("192.0.2.1:4001"));
        assert!(own.contains(at("192.0.2.1:4000")));
        own.remove(at("192.0.2.1:4000"));
        assert!(!own.contains(at("192.0.2.1:4000")));
    }

    #[test]
    fn however_many_sessions_come_and_go_the_table_does_not_grow() {
        const SESSIONS: u16 = 100;
        let mut own = OwnEnds::new(SESSIONS.into());
        let capacity = own.ends.capacity();
        let end = |port| SocketAddr::from(([192, 0, 2, 1], port));
        for port in 0..u16::MAX {
            own.add(end(port));
            if let Some(oldest) = port.checked_sub(SESSIONS - 1) {
                own.remove(end(oldest));
            }
        }
        assert_eq!(own.ends.len(), usize::from(SESSIONS) - 1);
        // Tombstones lower the capacity, and a table that grows raises it.
        assert!(own.ends.capacity() <= capacity, "{}", own.ends.capacity());
    }
}

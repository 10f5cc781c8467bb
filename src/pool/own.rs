//! The relay's ends of its own connections to the target, to recognise one that comes back.
//!
//! If a target leads back to the relay, for example by address translation, each session is the requester
//! of the next. A requester is the relay's own connection if its address is one of these ends and its
//! destination is the target. Two ends identify one connection, which exists once in a kernel, so no other
//! requester is mistaken for it. The relay cannot see the second end if another machine translates addresses
//! or another relay is in the loop. Such a loop ends by itself: it fills the pool, the last connection is
//! reset, and the reset travels back through all of its sessions.
//!
//! With `--source requester`, an end has the requester's address, and the kernel chooses its port without
//! knowing the requester's own ports. The requester may connect to the target from that very port. If the relay
//! intercepts that connection untranslated, it looks like the end. So only a connection that this host has
//! translated counts then, because no two connections in its connection tracking have the same ends. Other loops
//! end by themselves.

use std::collections::HashSet;
use std::net::SocketAddr;

/// The ends, by address and port, of the sessions of which a loop would consist.
#[derive(Debug)]
pub(crate) struct OwnEnds {
    /// The table comes with the first end, because few relays ever need it. It has room for twice the sessions of
    /// the pool, because a table that is at most half full reuses its deleted entries and never allocates.
    ends: Option<HashSet<SocketAddr>>,
    sessions: usize,
}

impl OwnEnds {
    /// Returns a table for `sessions` sessions.
    pub(crate) fn new(sessions: usize) -> Self {
        Self { ends: None, sessions }
    }

    /// Returns whether a requester's address is one of these ends.
    pub(crate) fn contains(&self, requester: SocketAddr) -> bool {
        self.ends.as_ref().is_some_and(|ends| ends.contains(&requester))
    }

    /// Adds the end of a session that connects. Returns false if the end is already another session's, or if
    /// there is no memory for the table. A loop then ends by itself.
    pub(crate) fn add(&mut self, end: SocketAddr) -> bool {
        if self.ends.is_none() {
            let mut ends = HashSet::new();
            self.ends = ends.try_reserve(2 * self.sessions).is_ok().then_some(ends);
        }
        self.ends.as_mut().is_some_and(|ends| ends.insert(end))
    }

    /// Returns the number of ends.
    pub(crate) fn len(&self) -> usize {
        self.ends.as_ref().map_or(0, HashSet::len)
    }

    /// Removes the end of a session that is gone, or goes on to another target.
    pub(crate) fn remove(&mut self, end: SocketAddr) {
        if let Some(ends) = &mut self.ends {
            ends.remove(&end);
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
    fn an_end_is_recognised_by_address_and_port_until_it_is_removed() {
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
    fn without_memory_for_the_table_no_end_is_added() {
        let mut own = OwnEnds::new(usize::MAX / 4);
        assert!(!own.add(at("192.0.2.1:4000")));
        assert!(!own.contains(at("192.0.2.1:4000")));
        assert_eq!(own.len(), 0);
    }

    #[test]
    fn however_many_sessions_come_and_go_the_table_does_not_grow() {
        const SESSIONS: u16 = 100;
        let mut own = OwnEnds::new(SESSIONS.into());
        let capacity = |own: &OwnEnds| own.ends.as_ref().unwrap().capacity();
        own.add(at("192.0.2.2:1"));
        own.remove(at("192.0.2.2:1"));
        let room = capacity(&own);
        let end = |port| SocketAddr::from(([192, 0, 2, 1], port));
        for port in 0..u16::MAX {
            own.add(end(port));
            if let Some(oldest) = port.checked_sub(SESSIONS - 1) {
                own.remove(end(oldest));
            }
        }
        assert_eq!(own.len(), usize::from(SESSIONS) - 1);
        // Tombstones lower the capacity, and a table that grows raises it.
        assert!(capacity(&own) <= room, "{}", capacity(&own));
    }
}

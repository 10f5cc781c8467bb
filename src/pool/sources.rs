//! The number of sessions from each source, for `--max-per-source`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::limits::SOURCE_PREFIX_BITS;

/// The sessions of each source: one IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug)]
pub(crate) struct Sources {
    /// At least 1 for each source in it. The table has room for twice the sessions of the pool, because a
    /// table that is at most half full reuses its deleted entries and never allocates.
    counts: HashMap<IpAddr, usize>,
    max: usize,
}

impl Sources {
    /// Returns a table for `sessions` sessions, of which one source may have `max`.
    pub(crate) fn new(sessions: usize, max: usize) -> Self {
        Self { counts: HashMap::with_capacity(2 * sessions), max }
    }

    /// Returns the limit if this requester's source has reached it.
    pub(crate) fn limit_reached(&self, requester: IpAddr) -> Option<usize> {
        let count = self.counts.get(&source(requester)).copied().unwrap_or(0);
        (count >= self.max).then_some(self.max)
    }

    /// Counts a session that begins.
    pub(crate) fn add(&mut self, requester: IpAddr) {
        *self.counts.entry(source(requester)).or_default() += 1;
    }

    /// Removes a session that has ended from the count.
    pub(crate) fn remove(&mut self, requester: IpAddr) {
        let source = source(requester);
        let left = self.counts.get(&source).map_or(0, |count| count - 1);
        if left == 0 {
            self.counts.remove(&source);
        } else {
            self.counts.insert(source, left);
        }
    }
}

/// Returns the source that an address belongs to. An IPv4-mapped address counts as IPv4.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (u128::BITS - SOURCE_PREFIX_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_source_is_a_64_and_an_ipv4_source_is_an_address() {
        let mut sources = Sources::new(10, 1);
        sources.add(ip("2001:db8:0:1::1"));
        sources.add(ip("192.0.2.1"));
        let cases = [
            ("2001:db8:0:1::1", true),
            ("2001:db8:0:1:ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:2::1", false),
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("::ffff:192.0.2.2", false),
        ];
        for (requester, reached) in cases {
            assert_eq!(sources.limit_reached(ip(requester)).is_some(), reached, "{requester}");
        }
    }

    #[test]
    fn a_source_at_its_limit_may_open_another_session_once_one_has_ended() {
        let mut sources = Sources::new(10, 2);
        let requester = ip("192.0.2.1");
        sources.add(requester);
        assert_eq!(sources.limit_reached(requester), None);
        sources.add(requester);
        assert_eq!(sources.limit_reached(requester), Some(2));
        sources.remove(requester);
        assert_eq!(sources.limit_reached(requester), None);
        sources.remove(requester);
        assert!(sources.counts.is_empty());
    }

    #[test]
    fn however_many_sources_come_and_go_the_table_does_not_grow() {
        const SESSIONS: u32 = 100;
        let mut sources = Sources::new(SESSIONS as usize, 1);
        let capacity = sources.counts.capacity();
        let requester = |number: u32| IpAddr::V4(number.into());
        for number in 0..100 * SESSIONS {
            sources.add(requester(number));
            if let Some(oldest) = number.checked_sub(SESSIONS - 1) {
                sources.remove(requester(oldest));
            }
        }
        assert_eq!(sources.counts.len(), SESSIONS as usize - 1);
        // Tombstones lower the capacity, and a table that grows raises it.
        assert!(sources.counts.capacity() <= capacity, "{}", sources.counts.capacity());
    }
}

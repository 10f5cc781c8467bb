//! One lookup of one name: both families at once, in one search domain after another.

use std::net::IpAddr;
use std::time::Instant;

use crate::limits::OTHER_FAMILY_WAIT;
use crate::resolve::conf::Conf;
use crate::resolve::exchange::Exchange;
use crate::resolve::name::Name;
use crate::resolve::wire::Family;
use crate::resolve::{Action, Key, Why};

/// A lookup that is under way.
#[derive(Debug)]
pub(super) struct Lookup {
    /// The candidate that is asked for now.
    name: Name,
    /// The other candidates, the last one first.
    later: Vec<Name>,
    first_server: usize,
    exchanges: [Exchange; 2],
    /// The reason to report if no candidate has an address: `NoAddress` once a candidate is known to exist.
    nothing: Why,
    /// The end of the wait for the other family. None until one family has addresses.
    other_family_until: Option<Instant>,
}

/// The result of a lookup with at least one address.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    /// The family whose servers failed, so that its old addresses are still the best known. None: both have answers.
    pub(super) failed: Option<Family>,
    /// The time to ask again.
    pub(super) until: Instant,
}

impl Lookup {
    pub(super) fn begin(name: &Name, conf: &Conf, first_server: usize) -> Self {
        let mut later = conf.candidates(name);
        later.reverse();
        let name = later.pop().unwrap_or_else(|| name.clone());
        let exchanges = both(first_server);
        Self { name, later, first_server, exchanges, nothing: Why::NoSuchName, other_family_until: None }
    }

    /// Begins the next try of the exchange at `index`. None: it needs none now.
    pub(super) fn open(
        &mut self,
        index: usize,
        conf: &Conf,
        (key, id): (Key, u16),
        now: Instant,
    ) -> Option<Action> {
        self.exchanges.get_mut(index)?.open(&self.name, conf, (key, id), now)
    }

    pub(super) fn waits_for(&self, key: Key) -> bool {
        self.exchanges.iter().filter_map(Exchange::waiting).any(|waiting| waiting.key == key)
    }

    pub(super) fn received(&mut self, conf: &Conf, key: Key, bytes: &[u8], now: Instant) {
        if let Some(exchange) = self.exchange(key) {
            exchange.received(conf, bytes, now);
            let has_found = matches!(exchange.finding(), Some(Ok(_)));
            if has_found && self.other_family_until.is_none() {
                self.other_family_until = Some(now + OTHER_FAMILY_WAIT);
            }
        }
    }

    pub(super) fn failed(&mut self, conf: &Conf, key: Key, why: Why) {
        if let Some(exchange) = self.exchange(key) {
            exchange.failed(conf, why);
        }
    }

    /// Fails the tries whose time is over.
    pub(super) fn expire(&mut self, conf: &Conf, now: Instant) {
        for exchange in &mut self.exchanges {
            if exchange.waiting().is_some_and(|waiting| waiting.until <= now) {
                exchange.failed(conf, Why::TimedOut);
            }
        }
    }

    /// Returns when the next try times out or, if `nothing_known`, the wait for the other family ends.
    pub(super) fn wakes_at(&self, nothing_known: bool) -> Option<Instant> {
        let tries = self.exchanges.iter().filter_map(Exchange::waiting).map(|waiting| waiting.until);
        tries.chain(self.other_family_until.filter(|_| nothing_known)).min()
    }

    /// Returns the addresses of one family. None: there are none yet, or the wait for the other goes on.
    pub(super) fn found_early(&self, now: Instant) -> Option<Vec<IpAddr>> {
        self.other_family_until.filter(|until| *until <= now).map(|_| self.found())
    }

    /// Returns the result once both families are done: addresses, or the reason for the failure. If the candidate
    /// has no address although servers answered, goes on to the next candidate instead, and returns None.
    pub(super) fn result(&mut self) -> Option<Result<Found, Why>> {
        let [Some(one), Some(other)] = self.exchanges.each_ref().map(Exchange::finding) else { return None };
        let failed = self.exchanges.iter().find_map(|exchange| match exchange.finding()? {
            Ok(_) | Err(Why::NoSuchName | Why::NoAddress) => None,
            Err(why) => Some((exchange.family, *why)),
        });
        if let Some(until) = [one, other].into_iter().flatten().map(|(_, until)| *until).min() {
            let failed = failed.map(|(family, _)| family);
            return Some(Ok(Found { addresses: self.found(), failed, until }));
        }
        // The candidate may well exist, so no later one may take its place.
        if let Some((_, why)) = failed {
            return Some(Err(why));
        }
        if [one, other].contains(&&Err(Why::NoAddress)) {
            self.nothing = Why::NoAddress;
        }
        let Some(name) = self.later.pop() else { return Some(Err(self.nothing)) };
        (self.name, self.exchanges) = (name, both(self.first_server));
        None
    }

    fn found(&self) -> Vec<IpAddr> {
        let findings = self.exchanges.iter().filter_map(Exchange::finding).flatten();
        findings.flat_map(|(addresses, _)| addresses).copied().collect()
    }

    fn exchange(&mut self, key: Key) -> Option<&mut Exchange> {
        let waits = |exchange: &Exchange| exchange.waiting().is_some_and(|waiting| waiting.key == key);
        self.exchanges.iter_mut().find(|exchange| waits(exchange))
    }
}

/// Returns an exchange for each family, IPv6 first, as the default policy table of RFC 6724 prefers it.
fn both(first_server: usize) -> [Exchange; 2] {
    [Family::V6, Family::V4].map(|family| Exchange::new(family, first_server))
}

//! One name, its known addresses, and when to look it up again.

use std::net::IpAddr;
use std::time::Instant;

use crate::limits::{LOOKUP_INTERVAL, LOOKUP_RETRY_MAX, LOOKUP_RETRY_MIN, TTL_MIN};
use crate::resolve::conf::Conf;
use crate::resolve::lookup::{Found, Lookup};
use crate::resolve::name::Name;
use crate::resolve::wire::Family;
use crate::resolve::{Outcome, Why, hosts};

/// A name that is resolved for as long as sessions ask for it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) name: Name,
    /// Its addresses in the hosts file. If there are any, no server is asked.
    from_hosts: Vec<IpAddr>,
    /// Its addresses, IPv6 and IPv4 in turns (RFC 8305), each in the order of its answer. So if one family cannot be
    /// reached, the second address is of the other. They stay in use until there are others.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) phase: Phase,
    /// The earliest time at which a session that asks begins a lookup. None until the first
    /// lookup has ended.
    due: Option<Instant>,
    /// The beginning of the last lookup. None: there was none.
    begun: Option<Instant>,
    /// Failed lookups since the last success.
    failures: u32,
    /// The failure last reported, so that it is reported once. None: there was none since the last success.
    failure_reported: Option<Why>,
    /// The time until which sessions wait for a first address. None: no session has had to wait.
    wanted_until: Option<Instant>,
    /// Lookups that have found addresses, and lookups that have failed, since the start.
    pub(super) ended: [u64; 2],
    /// The result to report next. None: there is none.
    pub(super) news: Option<Outcome>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    /// A lookup has begun, and must first look at the files.
    Files,
    Asking(Box<Lookup>),
}

impl Held {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            from_hosts: Vec::new(),
            addresses: Vec::new(),
            phase: Phase::Idle,
            due: None,
            begun: None,
            failures: 0,
            failure_reported: None,
            wanted_until: None,
            ended: [0; 2],
            news: None,
        }
    }

    /// Begins a lookup if one is due. If there are no addresses, the session that asks waits until `until`.
    pub(super) fn ask(&mut self, now: Instant, until: Instant) {
        if self.addresses.is_empty() {
            self.wanted_until = self.wanted_until.max(Some(until));
        }
        if matches!(self.phase, Phase::Idle) && self.due.is_none_or(|due| due <= now) {
            self.begin(now);
        }
    }

    /// Begins a lookup because the addresses cannot be reached, but not within [`LOOKUP_INTERVAL`] of the last one.
    pub(super) fn ask_now(&mut self, now: Instant) {
        let is_early = self.begun.is_some_and(|begun| now < begun + LOOKUP_INTERVAL);
        if matches!(self.phase, Phase::Idle) && !is_early {
            self.begin(now);
        }
    }

    /// Begins a lookup, and gives up one that is under way.
    pub(super) fn begin(&mut self, now: Instant) {
        self.phase = Phase::Files;
        self.begun = Some(now);
    }

    pub(super) fn read_hosts(&mut self, text: &str) {
        self.from_hosts = hosts::addresses(text, &self.name);
    }

    /// Goes on after a look at the files. Asks the servers if the hosts file has no address.
    pub(super) fn files_read(&mut self, conf: &Conf, first_server: usize, now: Instant) {
        if self.from_hosts.is_empty() {
            self.phase = Phase::Asking(Box::new(Lookup::begin(&self.name, conf, first_server)));
        } else {
            self.succeeded(now + TTL_MIN);
            self.serve(&self.from_hosts.clone());
        }
    }

    /// Takes over the results that the lookup has so far.
    pub(super) fn conclude(&mut self, now: Instant) {
        let Phase::Asking(lookup) = &mut self.phase else { return };
        match lookup.result() {
            None if self.addresses.is_empty() => {
                if let Some(early) = lookup.found_early(now) {
                    self.serve(&early);
                }
            }
            None => {}
            Some(Err(why)) => self.failed(why, now),
            Some(Ok(Found { mut addresses, failed, until })) => {
                addresses.extend(self.addresses.iter().filter(|address| Some(family(address)) == failed));
                self.succeeded(until);
                self.serve(&addresses);
            }
        }
    }

    /// Fails the tries whose time is over, or begins the lookup that sessions wait for.
    pub(super) fn expire(&mut self, conf: &Conf, now: Instant) {
        if let Phase::Asking(lookup) = &mut self.phase {
            lookup.expire(conf, now);
        } else if self.wakes_at().is_some_and(|at| at <= now) {
            self.begin(now);
        }
    }

    pub(super) fn wakes_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Asking(lookup) => lookup.wakes_at(self.addresses.is_empty()),
            Phase::Idle => self.wanted_at(),
            Phase::Files => None,
        }
    }

    /// Returns when to begin the next lookup for the sessions that wait. None: no session waits that long.
    fn wanted_at(&self) -> Option<Instant> {
        self.due.filter(|due| self.addresses.is_empty() && Some(*due) < self.wanted_until)
    }

    fn succeeded(&mut self, until: Instant) {
        (self.phase, self.due, self.failures) = (Phase::Idle, Some(until), 0);
        self.ended[0] += 1;
    }

    /// Puts these addresses into use. Reports them if they differ from the old ones by more than their order, or
    /// if a failure was reported since.
    fn serve(&mut self, addresses: &[IpAddr]) {
        let same = addresses.len() == self.addresses.len()
            && self.addresses.iter().all(|old| addresses.contains(old));
        let of = |kind| addresses.iter().filter(move |address| family(address) == kind);
        let (mut six, mut four) = (of(Family::V6), of(Family::V4));
        self.addresses.clear();
        while self.addresses.len() < addresses.len() {
            self.addresses.extend(six.next());
            self.addresses.extend(four.next());
        }
        if self.failure_reported.take().is_some() || !same {
            self.news = Some(Outcome::Resolved { addresses: self.addresses.clone() });
        }
    }

    fn failed(&mut self, why: Why, now: Instant) {
        let wait = LOOKUP_RETRY_MIN.saturating_mul(1 << self.failures.min(16)).min(LOOKUP_RETRY_MAX);
        (self.phase, self.due, self.failures) =
            (Phase::Idle, Some(now + wait), self.failures.saturating_add(1));
        self.ended[1] += 1;
        if self.failure_reported.replace(why) != Some(why) {
            self.news = Some(Outcome::Failed { why, kept: self.addresses.clone() });
        }
    }
}

fn family(address: &IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

//! A resolver of two names under arbitrary operations.
//!
//! An input is a list of operations of two bytes each: the kind, and its argument. The highest bit of
//! the first byte puts the resolver's actions off until after the next operation.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Rtype};
use domain::rdata::{A, Aaaa};
use tcprelay::internal::limits::{NAME_ADDRESSES_MAX, TTL_MAX};
use tcprelay::internal::resolve::{Action, Id, Key, Name, Outcome, Resolver, Transport, Version};

/// Kinds of operations.
const KINDS: u8 = 10;
/// More wake-ups than the longest lookups need together.
const WAKES: usize = 3_000;
const HOSTS: [&str; 3] = ["", "10.1.1.1 db\n::2 db", "10.1.1.2 db.example"];
const CONFS: [&str; 4] = [
    "",
    "nameserver 192.0.2.1\nsearch a.example b.example\noptions attempts:1",
    "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions rotate timeout:1",
    "nameserver 192.0.2.1\nnameserver ::1\nnameserver 192.0.2.3\nsearch x\noptions attempts:5 timeout:30",
];

struct Driver {
    resolver: Resolver,
    names: [Id; 2],
    /// The addresses of each name, from the reports.
    known: [Vec<IpAddr>; 2],
    now: Instant,
    hosts: (Version, usize),
    conf: (Version, usize),
    open: Vec<(Key, Transport, Vec<u8>)>,
    serial: u64,
}

/// Checks one input.
///
/// # Panics
/// The resolver breaks a promise.
pub fn check(input: &[u8]) {
    let mut resolver = Resolver::new(|_| None);
    let names = ["db", "db.example."].map(|name| resolver.add(Name::parse(name).unwrap()));
    let (known, now) = (Default::default(), Instant::now());
    let (hosts, conf) = ((0, 0), (0, 0));
    let mut driver = Driver { resolver, names, known, now, hosts, conf, open: Vec::new(), serial: 0 };
    for (place, operation) in input.chunks_exact(2).enumerate() {
        driver.operate(operation[0] & 0x7f, operation[1], &input[2 * place..]);
        driver.take_reports();
        if operation[0] & 0x80 == 0 {
            driver.act();
        }
    }
    driver.act();
    driver.fall_silent();
    driver.ask_again();
}

impl Driver {
    fn operate(&mut self, kind: u8, with: u8, rest: &[u8]) {
        let (one, now) = (self.names[usize::from(with) % 2], self.now);
        let place = usize::from(with) % self.open.len().max(1);
        let socket = self.open.get(place).cloned();
        match (kind % KINDS, socket) {
            (0, _) => self.ask(usize::from(with) % 2, Duration::from_secs(with.into())),
            (1, _) => self.resolver.ask_now(one, now),
            (2, _) => self.resolver.ask_all(now),
            (3, _) => self.now += Duration::from_millis(u64::from(with) * 50),
            (4, _) => self.wake(),
            (5, _) => {
                self.hosts = (self.hosts.0 + 1, usize::from(with) % HOSTS.len());
                self.conf = (self.conf.0 + 1, usize::from(with) / HOSTS.len() % CONFS.len());
            }
            (6, Some((key, ..))) => self.resolver.failed(key, ErrorKind::ConnectionRefused, now),
            // Bytes of the input itself, as a long stream or as nonsense.
            (7, Some((key, ..))) => self.resolver.received(key, rest, now),
            (_, Some((key, transport, query))) => {
                let message = answer(&query, with, kind);
                let length = u16::try_from(message.len()).unwrap().to_be_bytes();
                if transport == Transport::Tcp {
                    self.resolver.received(key, &length, now);
                }
                self.resolver.received(key, &message, now);
            }
            (_, None) => {}
        }
    }

    fn ask(&mut self, which: usize, wait: Duration) {
        let addresses = self.resolver.addresses(self.names[which], self.now, self.now + wait);
        let fours = addresses.iter().filter(|address| address.is_ipv4()).count();
        assert!(fours <= NAME_ADDRESSES_MAX && addresses.len() - fours <= NAME_ADDRESSES_MAX);
        let (mut ours, mut reported) = (addresses.to_vec(), self.known[which].clone());
        ours.sort_unstable();
        reported.sort_unstable();
        assert_eq!(ours, reported, "the resolver serves addresses that it has not reported");
    }

    fn wake(&mut self) {
        let Some(at) = self.resolver.wakes_at() else { return };
        self.now = self.now.max(at);
        self.resolver.expire(self.now);
        self.act();
        assert!(self.resolver.wakes_at().is_none_or(|next| next > self.now), "the resolver would spin");
    }

    fn act(&mut self) {
        for random in 0.. {
            assert!(random < 100, "the actions have no end");
            match self.resolver.next_action(random, self.now) {
                Some(Action::ReadFiles { hosts, conf }) => {
                    let hosts = (hosts != Some(self.hosts.0)).then_some((self.hosts.0, HOSTS[self.hosts.1]));
                    let conf = (conf != Some(self.conf.0)).then_some((self.conf.0, CONFS[self.conf.1]));
                    self.resolver.files_read(hosts, conf, self.now);
                }
                Some(Action::Open { key, transport, bytes, .. }) => {
                    assert!(key.slot < 4 && key.serial > self.serial, "{key:?}");
                    assert!(self.open.iter().all(|(open, ..)| open.slot != key.slot), "{key:?} is in use");
                    self.serial = key.serial;
                    let skip = if transport == Transport::Tcp { 2 } else { 0 };
                    self.open.push((key, transport, bytes[skip..].to_vec()));
                }
                Some(Action::Close(key)) => {
                    let place = self.open.iter().position(|(open, ..)| *open == key);
                    self.open.remove(place.unwrap());
                }
                None => break,
            }
        }
        self.take_reports();
    }

    fn take_reports(&mut self) {
        while let Some(report) = self.resolver.next_report() {
            let name = self.names.iter().position(|name| *name == report.id);
            let known = &mut self.known[name.expect("the report is about a known name")];
            match report.outcome {
                Outcome::Resolved { addresses } => *known = addresses,
                Outcome::Failed { kept, .. } => {
                    assert!(known.iter().all(|address| kept.contains(address)), "{known:?} were not kept");
                }
            }
        }
    }

    /// Checks that without questions the resolver comes to rest, with all sockets closed.
    fn fall_silent(&mut self) {
        for _ in 0..WAKES {
            if self.resolver.wakes_at().is_none() {
                assert!(self.open.is_empty(), "{:?} are open", self.open);
                return;
            }
            self.wake();
        }
        panic!("the resolver never comes to rest");
    }

    /// Checks that at rest, once every TTL and back-off is over, a question begins a lookup.
    fn ask_again(&mut self) {
        self.now += TTL_MAX;
        for name in self.names {
            self.resolver.addresses(name, self.now, self.now);
            let action = self.resolver.next_action(0, self.now);
            assert!(matches!(action, Some(Action::ReadFiles { .. })), "{action:?}");
            self.act();
        }
    }
}

/// Writes an answer. `with` chooses its code, its truncation and, with `salt`, its addresses.
fn answer(query: &[u8], with: u8, salt: u8) -> Vec<u8> {
    let query = Message::from_octets(query).unwrap();
    let rcode =
        [Rcode::NOERROR, Rcode::NOERROR, Rcode::FORMERR, Rcode::SERVFAIL, Rcode::NXDOMAIN, Rcode::REFUSED];
    let rcode = rcode[usize::from(with) % rcode.len()];
    let mut answer = MessageBuilder::new_vec().start_answer(&query, rcode).unwrap();
    answer.header_mut().set_tc(with & 0xc0 == 0xc0);
    let question = query.sole_question().unwrap();
    for last in 0..with / 16 {
        let ttl = u32::from(with) * 10;
        if question.qtype() == Rtype::A {
            answer.push((question.qname(), ttl, A::from_octets(10, 0, salt, last))).unwrap();
        } else {
            let address = [0xfd00, 0, 0, 0, 0, 0, salt.into(), last.into()].into();
            answer.push((question.qname(), ttl, Aaaa::new(address))).unwrap();
        }
    }
    answer.finish()
}

//! The resolver under a driver without sockets, whose clock the test sets.

mod holding;
mod tries;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Rtype};
use domain::rdata::{A, Aaaa};

use super::*;

/// The wait of a session that never gives up: longer than any test takes.
const LONG: Duration = Duration::from_secs(1_000_000);
const SECOND: Duration = Duration::from_secs(1);
const TWO_SERVERS: &str = "nameserver 192.0.2.1\nnameserver 192.0.2.2\n";

/// Drives a resolver of one name.
struct Driver {
    resolver: Resolver,
    id: Id,
    now: Instant,
    hosts: (Version, &'static str),
    conf: (Version, &'static str),
    /// The sockets that are open, in the order of their opening.
    sockets: Vec<Socket>,
    /// The number of sockets opened so far.
    opened: usize,
    /// The number of looks at the files.
    looked: usize,
    /// The number of files read.
    read: usize,
}

#[derive(Clone)]
struct Socket {
    key: Key,
    server: SocketAddr,
    transport: Transport,
    /// The query, without the length that precedes it in a stream.
    query: Vec<u8>,
}

impl Driver {
    fn new(name: &str, conf: &'static str) -> Self {
        let mut resolver = Resolver::new(|_| None);
        let id = resolver.add(Name::parse(name).unwrap());
        Self {
            resolver,
            id,
            now: Instant::now(),
            hosts: (0, ""),
            conf: (1, conf),
            sockets: Vec::new(),
            opened: 0,
            looked: 0,
            read: 0,
        }
    }

    /// Asks for the name as a session does, and returns the addresses that it gets.
    fn ask(&mut self) -> Vec<String> {
        let addresses = self.resolver.addresses(self.id, self.now, self.now + LONG);
        let addresses = addresses.iter().map(IpAddr::to_string).collect();
        self.act();
        addresses
    }

    /// Performs the resolver's actions until there are none.
    fn act(&mut self) {
        // The ids begin at a value that no query has by chance.
        let mut random = 0xa000;
        while let Some(action) = self.resolver.next_action(random, self.now) {
            random += 1;
            match action {
                Action::ReadFiles { hosts, conf } => {
                    let hosts = Some(self.hosts).filter(|new| Some(new.0) != hosts);
                    let conf = Some(self.conf).filter(|new| Some(new.0) != conf);
                    self.looked += 1;
                    self.read += usize::from(hosts.is_some()) + usize::from(conf.is_some());
                    self.resolver.files_read(hosts, conf, self.now);
                }
                Action::Open { key, server, transport, bytes } => {
                    assert!(self.sockets.iter().all(|open| open.key.slot != key.slot), "{key:?} is in use");
                    let query = match transport {
                        Transport::Udp => bytes,
                        Transport::Tcp => {
                            assert_eq!(usize::from(bytes[0]) * 256 + usize::from(bytes[1]), bytes.len() - 2);
                            bytes[2..].into()
                        }
                    };
                    self.sockets.push(Socket { key, server, transport, query });
                    self.opened += 1;
                }
                Action::Close(key) => {
                    let open = self.sockets.iter().position(|socket| socket.key == key);
                    self.sockets.remove(open.unwrap());
                }
            }
        }
    }

    /// Returns the open socket whose query asks for this type.
    fn socket(&self, kind: Rtype) -> Socket {
        let asks = |socket: &&Socket| Message::from_octets(&socket.query[..]).unwrap().qtype() == Some(kind);
        self.sockets.iter().find(asks).unwrap().clone()
    }

    fn receive(&mut self, socket: &Socket, bytes: &[u8]) {
        self.resolver.received(socket.key, bytes, self.now);
        self.act();
    }

    fn fail(&mut self, socket: &Socket) {
        self.resolver.failed(socket.key, io::ErrorKind::ConnectionRefused, self.now);
        self.act();
    }

    /// Answers all open queries, those of both families, with these addresses.
    fn answer(&mut self, addresses: &[&str], ttl: u32) {
        for socket in self.sockets.clone() {
            self.receive(&socket, &answer(&socket.query, Rcode::NOERROR, addresses, ttl));
        }
    }

    /// Answers all open queries, those of both families, with this response code.
    fn refuse(&mut self, rcode: Rcode) {
        for socket in self.sockets.clone() {
            self.receive(&socket, &answer(&socket.query, rcode, &[], 0));
        }
    }

    /// Lets time pass, without a wake-up.
    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Sleeps until the resolver wants to be woken, and returns how long.
    fn sleep(&mut self) -> Duration {
        let at = self.resolver.wakes_at().unwrap();
        let slept = at.saturating_duration_since(self.now);
        self.now += slept;
        self.resolver.expire(self.now);
        self.act();
        assert!(self.resolver.wakes_at().is_none_or(|next| next > self.now), "the relay would spin");
        slept
    }

    fn reports(&mut self) -> Vec<Outcome> {
        std::iter::from_fn(|| self.resolver.next_report()).map(|report| report.outcome).collect()
    }

    /// Returns the server and the transport of each open query.
    fn asked(&self) -> Vec<(String, Transport)> {
        self.sockets.iter().map(|socket| (socket.server.ip().to_string(), socket.transport)).collect()
    }

    /// Returns the name that each open query asks for.
    fn questions(&self) -> Vec<String> {
        let name =
            |query: &[u8]| Message::from_octets(query).unwrap().sole_question().unwrap().qname().to_string();
        self.sockets.iter().map(|socket| name(&socket.query)).collect()
    }

    fn assert_idle(&self) {
        assert!(self.sockets.is_empty(), "{:?} are open", self.asked());
        assert_eq!(self.resolver.wakes_at(), None);
    }
}

/// Returns an answer with those of the addresses that are of the query's family.
pub(crate) fn answer(query: &[u8], rcode: Rcode, addresses: &[&str], ttl: u32) -> Vec<u8> {
    let query = Message::from_octets(query).unwrap();
    let mut answer = MessageBuilder::new_vec().start_answer(&query, rcode).unwrap();
    let question = query.sole_question().unwrap();
    for address in addresses {
        match address.parse().unwrap() {
            IpAddr::V4(four) if question.qtype() == Rtype::A => {
                answer.push((question.qname(), ttl, A::new(four))).unwrap();
            }
            IpAddr::V6(six) if question.qtype() == Rtype::AAAA => {
                answer.push((question.qname(), ttl, Aaaa::new(six))).unwrap();
            }
            _ => {}
        }
    }
    answer.finish()
}

fn resolved(addresses: &[&str]) -> Outcome {
    Outcome::Resolved { addresses: addresses.iter().map(|text| text.parse().unwrap()).collect() }
}

fn failed(why: Why, kept: &[&str]) -> Outcome {
    Outcome::Failed { why, kept: kept.iter().map(|text| text.parse().unwrap()).collect() }
}

//! The queries for one family of addresses: one try after another, until an answer counts.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::limits::{TTL_MAX, TTL_MIN};
use crate::resolve::conf::Conf;
use crate::resolve::name::Name;
use crate::resolve::wire::{self, Answer, Family};
use crate::resolve::{Action, Key, Transport, Why};

/// The tries to get one family of addresses of one name. Each has a socket of its own.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) family: Family,
    /// The index of the first try's server, which wraps around.
    first_server: usize,
    /// The number of failed tries.
    tries: usize,
    way: Way,
    state: State,
}

/// How the query of a try is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    UdpWithEdns,
    Udp,
    Tcp,
}

#[derive(Debug)]
enum State {
    /// The next try needs a socket.
    Ready,
    Waiting(Try),
    Done(Finding),
}

/// A query that waits for its answer until `until`.
#[derive(Debug)]
pub(super) struct Try {
    pub(super) key: Key,
    pub(super) until: Instant,
    query: Vec<u8>,
    /// The bytes received so far over TCP, less than one whole message.
    stream: Vec<u8>,
}

/// The result of all tries: at least one address, and the time to ask again; or the reason for the failure.
pub(super) type Finding = Result<(Vec<IpAddr>, Instant), Why>;

impl Exchange {
    pub(super) fn new(family: Family, first_server: usize) -> Self {
        Self { family, first_server, tries: 0, way: Way::UdpWithEdns, state: State::Ready }
    }

    /// Begins the next try. None: one is under way, or none is left.
    pub(super) fn open(
        &mut self,
        name: &Name,
        conf: &Conf,
        (key, id): (Key, u16),
        now: Instant,
    ) -> Option<Action> {
        let State::Ready = self.state else { return None };
        // If resolv.conf was read again since and allows fewer tries, this one is the last.
        let server =
            conf.server(self.first_server, self.tries).or_else(|| conf.server(self.first_server, 0))?;
        let query = wire::query(id, name, self.family, self.way == Way::UdpWithEdns);
        let (transport, bytes) = match self.way {
            Way::UdpWithEdns | Way::Udp => (Transport::Udp, query.clone()),
            Way::Tcp => (Transport::Tcp, prefixed(&query)),
        };
        self.state = State::Waiting(Try { key, until: now + conf.timeout, query, stream: Vec::new() });
        Some(Action::Open { key, server, transport, bytes })
    }

    /// Takes a datagram, or the next bytes of the TCP stream.
    pub(super) fn received(&mut self, conf: &Conf, bytes: &[u8], now: Instant) {
        let State::Waiting(waiting) = &mut self.state else { return };
        let answer = match self.way {
            Way::Tcp => waiting.take_from_stream(bytes),
            Way::UdpWithEdns | Way::Udp => wire::read(&waiting.query, bytes),
        };
        match answer {
            Answer::Foreign => {}
            Answer::Truncated if self.way != Way::Tcp => self.again(Way::Tcp),
            Answer::FormatError if self.way == Way::UdpWithEdns => self.again(Way::Udp),
            Answer::NoSuchName => self.state = State::Done(Err(Why::NoSuchName)),
            Answer::Addresses(found, _) if found.is_empty() => self.state = State::Done(Err(Why::NoAddress)),
            Answer::Addresses(found, ttl) => {
                let ttl = Duration::from_secs(ttl.into()).clamp(TTL_MIN, TTL_MAX);
                self.state = State::Done(Ok((found, now + ttl)));
            }
            Answer::Refused(rcode) => self.failed(conf, Why::Refused(rcode)),
            Answer::FormatError | Answer::Truncated | Answer::Malformed => self.failed(conf, Why::Malformed),
        }
    }

    /// Goes on to the next try, or gives up after the last one.
    pub(super) fn failed(&mut self, conf: &Conf, why: Why) {
        self.tries += 1;
        self.way = Way::UdpWithEdns;
        self.state = match conf.server(self.first_server, self.tries) {
            Some(_) => State::Ready,
            None => State::Done(Err(why)),
        };
    }

    /// Asks the same server in another way.
    fn again(&mut self, way: Way) {
        self.way = way;
        self.state = State::Ready;
    }

    pub(super) fn waiting(&self) -> Option<&Try> {
        match &self.state {
            State::Waiting(waiting) => Some(waiting),
            State::Ready | State::Done(_) => None,
        }
    }

    pub(super) fn finding(&self) -> Option<&Finding> {
        match &self.state {
            State::Done(finding) => Some(finding),
            State::Ready | State::Waiting(_) => None,
        }
    }
}

impl Try {
    /// Adds the next bytes of the stream, and reads the first message once it is whole. Only the server writes to
    /// the connection, so a message that does not answer the query is its fault, and fails the try.
    fn take_from_stream(&mut self, bytes: &[u8]) -> Answer {
        self.stream.extend_from_slice(bytes);
        let message = self.stream.split_first_chunk().and_then(|(length, rest)| {
            let length = u16::from_be_bytes(*length);
            rest.get(..length.into())
        });
        match message.map(|message| wire::read(&self.query, message)) {
            None => Answer::Foreign,
            Some(Answer::Foreign) => Answer::Malformed,
            Some(answer) => answer,
        }
    }
}

/// Returns a message as it is sent over TCP, preceded by its length.
fn prefixed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), message].concat()
}

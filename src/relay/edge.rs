//! The relay as its pool sees it: tokens, registration, messages and the first bytes.

use std::io;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::config::ProxyProtocol;
use crate::limits::STATUS_VISITS;
use crate::log::Sink;
use crate::log::message::Message;
use crate::pool::Host;
use crate::relay::target;
use crate::relay::target::health::{self, TargetHealth};
use crate::session::Side;
use crate::session::ended::{Ended, Identity};

// Tokens: these, and above them two for each session, by its key in the pool.
pub(super) const LISTENER: Token = Token(0);
pub(super) const CONTROL: Token = Token(1);
pub(super) const LOG: Token = Token(2);
pub(super) const STATUS_LISTENER: Token = Token(8);
const FIRST_VISIT: Token = Token(9);
const FIRST_SESSION: Token = Token(32);

const _: () = assert!(FIRST_VISIT.0 + STATUS_VISITS <= FIRST_SESSION.0);

/// The relay as its pool sees it.
pub(super) struct Edge<'a, S> {
    pub(super) registry: &'a Registry,
    pub(super) sink: &'a mut S,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    /// The targets, where a status tells of them.
    pub(super) targets: &'a mut [TargetHealth],
}

impl<S: Sink> Host<TcpStream> for Edge<'_, S> {
    fn watch(&mut self, key: usize, side: Side, stream: &mut TcpStream) -> io::Result<()> {
        self.registry.register(stream, token(key, side), interest())
    }

    fn connected(&mut self, session: Identity) {
        if !self.targets.is_empty() {
            health::note_connected(self.targets, session.target);
        }
        self.sink.message(&Message::Connected { session });
        self.sink.message(&Message::RelaysStarted { session });
    }

    fn relaying(&mut self, session: Identity) {
        self.sink.message(&Message::RequesterChannelActive { session });
        self.sink.message(&Message::TargetChannelActive { session });
    }

    fn preface(&mut self, identity: Identity, requester: &TcpStream) -> Vec<u8> {
        match self.proxy_protocol {
            Some(version) => target::proxy_header(version, requester, identity.requester),
            None => Vec::new(),
        }
    }

    fn ended(&mut self, ended: Ended) {
        if !self.targets.is_empty() {
            health::note_ended(self.targets, &ended);
        }
        self.sink.message(&ended.into());
    }
}

fn token(key: usize, side: Side) -> Token {
    Token(FIRST_SESSION.0 + 2 * key + side.index())
}

pub(super) fn session_side(token: Token) -> Option<(usize, Side)> {
    let number = token.0.checked_sub(FIRST_SESSION.0)?;
    Some((number / 2, Side::BOTH[number % 2]))
}

pub(super) fn visit_token(index: usize) -> Token {
    Token(FIRST_VISIT.0 + index)
}

/// Returns the visit of a token, if it is one's.
pub(super) fn visit(token: Token) -> Option<usize> {
    token.0.checked_sub(FIRST_VISIT.0).filter(|&index| index < STATUS_VISITS)
}

/// The reports that a session needs of its sockets. Errors are always reported.
fn interest() -> Interest {
    let interest = Interest::READABLE | Interest::WRITABLE;
    // Urgent data makes reads stop short, so it must be known.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let interest = interest | Interest::PRIORITY;
    interest
}

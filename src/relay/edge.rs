//! The relay as its pool sees it: tokens, registration, messages and the first bytes.

use std::io;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::config::ProxyProtocol;
use crate::log::Sink;
use crate::log::message::Message;
use crate::pool::Host;
use crate::relay::target;
use crate::session::Side;
use crate::session::ended::{Ended, Identity};

// Tokens: these, and above them two for each session, by its key in the pool.
pub(super) const LISTENER: Token = Token(0);
pub(super) const CONTROL: Token = Token(1);
pub(super) const LOG: Token = Token(2);
const FIRST_SESSION: usize = 4;

/// The relay as its pool sees it.
pub(super) struct Edge<'a, S> {
    pub(super) registry: &'a Registry,
    pub(super) sink: &'a mut S,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
}

impl<S: Sink> Host<TcpStream> for Edge<'_, S> {
    fn watch(&mut self, key: usize, side: Side, stream: &mut TcpStream) -> io::Result<()> {
        self.registry.register(stream, token(key, side), interest())
    }

    fn connected(&mut self, session: Identity) {
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
        self.sink.message(&ended.into());
    }
}

fn token(key: usize, side: Side) -> Token {
    Token(FIRST_SESSION + 2 * key + side.index())
}

pub(super) fn session_side(token: Token) -> Option<(usize, Side)> {
    let number = token.0.checked_sub(FIRST_SESSION)?;
    Some((number / 2, Side::BOTH[number % 2]))
}

/// The reports that a session needs of its sockets. Errors are always reported.
fn interest() -> Interest {
    let interest = Interest::READABLE | Interest::WRITABLE;
    // Urgent data makes reads stop short, so it must be known.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let interest = interest | Interest::PRIORITY;
    interest
}

//! The relay as its pool sees it: tokens, registration, messages and the first bytes.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::config::Config;
use crate::limits::{NAME_SOCKETS_MAX, STATUS_VISITS};
use crate::log::Sink;
use crate::log::message::Message;
use crate::pool::{Host, Next};
use crate::relay::target;
use crate::relay::target::choice::Choice;
use crate::relay::target::names::Names;
use crate::session::Side;
use crate::session::connecting::Tried;
use crate::session::ended::{Cause, Destination, Ended, Identity, Unreached};
use crate::sys::net::canonical;

// Tokens, in ascending order: the four below; the status's visits, right after the status's listener; the sockets
// to name servers, by their slots; and two for each session, by its key in the pool.
pub(super) const LISTENER: Token = Token(0);
pub(super) const CONTROL: Token = Token(1);
pub(super) const LOG: Token = Token(2);
pub(super) const STATUS: Token = Token(8);
const FIRST_NAME_SOCKET: Token = Token(32);
const FIRST_SESSION: Token = Token(FIRST_NAME_SOCKET.0 + NAME_SOCKETS_MAX);

const _: () = assert!(STATUS.0 + STATUS_VISITS < FIRST_NAME_SOCKET.0);

/// The relay as its pool sees it.
pub(super) struct Edge<'a, S> {
    pub(super) registry: &'a Registry,
    pub(super) sink: &'a mut S,
    pub(super) config: &'a Config,
    pub(super) choice: &'a mut Choice,
    pub(super) names: &'a mut Names,
    pub(super) now: Instant,
}

impl<S: Sink> Host<TcpStream> for Edge<'_, S> {
    fn watch(&mut self, key: usize, side: Side, stream: &mut TcpStream) -> io::Result<()> {
        self.registry.register(stream, token(key, side), interest())
    }

    fn own_end(&mut self, target: &TcpStream) -> Option<SocketAddr> {
        target.local_addr().ok().map(canonical)
    }

    fn next_target(
        &mut self,
        mut session: Identity,
        mut unreached: Option<Unreached>,
        tried: &mut Tried,
    ) -> Result<Next<TcpStream>, Unreached> {
        loop {
            if let Some(unreached) = unreached {
                self.note_unreached(session.target, unreached, tried);
            }
            let Some(next_target) = self.choice.next(*tried, self.now) else {
                return Err(unreached.unwrap_or(Unreached { cause: Cause::ConnectTimeout, errno: None }));
            };
            if let Some(unreached) = unreached {
                self.sink.message(&Message::NextTarget { session, unreached, next_target });
            }
            let Some(address) = next_target.address() else { return Ok(Next::Waiting(next_target)) };
            session.target = next_target;
            match target::stream(self.config, session.requester, address) {
                Ok(stream) => return Ok(Next::Connecting(stream, address)),
                Err(failure) => unreached = Some(failure),
            }
        }
    }

    fn connected(&mut self, session: Identity) {
        if self.choice.answered(session.target) && self.choice.has_alternatives() {
            self.sink.message(&Message::TargetBack { target: session.target });
        }
        self.sink.message(&Message::Connected { session });
        self.sink.message(&Message::RelaysStarted { session });
    }

    fn relaying(&mut self, session: Identity) {
        self.sink.message(&Message::RequesterChannelActive { session });
        self.sink.message(&Message::TargetChannelActive { session });
    }

    fn preface(&mut self, identity: Identity, requester: &TcpStream) -> Vec<u8> {
        match self.config.proxy_protocol {
            Some(version) => target::proxy_header(version, requester, identity.requester),
            None => Vec::new(),
        }
    }

    fn ended(&mut self, ended: Ended) {
        self.sink.message(&Message::of_end(ended));
    }
}

impl<S: Sink> Edge<'_, S> {
    /// Notes that a session could not reach a target. If the session has tried all addresses of a name, the name
    /// is looked up again.
    fn note_unreached(&mut self, target: Destination, unreached: Unreached, tried: &mut Tried) {
        let rests = self.choice.failed(target, unreached.into(), tried, self.now);
        if rests && self.choice.has_alternatives() {
            self.sink.message(&Message::TargetRests { target, unreached });
        }
        if let Some(index) = self.choice.is_spent(target, *tried) {
            self.names.ask_now(index, self.registry, self.now);
        }
    }
}

fn token(key: usize, side: Side) -> Token {
    Token(FIRST_SESSION.0 + 2 * key + side.index())
}

/// Returns the token of a socket to a name server.
pub(super) fn name_socket_token(slot: usize) -> Token {
    debug_assert!(slot < NAME_SOCKETS_MAX);
    Token(FIRST_NAME_SOCKET.0 + slot)
}

pub(super) fn name_socket(token: Token) -> Option<usize> {
    token.0.checked_sub(FIRST_NAME_SOCKET.0).filter(|&slot| slot < NAME_SOCKETS_MAX)
}

pub(super) fn session_side(token: Token) -> Option<(usize, Side)> {
    let number = token.0.checked_sub(FIRST_SESSION.0)?;
    Some((number / 2, Side::BOTH[number % 2]))
}

/// Returns the reports that a session needs of its sockets. Errors are always reported.
fn interest() -> Interest {
    let interest = Interest::READABLE | Interest::WRITABLE;
    // Urgent data makes a read return short, so the session must know of it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let interest = interest | Interest::PRIORITY;
    interest
}

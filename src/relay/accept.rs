//! Accepting: who gets a session, and when the relay stops looking for more.

use std::net::SocketAddr;

use mio::net::TcpStream;
use socket2::Socket;

use super::{LISTENER, Relay, listener, target};
use crate::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN, BACKLOG};
use crate::log::message::Message;
use crate::relay::listener::{Accepted, Listener};
use crate::session::ended::{Cause, Identity, Serial};
use crate::session::stream::Stream as _;
use crate::session::{Session, Side, Verdict};
use crate::sys::errno;
use crate::sys::net::{canonical, has_destination};

/// Rounds of accepting that take in a full backlog.
const BACKLOG_TURNS: usize = BACKLOG as usize / ACCEPTS_PER_TURN + ACCEPTS_PER_TURN.ilog2() as usize;

impl Relay {
    pub(super) fn can_accept(&self) -> bool {
        self.listener.as_ref().is_some_and(Listener::is_ready)
    }

    /// Accepts this turn's share of the connections that wait.
    pub(super) fn accept(&mut self) {
        let batch = self.listener.as_mut().map_or(0, Listener::begin_turn);
        for _ in 0..batch {
            let Some(listener) = self.listener.as_mut().filter(|listener| listener.is_ready()) else {
                return;
            };
            match listener.accept() {
                Accepted::Connection(requester, address) => self.admit(requester, address),
                Accepted::Nothing => return,
                Accepted::Failed { errno, is_news, is_lasting } => {
                    if is_news {
                        self.log.say(&Message::AcceptFailed(errno));
                    }
                    if is_lasting {
                        self.pause_accepting();
                    }
                }
            }
        }
        if let Some(listener) = &mut self.listener {
            listener.end_turn();
        }
    }

    /// Stops accepting while descriptors or memory are short. Connections stay in the backlog.
    fn pause_accepting(&mut self) {
        self.shared.pipes.shed();
        if let Some(listener) = &mut self.listener {
            listener.pause(self.poll.registry());
            self.wheel.arm(self.accept_timer(), self.now + ACCEPT_PAUSE);
        }
    }

    /// Ends a pause, if there is one: the timer fired, or a session gave back what was short.
    pub(super) fn resume_accepting(&mut self) {
        let Some(listener) = &mut self.listener else { return };
        if listener.resume(self.poll.registry(), LISTENER).is_err() {
            // Memory is still short.
            self.wheel.arm(self.accept_timer(), self.now + ACCEPT_PAUSE);
        }
    }

    /// Closes the listener. On a socket that the relay bound, it accepts the backlog first, because
    /// closing would reset it. The backlog of an inherited socket is left for the next process.
    pub(super) fn stop_listening(&mut self) {
        for _ in 0..BACKLOG_TURNS {
            match &mut self.listener {
                Some(listener) if !listener.is_inherited() => listener.note_waiting(),
                _ => break,
            }
            self.accept();
        }
        if let Some(listener) = self.listener.take() {
            listener.close(self.poll.registry());
        }
    }

    /// Gives a requester a session, or turns it away.
    fn admit(&mut self, requester: TcpStream, address: SocketAddr) {
        self.log.say(&Message::Attempt(address));
        if !self.config.acl.admits(address.ip()) {
            self.totals.rejected += 1;
            self.log.say(&Message::Rejected(address));
            return turn_away(requester);
        }
        self.totals.accepted += 1;
        self.log.say(&Message::Accepted(address));
        match self.target_socket(&requester, address) {
            Ok(socket) => self.allocate(requester, address, socket),
            Err(message) => {
                self.totals.dropped += 1;
                self.log.say(&message);
                turn_away(requester);
                if matches!(message, Message::TargetSocket(.., errno) if listener::is_shortage(errno)) {
                    self.pause_accepting();
                }
            }
        }
    }

    /// Returns a socket for the session of a requester that the ACL admits.
    ///
    /// # Errors
    /// The message that says why there is no session for it: 19, 21, 106 or 107.
    fn target_socket(&self, requester: &TcpStream, address: SocketAddr) -> Result<Socket, Message> {
        let target = self.config.target;
        if self.pool.is_own_end(address) && has_destination(requester, target) {
            return Err(Message::OwnConnection(address, target));
        }
        if let Some(max) = self.pool.source_limit_reached(address.ip()) {
            return Err(Message::SourceLimit(address, max));
        }
        if self.pool.is_full() {
            return Err(Message::PoolExhausted(address));
        }
        target::socket(target).map_err(|error| Message::TargetSocket(address, target, errno(&error)))
    }

    /// Takes a slot and begins to connect.
    fn allocate(&mut self, requester: TcpStream, address: SocketAddr, socket: Socket) {
        self.last_serial += 1;
        let serial = Serial::new(self.last_serial).unwrap_or(Serial::MIN);
        let identity = Identity { serial, requester: address, target: self.config.target };
        self.log.say(&Message::Allocated(identity));
        let begun = target::begin_connect(&socket, self.config.target, self.config.source);
        let target = TcpStream::from_std(socket.into());
        let session = Session::new(serial, address, requester, target, self.now);
        let key = self.pool.insert(session);
        self.note_own_end(key);
        let begun = begun
            .and_then(|()| {
                self.register(key, Side::Target).map_err(|error| (Cause::ConnectNotStarted, error))
            })
            .and_then(|()| {
                let registered = self.register(key, Side::Requester);
                registered.map_err(|error| (Cause::RelayNotStarted(Side::Requester), error))
            });
        match begun {
            Ok(()) => self.settle(key, Verdict::Wait),
            Err((cause, error)) => self.fail(key, cause, Some(errno(&error))),
        }
    }

    /// Notes the relay's end of a session's connection to the target, by which a loop is recognised.
    /// While less than half of the pool is taken, that is not worth a call for each session.
    fn note_own_end(&mut self, key: usize) {
        if self.pool.is_half_full()
            && let Ok(end) = self.pool[key].session.socket(Side::Target).stream().local_addr()
        {
            self.pool.note_own_end(key, canonical(end));
        }
    }
}

/// Closes a connection that gets no session. Its requester sees a reset, as of a refused connect.
fn turn_away(mut requester: TcpStream) {
    requester.reset_on_close();
}

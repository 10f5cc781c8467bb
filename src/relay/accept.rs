//! Accepting: which connections are let in, which are turned away, and when accepting pauses or ends.

use std::io;
use std::mem;
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::config::way::Source;
use crate::limits::{ACCEPT_PAUSE, BACKLOG_TURNS};
use crate::log::Sink;
use crate::log::message::Message;
use crate::log::reason::Errno;
use crate::pool::Timer;
use crate::pool::totals::Count;
use crate::relay::edge::LISTENER;
use crate::relay::listener::{self, Accepted};
use crate::relay::target::choice::Failure;
use crate::relay::{Doors, Relay, target};
use crate::session::Session;
use crate::session::connecting::Tried;
use crate::session::ended::{Cause, Destination, Identity, Serial, Unreached};
use crate::session::stream::Stream as _;
use crate::sys::errno;
use crate::sys::net::{Asked, asked_for};

impl<S: Sink> Relay<S> {
    /// Returns whether a connection may be waiting.
    pub(super) fn can_accept(&self) -> bool {
        matches!(&self.doors, Doors::Open(listener) if listener.is_ready())
    }

    /// Accepts a turn's share of the waiting connections.
    pub(super) fn accept(&mut self) {
        let Doors::Open(listener) = &mut self.doors else { return };
        let most = listener.begin_turn();
        if listener.is_ready() {
            self.accept_up_to(most);
        }
    }

    fn accept_up_to(&mut self, most: usize) {
        for _ in 0..most {
            let Doors::Open(listener) = &mut self.doors else { return };
            if !listener.is_ready() {
                return;
            }
            match listener.accept() {
                Accepted::Connection(requester, address) => self.admit(requester, address),
                Accepted::Nothing => return,
                Accepted::Failed { errno, is_news, is_lasting } => {
                    if is_news {
                        self.sink.message(&Message::AcceptFailed { errno: Errno(errno) });
                    }
                    if is_lasting {
                        self.pause_accepting();
                    }
                }
            }
        }
        if let Doors::Open(listener) = &mut self.doors {
            listener.end_turn();
        }
    }

    /// Stops accepting while descriptors or memory are short. Connections stay in the backlog.
    fn pause_accepting(&mut self) {
        self.pool.pipes().close_idle();
        if let Doors::Open(listener) = &mut self.doors {
            listener.pause(self.poll.registry());
            self.pool.arm(Timer::Accept, self.now + ACCEPT_PAUSE);
        }
    }

    /// Ends a pause, if there is one.
    pub(super) fn resume_accepting(&mut self) {
        let Doors::Open(listener) = &mut self.doors else { return };
        if listener.resume(self.poll.registry(), LISTENER).is_err() {
            // Memory is short as well. Try again later.
            self.pool.arm(Timer::Accept, self.now + ACCEPT_PAUSE);
        }
    }

    /// Closes the listener. On a socket that the relay bound, accepts the backlog first, because
    /// closing would reset it. The backlog of an inherited socket is left for the next process.
    pub(super) fn stop_listening(&mut self) {
        for _ in 0..BACKLOG_TURNS {
            match &mut self.doors {
                Doors::Open(listener) if !listener.is_inherited() => listener.note_waiting(),
                _ => break,
            }
            self.accept();
        }
        if let Doors::Open(listener) = mem::replace(&mut self.doors, Doors::Draining) {
            listener.close(self.poll.registry());
        }
    }

    /// Lets a connection in, or turns it away.
    fn admit(&mut self, requester: TcpStream, address: SocketAddr) {
        self.sink.message(&Message::Attempt { requester: address });
        if !self.config.acl.admits(address.ip()) {
            self.pool.counts.add(Count::NotAdmitted);
            return self.turn_away(requester, &Message::Rejected { requester: address });
        }
        self.pool.counts.add(Count::Accepted);
        self.sink.message(&Message::Accepted { requester: address });
        if let Some((count, message)) = self.refusal(&requester, address) {
            return self.drop_accepted(requester, count, &message);
        }
        self.ask_names();
        let target = self.choice.next(Tried::default(), self.now);
        let known = target.and_then(Destination::address);
        match known.map(target::socket).transpose() {
            Err(error) if listener::is_shortage(errno(&error)) || !self.choice.has_alternatives() => {
                let (errno, target) = (Errno::from(&error), target.unwrap_or(self.first_target()));
                // The target was not tried. If its rest was over, the trial passes to another session.
                self.choice.failed(target, Failure::Own, &mut Tried::default(), self.now);
                let message = Message::TargetSocket { requester: address, target, errno };
                self.drop_accepted(requester, Count::NoTargetSocket, &message);
                if listener::is_shortage(errno.0) {
                    self.pause_accepting();
                }
            }
            socket => self.allocate(requester, address, target, socket),
        }
    }

    /// Returns the message (21, 106 or 107) and the count for a requester that the ACL admits but that gets
    /// no session; `None`: it gets one.
    fn refusal(&self, requester: &TcpStream, address: SocketAddr) -> Option<(Count, Message)> {
        let slots = self.pool.slots();
        if slots.is_own_end(address)
            && let Some(target) = self.own_target(requester, address)
        {
            return Some((Count::OwnConnection, Message::OwnConnection { requester: address, target }));
        }
        if let Some(limit) = slots.source_limit_reached(address.ip()) {
            return Some((Count::SourceLimit, Message::SourceLimit { requester: address, limit }));
        }
        slots.is_full().then_some((Count::PoolExhausted, Message::PoolExhausted { requester: address }))
    }

    /// Returns the target to which a session is connected from this very address, if the requester asked for
    /// that target. Then the requester is the relay itself.
    #[cold]
    fn own_target(&self, requester: &TcpStream, address: SocketAddr) -> Option<SocketAddr> {
        // With `--source requester`, the relay connects from the requester's address. So an untranslated
        // connection may be the requester's own.
        let is_proof = |asked| asked == Asked::Translated || self.config.source != Some(Source::Requester);
        for state in self.choice.addresses() {
            if let Some(target) = state.address.address()
                && asked_for(requester, target).is_some_and(is_proof)
                && self.pool.slots().has_connection(address, target)
            {
                return Some(target);
            }
        }
        None
    }

    /// Drops a connection that the ACL admits.
    fn drop_accepted(&mut self, requester: TcpStream, count: Count, message: &Message) {
        self.pool.counts.add(count);
        self.turn_away(requester, message);
    }

    /// Resets a connection that gets no session, like a refused connect.
    fn turn_away(&mut self, mut requester: TcpStream, message: &Message) {
        self.sink.message(message);
        requester.reset_on_close();
    }

    /// Takes a slot and begins to connect. While the target's address is unknown, the session waits for it.
    fn allocate(
        &mut self,
        requester: TcpStream,
        address: SocketAddr,
        target: Option<Destination>,
        socket: io::Result<Option<target::Socket>>,
    ) {
        self.last_serial += 1;
        let serial = Serial::new(self.last_serial).unwrap_or(Serial::MIN);
        let target = target.unwrap_or(self.first_target());
        let identity = Identity { serial, requester: address, target };
        self.sink.message(&Message::Allocated { session: identity });
        let socket = socket.map_err(|error| Unreached::new(Cause::TargetRefused, &error));
        let begun = socket.as_ref().map_err(|unreached| *unreached).and_then(|socket| {
            let begin = |(socket, target)| target::begin_connect(socket, &self.config, address, target);
            socket.as_ref().zip(target.address()).map_or(Ok(()), begin)
        });
        let stream = socket.ok().flatten().map(|socket| TcpStream::from_std(socket.into()));
        let session = Session::new(identity, requester, stream, self.now);
        let (pool, now, mut edge) = self.pool_and_edge();
        pool.open(session, begun, now, &mut edge);
    }
}

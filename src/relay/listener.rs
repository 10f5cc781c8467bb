//! The listening socket: how it is made, when the loop accepts, and whether the target would lead
//! back to it.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use mio::net::{TcpListener, TcpStream};
use mio::{Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Config;
use crate::limits::{ACCEPT_FAILURES_PER_TURN, ACCEPTS_PER_TURN, BACKLOG};
use crate::log::message::Message;
use crate::sys::{errno, uninterrupted};

/// The listener is reported in every turn in which a connection waits, not once for all of them.
/// Then nobody needs to ask until there are none, which saves a call a connection.
const LEVEL_TRIGGERED: bool = cfg!(target_os = "linux");

/// A listening socket, and what the loop knows of those who wait there.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    /// It was passed in, and is open elsewhere as well.
    inherited: bool,
    waiting: Waiting,
    /// How many connections the next turn takes.
    batch: usize,
    /// It is not watched, and nobody is accepted.
    paused: bool,
    /// Failed accepts of this turn.
    failures: usize,
    /// The error that was told last, until an accept succeeds.
    told: Option<i32>,
}

/// Whether connections wait to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nobody,
    /// One was accepted, and there may be more.
    Perhaps,
    Reported,
}

/// What came of an accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    Connection(TcpStream, SocketAddr),
    Nobody,
    /// `is_news`: unlike the one before. `is_lasting`: to try again at once would be in vain.
    Failed {
        errno: i32,
        is_news: bool,
        is_lasting: bool,
    },
}

impl Listener {
    /// Listens where `config` says.
    ///
    /// # Errors
    /// Message 11, 12 or 13.
    pub(crate) fn bind(config: &Config) -> Result<Self, Message> {
        let socket = create(config).map_err(|error| Message::ListenerSocket(errno(&error)))?;
        socket.bind(&config.listen.into()).map_err(|error| Message::ListenerBind(errno(&error)))?;
        socket.listen(BACKLOG).map_err(|error| Message::ListenerListen(errno(&error)))?;
        Ok(Self::new(socket.into(), false))
    }

    /// Takes a listening socket from whoever started the process.
    ///
    /// # Errors
    /// Message 115, or 11 if it cannot be set up.
    pub(crate) fn inherit(listener: std::net::TcpListener) -> Result<Self, Message> {
        let socket = SockRef::from(&listener);
        let usable = socket.is_listener().unwrap_or(false) && listener.local_addr().is_ok();
        if !usable {
            return Err(Message::InheritedSocket);
        }
        let prepared = socket.set_nonblocking(true).and_then(|()| set_inherited(&socket));
        prepared.map_err(|error| Message::ListenerSocket(errno(&error)))?;
        Ok(Self::new(listener, true))
    }

    fn new(socket: std::net::TcpListener, inherited: bool) -> Self {
        let socket = TcpListener::from_std(socket);
        Self { socket, inherited, waiting: Waiting::Nobody, batch: 1, paused: false, failures: 0, told: None }
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Has waiting connections reported. mio itself is always edge-triggered.
    #[cfg(target_os = "linux")]
    pub(crate) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        use rustix::event::epoll::{EventData, EventFlags, add};

        Ok(add(registry, &self.socket, EventData::new_u64(token.0 as u64), EventFlags::IN)?)
    }

    #[cfg(target_os = "linux")]
    fn unwatch(&mut self, registry: &Registry) -> io::Result<()> {
        Ok(rustix::event::epoll::delete(registry, &self.socket)?)
    }

    /// Has waiting connections reported.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, mio::Interest::READABLE)
    }

    #[cfg(not(target_os = "linux"))]
    fn unwatch(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.socket)
    }

    /// Notes that connections are waiting.
    pub(crate) fn note_waiting(&mut self) {
        self.waiting = Waiting::Reported;
    }

    /// Whether there may be somebody to accept now.
    pub(crate) fn is_ready(&self) -> bool {
        self.waiting != Waiting::Nobody && !self.paused
    }

    /// How often this turn is to accept: once where connections come one by one, and twice as
    /// often in each turn in a row of a flood.
    pub(crate) fn begin_turn(&mut self) -> usize {
        self.failures = 0;
        let batch = if LEVEL_TRIGGERED { self.batch } else { ACCEPTS_PER_TURN };
        self.batch = if self.waiting == Waiting::Reported { (2 * batch).min(ACCEPTS_PER_TURN) } else { 1 };
        batch
    }

    pub(crate) fn accept(&mut self) -> Accepted {
        let error = match uninterrupted(|| self.socket.accept()) {
            Ok((requester, address)) => {
                self.told = None;
                self.waiting = Waiting::Perhaps;
                return Accepted::Connection(requester, address);
            }
            Err(error) => error,
        };
        // The kernel looks for a free descriptor before it looks for a connection. With none left, only
        // a report tells whether there is anybody to be turned away.
        let is_guess = LEVEL_TRIGGERED && self.waiting == Waiting::Perhaps && is_shortage(errno(&error));
        if error.kind() == io::ErrorKind::WouldBlock || is_guess {
            self.waiting = Waiting::Nobody;
            self.batch = 1;
            return Accepted::Nobody;
        }
        self.failures += 1;
        let errno = errno(&error);
        let is_news = self.told.replace(errno) != Some(errno);
        let is_lasting = is_shortage(errno) || self.failures >= ACCEPT_FAILURES_PER_TURN;
        Accepted::Failed { errno, is_news, is_lasting }
    }

    /// Ends a turn that took all that it was to take: whoever still waits is reported again.
    pub(crate) fn end_turn(&mut self) {
        if LEVEL_TRIGGERED {
            self.waiting = Waiting::Nobody;
        }
    }

    /// Leaves those who wait where they are, until [`resume`](Self::resume).
    pub(crate) fn pause(&mut self, registry: &Registry) {
        if !mem::replace(&mut self.paused, true) {
            let _ = self.unwatch(registry);
        }
    }

    /// Ends a pause, if there is one.
    ///
    /// # Errors
    /// It cannot be watched, and the pause goes on.
    pub(crate) fn resume(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if self.paused {
            self.watch(registry, token)?;
            self.paused = false;
        }
        Ok(())
    }

    pub(crate) fn close(mut self, registry: &Registry) {
        // One that was passed in stays open elsewhere, and would go on to be reported.
        let _ = self.unwatch(registry);
    }
}

/// Whether an error says that descriptors or memory have run out, which time may mend.
pub(crate) fn is_shortage(errno: i32) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    short.iter().any(|error| error.raw_os_error() == errno)
}

fn create(config: &Config) -> io::Result<Socket> {
    let domain = Domain::for_address(config.listen);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restart binds at once, whatever the last run left behind.
    socket.set_reuse_address(true)?;
    if domain == Domain::IPV6 {
        // `::` serves IPv4 as well, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    if config.reuse_port {
        socket.set_reuse_port(true)?;
    }
    set_inherited(&socket)?;
    Ok(socket)
}

/// Sets what every accepted socket inherits, so that no call is spent on it later.
fn set_inherited(socket: &Socket) -> io::Result<()> {
    // Small messages go out at once.
    socket.set_tcp_nodelay(true)?;
    // Urgent bytes stay in the stream, where a relay must find them.
    socket.set_out_of_band_inline(true)
}

/// Whether a connection to `target` would reach a listener at `listen`.
pub(crate) fn reaches(target: SocketAddr, listen: SocketAddr) -> bool {
    let (to, at) = (target.ip().to_canonical(), listen.ip().to_canonical());
    if target.port() != listen.port() {
        return false;
    }
    if at.is_unspecified() {
        return (to.is_ipv4() || at.is_ipv6()) && is_own(to);
    }
    to == at
}

/// Whether `address` is one of this host's: only those can be bound to.
pub(crate) fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_leads_back_only_to_the_own_port_on_an_own_address() {
        let cases = [
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.3.2.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:81", "0.0.0.0:80", false),
            ("192.0.2.1:80", "0.0.0.0:80", false),
            ("[::1]:80", "0.0.0.0:80", false),
            ("[::1]:80", "[::]:80", true),
            ("127.0.0.1:80", "[::]:80", true),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
        ];
        for (target, listen, expected) in cases {
            let reached = reaches(target.parse().unwrap(), listen.parse().unwrap());
            assert_eq!(reached, expected, "{target} from {listen}");
        }
    }
}

//! The listening socket: how it is made, and when the loop accepts.
//!
//! On Linux the listener is level-triggered: epoll reports it in each turn while its backlog is not
//! empty. So a turn need not accept until EAGAIN. Its share is one connection, and doubles with each
//! turn in a row that finds the listener reported. A lone connection costs one accept, a flood one for
//! each connection, in few turns. Elsewhere mio's reports are edge-triggered, so the listener stays
//! ready until an accept returns EAGAIN.

use std::io;
use std::mem;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Config;
use crate::config::host::Host;
use crate::limits::{ACCEPT_FAILURES_PER_TURN, ACCEPTS_PER_TURN, BACKLOG};
use crate::relay::error::{ListenStep, StartError};
use crate::sys::net::{canonical, is_listening};
use crate::sys::way::{has_interface, set_dscp, set_interface};
use crate::sys::{errno, uninterrupted};

const LEVEL_TRIGGERED: bool = cfg!(target_os = "linux");

/// A listening socket, and what the loop knows of its backlog.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    /// Whether the socket was passed in. Then another process may have it open as well.
    inherited: bool,
    backlog: Backlog,
    /// Connections that the next turn may accept.
    batch: usize,
    /// Whether accepting pauses, and the socket is not watched.
    paused: bool,
    /// Failed accepts of this turn.
    failures: usize,
    /// The error that was logged last; `None`: none since an accept succeeded.
    last_errno_logged: Option<i32>,
}

/// The relay's knowledge of the kernel's backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backlog {
    /// No connection waits, or the next turn gets a report.
    Empty,
    /// A connection was accepted, and more may wait.
    Unknown,
    /// The kernel has reported that connections wait.
    Reported,
}

/// The outcome of an accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    Connection(TcpStream, SocketAddr),
    /// No connection waits.
    Nothing,
    /// `is_news`: the error is not the one logged last. `is_lasting`: another try now would fail as well.
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
    pub(crate) fn bind(config: &Config) -> Result<Self, StartError> {
        let address = config.listen();
        let socket = bound(config)?;
        socket.listen(BACKLOG).map_err(ListenStep::Listen.failed(address))?;
        Ok(Self::new(socket.into(), false))
    }

    /// Binds as [`bind`](Self::bind) does, for a check. With `--reuse-port` it does not listen, because the
    /// kernel would give it connections of the relays that share the port, and closing would reset them.
    ///
    /// # Errors
    /// Message 11, 12 or 13.
    pub(crate) fn bind_for_check(config: &Config) -> Result<Self, StartError> {
        if !config.reuse_port {
            return Self::bind(config);
        }
        Ok(Self::new(bound(config)?.into(), false))
    }

    /// Takes a listening socket from the process that started this one. It must match `config`.
    ///
    /// # Errors
    /// Message 115 or 130, or 11 if it cannot be set up.
    pub(crate) fn inherit(listener: std::net::TcpListener, config: &Config) -> Result<Self, StartError> {
        let address = listener.local_addr().ok().filter(|_| is_listening(&listener));
        let address = canonical(address.ok_or(StartError::InheritedSocket)?);
        let socket = SockRef::from(&listener);
        let shares_port = socket.reuse_port().unwrap_or(false);
        let contradiction = contradiction(config, address, shares_port);
        if let Some(given) = contradiction.or_else(|| other_interface(config, &socket)) {
            return Err(StartError::InheritedOtherwise { given, address });
        }
        let prepared = socket.set_nonblocking(true).and_then(|()| set_inherited(&socket, address, config));
        prepared.map_err(ListenStep::Socket.failed(address))?;
        Ok(Self::new(listener, true))
    }

    fn new(socket: std::net::TcpListener, inherited: bool) -> Self {
        Self {
            socket: TcpListener::from_std(socket),
            inherited,
            backlog: Backlog::Empty,
            batch: 1,
            paused: false,
            failures: 0,
            last_errno_logged: None,
        }
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Registers the listener, level-triggered. mio itself always registers edge-triggered.
    #[cfg(target_os = "linux")]
    pub(crate) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        use rustix::event::epoll::{EventData, EventFlags, add};

        Ok(add(registry, &self.socket, EventData::new_u64(token.0 as u64), EventFlags::IN)?)
    }

    #[cfg(target_os = "linux")]
    fn unwatch(&mut self, registry: &Registry) -> io::Result<()> {
        Ok(rustix::event::epoll::delete(registry, &self.socket)?)
    }

    /// Registers the listener, edge-triggered.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, mio::Interest::READABLE)
    }

    #[cfg(not(target_os = "linux"))]
    fn unwatch(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.socket)
    }

    /// Notes the kernel's report that connections wait.
    pub(crate) fn note_waiting(&mut self) {
        self.backlog = Backlog::Reported;
    }

    /// Returns whether a connection may wait, and accepting is not paused.
    pub(crate) fn is_ready(&self) -> bool {
        self.backlog != Backlog::Empty && !self.paused
    }

    /// Begins a turn. Returns the number of connections that it may accept.
    pub(crate) fn begin_turn(&mut self) -> usize {
        self.failures = 0;
        let batch = if LEVEL_TRIGGERED { self.batch } else { ACCEPTS_PER_TURN };
        self.batch = if self.backlog == Backlog::Reported { (2 * batch).min(ACCEPTS_PER_TURN) } else { 1 };
        batch
    }

    pub(crate) fn accept(&mut self) -> Accepted {
        let result = uninterrupted(|| self.socket.accept());
        self.note_accept(result)
    }

    /// Notes the result of an accept.
    fn note_accept(&mut self, result: io::Result<(TcpStream, SocketAddr)>) -> Accepted {
        let error = match result {
            Ok((requester, address)) => {
                self.last_errno_logged = None;
                self.backlog = Backlog::Unknown;
                return Accepted::Connection(requester, canonical(address));
            }
            Err(error) => error,
        };
        // The kernel looks for a free descriptor before it looks for a connection. With none left, only
        // a report proves that a connection waits.
        let is_guess = LEVEL_TRIGGERED && self.backlog == Backlog::Unknown && is_shortage(errno(&error));
        if error.kind() == io::ErrorKind::WouldBlock || is_guess {
            self.backlog = Backlog::Empty;
            self.batch = 1;
            return Accepted::Nothing;
        }
        self.failures += 1;
        let errno = errno(&error);
        let is_news = self.last_errno_logged.replace(errno) != Some(errno);
        let is_lasting = is_shortage(errno) || self.failures >= ACCEPT_FAILURES_PER_TURN;
        Accepted::Failed { errno, is_news, is_lasting }
    }

    /// Ends a turn that used up its share. A level-triggered report returns for the rest of the backlog.
    pub(crate) fn end_turn(&mut self) {
        if LEVEL_TRIGGERED {
            self.backlog = Backlog::Empty;
        }
    }

    /// Stops watching the socket until [`resume`](Self::resume). Connections stay in the backlog.
    pub(crate) fn pause(&mut self, registry: &Registry) {
        if !mem::replace(&mut self.paused, true) {
            let _ = self.unwatch(registry);
        }
    }

    /// Ends a pause, if there is one.
    ///
    /// # Errors
    /// The socket cannot be watched, and the pause goes on.
    pub(crate) fn resume(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if self.paused {
            self.watch(registry, token)?;
            self.paused = false;
        }
        Ok(())
    }

    pub(crate) fn close(mut self, registry: &Registry) {
        // An inherited socket may stay open elsewhere, and epoll would go on reporting it.
        let _ = self.unwatch(registry);
    }
}

/// Returns whether an error means that descriptors or memory have run out. A later try may succeed.
pub(crate) fn is_shortage(errno: i32) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    short.iter().any(|error| error.raw_os_error() == errno)
}

/// Returns the part of the command line that an inherited socket contradicts, as it was given.
fn contradiction(config: &Config, address: SocketAddr, shares_port: bool) -> Option<String> {
    if let Some(bind) = config.bind.filter(|&bind| bind != Host::from(address)) {
        return Some(format!("--bind {bind}"));
    }
    if config.fwd_port != 0 && config.fwd_port != address.port() {
        return Some(format!("<fwd port> {}", config.fwd_port));
    }
    (config.reuse_port && !shares_port).then(|| "--reuse-port".to_owned())
}

/// Returns `--bind-interface` as it was given, if the socket is not bound to that interface.
fn other_interface(config: &Config, socket: &Socket) -> Option<String> {
    let name = config.way.bind_interface.as_ref().filter(|name| !has_interface(socket, name))?;
    Some(format!("--bind-interface {name}"))
}

fn bound(config: &Config) -> Result<Socket, StartError> {
    let address = config.listen();
    let socket = create(address, config).map_err(ListenStep::Socket.failed(address))?;
    socket.bind(&address.into()).map_err(ListenStep::Bind.failed(address))?;
    Ok(socket)
}

fn create(address: SocketAddr, config: &Config) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restart binds at once, although connections of the last run may be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if domain == Domain::IPV6 {
        // `::` serves IPv4 as well, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    if config.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if let Some(name) = &config.way.bind_interface {
        set_interface(&socket, name)?;
    }
    set_inherited(&socket, address, config)?;
    Ok(socket)
}

/// Sets the options that accepted sockets inherit, which saves the calls for each of them.
#[inline(never)]
fn set_inherited(socket: &Socket, address: SocketAddr, config: &Config) -> io::Result<()> {
    if let Some(dscp) = config.way.dscp {
        set_dscp(socket, address, dscp)?;
    }
    // Small messages go out at once.
    socket.set_tcp_nodelay(true)?;
    // Urgent bytes stay in the stream, so that the relay passes them on in their place.
    socket.set_out_of_band_inline(true)
}

#[cfg(test)]
mod tests;

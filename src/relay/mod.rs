//! The loop: the sole owner of the poll instance, the tokens and the clock.
//!
//! A turn has named phases, in this order: wait for events; note readiness, without any I/O; work on
//! the sessions that can go on; obey requests from outside; expire what is due; accept. The pool
//! frees slots only in work and expire, and gives them out only in accept, when the turn's events
//! are done with: no event can reach a session that it was not meant for.

mod accept;
pub(crate) mod control;
pub(crate) mod error;
mod listener;
mod start;
mod status;
mod target;

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::config::{Config, ProxyProtocol};
use crate::limits::{EVENTS_PER_TURN, POOL_CHECK_MAX};
use crate::log::message::Message;
use crate::log::{Log, Sink};
use crate::pool::{Host, Pool, Timer, Wake};
use crate::relay::control::{Control, Handle};
use crate::relay::error::WaitError;
use crate::relay::listener::Listener;
use crate::session::Side;
use crate::session::ended::{Ended, Identity};
use crate::session::stream::Readiness;

// Tokens: these, and above them two for each session, by its key in the pool.
const LISTENER: Token = Token(0);
const CONTROL: Token = Token(1);
const LOG: Token = Token(2);
const FIRST_SESSION: usize = 4;

fn token(key: usize, side: Side) -> Token {
    Token(FIRST_SESSION + 2 * key + side.index())
}

fn session_side(token: Token) -> Option<(usize, Side)> {
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

/// Why a relay stopped. Each is the last line of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Message 23.
    AbsoluteTimeout,
    /// Message 100.
    Stopped,
    /// Message 102.
    Drained,
}

/// A relay that is ready to run: it listens. Its messages go to a [`Sink`].
#[derive(Debug)]
pub struct Relay<S = Log> {
    config: Config,
    /// The address that it listens on.
    listen: SocketAddr,
    sink: S,
    control: Control,
    poll: Poll,
    doors: Doors,
    pool: Pool<TcpStream>,
    last_serial: u64,
    /// The part of the status that is logged next; `None`: none was asked for.
    report: Option<status::Report>,
    /// The log's descriptor while it is registered, because it is blocked.
    log_registered: Option<RawFd>,
    /// When the absolute timeout ends the relay; `None`: never.
    ends_at: Option<Instant>,
    now: Instant,
}

/// Whether connections are let in.
#[derive(Debug)]
enum Doors {
    Open(Listener),
    /// A drain has closed the listener. The relay ends with its last session.
    Draining,
}

/// The relay as its pool sees it.
struct Edge<'a, S> {
    registry: &'a Registry,
    sink: &'a mut S,
    proxy_protocol: Option<ProxyProtocol>,
}

impl<S: Sink> Host<TcpStream> for Edge<'_, S> {
    fn watch(&mut self, key: usize, side: Side, stream: &mut TcpStream) -> io::Result<()> {
        self.registry.register(stream, token(key, side), interest())
    }

    fn log(&mut self, message: &Message) {
        self.sink.message(message);
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

impl<S: Sink> Relay<S> {
    /// Returns the address that the relay listens on. Its port is the system's choice if port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Returns a handle to ask the running relay for things from another thread.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn handle(&self) -> io::Result<Handle> {
        self.control.handle()
    }

    /// Lets the process's signals ask for the same things: SIGTERM, SIGINT and SIGHUP to stop, SIGQUIT
    /// to drain, SIGUSR1 to report. A SIGHUP that was ignored stays ignored. SIGXFSZ no longer kills
    /// the process.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn listen_to_signals(&self) -> io::Result<()> {
        self.control.listen_to_signals()
    }

    /// Relays until the absolute timeout, a stop, or the end of a drain.
    ///
    /// # Errors
    /// Waiting for events failed for good. The last message is about it.
    pub fn run(mut self) -> Result<Outcome, WaitError> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        self.start();
        loop {
            if let Err(error) = self.wait(&mut events) {
                self.finish(&Message::from(&error));
                return Err(error);
            }
            self.note(&events);
            self.work();
            let more_events = events.iter().count() == EVENTS_PER_TURN;
            if let Some(outcome) = self.obey().or_else(|| self.expire(more_events)).or_else(|| self.drained())
            {
                self.finish(match outcome {
                    Outcome::AbsoluteTimeout => &Message::AbsoluteTimeout {},
                    Outcome::Stopped => &Message::StopSignal {},
                    Outcome::Drained => &Message::Drained {},
                });
                return Ok(outcome);
            }
            if self.pool.take_freed() {
                self.resume_accepting();
            }
            self.accept();
            self.log_report();
            self.sink.end_turn();
            self.watch_log();
            self.check();
        }
    }

    // ----- wait and note

    fn wait(&mut self, events: &mut Events) -> Result<(), WaitError> {
        let mut timeout = self.sleep();
        while let Err(error) = self.poll.poll(events, timeout) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(WaitError(error));
            }
            // A signal handler or a SIGSTOP may have taken long. Poll again without waiting, so that
            // no session is called idle while its events are unread.
            timeout = Some(Duration::ZERO);
        }
        self.now = Instant::now();
        Ok(())
    }

    /// Returns how long the loop may sleep; `None`: until something happens.
    fn sleep(&self) -> Option<Duration> {
        if self.can_accept() || self.can_report() {
            return Some(Duration::ZERO);
        }
        match self.pool.wakes_at() {
            Wake::Now => Some(Duration::ZERO),
            Wake::At(at) => Some(at.saturating_duration_since(Instant::now())),
            Wake::Never => None,
        }
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                LISTENER => {
                    if let Doors::Open(listener) = &mut self.doors {
                        listener.note_waiting();
                    }
                }
                CONTROL => self.control.acknowledge(),
                LOG => self.sink.flush(),
                token => {
                    if let Some((key, side)) = session_side(token) {
                        self.pool.note(key, side, Readiness::from(event));
                    }
                }
            }
        }
    }

    // ----- work, obey and expire

    fn work(&mut self) {
        let (pool, now, mut edge) = self.pool_and_edge();
        pool.work(now, &mut edge);
    }

    /// Borrows the pool, and the rest as the pool sees it.
    fn pool_and_edge(&mut self) -> (&mut Pool<TcpStream>, Instant, Edge<'_, S>) {
        let registry = self.poll.registry();
        let edge = Edge { registry, sink: &mut self.sink, proxy_protocol: self.config.proxy_protocol };
        (&mut self.pool, self.now, edge)
    }

    fn obey(&mut self) -> Option<Outcome> {
        if self.control.take_stop() {
            return Some(Outcome::Stopped);
        }
        if self.control.take_drain() {
            if matches!(self.doors, Doors::Draining) {
                return Some(Outcome::Stopped);
            }
            self.stop_listening();
            self.sink.message(&Message::DrainSignal { sessions: self.pool.slots().len() });
        }
        if self.control.take_report() {
            self.report = Some(status::Report::Totals);
        }
        None
    }

    /// Lets the timers that are due fire. With `more_events`, reports may wait that were not read yet.
    fn expire(&mut self, more_events: bool) -> Option<Outcome> {
        if self.pool.take_due(Timer::Absolute, self.now) {
            match self.ends_at {
                Some(end) if end > self.now => self.pool.arm(Timer::Absolute, end),
                _ => return Some(Outcome::AbsoluteTimeout),
            }
        }
        if self.pool.take_due(Timer::Accept, self.now) {
            self.resume_accepting();
        }
        let (pool, now, mut edge) = self.pool_and_edge();
        pool.expire(now, more_events, &mut edge);
        None
    }

    fn drained(&self) -> Option<Outcome> {
        let draining = matches!(self.doors, Doors::Draining);
        (draining && self.pool.slots().is_empty()).then_some(Outcome::Drained)
    }

    // ----- the log, and the end

    /// Watches the log's output while it is blocked. Outputs that cannot be watched, such as a full
    /// disk, are tried again with the next line.
    fn watch_log(&mut self) {
        let blocked = self.sink.blocked_on();
        if blocked == self.log_registered {
            return;
        }
        if let Some(descriptor) = self.log_registered.take() {
            let _ = self.poll.registry().deregister(&mut SourceFd(&descriptor));
        }
        if let Some(descriptor) = blocked {
            let _ = self.poll.registry().register(&mut SourceFd(&descriptor), LOG, Interest::WRITABLE);
            self.log_registered = blocked;
        }
    }

    /// Ends the sessions, which cuts them, and logs the last line.
    fn finish(&mut self, message: &Message) {
        self.pool.stop();
        self.sink.close(message);
    }

    /// Looks for broken invariants at the end of a turn, in debug builds. A large pool is left alone:
    /// the look is at every slot.
    fn check(&self) {
        if cfg!(debug_assertions) && self.config.pool() <= POOL_CHECK_MAX {
            self.pool.check();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, pipe};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;
    use crate::cli::{Request, parse};
    use crate::limits::TICK;

    /// A relay on a port of the system's choice with these arguments behind it, its address, and the log.
    fn relay(arguments: &str) -> (Relay, SocketAddr, PipeReader) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let own = listener.local_addr().unwrap();
        let line = format!("{} {arguments}", own.port());
        let Ok(Request::Run(config)) = parse(line.split(' ').map(Into::into)) else { panic!() };
        let (lines, log) = pipe().unwrap();
        // However late they are read, no line is dropped.
        rustix::pipe::fcntl_setpipe_size(&log, 1 << 20).unwrap();
        let log = Log::to(log.into(), config.log_style());
        (Relay::with_listener(config, log, listener).unwrap(), own, lines)
    }

    #[test]
    fn an_absolute_timeout_beyond_the_reach_of_the_wheel_ends_the_relay_neither_early_nor_late() {
        const HOUR: Duration = Duration::from_secs(3600);
        let (mut relay, ..) = relay("127.0.0.1 80 ANY 1 30 4294967295 100");
        relay.start();
        let start = relay.now;
        let end = start + Duration::from_secs(4_294_967_295);
        while relay.now + 20 * HOUR < end {
            relay.now += 20 * HOUR;
            assert_eq!(relay.expire(false), None);
            assert!(matches!(relay.pool.wakes_at(), Wake::At(next) if next <= end + TICK));
        }
        relay.now = start + Duration::new(4_294_967_294, 999_999_999);
        assert_eq!(relay.expire(false), None);
        relay.now = end + TICK;
        assert_eq!(relay.expire(false), Some(Outcome::AbsoluteTimeout));
    }

    #[test]
    fn a_target_that_leads_back_here_does_not_eat_the_pool() {
        let (mut relay, own, lines) = relay("127.0.0.1 80 ANY 1 30 0 100");
        // As address translation does it, where the start cannot see it.
        relay.config.target = own;
        let handle = relay.handle().unwrap();
        let run = thread::spawn(move || relay.run());

        let _requester = std::net::TcpStream::connect(own).unwrap();
        let mut allocated = 0;
        for line in BufReader::new(lines).lines().map(Result::unwrap) {
            allocated += usize::from(line.contains(" was allocated "));
            if line.contains("this relay's own") || line.contains("pool exhausted") {
                break;
            }
        }
        handle.stop();
        assert_eq!(run.join().unwrap().unwrap(), Outcome::Stopped);
        assert_eq!(allocated, crate::limits::SESSIONS / 2);
    }
}

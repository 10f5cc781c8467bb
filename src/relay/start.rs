//! The start: binding, inheriting, checking, and what the limits of the process give a pool.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::error::ConfigError;
use crate::config::{Config, Target};
use crate::limits::{EVENTS_PER_TURN, OWN_DESCRIPTORS, PIPES_MAX, SHARE_ELSEWHERE, TICK};
use crate::log::Sink;
use crate::log::message::Message;
use crate::pool::{Pool, Settings, Timer};
use crate::relay::control::Control;
use crate::relay::edge::{CONTROL, LISTENER};
use crate::relay::error::{ListenStep, StartError};
use crate::relay::listener::Listener;
use crate::relay::target::choice::Choice;
use crate::relay::target::is_of_family;
use crate::relay::{Doors, Life, Relay, now};
use crate::session::Session;
use crate::session::turn::Timeouts;
use crate::sys::clock_resolution;
use crate::sys::net::{can_be_bound, canonical, is_broadcast, is_own};

impl<S: Sink> Relay<S> {
    /// Binds the listener. Messages go to `sink` once the relay runs. The time of the absolute timeout begins now.
    ///
    /// # Errors
    /// Why the relay cannot start: messages 1, 11 to 14, or 112 to 114.
    pub fn bind(config: Config, sink: S) -> Result<Self, StartError> {
        check_before(&config)?;
        let listener = Listener::bind(&config)?;
        Self::assemble(config, sink, listener)
    }

    /// As [`bind`](Self::bind), with a socket that listens already: that of a service manager.
    /// It must be what `--bind`, `--reuse-port` and `<fwd port>` say.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind), 115 and 130.
    pub fn with_listener(
        config: Config,
        sink: S,
        listener: std::net::TcpListener,
    ) -> Result<Self, StartError> {
        check_before(&config)?;
        let listener = Listener::inherit(listener, &config)?;
        Self::assemble(config, sink, listener)
    }

    fn assemble(config: Config, sink: S, mut listener: Listener) -> Result<Self, StartError> {
        let (address, poll, control) = watch(&config, &mut listener)?;
        let now = now();
        Ok(Self {
            listen: address,
            sink,
            control,
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            life: Life::Bound,
            doors: Doors::Open(listener),
            pool: Pool::new(settings(&config), now),
            choice: Choice::new(config.targets().map(Target::address)),
            last_serial: 0,
            report: None,
            log_registered: None,
            ends_at: Some(config.absolute_timeout).filter(|time| !time.is_zero()).map(|time| now + time),
            now,
            config,
        })
    }

    /// Logs that the relay is active, and arms the absolute timeout.
    #[cold]
    pub(super) fn start(&mut self) {
        self.sink.message(&Message::Active { port: self.listen.port(), target: self.config.target() });
        if self.listen.ip() != Ipv4Addr::UNSPECIFIED {
            self.sink.message(&Message::Listening { address: self.listen });
        }
        for message in remarks(&self.config) {
            self.sink.message(&message);
        }
        self.sink.flush();
        self.watch_log();
        if let Some(end) = self.ends_at {
            self.pool.arm(Timer::Absolute, end);
        }
    }
}

impl Relay {
    /// Does all that a start does, and lets go of it again. `listener` is a socket as
    /// [`with_listener`](Self::with_listener) takes it. Returns the messages that the start would log,
    /// with 116 in place of 15 and 131.
    ///
    /// Connections are never accepted. One that comes while the port is bound is reset, as it would be
    /// without a relay, and none is taken from a relay that shares its port.
    ///
    /// # Errors
    /// Those of the start.
    pub fn check_start(
        config: &Config,
        listener: Option<std::net::TcpListener>,
    ) -> Result<Vec<Message>, StartError> {
        check_before(config)?;
        let mut listener = match listener {
            Some(listener) => Listener::inherit(listener, config)?,
            None => Listener::bind_for_check(config)?,
        };
        let (address, ..) = watch(config, &mut listener)?;
        let mut messages = vec![Message::WouldRelay { address, command_line: config.to_string() }];
        messages.extend(remarks(config));
        Ok(messages)
    }
}

/// Makes the poll instance, and registers what it watches from the start on. Returns the listener's
/// address as well.
fn watch(config: &Config, listener: &mut Listener) -> Result<(SocketAddr, Poll, Control), StartError> {
    let address = listener.address().map_err(ListenStep::Poll.failed(config.listener()))?;
    check_targets(config, address)?;
    let unavailable = ListenStep::Poll.failed(address);
    let poll = Poll::new().map_err(&unavailable)?;
    let mut control = Control::new().map_err(&unavailable)?;
    listener.watch(poll.registry(), LISTENER).map_err(&unavailable)?;
    poll.registry().register(control.socket(), CONTROL, Interest::READABLE).map_err(unavailable)?;
    Ok((address, poll, control))
}

/// Returns what is to be said of the pool and the limits: messages 105, where `--sessions` was given,
/// and 104. Raises the descriptor limit. Message 136 follows for each backup that cannot be tried.
fn remarks(config: &Config) -> impl Iterator<Item = Message> {
    let needs = needs(config);
    let needed = config.sessions.map(|_| needs.message());
    let untried = config.source.into_iter().flat_map(|source| {
        let targets = config.targets().map(Target::address);
        let others = targets.filter(move |&target| !is_of_family(source, target));
        others.map(move |target| Message::BackupOfOtherFamily { target, source: source.to_string() })
    });
    needed.into_iter().chain(needs.raise_descriptor_limit().err()).chain(untried)
}

fn settings(config: &Config) -> Settings {
    Settings {
        sessions: config.pool(),
        buf: config.buf,
        timeouts: Timeouts { connect: config.connect_timeout, idle: config.idle_timeout },
        max_per_source: config.max_per_source,
        pipe_bytes: if config.splice { pipe_bytes() } else { 0 },
    }
}

/// Returns the kernel memory that pipes may hold on this machine.
fn pipe_bytes() -> usize {
    #[cfg(target_os = "linux")]
    {
        use crate::limits::{PIPES_BYTES_MAX, PIPES_MEMORY_SHARE};

        let info = rustix::system::sysinfo();
        #[allow(clippy::useless_conversion)] // 32 bits wide on some systems.
        let memory = u64::try_from(info.totalram).unwrap_or(u64::MAX).saturating_mul(info.mem_unit.into());
        usize::try_from(memory / PIPES_MEMORY_SHARE).unwrap_or(usize::MAX).min(PIPES_BYTES_MAX)
    }
    #[cfg(not(target_os = "linux"))]
    0
}

/// Checks everything that can be checked before a socket is bound.
///
/// # Errors
/// Message 1, 112 or 114.
fn check_before(config: &Config) -> Result<(), StartError> {
    check_clock(clock_resolution())?;
    let invalid = |option, given: &dyn ToString, allowed: &str| {
        let (given, allowed) = (given.to_string(), allowed.to_owned());
        Err(StartError::Config(ConfigError::Option { option, given, allowed }))
    };
    if let Some(bind) = config.bind.filter(|bind| is_broadcast(bind.ip())) {
        return invalid("--bind", &bind, "an address to listen on, not that of a broadcast");
    }
    if let Some(source) = config.source.filter(|source| !can_be_bound(source.at(0))) {
        return invalid("--source", &source, "an address of this host");
    }
    if config.sessions.is_some() {
        needs(config).check()?;
    }
    Ok(())
}

/// Checks that no target is the relay's own listener at `listen`.
///
/// # Errors
/// Message 113, or 112 for a backup.
fn check_targets(config: &Config, listen: SocketAddr) -> Result<(), StartError> {
    let target = config.target();
    if reaches(target, listen) {
        return Err(StartError::OwnListener { target });
    }
    match config.backups.iter().find(|backup| reaches(backup.address(), listen)) {
        None => Ok(()),
        Some(backup) => Err(StartError::Config(ConfigError::Option {
            option: "--backup",
            given: backup.to_string(),
            allowed: "a target that is not where this relay itself listens".into(),
        })),
    }
}

/// Returns whether a connection to `target` would reach a listener at `listen`.
fn reaches(target: SocketAddr, listen: SocketAddr) -> bool {
    let listen = canonical(listen);
    if target.port() != listen.port() {
        return false;
    }
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => target.is_ipv4() && is_own(target),
        IpAddr::V6(ip) if ip.is_unspecified() => is_own(target),
        _ => target == listen,
    }
}

/// Checks that the wheel's ticks can be told apart.
fn check_clock(resolution: Duration) -> Result<(), StartError> {
    if resolution > TICK { Err(StartError::ClockTooCoarse) } else { Ok(()) }
}

fn needs(config: &Config) -> Needs {
    let session_bytes = 2 * config.buf + size_of::<Session<TcpStream>>() + SHARE_ELSEWHERE;
    Needs::of_pool(config.pool(), session_bytes)
}

/// What a pool needs at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) sessions: usize,
    pub(crate) descriptors: u64,
    pub(crate) bytes: u64,
}

impl Needs {
    /// Returns the needs of `sessions` sessions, each of which takes `session_bytes` bytes.
    pub(crate) fn of_pool(sessions: usize, session_bytes: usize) -> Self {
        let descriptors = 2 * sessions + 2 * PIPES_MAX + OWN_DESCRIPTORS;
        Self { sessions, descriptors: descriptors as u64, bytes: (sessions * session_bytes) as u64 }
    }

    /// Returns message 105, which tells the needs.
    pub(crate) fn message(self) -> Message {
        let Self { sessions, descriptors, bytes } = self;
        Message::PoolNeeds { sessions, descriptors, kib: bytes.div_ceil(1024) }
    }

    /// Whether the limits of the process can give that.
    ///
    /// # Errors
    /// Message 114.
    pub(crate) fn check(self) -> Result<(), StartError> {
        let Self { sessions, descriptors, bytes } = self;
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        if descriptors > most {
            let need = format!("{descriptors} descriptors, and the limit is {most}");
            return Err(StartError::PoolTooLarge { sessions, need });
        }
        for resource in [Resource::As, Resource::Data] {
            let most = getrlimit(resource).current.unwrap_or(u64::MAX);
            if bytes > most {
                let need = format!("{} KiB of memory, and the limit is {} KiB", bytes / 1024, most / 1024);
                return Err(StartError::PoolTooLarge { sessions, need });
            }
        }
        Ok(())
    }

    /// Raises the soft limit of descriptors as far as it is needed and may go.
    ///
    /// # Errors
    /// Message 104, where not all sessions will have theirs.
    pub(crate) fn raise_descriptor_limit(self) -> Result<(), Message> {
        let limit = raise_descriptor_limit(self.descriptors);
        let enough_for = limit.saturating_sub(OWN_DESCRIPTORS as u64) / 2;
        if enough_for < self.sessions as u64 {
            return Err(Message::DescriptorLimit { limit, enough_for, sessions: self.sessions });
        }
        Ok(())
    }
}

/// Raises the soft limit towards `wanted`; the limit that is in force then.
fn raise_descriptor_limit(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let raised = wanted.min(maximum.unwrap_or(u64::MAX));
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => raised,
        Err(_) => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_refused_only_if_ticks_cannot_be_told_apart() {
        for resolution in [Duration::ZERO, Duration::from_nanos(1), TICK] {
            assert!(check_clock(resolution).is_ok());
        }
        let coarse = check_clock(TICK + Duration::from_nanos(1));
        assert!(matches!(coarse, Err(StartError::ClockTooCoarse)));
    }

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
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("[fe80::1%2]:80", "[fe80::1%2]:80", true),
            ("[fe80::1%2]:80", "[fe80::1%3]:80", false),
        ];
        for (target, listen, expected) in cases {
            let reached = reaches(target.parse().unwrap(), listen.parse().unwrap());
            assert_eq!(reached, expected, "{target} from {listen}");
        }
    }
}

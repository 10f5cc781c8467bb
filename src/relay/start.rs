//! The start: binding or inheriting the listener, the checks, and the first messages.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll};

use crate::config::host::TargetHost;
use crate::config::setters::invalid;
use crate::config::way::{Source, Way};
use crate::config::{Config, Target};
use crate::limits::{EVENTS_PER_TURN, TICK};
use crate::log::Sink;
use crate::log::message::Message;
use crate::pool::{Pool, Settings, Timer};
use crate::relay::control::Control;
use crate::relay::edge::{CONTROL, LISTENER};
use crate::relay::error::{ListenStep, StartError};
use crate::relay::listener::Listener;
use crate::relay::needs::{Needs, pipe_bytes};
use crate::relay::status::Service;
use crate::relay::target::choice::Choice;
use crate::relay::target::names::{Files, Names};
use crate::relay::target::{can_serve, way};
use crate::relay::wait::Gathering;
use crate::relay::{Doors, Life, Relay, now, time_of_day};
use crate::resolve::Name;
use crate::session::ended::Destination;
use crate::session::turn::Timeouts;
use crate::sys::clock_resolution;
use crate::sys::net::{can_be_bound, canonical, comes_in_on, is_broadcast, is_own};

impl<S: Sink> Relay<S> {
    /// Binds the listener. Messages go to `sink` once the relay runs. The absolute timeout runs from now on.
    /// A relay can run in another thread if its sink is [`Send`].
    ///
    /// The first turn raises the process's soft limit of descriptors to the needs of the pool.
    ///
    /// # Errors
    /// The relay cannot listen or serve its status, a setting does not work on this host, a target is the relay
    /// itself, or the pool needs more than the limits allow: messages 1, 11 to 14, 112 to 114, 132 or 137.
    pub fn bind(config: Config, sink: S) -> Result<Self, StartError> {
        check_before(&config)?;
        let listener = Listener::bind(&config)?;
        Self::assemble(config, sink, listener)
    }

    /// Does the same as [`bind`](Self::bind) with a socket that listens already, such as a service manager's. It
    /// must match `<fwd port>`, `--bind`, `--bind-interface` and `--reuse-port`.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind). Or the socket does not listen (115), or contradicts the configuration (130).
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
        let status = serve(&config, &poll, now)?.map(Box::new);
        Ok(Self {
            listen: address,
            sink,
            control,
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            life: Life::Bound,
            doors: Doors::Open(listener),
            pool: Pool::new(settings(&config), now),
            choice: Choice::new(config.targets().map(destination)),
            names: Names::new(Files::default(), names(&config)),
            look_from: None,
            last_serial: 0,
            given_up: None,
            report: None,
            status,
            log_registered: None,
            ends_at: Some(config.absolute_timeout).filter(|time| !time.is_zero()).map(|time| now + time),
            gathering: Gathering::default(),
            now,
            config,
        })
    }

    /// Logs that the relay is active, and arms the absolute timeout.
    #[cold]
    pub(super) fn start(&mut self) {
        self.sink.message(&Message::Active { port: self.listen.port(), target: self.first_target() });
        if self.listen.ip() != Ipv4Addr::UNSPECIFIED {
            self.sink.message(&Message::Listening { address: self.listen });
        }
        if let Some(place) = &self.config.status {
            self.sink.message(&Message::StatusListening { status: place.to_string() });
        }
        for message in self.given_up.take().into_iter().chain(remarks(&self.config, self.listen)) {
            self.sink.message(&message);
        }
        self.sink.flush();
        self.watch_log();
        if let Some(end) = self.ends_at {
            self.pool.arm(Timer::Absolute, end);
        }
    }
}

/// A start that would succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The address that the relay would listen on.
    pub address: SocketAddr,
    /// The last messages of a start: 105, 104 and 136, where there is cause.
    pub remarks: Vec<Message>,
}

impl Relay {
    /// Does all that a start does, and closes the sockets again. `listener` is a socket for
    /// [`with_listener`](Self::with_listener).
    ///
    /// It accepts no connection. One that arrives while the port is bound is reset, as it would be without
    /// a relay. A relay that shares the port loses none.
    ///
    /// # Errors
    /// Those of the start.
    pub fn check_start(
        config: &Config,
        listener: Option<std::net::TcpListener>,
    ) -> Result<Checked, StartError> {
        check_before(config)?;
        let mut listener = match listener {
            Some(listener) => Listener::inherit(listener, config)?,
            None => Listener::bind_for_check(config)?,
        };
        let (address, poll, _control) = watch(config, &mut listener)?;
        serve(config, &poll, now())?;
        Ok(Checked { address, remarks: remarks(config, address) })
    }
}

/// Checks the targets and `--source` against the listener's address, and returns this address as well. Makes
/// the poll instance, and registers the listener and the control socket with it.
fn watch(config: &Config, listener: &mut Listener) -> Result<(SocketAddr, Poll, Control), StartError> {
    let address = listener.address().map_err(ListenStep::Poll.failed(config.listen()))?;
    check_targets(config, address)?;
    check_source(config, address)?;
    let unavailable = ListenStep::Poll.failed(address);
    let poll = Poll::new().map_err(&unavailable)?;
    let mut control = Control::new().map_err(&unavailable)?;
    listener.watch(poll.registry(), LISTENER).map_err(&unavailable)?;
    poll.registry().register(control.socket(), CONTROL, Interest::READABLE).map_err(unavailable)?;
    Ok((address, poll, control))
}

/// Binds the listener of the status, if `--status` was given.
fn serve(config: &Config, poll: &Poll, now: Instant) -> Result<Option<Service>, StartError> {
    let place = config.status.as_ref();
    place.map(|place| Service::bind(place, poll.registry(), (time_of_day(), now))).transpose()
}

/// Returns a target as sessions refer to it.
///
/// Every session and message has a copy, which may outlive the relay in any thread. So a name is leaked: a relay
/// has a few, each shorter than 256 bytes.
fn destination(target: &Target) -> Destination {
    match target.address() {
        Some(address) => address.into(),
        None => Destination::Name(String::leak(target.host.to_string()), target.port),
    }
}

/// Returns the targets that are names, with their indexes.
fn names(config: &Config) -> impl Iterator<Item = (usize, Name)> {
    config.targets().enumerate().filter_map(|(index, target)| match &target.host {
        TargetHost::Name(name) => Some((index, name.clone())),
        TargetHost::Address(_) => None,
    })
}

/// Raises the descriptor limit. Returns the remarks of a start: message 105 if `--sessions` was given, 104 if
/// the limit stays too low, and 136 for each backup that cannot be tried.
#[cold]
fn remarks(config: &Config, listen: SocketAddr) -> Vec<Message> {
    let needs = Needs::of(config);
    let mut remarks: Vec<_> = config.sessions.map(|_| needs.message()).into_iter().collect();
    remarks.extend(needs.raise_descriptor_limit().err());
    if let Some(source) = config.source {
        for target in config.targets().filter_map(Target::address) {
            if !can_serve(source, target, listen) {
                let (target, source) = (target.into(), source.to_string());
                remarks.push(Message::BackupOfOtherFamily { target, source });
            }
        }
    }
    remarks
}

fn settings(config: &Config) -> Settings {
    Settings {
        sessions: config.sessions(),
        buf: config.buf,
        timeouts: Timeouts { connect: config.connect_timeout, idle: config.idle_timeout },
        max_per_source: config.max_per_source,
        pipe_bytes: if config.splice { pipe_bytes() } else { 0 },
    }
}

/// Checks everything that can be checked before the listener is bound.
///
/// # Errors
/// Message 1, 112, 114 or 132.
fn check_before(config: &Config) -> Result<(), StartError> {
    check_clock(clock_resolution())?;
    if let Some(bind) = config.bind.filter(|bind| is_broadcast(bind.ip())) {
        let allowed = "an address to listen on, not that of a broadcast";
        return Err(StartError::Config(invalid("--bind", &bind, allowed.into())));
    }
    if let Some(Source::Host(address)) = config.source
        && !can_be_bound(address.at(0))
    {
        return Err(StartError::SourceNotHere { address });
    }
    if config.way != Way::default() || config.source == Some(Source::Requester) {
        way::check(config)?;
    }
    if config.sessions.is_some() {
        Needs::of(config).check()?;
    }
    Ok(())
}

/// Checks that no target is the relay's own listener at `listen`.
///
/// # Errors
/// Message 113, or 112 for a backup.
#[cold]
fn check_targets(config: &Config, listen: SocketAddr) -> Result<(), StartError> {
    let is_own = |target: &SocketAddr| leads_back(*target, config, listen);
    if let Some(target) = config.target.address().filter(is_own) {
        return Err(StartError::OwnListener { target });
    }
    match config.backups.iter().find(|backup| backup.address().as_ref().is_some_and(is_own)) {
        None => Ok(()),
        Some(backup) => {
            let allowed = "a target that is not where this relay itself listens";
            Err(StartError::Config(invalid("--backup", backup, allowed.into())))
        }
    }
}

/// Checks that a connection to the target can come from `--source`: both must be of one address family. With
/// `--source requester`, that is the family of the requesters at `listen`.
///
/// # Errors
/// Message 112.
fn check_source(config: &Config, listen: SocketAddr) -> Result<(), StartError> {
    let (Some(source), Some(target)) = (config.source, config.target.address()) else { return Ok(()) };
    if can_serve(source, target, listen) {
        return Ok(());
    }
    let (family, bound) = (config.target_family(), canonical(listen).ip());
    let allowed = format!("an {family} address of this host, as no requester of {bound} has one");
    Err(StartError::Config(invalid("--source", &source, allowed)))
}

/// Returns whether a connection to `target` would come in at the relay's own listener at `listen`.
pub(super) fn leads_back(target: SocketAddr, config: &Config, listen: SocketAddr) -> bool {
    reaches(target, listen) && config.bind_interface().is_none_or(|name| comes_in_on(target, name))
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

/// Checks that the clock resolves the ticks of the wheel.
fn check_clock(resolution: Duration) -> Result<(), StartError> {
    if resolution > TICK { Err(StartError::ClockTooCoarse) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_refused_only_if_it_does_not_resolve_a_tick() {
        for resolution in [Duration::ZERO, Duration::from_nanos(1), TICK] {
            assert!(check_clock(resolution).is_ok());
        }
        let coarse = check_clock(TICK + Duration::from_nanos(1));
        assert!(matches!(coarse, Err(StartError::ClockTooCoarse)));
    }

    #[test]
    fn a_target_leads_back_only_at_the_port_and_an_address_of_the_listener() {
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
            assert_eq!(reached, expected, "{target} at {listen}");
        }
    }
}

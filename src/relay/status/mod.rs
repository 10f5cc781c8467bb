//! The status that `--status` serves by HTTP.
//!
//! A visit is one connection to the status. A few have places outside the pool, each with a small buffer, a short
//! time and one answer; more of them wait in the backlog. A turn serves the visits after the sessions, and composes
//! one answer at the most.

pub(crate) mod http;
mod json;
mod listener;
mod metrics;
mod page;
mod ranking;
mod rates;
mod view;
mod visit;

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::time::{Instant, SystemTime};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::config::status::StatusAddress;
use crate::limits::{ACCEPT_PAUSE, STATUS_VISITS};
use crate::log::Sink;
use crate::log::message::Message;
use crate::log::reason::StatusFailure;
use crate::pool::{Pool, Timer};
use crate::relay::edge::STATUS;
use crate::relay::error::StartError;
use crate::relay::status::listener::Listener;
use crate::relay::status::rates::Rates;
use crate::relay::status::view::{Facts, View};
use crate::relay::status::visit::Visit;
use crate::relay::{Doors, Relay};
use crate::sys::status::Process;

/// The service of the status.
#[derive(Debug)]
pub(super) struct Service {
    listener: Listener,
    backlog: Backlog,
    visits: [Option<Visit>; STATUS_VISITS],
    facts: Facts,
}

/// The service's knowledge of its listener's backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backlog {
    /// No connection waits, or the kernel will report it.
    Empty,
    /// The kernel has reported that connections wait.
    Reported,
    /// An accept failed, mostly for lack of descriptors or memory. The next try is at this time.
    Paused(Instant),
}

impl Service {
    /// Binds the listener, and registers it.
    ///
    /// # Errors
    /// Message 137.
    pub(super) fn bind(
        place: &StatusAddress,
        registry: &Registry,
        (started, started_at): (SystemTime, Instant),
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Status { status: place.clone(), source };
        let listener = Listener::bind(place).map_err(failed)?;
        let descriptor = listener.socket.as_raw_fd();
        registry.register(&mut SourceFd(&descriptor), STATUS, Interest::READABLE).map_err(failed)?;
        let facts = Facts { started, started_at, rates: Rates::new(), process: Process::open() };
        Ok(Self { listener, backlog: Backlog::Empty, visits: Default::default(), facts })
    }

    /// Closes the descriptors that would lead out of a new root directory.
    pub(super) fn prepare_for_root(&mut self) {
        self.facts.process.close_folder();
    }

    /// Notes a report on the listener or on a visit.
    pub(super) fn note(&mut self, token: Token) {
        if token == STATUS {
            self.backlog = Backlog::Reported;
        } else if let Some(Some(visit)) = visit(token).and_then(|index| self.visits.get_mut(index)) {
            visit.is_ready = true;
        }
    }

    /// Returns whether there is something to do.
    pub(super) fn is_ready(&self) -> bool {
        let has_room = self.visits.iter().any(Option::is_none);
        has_room && self.backlog == Backlog::Reported
            || self.visits.iter().flatten().any(|visit| visit.is_ready)
    }

    fn accept(&mut self, registry: &Registry, now: Instant) {
        for (index, place) in self.visits.iter_mut().enumerate() {
            if place.is_some() || self.backlog != Backlog::Reported {
                continue;
            }
            let accepted = self.listener.accept().and_then(|socket| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                registry.register(&mut SourceFd(&socket.as_raw_fd()), visit_token(index), interest)?;
                Ok(socket)
            });
            match accepted {
                Ok(socket) => *place = Some(Visit::new(socket, now)),
                Err(error) => self.backlog = after(&error, now),
            }
        }
    }

    /// Takes a sample for the rates, if one is due. The turn must not have counted anything yet.
    pub(super) fn sample_rates(&mut self, now: Instant, pool: &Pool<TcpStream>) {
        if self.facts.rates.is_due(now) {
            self.facts.rates.sample(now, pool.counts.totals());
        }
    }

    /// Ends the visits and the pause that are due.
    pub(super) fn expire(&mut self, now: Instant, pool: &mut Pool<TcpStream>) {
        if !pool.take_due(Timer::Status, now) {
            return;
        }
        for place in &mut self.visits {
            if let Some(visit) = place.take_if(|visit| visit.deadline <= now) {
                visit.give_up();
            }
        }
        if matches!(self.backlog, Backlog::Paused(until) if until <= now) {
            self.backlog = Backlog::Reported;
        }
        arm(pool, self.next_deadline());
    }

    /// Accepts visits, and lets each do a part of its work.
    pub(super) fn serve<S: Sink>(&mut self, relay: &mut Relay<S>) {
        if !self.is_ready() {
            return;
        }
        self.accept(relay.poll.registry(), relay.now);
        let view = View {
            config: &relay.config,
            listen: relay.listen,
            pool: &relay.pool,
            targets: relay.choice.targets(),
            lookups: (!relay.names.is_empty()).then(|| relay.lookups()),
            now: relay.now,
            lines_dropped: relay.sink.dropped(),
            is_draining: matches!(relay.doors, Doors::Draining),
            facts: &self.facts,
        };
        serve(&mut self.visits, &view);
        arm(&mut relay.pool, self.next_deadline());
    }

    fn next_deadline(&self) -> Option<Instant> {
        let pause = match self.backlog {
            Backlog::Paused(until) => Some(until),
            _ => None,
        };
        self.visits.iter().flatten().map(|visit| visit.deadline).chain(pause).min()
    }
}

/// Returns message 137.
#[cold]
pub(super) fn unavailable(place: &StatusAddress, error: &io::Error) -> Message {
    let failure = StatusFailure { status: place.clone(), errno: error.into() };
    Message::StatusUnavailable { failure }
}

/// Returns the state of the backlog after a failed accept.
fn after(error: &io::Error, now: Instant) -> Backlog {
    match error.kind() {
        ErrorKind::WouldBlock => Backlog::Empty,
        // The next connection may be fine.
        ErrorKind::ConnectionAborted => Backlog::Reported,
        _ => Backlog::Paused(now + ACCEPT_PAUSE),
    }
}

/// Arms the timer, or disarms it. Without a visit or a pause, the service never wakes the relay.
fn arm(pool: &mut Pool<TcpStream>, deadline: Option<Instant>) {
    match deadline {
        Some(at) => pool.arm(Timer::Status, at),
        None => pool.disarm(Timer::Status),
    }
}

fn serve(visits: &mut [Option<Visit>], view: &View<'_>) {
    let mut may_answer = true;
    for place in visits {
        if place.as_mut().is_some_and(|visit| visit.is_ready && visit.go_on(view, &mut may_answer)) {
            *place = None;
        }
    }
}

fn visit_token(index: usize) -> Token {
    Token(STATUS.0 + 1 + index)
}

/// Returns the index of a token's visit; `None`: it is no visit's token.
fn visit(token: Token) -> Option<usize> {
    token.0.checked_sub(STATUS.0 + 1)
}

//! The loop: the sole owner of the poll instance, the tokens and the clock.
//!
//! A turn has named phases, in this order: wait for events; note readiness, without any I/O; work on
//! the sessions that can go on; resolve names; obey requests from outside; expire what is due; accept;
//! serve the status. Only accepting gives slots out. By then the turn's events are noted and the freed
//! slots have left the queues, so no event can reach a session that it was not meant for.

mod accept;
pub(crate) mod control;
mod edge;
pub(crate) mod error;
mod listener;
mod needs;
mod outcome;
pub(crate) mod privileges;
mod report;
mod resolving;
#[cfg(feature = "signals")]
mod signals;
pub(crate) mod start;
#[cfg(feature = "status")]
pub(crate) mod status;
#[cfg(not(feature = "status"))]
#[path = "status/absent.rs"]
mod status;
pub(crate) mod target;
mod tcp;
mod wait;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant, SystemTime};

use mio::net::TcpStream;
use mio::{Events, Poll};

use crate::config::Config;
use crate::limits::{EVENTS_PER_TURN, POOL_CHECK_MAX};
use crate::log::message::Message;
use crate::log::reason::Errno;
use crate::log::{Log, Sink};
use crate::pool::totals::Totals;
use crate::pool::{Pool, Timer};
use crate::relay::control::{Control, Handle};
use crate::relay::edge::{CONTROL, Edge, LISTENER, LOG, name_socket, session_side};
use crate::relay::error::WaitError;
use crate::relay::listener::Listener;
use crate::relay::report::Report;
use crate::relay::target::choice::{Choice, TargetState};
use crate::relay::target::names::Names;
use crate::session::ended::{Destination, Live};
use crate::session::stream::Readiness;

pub use outcome::Outcome;

/// Reads the monotonic clock. The relay reads it nowhere else.
fn now() -> Instant {
    Instant::now()
}

/// Reads the time of day.
fn time_of_day() -> SystemTime {
    SystemTime::now()
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
    /// The kernel's reports of this turn.
    events: Events,
    life: Life,
    doors: Doors,
    pool: Pool<TcpStream>,
    choice: Choice,
    names: Names,
    /// The first slot whose session has not looked at the news of a name yet; `None`: there is no news.
    look_from: Option<usize>,
    last_serial: u64,
    /// Message 126, which the first turn logs; `None`: no privileges were given up.
    given_up: Option<Message>,
    /// The part of the status that is logged next; `None`: none was asked for.
    report: Option<Report>,
    /// The service of the status; `None`: none was asked for.
    status: Option<Box<status::Service>>,
    /// The log's descriptor, registered while the log is blocked; `None`: it is not registered.
    log_registered: Option<RawFd>,
    /// When the absolute timeout ends the relay; `None`: never.
    ends_at: Option<Instant>,
    gathering: wait::Gathering,
    now: Instant,
}

/// How far the relay has come.
#[derive(Clone, Copy, Debug)]
enum Life {
    /// Listening, before the first turn.
    Bound,
    Running,
    Ended(Outcome),
    /// Ended by this error of the wait for events.
    Failed(Errno),
}

/// Whether the relay accepts connections.
#[derive(Debug)]
enum Doors {
    Open(Listener),
    /// The listener is closed, and the relay ends with its last session.
    Draining,
}

/// Lends the descriptor of the poll instance, which is readable while the relay has events.
impl<S> AsFd for Relay<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

impl<S: Sink> Relay<S> {
    /// Returns the address that the relay listens on. Its port is the system's choice if port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Returns a handle, which makes requests of the running relay from another thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.control.handle()
    }

    /// Returns the counts since the start. They are final once the relay has ended.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.pool.counts.totals()
    }

    /// Returns the first target, which is the one that messages name.
    fn first_target(&self) -> Destination {
        self.choice.targets()[0].target
    }

    /// Returns the numbers of name lookups since the start: those that found addresses, and those that failed.
    #[must_use]
    pub fn lookups(&self) -> [u64; 2] {
        self.names.lookups()
    }

    /// Returns the state of each target, in the order of the configuration.
    #[must_use]
    pub fn targets(&self) -> &[TargetState] {
        self.choice.targets()
    }

    /// Returns the live sessions.
    #[must_use]
    pub fn sessions(&self) -> Vec<Live> {
        control::live_sessions(&self.pool, self.now)
    }

    /// Relays until the absolute timeout, a stop, or the end of a drain. Then [`Handle::totals`] has the final counts.
    ///
    /// # Errors
    /// Waiting for events failed. The last message reports it.
    pub fn run(mut self) -> Result<Outcome, WaitError> {
        loop {
            if let Some(outcome) = self.run_turn(None)? {
                return Ok(outcome);
            }
        }
    }

    /// Runs one turn, for a program with a loop of its own. The first turn starts the relay.
    ///
    /// A turn waits for events, but no longer than `timeout`; `None`: as long as nothing is due. A program that
    /// waits for several things polls the relay's descriptor for reading, and calls this with a timeout of zero
    /// when it is readable or when [`next_deadline`](Self::next_deadline) has come. A request of a [`Handle`] makes
    /// the descriptor readable. A turn that was not needed does no harm.
    ///
    /// Returns why the relay has ended; `None`: it goes on. Further calls return the same, and do nothing else. A
    /// relay that has ended still answers [`totals`](Self::totals), [`sessions`](Self::sessions) and
    /// [`targets`](Self::targets). Drop it: until then, its port stays taken.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// use rustix::event::{PollFd, PollFlags, Timespec, poll};
    /// # use tcprelay::{Config, Message, Outcome, Relay};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = Config::new(([127, 0, 0, 1], 0).into(), ([192, 0, 2, 7], 80))?;
    /// # let mut relay = Relay::bind(config, |_: &Message| {})?;
    /// # relay.handle().drain();
    ///
    /// let outcome = loop {
    ///     let rest = relay.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
    ///     let rest = rest.map(Timespec::try_from).transpose()?;
    ///     // The program's own descriptors and timers belong in here as well.
    ///     poll(&mut [PollFd::new(&relay, PollFlags::IN)], rest.as_ref())?;
    ///     if let Some(outcome) = relay.turn(Some(Duration::ZERO))? {
    ///         break outcome;
    ///     }
    /// };
    /// println!("{outcome:?}: {}", relay.totals());
    /// # assert_eq!((outcome, relay.totals().accepted), (Outcome::Drained, 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Waiting for events failed, and the relay has ended. The last message reports it.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<Option<Outcome>, WaitError> {
        // The caller may have done other things since the last turn.
        self.now = now();
        let outcome = self.run_turn(timeout)?;
        if outcome.is_none() {
            // The caller may wait for something else before the next turn, so the lines go out now.
            self.pass_lines_on();
        }
        Ok(outcome)
    }

    fn run_turn(&mut self, timeout: Option<Duration>) -> Result<Option<Outcome>, WaitError> {
        match self.life {
            Life::Bound => {
                self.start();
                self.life = Life::Running;
            }
            Life::Running => {}
            Life::Ended(outcome) => return Ok(Some(outcome)),
            Life::Failed(errno) => return Err(WaitError(io::Error::from_raw_os_error(errno.0))),
        }
        if let Err(error) = self.wait(timeout) {
            self.life = Life::Failed(Errno::from(&error.0));
            self.finish(&Message::from(&error));
            return Err(error);
        }
        let more_events = self.note();
        if let Some(status) = &mut self.status {
            status.sample_rates(self.now, &self.pool);
        }
        self.work();
        self.resolve_names();
        if let Some(outcome) = self.obey().or_else(|| self.expire(more_events)).or_else(|| self.drained()) {
            self.finish(&outcome.message());
            self.life = Life::Ended(outcome);
            return Ok(Some(outcome));
        }
        if self.pool.take_freed() {
            self.resume_accepting();
        }
        let last_serial = self.last_serial;
        self.accept();
        if let Some(mut status) = self.status.take() {
            status.serve(self);
            self.status = Some(status);
        }
        self.log_report();
        self.hold_lines(self.last_serial > last_serial);
        self.check();
        Ok(None)
    }

    // ----- note

    /// Notes the reports of this turn. Returns whether the kernel may have more of them.
    fn note(&mut self) -> bool {
        for event in &self.events {
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
                    } else if let Some(slot) = name_socket(token) {
                        self.names.note(slot);
                    } else if let Some(status) = &mut self.status {
                        status.note(token);
                    }
                }
            }
        }
        self.events.iter().count() == EVENTS_PER_TURN
    }

    // ----- work, obey and expire

    fn work(&mut self) {
        let (pool, now, mut edge) = self.pool_and_edge();
        pool.work(now, &mut edge);
    }

    /// Borrows the pool, and the rest of the relay as the pool's host.
    fn pool_and_edge(&mut self) -> (&mut Pool<TcpStream>, Instant, Edge<'_, S>) {
        let registry = self.poll.registry();
        let (sink, config, choice) = (&mut self.sink, &self.config, &mut self.choice);
        let names = &mut self.names;
        (&mut self.pool, self.now, Edge { registry, sink, config, choice, names, now: self.now })
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
        if self.control.take_ask() {
            self.control.answer(&self.pool, self.now);
        }
        if self.control.take_look_up() {
            self.look_names_up();
        }
        if self.control.take_report() {
            self.report = Some(Report::Totals);
        }
        None
    }

    /// Fires the timers that are due. With `more_events`, the kernel may have reports that were not read yet.
    fn expire(&mut self, more_events: bool) -> Option<Outcome> {
        // Most turns end here.
        if self.pool.is_quiet(self.now) {
            return None;
        }
        if self.pool.take_due(Timer::Absolute, self.now) {
            match self.ends_at {
                Some(end) if end > self.now => self.pool.arm(Timer::Absolute, end),
                _ => return Some(Outcome::AbsoluteTimeout),
            }
        }
        if self.pool.take_due(Timer::Accept, self.now) {
            self.resume_accepting();
        }
        if let Some(status) = &mut self.status {
            status.expire(self.now, &mut self.pool);
        }
        let (pool, now, mut edge) = self.pool_and_edge();
        pool.expire(now, more_events, &mut edge);
        None
    }

    fn drained(&self) -> Option<Outcome> {
        let draining = matches!(self.doors, Doors::Draining);
        (draining && self.pool.slots().is_empty()).then_some(Outcome::Drained)
    }

    // ----- the end

    /// Cuts the sessions, publishes the final totals and logs the last line.
    #[cold]
    fn finish(&mut self, message: &Message) {
        self.pool.stop();
        self.control.end(self.totals());
        self.sink.close(message);
    }

    /// Checks the pool's invariants at the end of a turn, in debug builds. The check visits every slot,
    /// so a large pool is not checked.
    fn check(&self) {
        if cfg!(debug_assertions) && self.config.sessions() <= POOL_CHECK_MAX {
            self.pool.check();
        }
    }
}

#[cfg(test)]
mod tests;

//! The loop: the sole owner of the poll instance, the tokens, the pool and the clock.
//!
//! A turn has named phases, in this order: wait for events; note readiness, without any I/O; obey
//! what was asked from outside; work on the sessions that can go on; expire what is due; accept.
//! A slot of the pool is freed only in work and expire and given out only in accept, when the
//! turn's events are done with: no event can reach a session that it was not meant for.

mod accept;
pub(crate) mod control;
mod listener;
mod start;
mod target;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};
use std::{io, mem};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::config::Config;
use crate::limits::{EVENTS_PER_TURN, MESSAGES_LINGER, TICK};
use crate::log::Log;
use crate::log::message::Message;
use crate::pool::slots::{Pool, Slot};
use crate::pool::totals::Totals;
use crate::pool::wheel::Wheel;
use crate::relay::control::{Control, Handle};
use crate::relay::listener::Listener;
use crate::relay::start::Needs;
use crate::session::ended::Cause;
use crate::session::pipes::Pipes;
use crate::session::stream::Readiness;
use crate::session::{Shared, Side, Timeouts, Verdict};
use crate::sys::errno;
use crate::sys::outq::KernelQueue;

// Tokens: these, and above them two for each session, by its key in the pool.
const LISTENER: Token = Token(0);
const CONTROL: Token = Token(1);
const LOG: Token = Token(2);
const FIRST_SESSION: usize = 4;

fn token(key: usize, side: Side) -> Token {
    Token(FIRST_SESSION + 2 * key + usize::from(side == Side::Target))
}

fn session_side(token: Token) -> Option<(usize, Side)> {
    let number = token.0.checked_sub(FIRST_SESSION)?;
    Some((number / 2, if number % 2 == 0 { Side::Requester } else { Side::Target }))
}

/// What the kernel is to report of a session's socket. Errors it always reports.
fn interest(muted: bool) -> Interest {
    if muted {
        return Interest::WRITABLE;
    }
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

/// A relay that is ready to run: it listens.
#[derive(Debug)]
pub struct Relay {
    config: Config,
    /// The address that it listens on.
    listen: SocketAddr,
    log: Log,
    control: Control,
    poll: Poll,
    /// `None` while draining.
    listener: Option<Listener>,
    pool: Pool,
    /// Keys of sessions to work on in this turn, each once.
    ready: VecDeque<usize>,
    /// Those of sessions that stream, which wait for the others and share what a turn moves.
    streaming: VecDeque<usize>,
    /// The session that last carried a message, by its key, and when.
    last_message: Option<(usize, Instant)>,
    /// Timers of the sessions by key, then the relay's own.
    wheel: Wheel,
    shared: Shared,
    last_serial: u64,
    totals: Totals,
    /// What the status is to tell of next.
    reporting: Option<Report>,
    /// The log's descriptor while it is registered, because it is blocked.
    log_registered: Option<RawFd>,
    /// When the absolute timeout ends the relay.
    ends_at: Option<Instant>,
    now: Instant,
}

/// What the status is to tell of next.
#[derive(Clone, Copy, Debug)]
enum Report {
    Totals,
    /// The sessions from this key on.
    Sessions(usize),
}

impl Relay {
    /// Binds the listener. The time of the absolute timeout begins now.
    ///
    /// # Errors
    /// The message that says why the relay cannot start: 1, 11 to 14, or 112 to 114.
    pub fn bind(config: Config, log: Log) -> Result<Self, Message> {
        start::check(&config)?;
        let listener = Listener::bind(&config)?;
        Self::assemble(config, log, listener)
    }

    /// As [`bind`](Self::bind), with a socket that listens already: that of a service manager.
    /// It must be what `--bind`, `--reuse-port` and `<fwd port>` say.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind), 115 and 130.
    pub fn with_listener(config: Config, log: Log, listener: std::net::TcpListener) -> Result<Self, Message> {
        start::check(&config)?;
        let listener = Listener::inherit(listener, &config)?;
        Self::assemble(config, log, listener)
    }

    /// What can be told before anything is bound: whether a relay with this configuration could
    /// start here.
    ///
    /// # Errors
    /// The message that says why not: 1 or 112 to 114.
    pub fn check(config: &Config) -> Result<(), Message> {
        start::check(config)?;
        start::check_target(config, config.listener())
    }

    fn assemble(config: Config, log: Log, mut listener: Listener) -> Result<Self, Message> {
        let unavailable = |error: io::Error| Message::PollUnavailable(errno(&error));
        let address = listener.address().map_err(unavailable)?;
        start::check_target(&config, address)?;
        let poll = Poll::new().map_err(unavailable)?;
        let mut control = Control::new().map_err(unavailable)?;
        listener.watch(poll.registry(), LISTENER).map_err(unavailable)?;
        poll.registry().register(control.socket(), CONTROL, Interest::READABLE).map_err(unavailable)?;

        let slots = config.pool();
        let now = Instant::now();
        Ok(Self {
            listen: address,
            log,
            control,
            poll,
            listener: Some(listener),
            pool: Pool::new(&config),
            ready: VecDeque::with_capacity(slots),
            streaming: VecDeque::with_capacity(slots),
            last_message: None,
            wheel: Wheel::new(slots + 2, now),
            shared: Shared {
                pipes: Pipes::new(config.splice),
                queue: KernelQueue::default(),
                beside_messages: false,
                moved: 0,
                target: config.target,
                timeouts: Timeouts { connect: config.connect_timeout, idle: config.idle_timeout },
            },
            last_serial: 0,
            totals: Totals::default(),
            reporting: None,
            log_registered: None,
            ends_at: Some(config.absolute_timeout).filter(|time| !time.is_zero()).map(|time| now + time),
            now,
            config,
        })
    }

    /// A handle to ask the running relay for things from another thread.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn handle(&self) -> io::Result<Handle> {
        self.control.handle()
    }

    /// Lets the process's signals ask for the same things: SIGTERM and SIGINT to stop, SIGQUIT to
    /// drain, SIGUSR1 to report. SIGXFSZ no longer kills the process.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn listen_to_signals(&self) -> io::Result<()> {
        self.control.listen_to_signals()
    }

    /// Relays until the absolute timeout, a stop, or the end of a drain.
    ///
    /// # Errors
    /// The message that was logged last, where waiting for events failed for good.
    pub fn run(mut self) -> Result<Outcome, Message> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        self.start();
        loop {
            if let Err(message) = self.wait(&mut events) {
                self.finish(&message);
                return Err(message);
            }
            self.note(&events);
            self.work();
            let more_events = events.iter().count() == EVENTS_PER_TURN;
            let outcome = self.obey().or_else(|| self.expire(more_events)).or_else(|| self.drained());
            if let Some(outcome) = outcome {
                self.finish(match outcome {
                    Outcome::AbsoluteTimeout => &Message::AbsoluteTimeout,
                    Outcome::Stopped => &Message::StopSignal,
                    Outcome::Drained => &Message::Drained,
                });
                return Ok(outcome);
            }
            self.accept();
            self.report();
            self.log.end_turn();
            self.watch_log();
        }
    }

    fn start(&mut self) {
        self.log.say(&Message::Active(self.listen.port(), self.config.target));
        if self.listen.ip() != Ipv4Addr::UNSPECIFIED {
            self.log.say(&Message::Listening(self.listen));
        }
        let needs = Needs::of(&self.config);
        if self.config.sessions.is_some() {
            self.log.say(&Message::PoolNeeds(needs.sessions, needs.descriptors, needs.bytes.div_ceil(1024)));
        }
        if let Err(message) = needs.raise_descriptor_limit() {
            self.log.say(&message);
        }
        self.log.flush();
        self.watch_log();
        if let Some(end) = self.ends_at {
            self.wheel.arm(self.absolute_timer(), end);
        }
    }

    // ----- wait and note

    fn wait(&mut self, events: &mut Events) -> Result<(), Message> {
        let mut timeout = self.sleep();
        while let Err(error) = self.poll.poll(events, timeout) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(Message::WaitFailed(errno(&error)));
            }
            // What interrupts a wait may have lasted: without events, nobody can be called idle.
            timeout = Some(Duration::ZERO);
        }
        self.now = Instant::now();
        Ok(())
    }

    /// How long the loop may sleep; `None`: until something happens.
    fn sleep(&self) -> Option<Duration> {
        if !self.ready.is_empty() || !self.streaming.is_empty() || self.can_accept() {
            return Some(Duration::ZERO);
        }
        self.wheel.next().map(|next| next.saturating_duration_since(Instant::now()))
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                LISTENER => {
                    if let Some(listener) = &mut self.listener {
                        listener.note_waiting();
                    }
                }
                CONTROL => self.control.acknowledge(),
                LOG => self.log.flush(),
                token => {
                    let Some((key, side)) = session_side(token) else { continue };
                    let Some(slot) = self.pool.get_mut(key) else { continue };
                    slot.session.note(side, Readiness::from(event));
                    self.enqueue(key);
                }
            }
        }
    }

    fn enqueue(&mut self, key: usize) {
        if let Some(slot) = self.pool.get_mut(key)
            && !mem::replace(&mut slot.queued, true)
        {
            let queue = if slot.session.streams() { &mut self.streaming } else { &mut self.ready };
            queue.push_back(key);
        }
    }

    // ----- work

    fn work(&mut self) {
        let (messages, streams) = (self.ready.len(), self.streaming.len());
        self.shared.beside_messages = self.messages_linger();
        for _ in 0..messages {
            let Some(key) = self.ready.pop_front() else { break };
            self.work_on(key);
            self.last_message = Some((key, self.now));
        }
        self.shared.beside_messages = self.messages_linger();
        // Each byte moves twice, in and out.
        let enough = self.shared.moved + 2 * self.shared.share() as u64;
        for _ in 0..streams {
            if self.shared.moved >= enough {
                return;
            }
            let Some(key) = self.streaming.pop_front() else { break };
            self.work_on(key);
        }
    }

    /// Whether a message has passed of late. A session that streams by now only paused for a moment.
    fn messages_linger(&self) -> bool {
        self.last_message.is_some_and(|(key, at)| {
            let streams = self.pool.get(key).is_some_and(|slot| slot.session.streams());
            self.now < at + MESSAGES_LINGER && !streams
        })
    }

    fn work_on(&mut self, key: usize) {
        // A session that ended while it was queued has left its key behind.
        let Some(slot) = self.pool.get_mut(key) else { return };
        slot.queued = false;
        let verdict = slot.session.work(self.now, &mut self.shared);
        self.settle(key, verdict);
    }

    /// Does what a session wants, and keeps its timer in line.
    fn settle(&mut self, key: usize, verdict: Verdict) {
        match verdict {
            Verdict::End => return self.end(key),
            Verdict::Connected => {
                if let Err(cause) = self.start_relaying(key) {
                    return self.fail(key, cause, None);
                }
                self.enqueue(key);
            }
            Verdict::Again => self.enqueue(key),
            Verdict::Wait => {}
        }
        if let Err((cause, error)) = self.follow_muting(key) {
            return self.fail(key, cause, Some(errno(&error)));
        }
        // A later deadline is found when the timer fires; only an earlier one must be told.
        let deadline = self.pool[key].session.deadline(self.shared.timeouts);
        if self.wheel.deadline(key).is_none_or(|armed| deadline + TICK < armed) {
            self.wheel.arm(key, deadline);
        }
    }

    fn start_relaying(&mut self, key: usize) -> Result<(), Cause> {
        let session = &mut self.pool[key].session;
        let identity = session.identity(self.config.target);
        self.log.say(&Message::Connected(identity));
        self.log.say(&Message::RelaysStarted(identity));

        let preface = match self.config.proxy_protocol {
            Some(version) => {
                target::proxy_header(version, session.socket(Side::Requester).stream(), identity.requester)
            }
            None => Vec::new(),
        };
        session.start_relaying(self.config.buf, &preface, self.now)?;
        self.log.say(&Message::RequesterChannelActive(identity));
        self.log.say(&Message::TargetChannelActive(identity));
        Ok(())
    }

    fn fail(&mut self, key: usize, cause: Cause, errno: Option<i32>) {
        self.pool[key].session.blame(cause, errno);
        self.end(key);
    }

    /// Frees a slot: the only place where sessions end.
    fn end(&mut self, key: usize) {
        self.wheel.disarm(key);
        let session = self.pool.remove(key);
        let ended = session.end(self.now, &mut self.shared);
        self.totals.add(&ended);
        self.log.say(&ended.into());
        // It gave descriptors and memory back.
        self.resume_accepting();
    }

    // ----- obey and expire

    fn obey(&mut self) -> Option<Outcome> {
        if self.control.take_stop() {
            return Some(Outcome::Stopped);
        }
        if self.control.take_drain() {
            if self.listener.is_none() {
                return Some(Outcome::Stopped);
            }
            self.stop_listening();
            self.log.say(&Message::DrainSignal(self.pool.len()));
        }
        if self.control.take_report() {
            self.reporting = Some(Report::Totals);
        }
        None
    }

    /// Lets the timers that are due fire. With `more_events`, bytes may wait that were not
    /// reported yet, so that no session can be called idle; nor can one that was not worked on yet.
    fn expire(&mut self, more_events: bool) -> Option<Outcome> {
        while let Some(timer) = self.wheel.expire(self.now) {
            if timer == self.absolute_timer() {
                match self.ends_at {
                    Some(end) if end > self.now => self.wheel.arm(timer, end),
                    _ => return Some(Outcome::AbsoluteTimeout),
                }
            } else if timer == self.accept_timer() {
                self.resume_accepting();
            } else if more_events || self.pool[timer].queued {
                self.wheel.arm(timer, self.now);
            } else {
                let verdict = self.pool[timer].session.expire(self.now, &mut self.shared);
                self.settle(timer, verdict);
            }
        }
        None
    }

    fn drained(&self) -> Option<Outcome> {
        (self.listener.is_none() && self.pool.is_empty()).then_some(Outcome::Drained)
    }

    fn absolute_timer(&self) -> usize {
        self.config.pool()
    }

    fn accept_timer(&self) -> usize {
        self.config.pool() + 1
    }

    // ----- sockets of sessions

    fn register(&mut self, key: usize, side: Side) -> io::Result<()> {
        let stream = self.pool[key].session.socket(side).stream_mut();
        self.poll.registry().register(stream, token(key, side), interest(false))
    }

    /// Registers again the sockets of which a session wants other reports than before.
    fn follow_muting(&mut self, key: usize) -> Result<(), (Cause, io::Error)> {
        let Slot { session, muted, .. } = &mut self.pool[key];
        for side in [Side::Requester, Side::Target] {
            let socket = session.socket(side);
            let (before, now) = (&mut muted[usize::from(side == Side::Target)], socket.is_muted());
            if *before != now {
                *before = now;
                let registry = self.poll.registry();
                registry
                    .reregister(socket.stream_mut(), token(key, side), interest(now))
                    .map_err(|error| (Cause::RelayNotStarted(side), error))?;
            }
        }
        Ok(())
    }

    // ----- status, log and limits

    /// Tells the totals and as many live sessions as the log has room for; goes on in the next turn.
    fn report(&mut self) {
        let first = match self.reporting {
            None => return,
            Some(Report::Sessions(first)) => first,
            Some(Report::Totals) => {
                if !self.log.make_room() {
                    return;
                }
                let totals = self.totals_with_live();
                self.log.say(&Message::Status(self.pool.len(), self.log.dropped(), totals));
                0
            }
        };
        for (key, session) in self.pool.sessions_from(first) {
            if !self.log.make_room() {
                self.reporting = Some(Report::Sessions(key));
                return;
            }
            self.log.say(&Message::StatusSession(session.live(self.now, self.config.target)));
        }
        self.reporting = None;
    }

    /// The totals, with what the live sessions have moved up to now.
    fn totals_with_live(&self) -> Totals {
        let mut totals = self.totals;
        for (_, session) in self.pool.sessions_from(0) {
            let live = session.live(self.now, self.config.target);
            totals.to_target += live.summary.to_target;
            totals.to_requester += live.summary.to_requester;
        }
        totals
    }

    /// While the log is blocked, the poll instance tells when it no longer is. Outputs that cannot
    /// be watched, such as a full disk, are tried again with the next line.
    fn watch_log(&mut self) {
        let blocked = self.log.blocked_on();
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

    /// The last line, and the end of the sessions, which are cut.
    fn finish(&mut self, message: &Message) {
        for session in self.pool.drain() {
            let _ = session.end(self.now, &mut self.shared);
        }
        self.log.say(message);
        self.log.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, pipe};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::cli::{Request, parse};

    /// A relay on a port of the system's choice with these arguments behind it, its address, and the log.
    fn relay(arguments: &str) -> (Relay, SocketAddr, PipeReader) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let own = listener.local_addr().unwrap();
        let line = format!("{} {arguments}", own.port());
        let Ok(Request::Run(config)) = parse(line.split(' ').map(Into::into)) else { panic!() };
        let (lines, log) = pipe().unwrap();
        // However late they are read, no line is dropped.
        rustix::pipe::fcntl_setpipe_size(&log, 1 << 20).unwrap();
        let log = Log::to(log.into(), config.log());
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
            assert!(relay.wheel.next().is_some_and(|next| next <= end + TICK));
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
        relay.shared.target = own;
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
        assert_eq!(run.join().unwrap(), Ok(Outcome::Stopped));
        assert_eq!(allocated, crate::limits::SESSIONS / 2);
    }
}

//! Waiting for events, and passing the log's lines on before the loop sleeps. The lines of turns that
//! follow each other at once go out together.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::SourceFd;

use crate::limits::{LAST_WAIT_SHARE, LINES_HELD_MAX, LOOKS_SKIPPED_MAX, PUNCTUAL_WAIT_MAX};
use crate::log::Sink;
use crate::pool::Wake;
use crate::relay::edge::LOG;
use crate::relay::error::WaitError;
use crate::relay::{Life, Relay, now};

impl<S: Sink> Relay<S> {
    /// Returns when the relay needs its next turn, events or not. A time in the past means at once, as before
    /// the first turn. `None`: not before an event.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let has_visits = self.status.as_ref().is_some_and(|status| status.is_ready());
        let has_more = self.can_accept() || self.can_report() || has_visits || self.look_from.is_some();
        if matches!(self.life, Life::Bound) || has_more {
            return Some(self.now);
        }
        let pool = match self.pool.wakes_at() {
            Wake::Now => return Some(self.now),
            Wake::At(at) => Some(at),
            Wake::Never => None,
        };
        pool.into_iter().chain(self.names.wakes_at(self.now)).min()
    }

    pub(super) fn wait(&mut self, most: Option<Duration>) -> Result<(), WaitError> {
        let timeout = self.sleep(most);
        if self.gathering.is_holding() {
            match self.gathering.next(timeout, self.now) {
                Next::Hold => {}
                Next::Look => {
                    self.poll(Some(Duration::ZERO))?;
                    if self.gathering.looked(!self.events.is_empty()) {
                        return Ok(());
                    }
                    self.pass_lines_on();
                }
                Next::PassOn => self.pass_lines_on(),
            }
        }
        self.poll(timeout)
    }

    fn poll(&mut self, mut timeout: Option<Duration>) -> Result<(), WaitError> {
        while let Err(error) = self.poll.poll(&mut self.events, timeout) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(WaitError(error));
            }
            // A signal handler or a SIGSTOP may have taken long. Poll again without waiting, so that
            // no session is called idle while its events are unread.
            timeout = Some(Duration::ZERO);
        }
        self.now = now();
        Ok(())
    }

    /// Returns how long the loop may sleep; `None`: until something happens. It counts from the end of the last
    /// wait, which spares a look at the clock: a deadline after a turn is then late by as much as one within it.
    fn sleep(&self, most: Option<Duration>) -> Option<Duration> {
        let sleep = self.next_deadline().map(|at| punctual(at.saturating_duration_since(self.now)));
        match (sleep, most) {
            (Some(sleep), Some(most)) => Some(sleep.min(most)),
            (sleep, most) => sleep.or(most),
        }
    }

    /// Holds the lines of this turn, because the next turn may follow at once with more.
    pub(super) fn hold_lines(&mut self, has_opened: bool) {
        if self.sink.is_gathering() {
            self.gathering.hold(has_opened, self.now);
        } else {
            self.pass_lines_on();
        }
    }

    /// Has the sink pass on the lines of this turn and of those before it.
    pub(super) fn pass_lines_on(&mut self) {
        self.gathering.since = None;
        self.sink.end_turn();
        self.watch_log();
    }

    /// Watches the log's output while it is blocked. An output that cannot be watched, such as a file on
    /// a full disk, is tried again with the next line.
    pub(super) fn watch_log(&mut self) {
        let blocked = self.sink.blocked_on().map(|descriptor| descriptor.as_raw_fd());
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
}

/// Returns how long to sleep for a deadline that is `rest` away. The kernel may end a wait late by a thousandth
/// of it, or by a 200th if the process was niced, but by 100 ms at most. So a long wait ends before the deadline,
/// and a short one covers the last part.
fn punctual(rest: Duration) -> Duration {
    if rest > PUNCTUAL_WAIT_MAX { rest.saturating_sub(rest / LAST_WAIT_SHARE) } else { rest }
}

/// The lines held for those of the next turn, and whether a look for events pays before they go out.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// When the first line was held; `None`: no line is held.
    since: Option<Instant>,
    /// Whether the last turn opened a session, whose target may have answered by now.
    has_opened: bool,
    /// Looks after turns that opened no session, and after those that did.
    looks: [Look; 2],
}

/// How often the relay looks for events: ever more rarely while it finds none.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Turns left without a look.
    skip: u8,
    /// Turns without a look after the last one; 0 if that found events.
    skipped: u8,
}

/// The next step for the lines that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Hold them, because the next turn comes at once.
    Hold,
    /// Hold them if there are events already, and pass them on otherwise.
    Look,
    /// Pass them on.
    PassOn,
}

impl Gathering {
    fn is_holding(&self) -> bool {
        self.since.is_some()
    }

    fn hold(&mut self, has_opened: bool, now: Instant) {
        self.since = self.since.or(Some(now));
        self.has_opened = has_opened;
    }

    fn next(&mut self, timeout: Option<Duration>, now: Instant) -> Next {
        if self.since.is_none_or(|since| since + LINES_HELD_MAX <= now) {
            return Next::PassOn;
        }
        if timeout == Some(Duration::ZERO) {
            return Next::Hold;
        }
        let look = self.look();
        if look.skip > 0 {
            look.skip -= 1;
            return Next::PassOn;
        }
        Next::Look
    }

    /// Notes whether a look found events, and returns it.
    fn looked(&mut self, found: bool) -> bool {
        let look = self.look();
        look.skipped = if found { 0 } else { (2 * look.skipped).clamp(1, LOOKS_SKIPPED_MAX) };
        look.skip = look.skipped;
        found
    }

    fn look(&mut self) -> &mut Look {
        &mut self.looks[usize::from(self.has_opened)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{LATE_MAX, TICK};

    #[test]
    fn lines_wait_for_turns_that_follow_at_once_but_no_longer_than_their_bound() {
        let start = Instant::now();
        let mut gathering = Gathering::default();
        gathering.hold(false, start);
        assert_eq!(gathering.next(Some(Duration::ZERO), start), Next::Hold);
        gathering.hold(false, start + LINES_HELD_MAX / 2);
        assert_eq!(gathering.next(Some(Duration::ZERO), start + LINES_HELD_MAX / 2), Next::Hold);
        assert_eq!(gathering.next(Some(Duration::ZERO), start + LINES_HELD_MAX), Next::PassOn);
        assert_eq!(gathering.next(None, start + LINES_HELD_MAX), Next::PassOn);
    }

    #[test]
    fn looks_that_find_nothing_become_rare_and_one_that_finds_events_brings_them_back() {
        let start = Instant::now();
        let mut gathering = Gathering::default();
        let mut looks = |turns: usize, found: bool| {
            (0..turns)
                .filter(|_| {
                    gathering.hold(true, start);
                    let looks = gathering.next(None, start) == Next::Look;
                    if looks {
                        gathering.looked(found);
                    }
                    looks
                })
                .count()
        };
        // Looks come after 1, 2, 4, 8, 16 and 32 turns without one, and then after every 64.
        assert_eq!(looks(1 + 2 + 3 + 5 + 9 + 17 + 33, false), 7);
        assert_eq!(looks(650, false), 10);
        assert_eq!(looks(65, true), 1);
        assert_eq!(looks(100, true), 100);
    }

    #[test]
    fn the_last_wait_for_a_deadline_ends_in_time_even_if_each_wait_is_as_late_as_it_may_be() {
        let slack = |wait: Duration| (wait / 200).min(Duration::from_millis(100));
        for seconds in 1..=100_000 {
            let (mut rest, mut waits) = (Duration::from_secs(seconds), 0);
            let late = loop {
                let wait = punctual(rest);
                waits += 1;
                if wait == rest {
                    break slack(wait);
                }
                rest = rest.checked_sub(wait + slack(wait)).unwrap();
            };
            assert!(late + TICK < LATE_MAX && waits <= 4, "{seconds} s: {late:?} late after {waits} waits");
        }
    }

    #[test]
    fn looks_after_turns_that_opened_a_session_are_counted_separately() {
        let start = Instant::now();
        let mut gathering = Gathering::default();
        gathering.hold(false, start);
        assert_eq!(gathering.next(None, start), Next::Look);
        gathering.looked(false);
        assert_eq!(gathering.next(None, start), Next::PassOn);
        gathering.hold(true, start);
        assert_eq!(gathering.next(None, start), Next::Look);
    }
}

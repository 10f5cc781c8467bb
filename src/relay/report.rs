//! The status that SIGUSR1 asks for: the totals, the targets, then a line for each live session.
//!
//! Each turn logs a bounded part of it, and no more than the log has room for.

use crate::limits::STATUS_SLOTS_PER_TURN;
use crate::log::Sink;
use crate::log::message::Message;
use crate::relay::Relay;

/// The part of the status that is logged next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    /// The totals and the targets.
    Totals,
    /// The sessions from this key on.
    Sessions(usize),
}

impl<S: Sink> Relay<S> {
    /// Returns whether a part of the status can be logged now.
    pub(super) fn can_report(&self) -> bool {
        self.report.is_some() && self.sink.blocked_on().is_none()
    }

    /// Logs the next part of the status, if one was asked for.
    pub(super) fn log_report(&mut self) {
        let Some(report) = self.report else { return };
        if !self.sink.make_room() {
            return;
        }
        self.report = match report {
            Report::Totals => {
                let (sessions, lines_dropped) = (self.pool.slots().len(), self.sink.dropped());
                self.sink.message(&Message::Status {
                    sessions,
                    totals: self.pool.counts.totals(),
                    lines_dropped,
                });
                self.log_targets();
                Some(Report::Sessions(0))
            }
            Report::Sessions(first) => self.log_sessions(first),
        };
    }

    /// Logs the state of the targets, if there are several addresses. The targets are few enough for one turn.
    #[cold]
    fn log_targets(&mut self) {
        for target in self.choice.targets().iter().filter(|_| self.choice.has_alternatives()) {
            let [refused, expired, unreachable, own_failures] = target.failures;
            let (target, state) = (target.target, target.state());
            let message =
                Message::StatusTarget { target, state, refused, expired, unreachable, own_failures };
            self.sink.message(&message);
        }
    }

    /// Logs the sessions of the next slots, and returns the part that follows.
    fn log_sessions(&mut self, first: usize) -> Option<Report> {
        let end = first + STATUS_SLOTS_PER_TURN;
        for (key, session) in self.pool.slots().iter_from(first).take_while(|&(key, _)| key < end) {
            if !self.sink.make_room() {
                return Some(Report::Sessions(key));
            }
            self.sink.message(&Message::StatusSession { live: session.live(self.now) });
        }
        (end < self.config.sessions()).then_some(Report::Sessions(end))
    }
}

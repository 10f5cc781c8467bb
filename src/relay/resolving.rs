//! The names of targets in the relay's turns: when they are looked up, and the effects of the answers.
//!
//! A session asks when it is let in, and gets the addresses that are known. If there are none, it waits for
//! one in its slot, like a session that connects. News of a name goes to the choice of targets and to the
//! log. Then the sessions that wait look for a target again, those of a limited number of slots in each turn.

use std::net::{IpAddr, SocketAddr};

use crate::config::Target;
use crate::limits::ADDRESSES_TRIED_MAX;
use crate::log::Sink;
use crate::log::message::Message;
use crate::log::reason::Addresses;
use crate::relay::Relay;
use crate::relay::start::leads_back;
use crate::relay::target::can_serve;
use crate::resolve::Outcome;
use crate::sys::net::has_way_to;

impl<S: Sink> Relay<S> {
    /// Asks for the addresses of the targets that are names, for a session that is let in.
    pub(super) fn ask_names(&mut self) {
        if self.names.is_empty() {
            return;
        }
        let until = self.now + self.config.connect_timeout;
        self.names.ask(until, self.poll.registry(), self.now);
        self.take_news();
    }

    /// Looks all names up at once.
    pub(super) fn look_names_up(&mut self) {
        self.names.ask_all(self.poll.registry(), self.now);
    }

    /// Reads the answers that have arrived, and lets the sessions that wait go on.
    pub(super) fn resolve_names(&mut self) {
        if self.names.is_empty() {
            return;
        }
        self.names.work(self.poll.registry(), self.now);
        self.take_news();
        if let Some(first) = self.look_from.take() {
            let (pool, now, mut edge) = self.pool_and_edge();
            self.look_from = pool.look_again(first, now, &mut edge);
        }
    }

    fn take_news(&mut self) {
        while let Some((index, outcome)) = self.names.next_report() {
            let Some(target) = self.config.targets().nth(index) else { continue };
            let name = target.host.to_string();
            let failure = match outcome {
                Outcome::Resolved { addresses } => {
                    let usable = self.usable(target, &addresses);
                    self.choice.resolved(index, &usable);
                    usable.is_empty().then(|| NONE_USABLE.into())
                }
                Outcome::Failed { why, .. } => Some(why.to_string()),
            };
            if failure.is_some() {
                self.choice.not_resolved(index);
            }
            let addresses = Addresses(self.choice.addresses_of(index).map(|address| address.ip()).collect());
            let message = match failure {
                None => Message::NameResolved { name, addresses },
                Some(reason) => Message::NameNotResolved { name, reason, addresses },
            };
            self.sink.message(&message);
            self.look_from = Some(0);
        }
    }

    /// Returns the addresses of a target's name that sessions can connect to. It leaves out the relay's own
    /// listener, and those of a family in which no connection from `--source` exists. Addresses without a route
    /// from this host come last.
    fn usable(&self, target: &Target, addresses: &[IpAddr]) -> Vec<SocketAddr> {
        let is_usable = |address: &SocketAddr| {
            let suits = self.config.source.is_none_or(|source| can_serve(source, *address, self.listen));
            suits && !leads_back(*address, &self.config, self.listen)
        };
        let addresses = addresses.iter().map(|&address| SocketAddr::from((address, target.port)));
        let (mut usable, others): (Vec<_>, Vec<_>) =
            addresses.filter(is_usable).partition(|&address| has_way_to(address));
        usable.extend(others);
        usable.truncate(ADDRESSES_TRIED_MAX);
        usable
    }
}

const NONE_USABLE: &str = "its addresses are this relay's own, or not of the family of --source";

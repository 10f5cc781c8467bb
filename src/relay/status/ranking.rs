//! The sessions that an answer lists: the first ones in an order. Each turn searches a part of the pool.

use mio::net::TcpStream;

use crate::limits::{STATUS_LISTED, STATUS_RANKED_PER_TURN};
use crate::pool::Pool;
use crate::relay::status::http::Order;
use crate::session::Session;
use crate::session::ended::{Live, Serial};

/// The first sessions found so far.
#[derive(Debug)]
pub(super) struct Ranking {
    order: Order,
    /// Rank, key and serial number of each, the highest rank first.
    found: Vec<(u64, usize, Serial)>,
    /// The slot to look at next.
    next: usize,
}

impl Ranking {
    pub(super) fn new(order: Order) -> Self {
        Self { order, found: Vec::with_capacity(STATUS_LISTED), next: 0 }
    }

    /// Looks at a turn's share of the pool's slots. Returns whether those were the last ones.
    pub(super) fn look(&mut self, pool: &Pool<TcpStream>, size: usize, now: std::time::Instant) -> bool {
        let end = self.next + STATUS_RANKED_PER_TURN;
        for (key, session) in pool.slots().iter_from(self.next).take_while(|&(key, _)| key < end) {
            self.rank(key, session, now);
        }
        self.next = end;
        end >= size
    }

    fn rank(&mut self, key: usize, session: &Session<TcpStream>, now: std::time::Instant) {
        let serial = session.identity().serial;
        let live = session.live(now);
        let rank = match self.order {
            Order::Oldest => u64::MAX - serial.get(),
            Order::Bytes => live.summary.to_target.saturating_add(live.summary.to_requester),
            Order::Idle => u64::try_from(live.idle.as_millis()).unwrap_or(u64::MAX),
        };
        let place = self.found.partition_point(|&(other, ..)| other >= rank);
        if place == STATUS_LISTED {
            return;
        }
        self.found.truncate(STATUS_LISTED - 1);
        self.found.insert(place, (rank, key, serial));
    }

    /// Returns the sessions found that are still live, as they are now.
    pub(super) fn sessions(&self, pool: &Pool<TcpStream>, now: std::time::Instant) -> Vec<Live> {
        let mut sessions = Vec::with_capacity(self.found.len());
        for &(_, key, serial) in &self.found {
            if let Some(session) = pool.slots().get(key)
                && session.identity().serial == serial
            {
                sessions.push(session.live(now));
            }
        }
        sessions
    }
}

//! The counts since the start.

use crate::session::ended::{Cause, Ended};

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that passed the ACL.
    pub accepted: u64,
    /// Connections that the ACL did not admit.
    pub rejected: u64,
    /// Sessions whose target refused the connection.
    pub refused: u64,
    /// Sessions ended by the connect or the idle timeout.
    pub expired: u64,
    /// Connections dropped after the ACL for lack of a slot, a socket or a share of the pool.
    pub dropped: u64,
    /// Bytes delivered to the target.
    pub to_target: u64,
    /// Bytes delivered to the requester.
    pub to_requester: u64,
}

impl Totals {
    /// Counts the end of a session by its cause.
    pub fn add(&mut self, ended: &Ended) {
        match ended.cause {
            Cause::TargetRefused => self.refused += 1,
            Cause::ConnectTimeout | Cause::IdleTimeout => self.expired += 1,
            _ => {}
        }
    }

    /// Counts bytes delivered to each side, by [`Side::index`](crate::session::Side::index).
    pub fn add_delivered(&mut self, [to_requester, to_target]: [u64; 2]) {
        self.to_requester += to_requester;
        self.to_target += to_target;
    }
}

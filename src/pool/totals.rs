//! The counts since the start: one table for the log, the JSON, the page and the metrics.
//!
//! A count costs one addition when a connection or a session ends, or when a session has moved bytes.

use std::fmt;
use std::time::Duration;

use crate::limits::{BUCKETS, CONNECT_BUCKETS_MS, SESSION_BUCKETS_MS};
use crate::session::Side;
use crate::session::ended::{Cause, Ended};

/// The totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Connections that passed the ACL, including those in `dropped`.
    pub accepted: u64,
    /// Connections that the ACL did not admit.
    pub rejected: u64,
    /// Sessions whose target refused the connection.
    pub refused: u64,
    /// Sessions ended by the connect or the idle timeout.
    pub expired: u64,
    /// Connections dropped after they had passed the ACL. There was no slot or no socket, the source had reached its
    /// limit, or the connection was the relay's own.
    pub dropped: u64,
    /// Bytes delivered to the target.
    pub to_target: u64,
    /// Bytes delivered to the requester.
    pub to_requester: u64,
}

impl Totals {
    /// Returns each total with its name in JSON and its name in text.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let rows = [
            ("accepted", "accepted", self.accepted),
            ("rejected", "rejected", self.rejected),
            ("refused", "refused", self.refused),
            ("expired", "expired", self.expired),
            ("dropped", "dropped", self.dropped),
            ("bytes_to_target", "bytes to the target", self.to_target),
            ("bytes_to_requester", "bytes to the requester", self.to_requester),
        ];
        rows.into_iter()
    }
}

/// Writes the totals as in message 108.
impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (_, words, count)) in self.rows().enumerate() {
            write!(f, "{}{count} {words}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Counts that form one metric, distinguished by one label.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// The name. The metric's is the program's name, this one and `_total`.
    pub name: &'static str,
    /// The sentence that explains it.
    pub help: &'static str,
    /// The name of the label; empty: the metric is a single count without a label.
    pub label: &'static str,
}

const CONNECTIONS: Family =
    Family { name: "connections", help: "Connections that passed the access list.", label: "" };
/// Connections that got no session.
pub(crate) const REJECTED: Family = Family {
    name: "connections_rejected",
    help: "Connections that got no session, by the reason.",
    label: "reason",
};
/// Sessions that have ended.
pub(crate) const ENDED: Family = Family {
    name: "sessions_ended",
    help: "Sessions that have ended, by the cause as the log names it.",
    label: "cause",
};
const BYTES: Family = Family { name: "bytes", help: "Bytes delivered, by the side.", label: "direction" };

/// Makes the counts from one table. A row has the count, its family, the value of the family's label, and the
/// total to which it adds.
macro_rules! counts {
    ($( $count:ident $family:ident $value:literal $(=> $total:ident)?; )*) => {
        /// A count.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the table has its name and its family")]
        pub enum Count { $($count),* }

        /// The family and the label's value of each count. The counts of a family are adjacent.
        pub const TABLE: &[(&Family, &str)] = &[ $( (&$family, $value) ),* ];

        impl Counts {
            /// Returns the totals, which are sums over the counts.
            #[must_use]
            pub fn totals(&self) -> Totals {
                let mut totals = Totals::default();
                $( $( totals.$total += self.cells[Count::$count as usize]; )? )*
                totals
            }
        }
    };
}

counts! {
    Accepted                 CONNECTIONS "" => accepted;
    NotAdmitted              REJECTED "acl" => rejected;
    OwnConnection            REJECTED "own_connection" => dropped;
    SourceLimit              REJECTED "source_limit" => dropped;
    PoolExhausted            REJECTED "pool_exhausted" => dropped;
    NoTargetSocket           REJECTED "target_socket" => dropped;
    ConnectNotStarted        ENDED "connect_not_started";
    IdleTimeout              ENDED "idle_timeout" => expired;
    ConnectTimeout           ENDED "connect_timeout" => expired;
    TargetRefused            ENDED "target_refused" => refused;
    RequesterRelayNotStarted ENDED "requester_relay_not_started";
    TargetRelayNotStarted    ENDED "target_relay_not_started";
    RequesterBuffer          ENDED "requester_buffer";
    TargetBuffer             ENDED "target_buffer";
    RequesterReadClosure     ENDED "requester_read_closure";
    TargetReadClosure        ENDED "target_read_closure";
    TargetWriteClosure       ENDED "target_write_closure";
    RequesterWriteClosure    ENDED "requester_write_closure";
    ToTarget                 BYTES "to_target" => to_target;
    ToRequester              BYTES "to_requester" => to_requester;
}

impl From<Cause> for Count {
    fn from(cause: Cause) -> Self {
        use Side::{Requester, Target};
        match cause {
            Cause::ConnectNotStarted => Self::ConnectNotStarted,
            Cause::IdleTimeout => Self::IdleTimeout,
            Cause::ConnectTimeout => Self::ConnectTimeout,
            Cause::TargetRefused => Self::TargetRefused,
            Cause::RelayNotStarted(Requester) => Self::RequesterRelayNotStarted,
            Cause::RelayNotStarted(Target) => Self::TargetRelayNotStarted,
            Cause::NoBuffer(Requester) => Self::RequesterBuffer,
            Cause::NoBuffer(Target) => Self::TargetBuffer,
            Cause::ReadClosure(Requester) => Self::RequesterReadClosure,
            Cause::ReadClosure(Target) => Self::TargetReadClosure,
            Cause::WriteClosure(Requester) => Self::RequesterWriteClosure,
            Cause::WriteClosure(Target) => Self::TargetWriteClosure,
        }
    }
}

/// All counts.
#[derive(Debug)]
pub struct Counts {
    /// A cell for each row of the table.
    cells: [u64; TABLE.len()],
    /// The time from the allocation of a session to its target's answer.
    pub connects: Histogram,
    /// The time from the allocation of a session to its end.
    pub sessions: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        let (connects, sessions) = (Histogram::new(&CONNECT_BUCKETS_MS), Histogram::new(&SESSION_BUCKETS_MS));
        Self { cells: [0; TABLE.len()], connects, sessions }
    }
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, count: Count) {
        self.cells[count as usize] += 1;
    }

    /// Counts the end of a session.
    pub fn add_ended(&mut self, ended: &Ended) {
        self.add(ended.cause.into());
        self.sessions.add(ended.summary.duration);
    }

    /// Counts bytes delivered to each side, by [`Side::index`].
    pub fn add_delivered(&mut self, [to_requester, to_target]: [u64; 2]) {
        self.cells[Count::ToRequester as usize] += to_requester;
        self.cells[Count::ToTarget as usize] += to_target;
    }

    /// Returns each row of the table with its count.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Family, &'static str, u64)> {
        TABLE.iter().zip(&self.cells).map(|(&(family, value), &count)| (family, value, count))
    }
}

/// Times, sorted into buckets of fixed bounds.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// The upper bounds in milliseconds. The last bucket has none.
    bounds: &'static [u64],
    buckets: [u64; BUCKETS + 1],
    sum: Duration,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, buckets: [0; BUCKETS + 1], sum: Duration::ZERO }
    }

    /// Adds a time.
    #[inline(never)]
    pub fn add(&mut self, time: Duration) {
        let bucket = self.bounds.iter().position(|&bound| time <= Duration::from_millis(bound));
        self.buckets[bucket.unwrap_or(BUCKETS)] += 1;
        self.sum = self.sum.saturating_add(time);
    }

    /// Returns each bound in milliseconds with the number of times up to it. The bound `None` stands for all
    /// times.
    pub fn rows(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = self.bounds.iter().map(|&bound| Some(bound)).chain([None]);
        bounds.zip(self.buckets.iter().scan(0, |sum, &count| {
            *sum += count;
            Some(*sum)
        }))
    }

    /// Returns the sum of all times.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_each_row_whose_bound_is_not_below_it() {
        let mut histogram = Histogram::new(&CONNECT_BUCKETS_MS);
        let (first, second) = (CONNECT_BUCKETS_MS[0], CONNECT_BUCKETS_MS[1]);
        histogram.add(Duration::ZERO);
        histogram.add(Duration::from_millis(first));
        histogram.add(Duration::from_millis(first) + Duration::from_nanos(1));
        histogram.add(Duration::from_secs(1_000_000));
        let rows: Vec<_> = histogram.rows().collect();
        assert_eq!(rows[..2], [(Some(first), 2), (Some(second), 3)]);
        assert_eq!(rows[BUCKETS - 1..], [(CONNECT_BUCKETS_MS.last().copied(), 3), (None, 4)]);
        assert_eq!(histogram.sum(), Duration::new(1_000_000, 2 * 1_000_000 + 1));
    }

    #[test]
    fn the_counts_of_a_family_are_adjacent() {
        let mut names: Vec<_> = TABLE.iter().map(|(family, _)| family.name).collect();
        names.dedup();
        let runs = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), runs);
    }
}

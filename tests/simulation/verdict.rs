//! The judgement of each session: whenever the relay waits, and once the session is over.

use std::time::Duration;

use rustix::io::Errno;
use tcprelay::Progress;
use tcprelay::internal::limits::{ABORT_GRACE, ABORT_LOOK, DELAYED_ACK_MAX, LATE_MAX};
use tcprelay::internal::message::{Cause, Unreached};
use tcprelay::internal::session::Side;
use tcprelay::internal::splice::Pipes;
use tcprelay_model::kernel::{Closed, Connection, Seen};
use tcprelay_model::world::World;

use super::host::{Case, End, History};

const EPIPE: i32 = Errno::PIPE.raw_os_error();
const ECONNRESET: i32 = Errno::CONNRESET.raw_os_error();

/// The longest that a timer may wait for its turn.
pub const LATEST: Duration = Duration::from_millis(100);

/// Asserts that a waiting relay has nothing left to do for a session. Work that could be done now must
/// not depend on another event.
pub fn at_rest(world: &World, phase: Progress) {
    for side in Side::BOTH {
        let (from, to) = (world.connection(side), world.connection(!side));
        if phase == Progress::Connecting {
            continue;
        }
        if phase == Progress::Relaying {
            assert!(!from.has_unseen_error(), "the relay misses the error of the {side:?}");
        }
        // An aborting session delivers the dead side's bytes, and nothing to the dead side.
        if from.is_dead() != (phase == Progress::Ending) {
            continue;
        }
        let held = to.preface() + from.taken() - to.written();
        let unread = from.arrived() > from.taken();
        let end_known = from.end_is_known();
        if held > 0 {
            assert!(to.owes_report_of_room(), "{held} bytes to the {:?} are held, but there is room", !side);
        } else {
            assert!(!unread, "bytes from the {side:?} are not read");
            if phase == Progress::Ending {
                continue;
            }
            assert!(!from.end_arrived() || end_known, "the relay misses the EOF of the {side:?}");
            assert!(!end_known || to.is_write_shut(), "the EOF of the {side:?} is not passed on");
        }
    }
}

/// Judges a session once it has ended and its peers are done.
pub fn judge(case: &Case, targets: usize) {
    let world = case.world.borrow();
    let end = case.end.as_ref().expect("it has ended");
    let _named = Named(case);
    judge_cause(&world, end);
    // Only the last target names the cause.
    if let Some(cause @ (Cause::ConnectTimeout | Cause::TargetRefused)) = end.cause {
        assert_eq!(case.tried.len(), targets, "{cause:?} after {:?}", case.tried);
    }
    judge_time(&world, &case.history, end);
    if let Some(summary) = end.summary {
        let written = Side::BOTH.map(|side| world.connection(side).written());
        assert_eq!([summary.to_requester, summary.to_target], written, "the byte counts of the summary");
        assert_eq!(summary.duration, end.at - case.history.began, "the duration of the summary");
    }
    for side in Side::BOTH {
        judge_side(&world, &case.history, end, side);
    }
}

/// Asserts that the relay has given up a target for a good reason.
pub fn judge_unreached(case: &Case, unreached: Unreached, now: Duration) {
    let world = case.world.borrow();
    if unreached.cause == Cause::ConnectTimeout {
        assert_eq!(world.answered, None, "the target has answered");
        let due = case.history.connecting + world.timeouts.connect;
        assert!((due..=due + LATEST).contains(&now), "the connect timed out at {now:?}, due at {due:?}");
        return;
    }
    // A target that answers and resets at once may be mistaken for one that refuses. But ECONNRESET and
    // EPIPE show that there was a connection.
    let target = world.connection(Side::Target);
    assert!(target.is_dead() && target.written() + target.taken() == 0, "the target has not refused");
    assert!(!matches!(unreached.errno, Some(EPIPE | ECONNRESET)), "the target had answered");
}

/// Prints the session whose judgement fails.
struct Named<'a>(&'a Case);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Case { world, history, end, .. } = self.0;
            eprintln!("session {}: {end:?}, {history:?}", world.borrow().serial);
        }
    }
}

/// Asserts that the side that was first seen to end is the cause.
fn judge_cause(world: &World, end: &End) {
    let errno = end.summary.and_then(|summary| summary.errno);
    let mut seen: Vec<_> = Side::BOTH
        .into_iter()
        .flat_map(|side| {
            let connection = world.connection(side);
            let seen = [connection.told(), connection.seen()].into_iter().flatten();
            seen.map(move |(seen, clock)| (clock, side, seen))
        })
        .collect();
    seen.sort_unstable_by_key(|&(clock, ..)| clock);
    let cause = end.cause;
    let [reads, writes] = [|side| Some(Cause::ReadClosure(side)), |side| Some(Cause::WriteClosure(side))];
    let explains = |&(_, side, seen): &(u64, Side, Seen)| match seen {
        Seen::End | Seen::Told => cause == reads(side) && errno.is_none(),
        Seen::ReadError(error) => cause == reads(side) && errno == Some(error),
        // EPIPE after a short splice is taken for the reset that a splice swallows.
        Seen::WriteError(EPIPE) => cause == writes(side) && matches!(errno, Some(EPIPE | ECONNRESET)),
        Seen::WriteError(error) => cause == writes(side) && errno == Some(error),
        Seen::Hidden(_) => cause == reads(side) || cause == writes(side),
    };
    let hidden = |&(_, _, seen): &(u64, Side, Seen)| matches!(seen, Seen::Hidden(_) | Seen::Told);
    match cause {
        // A failed connect was judged when it failed.
        None
        | Some(
            Cause::ConnectTimeout
            | Cause::TargetRefused
            | Cause::IdleTimeout
            | Cause::ConnectNotStarted
            | Cause::RelayNotStarted(_),
        ) => {}
        Some(Cause::ReadClosure(_) | Cause::WriteClosure(_)) => {
            // The relay may miss a hidden end. So the cause is the first open one, or a hidden one before it.
            let may_be =
                seen.iter().take_while(|seen| hidden(seen)).chain(seen.iter().find(|seen| !hidden(seen)));
            assert!(may_be.clone().any(explains), "{cause:?} {errno:?} does not follow from {seen:?}");
        }
        Some(Cause::NoBuffer(_)) => panic!("there is memory"),
    }
}

/// Asserts that timeouts are neither early nor late.
fn judge_time(world: &World, history: &History, end: &End) {
    let idle = world.timeouts.idle;
    let at = end.at;
    match end.cause {
        Some(Cause::IdleTimeout) => {
            assert_eq!(end.left_behind, None, "idle, but bytes have arrived");
            assert!(at >= history.moved + idle, "idle at {at:?}, but a byte moved at {:?}", history.moved);
            judge_kernel_time(world, history, at);
        }
        Some(Cause::ReadClosure(_) | Cause::WriteClosure(_)) => {
            if let Some(aborted) = history.aborted {
                judge_grace(world, history, at, aborted);
            }
        }
        _ => {}
    }
}

/// Asserts that bytes which moved inside the kernel count for the idle timeout.
fn judge_kernel_time(world: &World, history: &History, at: Duration) {
    let idle = world.timeouts.idle;
    let arrived = world.acknowledged.into_iter().max().unwrap_or_default();
    let took = arrived.saturating_sub(history.moved);
    let known = Side::BOTH.iter().all(|&side| world.connection(side).tells_queue());
    // A few bytes that arrive soon after they were written count as having arrived at once.
    if known && took > DELAYED_ACK_MAX + LATEST {
        assert!(at >= arrived + idle, "idle at {at:?}, but a byte arrived at {arrived:?}");
    }
    // Both the last look and the end may have waited for their turn.
    let late = LATE_MAX.max(took / 20) + 2 * LATEST;
    let latest = history.moved.max(arrived).max(world.acknowledged_end) + idle + late;
    assert!(at <= latest, "idle only at {at:?}, though the last byte arrived at {arrived:?}");
}

/// Asserts that an abort ends with its grace, which runs from the last byte that the living side got.
fn judge_grace(world: &World, history: &History, at: Duration, aborted: Duration) {
    let grace = ABORT_GRACE.min(world.timeouts.idle);
    let arrived = world.acknowledged.into_iter().max().unwrap_or_default();
    let moved = history.moved.max(arrived).max(world.acknowledged_end).max(aborted);
    // Both the look that saw that byte and the end may have waited for their turn.
    let latest = moved + grace + ABORT_LOOK + 2 * LATEST;
    assert!(at <= latest, "aborted at {aborted:?}, moved at {moved:?}, ended at {at:?}");
}

/// Judges the bytes and the end that the peer on `side` has got.
fn judge_side(world: &World, history: &History, end: &End, side: Side) {
    let (here, there) = (world.connection(side), world.connection(!side));
    let whole = here.preface() + there.arrived();
    let relayed = matches!(end.cause, Some(Cause::ReadClosure(_) | Cause::WriteClosure(_)));
    let lost = |connection: &Connection| connection.is_dead() || !connection.is_heard();
    if world.is_reading(side) && !(side == Side::Target && world.answered.is_none()) {
        assert!(world.saw(side).is_some(), "the {side:?} never sees the end");
    }
    if world.saw(side) == Some(Closed::Orderly) {
        let ended_in_order = there.end_arrived() && here.acknowledged() == whole;
        // An idle session closes cleanly unless bytes are known to be left behind.
        let known = here.preface() + there.taken();
        let idle = end.cause == Some(Cause::IdleTimeout)
            && here.acknowledged() == known
            && (known == whole || end.unreported[(!side).index()]);
        assert!(
            ended_in_order || idle,
            "the {side:?} sees a clean end after {} of {whole} bytes",
            here.acknowledged()
        );
    }
    if end.cause == Some(Cause::IdleTimeout) && end.stuck[side.index()] && !here.is_dead() {
        assert_eq!(here.closed(), Some(Closed::Reset), "bytes to the {side:?} stood still without a reset");
    }
    if relayed && !lost(here) && !lost(there) {
        assert!(there.end_arrived(), "the session ended before the stream of the {:?}", !side);
        if world.is_reading(side) {
            assert_eq!(here.acknowledged(), whole, "the {side:?} does not get all bytes");
            assert_eq!(world.saw(side), Some(Closed::Orderly), "the {side:?} sees no clean end");
        }
    }
    // The last bytes of a dead side are delivered, unless the other side takes too long.
    let grace = ABORT_GRACE.min(world.timeouts.idle);
    let acknowledged = Some(world.acknowledged[side.index()]).filter(|_| here.tells_queue());
    let moved = history.written[side.index()].max(acknowledged.unwrap_or_default());
    let gave_up = history.aborted.is_some_and(|aborted| end.at >= aborted.max(moved) + grace);
    if relayed && there.is_dead() && !lost(here) && !gave_up && world.is_reading(side) {
        assert_eq!(here.acknowledged(), whole, "the last bytes to the {side:?} are lost");
        // An EOF that was known before the connection died is passed on, too.
        if matches!((there.seen(), there.told()), (Some((Seen::End, _)), _) | (_, Some((Seen::Told, _)))) {
            assert_eq!(world.saw(side), Some(Closed::Orderly), "the EOF of the {:?} is lost", !side);
        }
    }
}

/// Asserts that the idle pipes are empty once the relay has ended.
pub fn judge_pipes(pipes: &mut Pipes) {
    loop {
        let made = pipes.bytes();
        let Some(pipe) = pipes.take() else { break };
        assert!(pipe.read(&mut Vec::with_capacity(1)).is_err(), "an idle pipe holds bytes");
        if pipes.bytes() > made {
            break;
        }
    }
}

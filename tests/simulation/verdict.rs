//! What must be true of every run: while the relay waits, and when all is over.

use tcprelay::internal::limits::{ABORT_GRACE, KERNEL_QUEUE_SETTLE, TICK};
use tcprelay::internal::message::Message;
use tcprelay::internal::session::Side;
use tcprelay::internal::splice::Pipes;

use super::relay::{Ended, History, Outcome};
use tcprelay_model::kernel::{Closed, Connection, Seen};
use tcprelay_model::world::{SIDES, World, index};

/// A relay that waits must have nothing to do: no further event may be needed for what could be
/// done now.
pub fn at_rest(world: &World, history: &History, phase: &str) {
    for side in SIDES {
        let (from, to) = (world.connection(side), world.connection(!side));
        if phase == "connecting" {
            continue;
        }
        if phase == "relaying" {
            assert!(!from.has_unseen_error(), "the {side:?} has been reset, and nobody looks");
        }
        // An aborted session delivers what the dead side had sent, and nothing to the dead side.
        if from.is_dead() != (phase == "ending") {
            continue;
        }
        let held = to.preface() + from.taken() - to.written();
        let unread = from.arrived() > from.taken();
        let end_known = from.end_is_known();
        if held > 0 {
            assert!(to.owes_report_of_room(), "{held} bytes to the {:?} are held, but there is room", !side);
        } else {
            assert!(!unread, "bytes from the {side:?} are not read");
            if phase == "ending" {
                continue;
            }
            assert!(!from.end_arrived() || end_known, "the end of the {side:?} is not known");
            assert!(!end_known || to.is_write_shut(), "the end of the {side:?} does not travel");
        }
    }
    if let Some(aborted) = history.aborted {
        assert!(world.now <= aborted + ABORT_GRACE + 2 * TICK, "an aborted session does not end");
    }
}

/// Why a session ended, as far as the message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Idle,
    ConnectTimeout,
    Refused,
    Read(Side),
    Write(Side),
}

fn cause(message: &Message) -> Cause {
    match message {
        Message::IdleTimeout(..) => Cause::Idle,
        Message::ConnectTimeout(..) => Cause::ConnectTimeout,
        Message::TargetRefused(..) => Cause::Refused,
        Message::RequesterReadClosure(..) => Cause::Read(Side::Requester),
        Message::TargetReadClosure(..) => Cause::Read(Side::Target),
        Message::RequesterWriteClosure(..) => Cause::Write(Side::Requester),
        Message::TargetWriteClosure(..) => Cause::Write(Side::Target),
        other => panic!("no session here ends with: {other}"),
    }
}

/// Judges a run that is over.
pub fn judge(outcome: &Outcome) {
    let Outcome { world, history, ended, .. } = outcome;
    let cause = cause(&ended.message);
    judge_cause(world, ended, cause);
    judge_time(world, history, ended, cause);
    let summary = ended.summary;
    assert_eq!(
        summary.to_target,
        world.connection(Side::Target).written(),
        "the count of bytes to the target"
    );
    assert_eq!(
        summary.to_requester,
        world.connection(Side::Requester).written(),
        "the count of bytes to the requester"
    );
    for side in SIDES {
        judge_side(outcome, cause, side);
    }
}

/// The side that was first seen to end names the cause.
fn judge_cause(world: &World, ended: &Ended, cause: Cause) {
    let mut seen: Vec<_> = SIDES
        .into_iter()
        .flat_map(|side| {
            let connection = world.connection(side);
            let seen = [connection.told(), connection.seen()].into_iter().flatten();
            seen.map(move |(seen, clock)| (clock, side, seen))
        })
        .collect();
    seen.sort_unstable_by_key(|&(clock, ..)| clock);
    let told = |&(_, side, seen): &(u64, Side, Seen)| match seen {
        Seen::End | Seen::Told => cause == Cause::Read(side) && ended.summary.errno.is_none(),
        Seen::ReadError(errno) => cause == Cause::Read(side) && ended.summary.errno == Some(errno),
        Seen::WriteError(errno) => cause == Cause::Write(side) && ended.summary.errno == Some(errno),
        Seen::Hidden(_) => cause == Cause::Read(side) || cause == Cause::Write(side),
    };
    let hidden = |&(_, _, seen): &(u64, Side, Seen)| matches!(seen, Seen::Hidden(_) | Seen::Told);
    match cause {
        Cause::Idle => {}
        Cause::ConnectTimeout => assert_eq!(world.answered, None, "the target has answered"),
        Cause::Refused => {
            // One that answers and dies at once may be taken for one that refuses.
            let target = world.connection(Side::Target);
            assert!(target.is_dead() && target.written() + target.taken() == 0, "the target has not refused");
        }
        Cause::Read(_) | Cause::Write(_) => {
            // What was hidden may show later than what was not.
            let may_be =
                seen.iter().take_while(|seen| hidden(seen)).chain(seen.iter().find(|seen| !hidden(seen)));
            assert!(may_be.clone().any(told), "{cause:?} {:?} is blamed for {seen:?}", ended.summary.errno);
        }
    }
}

/// Timeouts are never early, and not late.
fn judge_time(world: &World, history: &History, ended: &Ended, cause: Cause) {
    let idle = world.timeouts.idle;
    let at = ended.at;
    match cause {
        Cause::Idle => {
            assert!(at >= history.moved + idle, "idle at {at:?}, but a byte moved at {:?}", history.moved);
            // Soon after a write, the queues are not looked at yet.
            let backlog =
                Some(world.backlog_moved).filter(|&at| at > history.moved + KERNEL_QUEUE_SETTLE + TICK);
            let moved = history.moved.max(backlog.unwrap_or_default());
            assert!(at >= moved + idle, "idle at {at:?}, but a backlog moved at {moved:?}");
            // Later, they are looked at so often.
            let settle = (idle / 16).max(KERNEL_QUEUE_SETTLE);
            let latest = history.moved.max(history.ended).max(world.acknowledged) + idle + settle + 2 * TICK;
            assert!(at <= latest, "idle at {at:?}, though nothing could move after {moved:?}");
        }
        Cause::ConnectTimeout => {
            let due = world.timeouts.connect;
            assert!((due..=due + 2 * TICK).contains(&at), "no answer at {at:?}");
        }
        _ => {
            if let Some(aborted) = history.aborted {
                assert!(at <= aborted + ABORT_GRACE + 2 * TICK, "aborted at {aborted:?}, ended at {at:?}");
            }
        }
    }
}

/// What the peer on `side` has got and seen.
fn judge_side(outcome: &Outcome, cause: Cause, side: Side) {
    let Outcome { world, history, ended, .. } = outcome;
    let (here, there) = (world.connection(side), world.connection(!side));
    let whole = here.preface() + there.arrived();
    let relayed = matches!(cause, Cause::Read(_) | Cause::Write(_));
    let lost = |connection: &Connection| connection.is_dead() || !connection.is_heard();
    if world.is_reading(side) && !(side == Side::Target && world.answered.is_none()) {
        assert!(world.saw(side).is_some(), "the {side:?} never sees the end");
    }
    if world.saw(side) == Some(Closed::Orderly) {
        let ended_in_order = there.end_arrived() && here.acknowledged() == whole;
        // An idle session ends in order unless bytes are known to be left behind.
        let known = here.preface() + there.taken();
        let idle = cause == Cause::Idle
            && here.acknowledged() == known
            && (known == whole || ended.unreported[index(!side)]);
        assert!(
            ended_in_order || idle,
            "the {side:?} sees a clean end after {} of {whole}",
            here.acknowledged()
        );
    }
    if relayed && !lost(here) && !lost(there) {
        assert!(there.end_arrived(), "the session ended, but the {:?} has not", !side);
        if world.is_reading(side) {
            assert_eq!(here.acknowledged(), whole, "the {side:?} does not get all bytes");
            assert_eq!(world.saw(side), Some(Closed::Orderly), "the {side:?} sees no clean end");
        }
    }
    // What a dead connection had brought is delivered, unless the other side takes too long.
    let in_time = history.aborted.is_some_and(|aborted| ended.at < aborted + ABORT_GRACE);
    if relayed && there.is_dead() && !lost(here) && in_time && world.is_reading(side) {
        assert_eq!(here.acknowledged(), whole, "last words to the {side:?} are lost");
    }
}

/// How many pipes can be had.
pub fn count(pipes: &mut Pipes) -> usize {
    let all: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
    let count = all.len();
    for pipe in all {
        assert!(pipe.read(&mut [0]).is_err(), "a pipe with bytes in it is in the pool");
        pipes.put_back(pipe);
    }
    count
}

/// The pipes after a run: all of them are there again, empty. After a refusal none is given out for a
/// while, so the next run gets new ones.
pub fn returned(mut pipes: Pipes, most: usize) -> Pipes {
    assert_eq!(pipes.held(), 0, "a pipe is missing");
    match pipes.take() {
        Some(pipe) => pipes.put_back(pipe),
        None => return Pipes::new(true),
    }
    assert_eq!(count(&mut pipes), most, "a pipe is missing");
    pipes
}

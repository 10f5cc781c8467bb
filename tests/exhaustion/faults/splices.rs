//! Splices and pipes that fail.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use rustix::io::Errno;

use super::calls::{FCNTL, GET_PIPE_SIZE, OF_SPLICE_FAILURE, OF_SPLICE_REFUSAL, PIPE, SET_PIPE_SIZE, SPLICE};
use super::host::{Call, Rule, call};
use super::stage::{Descriptors, Requester, Session, Side, Stage, Target, descriptors, session};
use super::{MIB, for_each};
use crate::support::catalogue::message;
use crate::support::net::{self, End};

/// Sends `bytes` from one side. Returns the bytes that the other side received, and how the stream ended.
fn bulk(session: &mut Session, from: Side, bytes: &[u8]) -> (Vec<u8>, End) {
    let (mut writer, mut reader) =
        (session.stream(from).try_clone().unwrap(), session.stream(!from).try_clone().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || {
            // Both fail where the relay cuts the stream.
            let _ = writer.write_all(bytes);
            let _ = writer.shutdown(Shutdown::Write);
        });
        net::read_all(&mut reader)
    })
}

/// Makes a splice fail with each error, in a session of its own. The session must end with this message.
fn each_splice_ends(from: Side, errors: &[Errno], number: u8, rule: impl Fn(Errno, Descriptors) -> Rule) {
    let bytes = net::random(2, MIB);
    let mut plugs = Vec::new();
    let mut stage = Stage::real(errors.len(), |number, descriptors| vec![rule(errors[number], descriptors)]);
    let victims = std::mem::take(&mut stage.victims);
    let nexts = 2 + errors.len() as u64..;
    for ((mut victim, errno), next) in victims.into_iter().zip(errors).zip(nexts) {
        let (heard, end) = bulk(&mut victim, from, &bytes);
        assert!(heard.len() >= 4 * 4000, "{errno:?} after {} bytes", heard.len());
        net::assert_same(&heard, &bytes[..heard.len()]);
        assert_eq!(end, End::Reset, "{errno:?}");
        assert_eq!(stage.relay.log.line().text, message(number, victim.serial), "{errno:?}");
        // The next session takes the victim's descriptors. A pipe that got them would meet the victim's rule.
        drop(victim);
        plugs.push(session(&mut stage.relay, &stage.listener, next));
    }
    for plug in plugs {
        drop(plug.requester);
        assert_eq!(net::read_all(&mut &plug.target), (Vec::new(), End::Clean));
        drop(plug.target);
        stage.relay.log.expect(34, plug.serial);
    }
    stage.assert_over();
}

#[test]
fn a_splice_out_of_a_socket_that_fails_ends_the_session_by_the_read_closure_of_that_side() {
    for_each([(Requester, 34), (Target, 38)], |(side, number)| {
        // EPIPE reports a reset that follows this stream's EOF, so the stream is whole.
        let errors: Vec<_> = OF_SPLICE_FAILURE.into_iter().filter(|errno| *errno != Errno::PIPE).collect();
        each_splice_ends(side, &errors, number, |errno, descriptors| {
            Rule::fail(SPLICE, errno).when(0, descriptors.of(side))
        });
    });
}

#[test]
fn a_splice_into_a_socket_that_fails_ends_the_session_by_the_write_closure_of_that_side() {
    for_each([(Requester, 39), (Target, 35)], |(side, number)| {
        each_splice_ends(!side, &OF_SPLICE_FAILURE, number, |errno, descriptors| {
            Rule::fail(SPLICE, errno).when(2, descriptors.of(side))
        });
    });
}

/// Asserts that the real program relays under these rules as it does without them.
#[track_caller]
pub fn relays_all_under(rules: &[Rule]) {
    relays_all(Stage::real(1, |_, _| rules.to_vec()));
}

/// Asserts that a stream arrives whole in either direction, and that its session ends cleanly.
#[track_caller]
pub fn relays_all(mut stage: Stage) {
    let bytes = net::random(3, 2 * MIB);
    let mut victim = stage.victims.remove(0);
    for (from, clean) in [(Requester, b"up"), (Target, b"dn")] {
        net::assert_passes(&mut victim.requester, &mut victim.target, clean);
        let (heard, end) = bulk(&mut victim, from, &bytes);
        net::assert_same(&heard, &bytes);
        assert_eq!(end, End::Clean);
        if from == Requester {
            // The upstream direction has ended. Another session tests the downstream one.
            let next = session(&mut stage.relay, &stage.listener, 3);
            let first = std::mem::replace(&mut victim, next);
            drop(first.target);
            stage.relay.log.expect(34, 2);
        }
    }
    drop(victim.requester);
    drop(victim.target);
    stage.relay.log.expect(38, 3);
    stage.assert_over();
}

#[test]
fn a_splice_that_is_refused_loses_no_byte() {
    for_each(OF_SPLICE_REFUSAL, |errno| {
        // The rule has no condition, so every splice fails.
        relays_all_under(&[Rule::fail(SPLICE, errno)]);
    });
}

#[test]
fn a_splice_into_a_socket_that_is_refused_loses_no_byte_of_those_in_the_pipe() {
    for_each(OF_SPLICE_REFUSAL, |errno| {
        let bytes = net::random(4, 2 * MIB);
        let mut stage =
            Stage::real(1, |_, descriptors| vec![Rule::fail(SPLICE, errno).when(2, descriptors.requester)]);
        let mut victim = stage.victims.remove(0);
        let (heard, end) = bulk(&mut victim, Target, &bytes);
        net::assert_same(&heard, &bytes);
        assert_eq!(end, End::Clean, "{errno:?}");
        drop(victim);
        stage.relay.log.expect(38, 2);
        stage.assert_over();
    });
}

#[test]
fn a_pipe_that_cannot_be_read_back_cuts_the_stream() {
    const READ: Call = call("read", 0, 63);
    let bytes = net::random(7, 2 * MIB);
    // The only pipe gets the next descriptors after the last session's, and its read end gets the first.
    let mut stage = Stage::real(1, |_, victim| {
        let pipe = descriptors(2).requester;
        vec![
            Rule::fail(SPLICE, Errno::INVAL).when(2, victim.requester),
            Rule::fail(READ, Errno::IO).when(0, pipe),
        ]
    });
    let mut victim = stage.victims.remove(0);
    let (heard, end) = bulk(&mut victim, Target, &bytes);
    assert!(heard.len() < bytes.len());
    net::assert_same(&heard, &bytes[..heard.len()]);
    assert_eq!(end, End::Reset);
    stage.relay.log.expect(38, 2);
    drop(victim);
    stage.assert_over();
}

#[test]
fn a_read_takes_over_from_a_splice_that_would_block_for_ever() {
    relays_all_under(&[Rule::fail(SPLICE, Errno::AGAIN)]);
}

#[test]
fn without_pipes_bytes_are_copied() {
    for_each([Errno::MFILE, Errno::NFILE, Errno::NOMEM], |errno| {
        relays_all_under(&[Rule::fail(PIPE, errno)]);
    });
}

#[test]
fn a_pipe_that_cannot_be_made_larger_or_measured_loses_no_byte() {
    for errno in [Errno::PERM, Errno::BUSY, Errno::NOMEM] {
        relays_all_under(&[Rule::fail(FCNTL, errno).when(1, SET_PIPE_SIZE)]);
    }
    let both = [SET_PIPE_SIZE, GET_PIPE_SIZE].map(|which| Rule::fail(FCNTL, Errno::INVAL).when(1, which));
    relays_all_under(&both);
}

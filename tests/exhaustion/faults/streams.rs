//! Reads, writes and shutdowns that fail.

use std::io::Write;
use std::net::Shutdown;

use rustix::io::Errno;

use super::calls::{OF_RECEIVE, OF_SEND, OF_SHUTDOWN, RECEIVE, SEND, SHUTDOWN};
use super::for_each;
use super::host::Rule;
use super::stage::{Descriptors, Requester, Session, Stage, Target, assert_cut};
use crate::support::catalogue::message;
use crate::support::net::{self, End};

/// Makes each error happen in a session of its own. The session must end with this message and be reset on
/// both sides.
fn each_ends(
    errors: &[Errno],
    number: u8,
    rule: impl Fn(Errno, Descriptors) -> Rule,
    act: impl Fn(&mut Session),
) {
    let mut stage = Stage::real(errors.len(), |number, descriptors| vec![rule(errors[number], descriptors)]);
    for (mut victim, errno) in std::mem::take(&mut stage.victims).into_iter().zip(errors) {
        act(&mut victim);
        let line = stage.relay.log.line().text;
        assert_eq!(line, message(number, victim.serial), "{errno:?}");
        assert_cut(&victim.requester);
        assert_cut(&victim.target);
    }
    stage.assert_over();
}

#[test]
fn a_read_that_fails_ends_the_session_by_the_read_closure_of_that_side() {
    for_each([(Requester, 34), (Target, 38)], |(side, number)| {
        each_ends(
            &OF_RECEIVE,
            number,
            |errno, descriptors| Rule::fail(RECEIVE, errno).when(0, descriptors.of(side)),
            |session| session.stream(side).write_all(b"never read").unwrap(),
        );
    });
}

#[test]
fn a_write_that_fails_ends_the_session_by_the_write_closure_of_that_side() {
    for_each([(Requester, 39), (Target, 35)], |(side, number)| {
        each_ends(
            &OF_SEND,
            number,
            |errno, descriptors| Rule::fail(SEND, errno).when(0, descriptors.of(side)),
            |session| session.stream(!side).write_all(b"never written").unwrap(),
        );
    });
}

#[test]
fn an_eof_that_cannot_be_passed_on_becomes_a_reset() {
    for_each([(Requester, 34), (Target, 38)], |(side, number)| {
        each_ends(
            &OF_SHUTDOWN,
            number,
            |errno, descriptors| Rule::fail(SHUTDOWN, errno).when(0, descriptors.of(!side)),
            |session| {
                session.stream(side).write_all(b"the last words").unwrap();
                session.stream(side).shutdown(Shutdown::Write).unwrap();
                assert_eq!(net::read_exactly(session.stream(!side), 14), b"the last words");
            },
        );
    });
}

#[test]
fn the_last_bytes_of_the_dead_side_arrive_before_the_reset() {
    // The write to one side fails while bytes of that side are under way to the other.
    let mut stage = Stage::real(1, |_, descriptors| {
        vec![Rule::fail(SEND, Errno::CONNRESET).when(0, descriptors.requester)]
    });
    let mut victim = stage.victims.remove(0);
    let words = net::random(1, 50_000);
    stage.relay.freeze();
    victim.requester.write_all(&words).unwrap();
    victim.target.write_all(b"never written").unwrap();
    stage.relay.thaw();
    let (heard, end) = net::read_all(&mut victim.target);
    net::assert_same(&heard, &words);
    assert_eq!(end, End::Reset);
    assert_cut(&victim.requester);
    stage.relay.log.expect(39, victim.serial);
    stage.assert_over();
}

//! A log whose writes fail: the relay goes on serving.

use rustix::io::Errno;

use super::calls::{EPOLL_CONTROL, POLL, POSITIONED_WRITE};
use super::for_each;
use super::host::{Rule, start_with};
use super::stage::{Stage, hosted};
use crate::checks::sockets;
use crate::support::catalogue::message;
use crate::support::net::{self, End};
use crate::support::{STARTED, eventually, siege};

#[test]
fn a_log_that_fails_in_any_way_stops_nothing() {
    let unsupported = Rule::fail(POSITIONED_WRITE, Errno::NOSYS);
    let mut faults: Vec<Vec<Rule>> = [
        Errno::AGAIN,
        Errno::PIPE,
        Errno::IO,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::FBIG,
        Errno::NOBUFS,
        Errno::BADF,
    ]
    .map(|errno| vec![Rule::fail(POSITIONED_WRITE, errno)])
    .into();
    faults.push(vec![unsupported.clone(), Rule::fail(POLL, Errno::NOMEM)]);
    faults.push(vec![unsupported.clone(), Rule::fail(POLL, Errno::INVAL)]);
    // In this case epoll refuses to watch the blocked log, too.
    faults.push(vec![
        Rule::fail(POSITIONED_WRITE, Errno::AGAIN),
        Rule::fail(EPOLL_CONTROL, Errno::NOSPC).when(2, 1),
    ]);
    for_each(faults, |rules| {
        let (mut stage, mut faults) = hosted("", 0);
        faults.begin(&rules);
        for _ in 0..20 {
            stage.relay.assert_relays(&stage.listener);
        }
        stage.assert_undisturbed();
        eventually("all sockets closed", || sockets(&stage.relay) == stage.open);
    });
}

#[test]
fn without_nonblocking_writes_the_log_is_written_when_it_is_ready() {
    for_each([Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM, Errno::INVAL], |errno| {
        let mut stage = Stage::real(3, |_, _| vec![Rule::fail(POSITIONED_WRITE, errno)]);
        for mut victim in stage.victims.drain(..) {
            drop(victim.requester);
            assert_eq!(net::read_all(&mut victim.target), (Vec::new(), End::Clean));
        }
        let mut lines =
            [stage.relay.log.line().text, stage.relay.log.line().text, stage.relay.log.line().text];
        lines.sort();
        assert_eq!(lines, [2, 3, 4].map(|serial| message(34, serial)));
        stage.assert_over();
    });
}

#[test]
fn a_refused_nonblocking_write_to_the_log_is_not_tried_again() {
    let (mut stage, mut faults) = hosted("", 0);
    let mut serial = 1;
    // If the relay tried again, it would mistake the later error for one of the log.
    for errno in [Errno::PERM, Errno::BADF] {
        faults.begin(&[Rule::fail(POSITIONED_WRITE, errno)]);
        serial += 1;
        stage.relay.assert_relays(&stage.listener);
        stage.relay.log.expect_all(&STARTED, serial);
        stage.relay.log.expect(34, serial);
    }
}

#[test]
fn without_nonblocking_writes_a_log_that_is_not_read_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let unsupported = [Rule::fail(POSITIONED_WRITE, Errno::NOSYS)];
    siege::goes_on_unread_as(|start| start_with(start, &unsupported), writer.into(), reader);
}

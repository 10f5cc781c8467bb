//! The beginning of a session: accept, socket, connect, register, allocate.

use std::net::{Shutdown, TcpListener, TcpStream};

use rustix::io::Errno;
use rustix::process::{Resource, Signal};

use super::calls::{
    ACCEPT, BIND, CONNECT, EPOLL_ADD, EPOLL_CONTROL, MAP, OF_ACCEPT, OF_CONNECT, PROTECT, REMAP, SOCKET,
};
use super::for_each;
use super::host::Rule;
use super::stage::{Descriptors, hosted};
use crate::checks::{accept_failed, sockets};
use crate::support::catalogue::{connection_failed, message};
use crate::support::net::{self, End};
use crate::support::{STARTED, eventually, process};

#[test]
fn an_accept_that_fails_for_good_is_logged_once_and_disturbs_no_session() {
    for_each(OF_ACCEPT, |errno| {
        let (mut stage, mut faults) = hosted("", 1);
        let mut victim = stage.victims.remove(0);
        faults.begin(&[Rule::fail(ACCEPT, errno)]);
        let waiting: Vec<_> = (0..20).map(|_| stage.relay.connect()).collect();
        stage.relay.log.expect_text(&accept_failed(errno));
        stage.assert_undisturbed();
        // When a session ends, the relay tries again, and logs nothing new.
        victim.requester.shutdown(Shutdown::Write).unwrap();
        assert_eq!(net::read_all(&mut victim.target), (Vec::new(), End::Clean));
        drop(victim.target);
        stage.relay.log.expect(34, 2);
        stage.assert_undisturbed();
        drop(waiting);
        stage.assert_undisturbed();
        assert_eq!(sockets(&stage.relay), stage.open);
        stage.relay.signal(Signal::TERM);
        assert_eq!(stage.relay.wait().code(), Some(0));
    });
}

#[test]
fn a_pause_that_cannot_be_ended_goes_on_and_disturbs_no_session() {
    let (mut stage, mut faults) = hosted("", 0);
    faults.begin(&[
        Rule::fail(ACCEPT, Errno::MFILE),
        Rule::fail(EPOLL_CONTROL, Errno::NOMEM).when(1, EPOLL_ADD),
    ]);
    let waiting = stage.relay.connect();
    stage.relay.log.expect_text(&accept_failed(Errno::MFILE));
    // Meanwhile the relay tries several times to end the pause.
    stage.assert_undisturbed();
    stage.assert_undisturbed();
    drop(waiting);
    stage.relay.signal(Signal::TERM);
    assert_eq!(stage.relay.wait().code(), Some(0));
}

#[test]
fn a_target_socket_that_cannot_be_created_costs_only_its_requester() {
    const STREAM: [u32; 2] = [2, 10];
    for_each(
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ACCESS, Errno::AFNOSUPPORT],
        |errno| {
            let (mut stage, mut faults) = hosted("", 0);
            faults.begin(&STREAM.map(|family| Rule::fail(SOCKET, errno).when(0, family)));
            for _ in 0..5 {
                let mut requester = stage.relay.connect();
                stage.relay.log.expect_all(&[16, 18, 19], 0);
                stage.relay.log.expect_text(&connection_failed(errno));
                assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
            }
            stage.assert_undisturbed();
            assert_eq!(sockets(&stage.relay), stage.open);
        },
    );
}

#[test]
fn with_a_backup_a_shortage_still_drops_the_requester_and_a_missing_family_sends_it_on() {
    const IPV4: u32 = 2;
    let backup = TcpListener::bind("[::1]:0").unwrap();
    let options = format!("--backup {}", net::address(&backup));

    let (mut stage, mut faults) = hosted(&options, 0);
    faults.begin(&[Rule::fail(SOCKET, Errno::MFILE).when(0, IPV4)]);
    let mut requester = stage.relay.connect();
    stage.relay.log.expect_all(&[16, 18, 19], 0);
    stage.relay.log.expect_text(&connection_failed(Errno::MFILE));
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    stage.assert_undisturbed();

    let (mut stage, mut faults) = hosted(&options, 0);
    faults.begin(&[Rule::fail(SOCKET, Errno::AFNOSUPPORT).when(0, IPV4)]);
    let _requester = stage.relay.connect();
    let serial = 2;
    stage.relay.log.expect_all(&[16, 18, 26], serial);
    assert!(
        stage.relay.log.line().text.ends_with(&format!("Connecting to target {}.", net::address(&backup)))
    );
    stage.relay.log.expect_all(&[28, 31], serial);
    backup.accept().unwrap();
}

/// Opens sessions and begins a fault on the descriptors of each. As each ends, the next sessions take its
/// descriptors and meet its fault.
pub fn each_beginning_ends(
    options: &str,
    errors: &[Errno],
    said: &[u8],
    connects: bool,
    rule: impl Fn(Errno, Descriptors) -> Rule,
) {
    let (mut stage, mut faults) = hosted(options, errors.len());
    let rules: Vec<_> =
        stage.victims.iter().zip(errors).map(|(victim, errno)| rule(*errno, victim.descriptors)).collect();
    faults.begin(&rules);
    let mut serial = 1 + errors.len() as u64;
    // The kernel gives out the lowest descriptors first, so the last session must end first.
    while let Some(mut predecessor) = stage.victims.pop() {
        predecessor.requester.shutdown(Shutdown::Write).unwrap();
        assert_eq!(net::read_all(&mut predecessor.target), (Vec::new(), End::Clean));
        drop(predecessor.target);
        stage.relay.log.expect(34, predecessor.serial);
        let open = sockets(&stage.relay);
        for _ in 0..3 {
            serial += 1;
            let mut requester = stage.relay.connect();
            let (last, before) = said.split_last().unwrap();
            stage.relay.log.expect_all(before, serial);
            let errno = errors[stage.victims.len()];
            assert_eq!(stage.relay.log.line().text, message(*last, serial), "{errno:?}");
            if [20, 27].contains(last) && errno != Errno::CONNREFUSED {
                stage.relay.log.expect_text(&connection_failed(errno));
            }
            assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset), "{errno:?}");
            if connects {
                net::turn_away(&stage.listener);
            }
            eventually("both sockets closed", || sockets(&stage.relay) == open);
        }
    }
    stage.assert_over();
}

#[test]
fn a_connect_that_fails_at_once_is_a_refusal() {
    each_beginning_ends("", &OF_CONNECT, &[16, 18, 26, 27], false, |errno, descriptors| {
        Rule::fail(CONNECT, errno).when(0, descriptors.target)
    });
}

#[test]
fn a_source_address_that_cannot_be_bound_is_a_refusal() {
    let errors = [Errno::ADDRNOTAVAIL, Errno::ADDRINUSE, Errno::ACCESS, Errno::INVAL, Errno::NOMEM];
    each_beginning_ends("--source 127.0.0.1", &errors, &[16, 18, 26, 27], false, |errno, descriptors| {
        Rule::fail(BIND, errno).when(0, descriptors.target)
    });
}

#[test]
fn a_target_that_cannot_be_registered_drops_the_requester() {
    let errors = [Errno::NOMEM, Errno::NOSPC, Errno::PERM];
    each_beginning_ends("", &errors, &[16, 18, 26, 20], true, |errno, descriptors| {
        Rule::fail(EPOLL_CONTROL, errno).when(1, EPOLL_ADD).when(2, descriptors.target)
    });
}

#[test]
fn a_requester_that_cannot_be_registered_ends_the_session() {
    let errors = [Errno::NOMEM, Errno::NOSPC, Errno::PERM];
    each_beginning_ends("", &errors, &[16, 18, 26, 29], true, |errno, descriptors| {
        Rule::fail(EPOLL_CONTROL, errno).when(1, EPOLL_ADD).when(2, descriptors.requester)
    });
}

#[test]
fn a_lack_of_memory_ends_only_the_session_that_asks() {
    let (mut stage, mut faults) = hosted("", 2);
    // The memory that this session frees serves the next one, however little else the process has.
    stage.relay.assert_relays(&stage.listener);
    stage.relay.log.wait(34, 4);
    // A failing brk returns the old break instead of an error, and a filter cannot do that. A limit can.
    process::limit(stage.relay.pid, Resource::Data, Some(0));
    faults.begin(&[MAP, PROTECT, REMAP].map(|call| Rule::fail(call, Errno::NOMEM)));
    let mut sessions = Vec::new();
    let mut serial = 4;
    loop {
        serial += 1;
        assert!(serial < 500, "the relay never runs out of memory");
        let ends = stage.relay.session(&stage.listener);
        stage.relay.log.expect_all(&STARTED[..5], serial);
        let line = stage.relay.log.line().text;
        if [32, 36].map(|number| message(number, serial)).contains(&line) {
            assert_cut_or_ended(&ends.0);
            assert_cut_or_ended(&ends.1);
            break;
        }
        stage.relay.log.expect(37, serial);
        sessions.push(ends);
    }
    stage.assert_undisturbed();
    for (requester, target) in &mut sessions {
        net::assert_passes(requester, target, b"those inside notice nothing");
    }
    // A session that ends makes room for the next one.
    let (requester, mut target) = sessions.pop().unwrap();
    drop(requester);
    assert_eq!(net::read_all(&mut target), (Vec::new(), End::Clean));
    drop(target);
    stage.relay.log.expect(34, serial - 1);
    stage.relay.assert_relays(&stage.listener);
}

#[track_caller]
fn assert_cut_or_ended(mut stream: &TcpStream) {
    assert_eq!(net::read_all(&mut stream).0, [0_u8; 0]);
}

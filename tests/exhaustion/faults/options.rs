//! Addresses, socket options and send queues that the kernel refuses to give or set.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::{fs, thread};

use rustix::io::Errno;

use super::beginnings::each_beginning_ends;
use super::calls::{GET_PEER_NAME, GET_SOCK_NAME, GET_SOCK_OPT, IO_CONTROL, SEND_QUEUE, SET_SOCK_OPT};
use super::for_each;
use super::host::{Rule, start_hosted, start_with};
use super::splices::{relays_all, relays_all_under};
use super::stage::{Session, Stage, assert_cut, descriptors, hosted};
use crate::checks::{assert_does_not_spin, sockets};
use crate::support::catalogue::{connection_failed, message};
use crate::support::net::{self, End};
use crate::support::{Start, eventually};

#[test]
fn a_query_that_fails_changes_nothing() {
    for_each([Errno::NOBUFS, Errno::NOMEM, Errno::INVAL], |errno| {
        relays_all_under(&[Rule::fail(GET_SOCK_OPT, errno)]);
        // The relay asks for the listener's name at the start, so the fault begins later.
        let (stage, mut faults) = hosted("", 1);
        faults.begin(&[Rule::fail(GET_SOCK_NAME, errno)]);
        relays_all(stage);
    });
}

/// Returns the rule that setting the option of this level and number fails.
fn option(level: u32, name: u32, errno: Errno) -> Rule {
    Rule::fail(SET_SOCK_OPT, errno).when(1, level).when(2, name)
}

#[test]
fn small_writes_go_out_though_the_no_delay_option_fails() {
    const TCP: (u32, u32) = (6, 1);
    for_each([Errno::NOBUFS, Errno::NOMEM, Errno::INVAL], |errno| {
        // The relay sets the listener's option at the start, so only the targets' sockets fail here.
        let rules = [1, 2, 3].map(|number| option(TCP.0, TCP.1, errno).when(0, descriptors(number).target));
        relays_all_under(&rules);
    });
}

#[test]
fn a_stream_goes_on_though_its_unsent_bytes_cannot_be_limited() {
    const UNSENT: (u32, u32) = (6, 25);
    for_each([Errno::NOBUFS, Errno::INVAL], |errno| {
        relays_all_under(&[option(UNSENT.0, UNSENT.1, errno)]);
    });
}

#[test]
fn a_source_is_kept_though_its_port_cannot_be_chosen_late() {
    const CHOOSE_LATE: (u32, u32) = (0, 24);
    for_each([Errno::NOPROTOOPT, Errno::PERM, Errno::NOSYS, Errno::INVAL], |errno| {
        let (mut stage, mut faults) = hosted("--source 127.0.0.9", 0);
        faults.begin(&[option(CHOOSE_LATE.0, CHOOSE_LATE.1, errno)]);
        stage.assert_undisturbed();
        let (_requester, target) = stage.relay.session(&stage.listener);
        assert_eq!(target.peer_addr().unwrap().ip(), Ipv4Addr::new(127, 0, 0, 9));
    });
}

#[test]
fn a_session_whose_reset_cannot_be_made_still_ends() {
    const LINGER: (u32, u32) = (1, 13);
    let mut stage = Stage::real(1, |_, _| vec![option(LINGER.0, LINGER.1, Errno::NOBUFS)]);
    let mut victim = stage.victims.remove(0);
    net::reset(victim.requester);
    // The relay has no other way to reset than the call that failed.
    assert_eq!(net::read_all(&mut victim.target).0, [0_u8; 0]);
    stage.relay.log.expect(34, 2);
    stage.assert_over();
}

#[test]
fn a_target_whose_urgent_bytes_would_be_lost_is_not_connected_to() {
    const IN_LINE: (u32, u32) = (1, 10);
    let errors = [Errno::NOBUFS, Errno::NOMEM, Errno::INVAL];
    each_beginning_ends("", &errors, &[16, 18, 26, 20], false, |errno, descriptors| {
        option(IN_LINE.0, IN_LINE.1, errno).when(0, descriptors.target)
    });
}

#[test]
fn a_refusal_is_recognised_though_the_socket_answers_no_query() {
    for (call, asks_why) in [(GET_PEER_NAME, false), (GET_SOCK_OPT, true)] {
        for errno in [Errno::NOBUFS, Errno::NOTCONN] {
            let (_bound, address) = net::refusing();
            let mut relay = start_with(Start::to(address), &[Rule::fail(call, errno)]);
            for serial in 1..=3 {
                let mut requester = relay.connect();
                assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
                relay.log.expect_all(&[16, 18, 26, 27], serial);
                if asks_why {
                    relay.log.expect_text(&connection_failed(errno));
                }
            }
            assert_does_not_spin(&relay);
        }
    }
}

#[test]
fn a_connect_whose_outcome_is_unknown_is_given_up_in_time() {
    let silent = net::Silent::new();
    let start = Start::to(silent.address()).connect_timeout(3);
    let mut relay = start_with(start, &[Rule::fail(GET_PEER_NAME, Errno::NOBUFS)]);
    let mut requester = relay.connect();
    relay.log.expect_all(&[16, 18, 26], 1);
    // The relay gets the target's answer and its EOF in one event.
    relay.freeze();
    let listener = silent.wake();
    let target = net::accept(&listener);
    target.shutdown(Shutdown::Write).unwrap();
    eventually("the EOF is at the relay", || eof_has_arrived(&target));
    relay.thaw();
    relay.log.expect(25, 1);
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    assert_does_not_spin(&relay);
}

/// Returns whether the peer of this connection, which is on this machine, has an EOF to read.
fn eof_has_arrived(stream: &TcpStream) -> bool {
    const CLOSE_WAIT: &str = "08";
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    let (peer, own) = (port(stream.peer_addr().unwrap()), port(stream.local_addr().unwrap()));
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&peer) && fields[2].ends_with(&own) && fields[3] == CLOSE_WAIT
    })
}

#[test]
fn the_idle_timeout_works_though_the_send_queues_are_unknown() {
    let faults = [Errno::INVAL, Errno::NOTTY, Errno::PERM]
        .map(|errno| Rule::fail(IO_CONTROL, errno).when(1, SEND_QUEUE));
    thread::scope(|scope| {
        for fault in faults {
            scope.spawn(move || {
                let start = |target| Start::to(target).idle_timeout(5);
                let listener = net::listen();
                let (relay, mut faults) = start_hosted(start(net::address(&listener)));
                let mut stage = Stage::set(relay, listener, 1);
                faults.begin(&[fault]);
                let victim = stage.victims.remove(0);
                let open = sockets(&stage.relay);
                // The target sends more than the requester, which does not read, can take.
                let mut writer = victim.target.try_clone().unwrap();
                let writer = thread::spawn(move || while writer.write_all(&[7; 4096]).is_ok() {});
                let Session { requester, target, .. } = &mut stage.bystander;
                let mut lines = Vec::new();
                eventually("the victim ends", || {
                    net::assert_passes(requester, target, b"still here");
                    lines.extend(stage.relay.log.pending().into_iter().map(|line| line.text));
                    !lines.is_empty()
                });
                assert_eq!(lines, [message(24, victim.serial)]);
                assert_cut(&victim.requester);
                writer.join().unwrap();
                eventually("both sockets closed", || sockets(&stage.relay) <= open - 2);
                let Session { requester, target, .. } = &mut stage.bystander;
                net::assert_passes(requester, target, b"still there");
            });
        }
    });
}

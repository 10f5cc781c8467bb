//! Requesters that send, half-close or go away before the target is connected.

use std::io::Write;
use std::net::Shutdown;

use crate::support::net::{self, End, Silent};
use crate::support::{Start, eventually, process};

#[test]
fn bytes_sent_before_the_target_is_connected_arrive() {
    let silent = Silent::new();
    let mut relay = Start::to(silent.address()).start();
    let mut requester = relay.connect();
    let early = net::random(8, 20_000);
    requester.write_all(&early).unwrap();
    relay.log.expect_all(&[16, 18, 26], 1);
    let listener = silent.wake();
    let mut target = net::accept(&listener);
    net::assert_same(&net::read_exactly(&mut target, early.len()), &early);
    net::assert_passes(&mut target, &mut requester, b"welcome");
    relay.log.expect_all(&[28, 31, 33, 37], 1);
}

#[test]
fn a_request_that_is_complete_before_the_target_is_connected_gets_its_answer() {
    let silent = Silent::new();
    let mut relay = Start::to(silent.address()).start();
    let mut requester = relay.connect();
    requester.write_all(b"all I ask").unwrap();
    requester.shutdown(Shutdown::Write).unwrap();
    relay.log.expect_all(&[16, 18, 26], 1);
    let mut target = net::accept(&silent.wake());
    assert_eq!(net::read_all(&mut target), (b"all I ask".to_vec(), End::Clean));
    target.write_all(b"all I know").unwrap();
    drop(target);
    assert_eq!(net::read_all(&mut requester), (b"all I know".to_vec(), End::Clean));
    relay.log.expect_all(&[28, 31, 33, 37, 34], 1);
}

#[test]
fn a_requester_that_goes_away_while_the_target_is_silent_costs_no_slot_for_long() {
    let silent = Silent::new();
    let mut relay = Start::to(silent.address()).connect_timeout(1).start();
    let before = process::descriptors(relay.pid).len();
    let leaves_quietly = relay.connect();
    relay.log.expect_all(&[16, 18, 26], 1);
    let leaves_rudely = relay.connect();
    relay.log.expect_all(&[16, 18, 26], 2);
    drop(leaves_quietly);
    net::reset(leaves_rudely);
    eventually("both sessions ended", || process::descriptors(relay.pid).len() == before);
    // The relay logs each end once. Its cause does not matter here.
    let ends = [relay.log.line().text, relay.log.line().text];
    for serial in ["number 1 ", "number 2 "] {
        assert_eq!(ends.iter().filter(|line| line.contains(serial)).count(), 1, "{ends:?}");
    }
    process::settle(relay.pid);
    assert!(relay.log.pending().is_empty());
}

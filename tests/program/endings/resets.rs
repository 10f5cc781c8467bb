//! A reset reaches the other side, after the bytes that were sent before it.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use super::{SIDES, Side, Stage, for_all};
use crate::support::net::{self, End};
use crate::support::{self, STARTED, Start, process};

#[test]
fn a_reset_travels() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        net::assert_passes(&mut first, &mut second, b"all is well");
        net::assert_passes(&mut second, &mut first, b"is it?");
        net::reset(first);
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Reset));
        stage.ends_by(side);
    });
}

#[test]
fn bytes_sent_before_a_reset_are_delivered() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        let words = net::random(6, 3_000);
        first.write_all(&words).unwrap();
        net::reset(first);
        let (heard, end) = net::read_all(&mut second);
        net::assert_same(&heard, &words);
        assert_eq!(end, End::Reset);
        stage.ends_by(side);
    });
}

#[test]
fn a_reset_after_a_half_close_travels() {
    for_all(|side, buf| {
        let (stage, first, mut second) = Stage::set(side, buf);
        second.shutdown(Shutdown::Write).unwrap();
        let (heard, end) = net::read_all(&mut &first);
        assert_eq!((heard.len(), end), (0, End::Clean));
        net::reset(first);
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Reset));
        // The other side's EOF came first.
        let first_to_end = match side {
            Side::Requester => Side::Target,
            Side::Target => Side::Requester,
        };
        stage.ends_by(first_to_end);
    });
}

#[test]
fn a_reset_in_the_middle_of_a_stream_is_no_clean_end() {
    for_all(|side, buf| {
        let (stage, mut first, mut second) = Stage::set(side, buf);
        let words = net::random(7, 1_000_000);
        let speaker = thread::spawn({
            let words = words.clone();
            move || {
                first.write_all(&words).unwrap();
                net::reset(first);
            }
        });
        let (heard, end) = net::read_all(&mut second);
        assert_eq!(end, End::Reset);
        // The kernels decide how many bytes arrive before the reset, but each that arrives must be right.
        net::assert_same(&heard, &words[..heard.len()]);
        speaker.join().unwrap();
        stage.ends_by(side);
    });
}

#[test]
fn a_close_over_unread_bytes_is_a_reset_for_the_other_side_too() {
    for side in SIDES {
        let (stage, first, mut second) = Stage::set(side, 4000);
        second.write_all(b"do you hear me?").unwrap();
        assert!(net::readable_within(&first, support::PATIENCE));
        // The kernel resets a connection that is closed over unread bytes.
        drop(first);
        assert_eq!(net::read_all(&mut second), (Vec::new(), End::Reset));
        stage.ends_by(side);
    }
}

#[test]
fn one_session_that_is_cut_leaves_the_others_alone() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let mut sessions = Vec::new();
    for serial in 1..=20 {
        sessions.push(relay.session(&listener));
        relay.log.expect_all(&STARTED, serial);
    }
    for _ in 0..10 {
        let (requester, mut target) = sessions.remove(0);
        net::reset(requester);
        assert_eq!(net::read_all(&mut target), (Vec::new(), End::Reset));
    }
    for (requester, target) in &mut sessions {
        net::assert_passes(requester, target, &net::random(9, 10_000));
        net::assert_passes(target, requester, &net::random(10, 10_000));
    }
    for serial in 1..=10 {
        relay.log.expect(34, serial);
    }
    // Had another session ended, its line would come before those of a new one.
    process::settle(relay.pid);
    relay.assert_relays(&listener);
    relay.log.expect_all(&STARTED, 21);
}

//! The requests that a program makes of its relay, and how a run ends.

use std::io::Write as _;
use std::net::Shutdown;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use tcprelay::{Message, Outcome, Progress, Relay};

use crate::net::{self, End};
use crate::{Embedded, RELAYING, config};

#[test]
fn a_report_names_each_session() {
    let target = net::listen();
    let relay = Embedded::start(&target);
    let _session = (net::connect(relay.address), net::accept(&target));
    relay.wait(RELAYING);
    relay.handle.report();
    let Message::Status { sessions, totals, .. } = relay.wait(108) else { panic!() };
    assert_eq!((sessions, totals.accepted), (1, 1));
    let Message::StatusSession { live } = relay.wait(109) else { panic!() };
    assert_eq!(live.identity.serial.get(), 1);
    relay.handle.stop();
    relay.wait(100);
    assert_eq!(relay.outcome(), Outcome::Stopped);
}

#[test]
fn a_closure_receives_each_message_with_its_values() {
    let target = net::listen();
    let relay = Embedded::start(&target);
    let (mut requester, mut far) = (net::connect(relay.address), net::accept(&target));
    requester.write_all(b"question").unwrap();
    requester.shutdown(Shutdown::Write).unwrap();
    assert_eq!(net::read_all(&mut far), (b"question".to_vec(), End::Clean));
    drop(far);
    let Message::RequesterReadClosure { session, summary } = relay.wait(34) else { panic!() };
    assert_eq!(session.requester, requester.local_addr().unwrap());
    assert_eq!((summary.to_target, summary.to_requester), (8, 0));
    relay.handle.stop();
    assert_eq!(relay.messages.iter().last(), Some(Message::StopSignal {}));
    assert_eq!(relay.outcome(), Outcome::Stopped);
}

#[test]
fn a_drained_relay_ends_with_its_last_session() {
    let target = net::listen();
    let relay = Embedded::start(&target);
    let (requester, mut far) = (net::connect(relay.address), net::accept(&target));
    relay.wait(RELAYING);
    relay.handle.drain();
    assert_eq!(relay.wait(101), Message::DrainSignal { sessions: 1 });
    drop(requester);
    assert_eq!(net::read_all(&mut far), (Vec::new(), End::Clean));
    drop(far);
    relay.wait(34);
    relay.wait(102);
    assert_eq!(relay.outcome(), Outcome::Drained);
}

#[test]
fn a_second_drain_stops_the_relay() {
    let target = net::listen();
    let relay = Embedded::start(&target);
    let _session = (net::connect(relay.address), net::accept(&target));
    relay.wait(RELAYING);
    relay.handle.drain();
    relay.wait(101);
    relay.handle.drain();
    relay.wait(100);
    assert_eq!(relay.outcome(), Outcome::Stopped);
}

#[test]
fn a_handle_returns_the_sessions_until_the_end_and_the_totals_after_it_too() {
    let target = net::listen();
    let relay = Embedded::start(&target);
    let (mut requester, mut far) = (net::connect(relay.address), net::accept(&target));
    relay.wait(RELAYING);
    net::assert_passes(&mut requester, &mut far, b"question");
    let handle = relay.handle.clone();
    assert_eq!(handle.totals().unwrap().accepted, 1);
    let sessions = handle.sessions().unwrap();
    let [session] = sessions.as_slice() else { panic!("{sessions:?}") };
    assert_eq!(session.identity.requester, requester.local_addr().unwrap());
    assert_eq!(session.phase, Progress::Relaying);
    handle.stop();
    assert_eq!(relay.outcome(), Outcome::Stopped);
    let totals = handle.totals().unwrap();
    assert_eq!((totals.accepted, totals.to_target), (1, 8), "the stop cut this session");
    assert_eq!(handle.sessions(), None);
}

#[test]
fn a_query_that_is_pending_at_the_end_returns_the_final_totals() {
    let target = net::listen();
    let mut relay = Relay::bind(config(&target), |_: &Message| {}).unwrap();
    let handle = relay.handle();
    let asked = thread::spawn(move || handle.totals());
    // The query makes the relay's descriptor readable.
    poll(&mut [PollFd::new(&relay, PollFlags::IN)], None).unwrap();
    relay.handle().stop();
    assert_eq!(relay.turn(None).unwrap(), Some(Outcome::Stopped));
    assert_eq!(asked.join().unwrap(), Some(relay.totals()));
    assert_eq!((relay.sessions().len(), relay.targets().len()), (0, 1), "an ended relay still answers");
}

#[test]
fn a_relay_that_is_dropped_before_its_end_has_no_final_totals() {
    let target = net::listen();
    let relay = Relay::bind(config(&target), |_: &Message| {}).unwrap();
    let handle = relay.handle();
    drop(relay);
    assert_eq!((handle.totals(), handle.sessions()), (None, None));
}

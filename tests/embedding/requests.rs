//! What a program asks of a relay, and how a run ends.

use std::io::Write as _;
use std::net::Shutdown;

use tcprelay::{Message, Outcome, Progress};

use crate::Embedded;
use crate::net::{self, End};

/// The target-to-requester channel is active: the session relays.
const RELAYING: u16 = 37;

#[test]
fn asked_for_a_report_it_passes_on_its_sessions() {
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
fn a_closure_takes_each_message_with_its_values() {
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
fn asked_to_drain_it_ends_with_its_last_session() {
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
fn asked_twice_to_drain_it_stops() {
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
fn a_handle_returns_the_totals_and_the_sessions_until_the_relay_has_ended() {
    let target = net::listen();
    let relay = Embedded::start(&target);
    let (requester, _far) = (net::connect(relay.address), net::accept(&target));
    relay.wait(RELAYING);
    let handle = relay.handle.clone();
    assert_eq!(handle.totals().unwrap().accepted, 1);
    let sessions = handle.sessions().unwrap();
    let [session] = sessions.as_slice() else { panic!("{sessions:?}") };
    assert_eq!(session.identity.requester, requester.local_addr().unwrap());
    assert_eq!(session.phase, Progress::Relaying);
    handle.stop();
    assert_eq!(relay.outcome(), Outcome::Stopped);
    assert_eq!((handle.totals(), handle.sessions()), (None, None));
}

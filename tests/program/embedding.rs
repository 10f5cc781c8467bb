//! The relay inside another program: what its handle asks for, and how a run ends.

use std::io::{Write as _, pipe};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tcprelay::cli::{Request, parse};
use tcprelay::{Config, Handle, Message, Outcome, Relay, Sink, WaitError};

use crate::support::catalogue::STOPPED;
use crate::support::net::{self, End};
use crate::support::{Log, STARTED};

/// A relay in a thread of this process.
struct Embedded {
    address: SocketAddr,
    handle: Handle,
    log: Log,
    run: JoinHandle<Result<Outcome, WaitError>>,
}

impl Embedded {
    #[track_caller]
    fn start(target: &TcpListener) -> Self {
        let listener = net::listen();
        let address = net::address(&listener);
        let (port, target) = (address.port(), net::address(target).port());
        let line = format!("{port} 127.0.0.1 {target} ANY 3 60 0 4000");
        let Ok(Request::Run(config)) = parse(line.split(' ').map(Into::into)) else { panic!("{line}") };
        let (reader, writer) = pipe().unwrap();
        let output = tcprelay::Log::to(writer.into(), config.log_style());
        let relay = Relay::with_listener(config, output, listener).unwrap();
        let handle = relay.handle();
        let mut log = Log::of(reader);
        let run = thread::spawn(move || relay.run());
        assert!(log.line().text.contains(" is now active. "));
        log.expect_text(&format!("Listening on {address}."));
        Self { address, handle, log, run }
    }
}

#[test]
fn asked_for_a_report_it_tells_its_sessions() {
    let target = net::listen();
    let mut relay = Embedded::start(&target);
    let _session = (net::connect(relay.address), net::accept(&target));
    relay.log.expect_all(&STARTED, 1);
    relay.handle.report();
    assert!(relay.log.line().text.starts_with("Status: 1 sessions, 1 accepted, "));
    assert!(relay.log.line().text.starts_with("Status: session handler serial number 1 "));
    relay.handle.stop();
    relay.log.expect_text(STOPPED);
    assert_eq!(relay.run.join().unwrap().unwrap(), Outcome::Stopped);
}

#[test]
fn a_closure_takes_each_message_with_its_values() {
    let target = net::listen();
    let config = Config::new((Ipv4Addr::LOCALHOST, 0).into(), net::address(&target)).unwrap();
    let (sender, messages) = mpsc::channel();
    let relay = Relay::bind(config, move |message: &Message| sender.send(message.clone()).unwrap()).unwrap();
    let (address, handle) = (relay.local_addr(), relay.handle());
    let run = thread::spawn(move || relay.run());

    let (mut requester, mut far) = (net::connect(address), net::accept(&target));
    requester.write_all(b"question").unwrap();
    requester.shutdown(Shutdown::Write).unwrap();
    assert_eq!(net::read_all(&mut far), (b"question".to_vec(), End::Clean));
    drop(far);
    let end = messages.iter().find_map(|message| match message {
        Message::RequesterReadClosure { session, summary } => Some((session, summary)),
        _ => None,
    });
    let (session, summary) = end.unwrap();
    assert_eq!(session.requester, requester.local_addr().unwrap());
    assert_eq!((summary.to_target, summary.to_requester), (8, 0));
    handle.stop();
    assert_eq!(run.join().unwrap().unwrap(), Outcome::Stopped);
    assert_eq!(messages.iter().last(), Some(Message::StopSignal {}));
}

#[test]
fn asked_to_drain_it_ends_with_its_last_session() {
    let target = net::listen();
    let mut relay = Embedded::start(&target);
    let (requester, mut far) = (net::connect(relay.address), net::accept(&target));
    relay.log.expect_all(&STARTED, 1);
    relay.handle.drain();
    assert!(relay.log.line().text.starts_with("Drain signal received. "));
    drop(requester);
    assert_eq!(net::read_all(&mut far), (Vec::new(), End::Clean));
    drop(far);
    relay.log.expect(34, 1);
    assert!(relay.log.line().text.starts_with("The last session has ended. "));
    assert_eq!(relay.run.join().unwrap().unwrap(), Outcome::Drained);
}

#[test]
fn asked_twice_to_drain_it_stops() {
    let target = net::listen();
    let mut relay = Embedded::start(&target);
    let _session = (net::connect(relay.address), net::accept(&target));
    relay.log.expect_all(&STARTED, 1);
    relay.handle.drain();
    assert!(relay.log.line().text.starts_with("Drain signal received. "));
    relay.handle.drain();
    relay.log.expect_text(STOPPED);
    assert_eq!(relay.run.join().unwrap().unwrap(), Outcome::Stopped);
}

#[test]
fn a_handle_returns_the_totals_and_the_sessions_until_the_relay_has_ended() {
    let target = net::listen();
    let mut relay = Embedded::start(&target);
    let (requester, _far) = (net::connect(relay.address), net::accept(&target));
    relay.log.expect_all(&STARTED, 1);
    let handle = relay.handle.clone();
    assert_eq!(handle.totals().unwrap().accepted, 1);
    let sessions = handle.sessions().unwrap();
    let [session] = sessions.as_slice() else { panic!("{sessions:?}") };
    assert_eq!(session.identity.requester, requester.local_addr().unwrap());
    assert_eq!(session.phase, "relaying");
    handle.stop();
    assert_eq!(relay.run.join().unwrap().unwrap(), Outcome::Stopped);
    assert_eq!((handle.totals(), handle.sessions()), (None, None));
}

#[test]
fn two_relays_in_a_loop_of_the_hosts_do_not_disturb_each_other() {
    let target = net::listen();
    let config = Config::new((Ipv4Addr::LOCALHOST, 0).into(), net::address(&target)).unwrap();
    let (sender, connected) = mpsc::channel();
    let mut relays = [1, 2].map(|name| {
        let sender = sender.clone();
        Relay::bind(config.clone(), move |message: &Message| {
            if matches!(message, Message::RelaysStarted { .. }) {
                sender.send(name).unwrap();
            }
        })
        .unwrap()
    });
    let _sessions = relays.each_ref().map(|relay| net::connect(relay.local_addr()));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let ready = poll_both(&relays);
        for (relay, ready) in relays.iter_mut().zip(ready) {
            if ready {
                assert_eq!(relay.turn(Some(Duration::ZERO)).unwrap(), None);
            }
        }
        seen.extend(connected.try_iter());
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);

    let [one, other] = &mut relays;
    one.handle().stop();
    assert_eq!(one.turn(None).unwrap(), Some(Outcome::Stopped));
    assert_eq!(one.turn(None).unwrap(), Some(Outcome::Stopped), "the end stays");
    assert_eq!((other.totals().accepted, other.sessions().len()), (1, 1));
    assert_eq!(other.turn(Some(Duration::ZERO)).unwrap(), None);
}

/// Waits until a relay has events or something due. Returns which are to have a turn.
fn poll_both<S: Sink>(relays: &[Relay<S>; 2]) -> [bool; 2] {
    let deadlines = relays.each_ref().map(Relay::next_deadline);
    let next = deadlines.iter().flatten().min();
    let wait = next.map(|at| at.saturating_duration_since(Instant::now()).try_into().unwrap());
    let mut polled = relays.each_ref().map(|relay| PollFd::new(relay, PollFlags::IN));
    poll(&mut polled, wait.as_ref()).unwrap();
    let now = Instant::now();
    [0, 1].map(|index| !polled[index].revents().is_empty() || deadlines[index].is_some_and(|at| at <= now))
}

//! A relay with one healthy session, the bystander, and sessions whose system calls fail, the victims.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;

pub use Side::{Requester, Target};
pub use tcprelay::internal::session::Side;

use super::host::{Faults, Rule, start_hosted, start_with};
use crate::checks::{assert_does_not_spin, sockets};
use crate::support::net::{self, End};
use crate::support::{Relay, STARTED, Start, eventually, process};

/// The descriptors of a session in the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    pub requester: u32,
    pub target: u32,
}

/// A session, seen from both its sides.
pub struct Session {
    pub serial: u64,
    pub requester: TcpStream,
    pub target: TcpStream,
    pub descriptors: Descriptors,
}

/// A relay with a healthy session, and with sessions whose system calls fail.
pub struct Stage {
    pub relay: Relay,
    pub listener: TcpListener,
    pub bystander: Session,
    pub victims: Vec<Session>,
    /// The number of the relay's sockets while the bystander is its only session.
    pub open: usize,
}

impl Stage {
    /// Starts the real program, with rules for each of some sessions.
    #[track_caller]
    pub fn real(victims: usize, rules: impl Fn(usize, Descriptors) -> Vec<Rule>) -> Self {
        Self::real_with(Start::to, victims, rules)
    }

    #[track_caller]
    pub fn real_with(
        start: impl Fn(SocketAddr) -> Start,
        victims: usize,
        rules: impl Fn(usize, Descriptors) -> Vec<Rule>,
    ) -> Self {
        let rules: Vec<_> = (0..victims).flat_map(|number| rules(number, descriptors(number + 1))).collect();
        let listener = net::listen();
        let relay = start_with(start(net::address(&listener)), &rules);
        let stage = Self::set(relay, listener, victims);
        for (number, victim) in (1..).zip(&stage.victims) {
            assert_eq!(victim.descriptors, descriptors(number));
        }
        stage
    }

    /// Opens the bystander and the victims on a running relay.
    #[track_caller]
    pub fn set(mut relay: Relay, listener: TcpListener, victims: usize) -> Self {
        process::settle(relay.pid);
        let bystander = session(&mut relay, &listener, 1);
        let open = sockets(&relay);
        let victims = (2..).take(victims).map(|serial| session(&mut relay, &listener, serial)).collect();
        Self { relay, listener, bystander, victims, open }
    }

    /// Asserts that the fault is over: the relay holds no socket of a victim, the bystander goes on, and the
    /// relay serves the next requester.
    #[track_caller]
    pub fn assert_over(mut self) {
        self.assert_undisturbed();
        let open = self.open;
        eventually("the relay has closed the victims' sockets", || sockets(&self.relay) == open);
        let Session { mut requester, mut target, .. } = self.bystander;
        requester.shutdown(Shutdown::Write).unwrap();
        assert_eq!(net::read_all(&mut target), (Vec::new(), End::Clean));
        drop(target);
        assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Clean));
        self.relay.log.expect(34, 1);
        // The next session gets the bystander's descriptors, for which no call fails.
        self.relay.assert_relays(&self.listener);
    }

    /// Asserts that the bystander goes on, the log is silent, and the relay does not spin.
    #[track_caller]
    pub fn assert_undisturbed(&mut self) {
        let Session { requester, target, .. } = &mut self.bystander;
        net::assert_passes(requester, target, b"still there?");
        net::assert_passes(target, requester, b"of course");
        assert_does_not_spin(&self.relay);
        let lines = self.relay.log.pending();
        assert!(lines.is_empty(), "{lines:?}");
        self.relay.assert_alive();
    }
}

/// Returns the descriptors of the session with this number, counted from 0, in a program that [`start_with`]
/// starts. They are the same in every run.
pub fn descriptors(number: usize) -> Descriptors {
    static OPEN: OnceLock<std::collections::BTreeSet<u32>> = OnceLock::new();
    let open = OPEN.get_or_init(|| {
        let twin = start_with(Start::to(net::address(&net::listen())), &[]);
        process::settle(twin.pid);
        process::descriptors(twin.pid)
    });
    let mut next = (0..).filter(|descriptor| !open.contains(descriptor)).skip(2 * number);
    Descriptors { requester: next.next().unwrap(), target: next.next().unwrap() }
}

/// Opens a session and waits until it relays.
#[track_caller]
pub fn session(relay: &mut Relay, listener: &TcpListener, serial: u64) -> Session {
    let before = process::descriptors(relay.pid);
    let (requester, target) = relay.session(listener);
    relay.log.expect_all(&STARTED, serial);
    let mut new =
        process::descriptors(relay.pid).difference(&before).copied().collect::<Vec<_>>().into_iter();
    let descriptors = Descriptors { requester: new.next().unwrap(), target: new.next().unwrap() };
    Session { serial, requester, target, descriptors }
}

/// Asserts that the stream ends by a reset, after any number of bytes.
#[track_caller]
pub fn assert_cut(mut stream: &TcpStream) {
    assert_eq!(net::read_all(&mut stream).1, End::Reset);
}

impl Session {
    pub fn stream(&mut self, side: Side) -> &mut TcpStream {
        if side == Requester { &mut self.requester } else { &mut self.target }
    }
}

impl Descriptors {
    pub fn of(self, side: Side) -> u32 {
        if side == Requester { self.requester } else { self.target }
    }
}

/// Starts a hosted relay with a bystander and victims.
#[track_caller]
pub fn hosted(options: &str, victims: usize) -> (Stage, Faults) {
    let listener = net::listen();
    let (relay, faults) = start_hosted(Start::to(net::address(&listener)).options(options));
    (Stage::set(relay, listener, victims), faults)
}

//! Every system call that the relay makes while it runs fails, with each error that it can fail with.
//!
//! A filter cannot fail a call only once. So "once" is: for one descriptor, which is one side of one session,
//! while the others are untouched; and "for good" is: whatever the descriptor, from some moment on.
//!
//! [`CALLS`] has every call that a running relay makes, and what comes of it when it fails: a call without a
//! row there ends the process in the tests that look for such calls.

mod calls;
mod host;

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Signal};

use crate::sockets::sockets;
use crate::support::catalogue::{connection_failed, filled, message};
use crate::support::net::{self, End};
use crate::support::{Relay, STARTED, Start, eventually, process, siege};
use calls::{
    ACCEPT, BIND, CALLS, CLOSE, CONNECT, CONTROL_READ, EPOLL_ADD, EPOLL_CONTROL, EPOLL_WAIT, FCNTL,
    GET_PEER_NAME, GET_PIPE_SIZE, GET_SOCK_NAME, GET_SOCK_OPT, IO_CONTROL, MAP, OF_CONNECT, OF_RECEIVE,
    OF_SEND, OF_SHUTDOWN, OF_SPLICE_FAILURE, OF_SPLICE_REFUSAL, PIPE, POLL, POSITIONED_WRITE, PROTECT,
    RECEIVE, REMAP, SEND, SEND_QUEUE, SET_PIPE_SIZE, SET_SOCK_OPT, SHUTDOWN, SIGNAL_WAKE, SOCKET, SPLICE,
};
use host::{Rule, start_hosted, start_with};

const MIB: usize = 1 << 20;

/// The processor time that a fault may cost while nothing else happens: so little that it shows even where many
/// relays spin at once.
const REST: Duration = Duration::from_millis(30);

/// The descriptors that a session has in the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptors {
    requester: u32,
    target: u32,
}

/// A session, seen from both its sides.
struct Session {
    serial: u64,
    requester: TcpStream,
    target: TcpStream,
    descriptors: Descriptors,
}

/// A relay with a session that nothing is wrong with, and some that something is.
struct Stage {
    relay: Relay,
    listener: TcpListener,
    bystander: Session,
    victims: Vec<Session>,
    /// The sockets that are open when only the bystander is there.
    open: usize,
}

impl Stage {
    /// The real program, with a rule for each of some sessions.
    #[track_caller]
    fn real(victims: usize, rules: impl Fn(usize, Descriptors) -> Vec<Rule>) -> Self {
        Self::real_with(Start::to, victims, rules)
    }

    #[track_caller]
    fn real_with(
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

    /// With all its sessions.
    #[track_caller]
    fn set(mut relay: Relay, listener: TcpListener, victims: usize) -> Self {
        process::settle(relay.pid);
        let bystander = session(&mut relay, &listener, 1);
        let open = sockets(&relay);
        let victims = (2..).take(victims).map(|serial| session(&mut relay, &listener, serial)).collect();
        Self { relay, listener, bystander, victims, open }
    }

    /// The fault is over for all its victims: nothing is left of them, nobody else noticed anything, and who
    /// comes next is served.
    #[track_caller]
    fn assert_over(mut self) {
        self.assert_undisturbed();
        let open = self.open;
        eventually("all that the victims had is given back", || sockets(&self.relay) == open);
        let Session { mut requester, mut target, .. } = self.bystander;
        requester.shutdown(Shutdown::Write).unwrap();
        assert_eq!(net::read_all(&mut target), (Vec::new(), End::Clean));
        drop(target);
        assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Clean));
        self.relay.log.expect(34, 1);
        // The bystander's descriptors are the next to be had, and nothing is wrong with them.
        self.relay.assert_relays(&self.listener);
    }

    /// The bystander goes on, the log is silent, and the relay rests.
    #[track_caller]
    fn assert_undisturbed(&mut self) {
        let Session { requester, target, .. } = &mut self.bystander;
        net::assert_passes(requester, target, b"still there?");
        net::assert_passes(target, requester, b"of course");
        assert_rests(&self.relay);
        let told = self.relay.log.pending();
        assert!(told.is_empty(), "{told:?}");
        self.relay.assert_alive();
    }
}

/// The descriptors of the session with this number, the first being 0, in a real program that is started as
/// the tests here start it: they are the same in every run.
fn descriptors(number: usize) -> Descriptors {
    static OPEN: OnceLock<std::collections::BTreeSet<u32>> = OnceLock::new();
    let open = OPEN.get_or_init(|| {
        let twin = start_with(Start::to(net::address(&net::listen())), &[]);
        process::settle(twin.pid);
        process::descriptors(twin.pid)
    });
    let mut next = (0..).filter(|descriptor| !open.contains(descriptor)).skip(2 * number);
    Descriptors { requester: next.next().unwrap(), target: next.next().unwrap() }
}

/// A session that relays.
#[track_caller]
fn session(relay: &mut Relay, listener: &TcpListener, serial: u64) -> Session {
    let before = process::descriptors(relay.pid);
    let (requester, target) = relay.session(listener);
    relay.log.expect_all(&STARTED, serial);
    let mut new =
        process::descriptors(relay.pid).difference(&before).copied().collect::<Vec<_>>().into_iter();
    let descriptors = Descriptors { requester: new.next().unwrap(), target: new.next().unwrap() };
    Session { serial, requester, target, descriptors }
}

/// Whatever fails, it does not try for ever.
#[track_caller]
fn assert_rests(relay: &Relay) {
    let before = process::processor_time(relay.pid);
    thread::sleep(Duration::from_millis(250));
    let spent = process::processor_time(relay.pid).saturating_sub(before);
    assert!(spent < REST, "it works for {spent:?} with nothing to do");
}

/// What it says of a failed accept.
fn accept_failed(errno: Errno) -> String {
    filled(22, &[("<err num>", &errno.raw_os_error().to_string())])
}

/// For each of these at the same time: what takes long is waiting.
fn for_each<T: Send>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            let check = &check;
            scope.spawn(move || check(case));
        }
    });
}

/// The stream is cut, after any number of bytes.
#[track_caller]
fn assert_cut(mut stream: &TcpStream) {
    assert_eq!(net::read_all(&mut stream).1, End::Reset);
}

/// A side of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Requester,
    Target,
}

use Side::{Requester, Target};

impl Session {
    fn stream(&mut self, side: Side) -> &mut TcpStream {
        if side == Requester { &mut self.requester } else { &mut self.target }
    }
}

impl Descriptors {
    fn of(self, side: Side) -> u32 {
        if side == Requester { self.requester } else { self.target }
    }
}

impl std::ops::Not for Side {
    type Output = Self;

    fn not(self) -> Self {
        if self == Requester { Target } else { Requester }
    }
}

// ----- reading, writing and ending

/// Each of the errors in a session of its own, which ends with this message and is cut on both sides.
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
fn an_end_that_cannot_be_passed_on_is_a_reset_and_no_clean_end() {
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
fn what_the_dead_side_had_sent_arrives_before_the_reset() {
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

// ----- splicing and pipes

/// One side sends a good deal, and the other takes what it gets; what that was, and how it ended.
fn bulk(session: &mut Session, from: Side, bytes: &[u8]) -> (Vec<u8>, End) {
    let (mut writer, mut reader) =
        (session.stream(from).try_clone().unwrap(), session.stream(!from).try_clone().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || {
            // Both fail where the relay cuts the stream.
            let _ = writer.write_all(bytes);
            let _ = writer.shutdown(Shutdown::Write);
        });
        net::read_all(&mut reader)
    })
}

/// A splice that fails in each of these ways, each in a session of its own, which ends with this message.
fn each_splice_ends(from: Side, errors: &[Errno], number: u8, rule: impl Fn(Errno, Descriptors) -> Rule) {
    let bytes = net::random(2, MIB);
    let mut plugs = Vec::new();
    let mut stage = Stage::real(errors.len(), |number, descriptors| vec![rule(errors[number], descriptors)]);
    let victims = std::mem::take(&mut stage.victims);
    let nexts = 2 + errors.len() as u64..;
    for ((mut victim, errno), next) in victims.into_iter().zip(errors).zip(nexts) {
        let (heard, end) = bulk(&mut victim, from, &bytes);
        assert!(heard.len() >= 4 * 4000, "{errno:?} after {} bytes", heard.len());
        net::assert_same(&heard, &bytes[..heard.len()]);
        assert_eq!(end, End::Reset, "{errno:?}");
        assert_eq!(stage.relay.log.line().text, message(number, victim.serial), "{errno:?}");
        // Or else its descriptors would be those of the next pipe, to which its rule is unfair.
        drop(victim);
        plugs.push(session(&mut stage.relay, &stage.listener, next));
    }
    for plug in plugs {
        drop(plug.requester);
        assert_eq!(net::read_all(&mut &plug.target), (Vec::new(), End::Clean));
        drop(plug.target);
        stage.relay.log.expect(34, plug.serial);
    }
    stage.assert_over();
}

#[test]
fn a_splice_out_of_a_socket_that_fails_ends_the_session_by_the_read_closure_of_that_side() {
    for_each([(Requester, 34), (Target, 38)], |(side, number)| {
        // A broken pipe tells of a reset after the end of this stream, which then is whole.
        let errors: Vec<_> = OF_SPLICE_FAILURE.into_iter().filter(|errno| *errno != Errno::PIPE).collect();
        each_splice_ends(side, &errors, number, |errno, descriptors| {
            Rule::fail(SPLICE, errno).when(0, descriptors.of(side))
        });
    });
}

#[test]
fn a_splice_into_a_socket_that_fails_ends_the_session_by_the_write_closure_of_that_side() {
    for_each([(Requester, 39), (Target, 35)], |(side, number)| {
        each_splice_ends(!side, &OF_SPLICE_FAILURE, number, |errno, descriptors| {
            Rule::fail(SPLICE, errno).when(2, descriptors.of(side))
        });
    });
}

/// The real program does all that it does without these rules.
#[track_caller]
fn relays_all_the_same(rules: &[Rule]) {
    relays_all(Stage::real(1, |_, _| rules.to_vec()));
}

/// A stream arrives whole in either direction, and its session ends well.
#[track_caller]
fn relays_all(mut stage: Stage) {
    let bytes = net::random(3, 2 * MIB);
    let mut victim = stage.victims.remove(0);
    for (from, clean) in [(Requester, b"up"), (Target, b"dn")] {
        net::assert_passes(&mut victim.requester, &mut victim.target, clean);
        let (heard, end) = bulk(&mut victim, from, &bytes);
        net::assert_same(&heard, &bytes);
        assert_eq!(end, End::Clean);
        if from == Requester {
            // The stream up has ended; the one down is to come.
            let next = session(&mut stage.relay, &stage.listener, 3);
            let first = std::mem::replace(&mut victim, next);
            drop(first.target);
            stage.relay.log.expect(34, 2);
        }
    }
    drop(victim.requester);
    drop(victim.target);
    stage.relay.log.expect(38, 3);
    stage.assert_over();
}

#[test]
fn a_splice_that_is_refused_loses_no_byte() {
    for_each(OF_SPLICE_REFUSAL, |errno| {
        // Out of any socket, as all of them are the first argument of some splice.
        relays_all_the_same(&[Rule::fail(SPLICE, errno)]);
    });
}

#[test]
fn a_splice_into_a_socket_that_is_refused_loses_no_byte_of_those_in_the_pipe() {
    for_each(OF_SPLICE_REFUSAL, |errno| {
        let bytes = net::random(4, 2 * MIB);
        let mut stage =
            Stage::real(1, |_, descriptors| vec![Rule::fail(SPLICE, errno).when(2, descriptors.requester)]);
        let mut victim = stage.victims.remove(0);
        let (heard, end) = bulk(&mut victim, Target, &bytes);
        net::assert_same(&heard, &bytes);
        assert_eq!(end, End::Clean, "{errno:?}");
        drop(victim);
        stage.relay.log.expect(38, 2);
        stage.assert_over();
    });
}

#[test]
fn what_cannot_be_read_back_out_of_a_pipe_cuts_the_stream() {
    const READ: host::Call = host::call("read", 0, 63);
    let bytes = net::random(7, 2 * MIB);
    // The one pipe gets the next descriptors after the last session's, its end to read from the first.
    let mut stage = Stage::real(1, |_, victim| {
        let pipe = descriptors(2).requester;
        vec![
            Rule::fail(SPLICE, Errno::INVAL).when(2, victim.requester),
            Rule::fail(READ, Errno::IO).when(0, pipe),
        ]
    });
    let mut victim = stage.victims.remove(0);
    let (heard, end) = bulk(&mut victim, Target, &bytes);
    assert!(heard.len() < bytes.len());
    net::assert_same(&heard, &bytes[..heard.len()]);
    assert_eq!(end, End::Reset);
    stage.relay.log.expect(38, 2);
    drop(victim);
    stage.assert_over();
}

#[test]
fn a_splice_that_would_block_for_ever_is_found_out_by_a_read() {
    let mut rules = vec![Rule::fail(SPLICE, Errno::AGAIN)];
    rules.extend((1..4).map(descriptors).flat_map(|of| {
        [of.requester, of.target].map(|descriptor| Rule::fail(SPLICE, Errno::AGAIN).when(0, descriptor))
    }));
    relays_all_the_same(&rules);
}

#[test]
fn without_pipes_bytes_are_copied() {
    for_each([Errno::MFILE, Errno::NFILE, Errno::NOMEM], |errno| {
        relays_all_the_same(&[Rule::fail(PIPE, errno)]);
    });
}

#[test]
fn a_pipe_that_cannot_be_made_larger_or_measured_serves_all_the_same() {
    for errno in [Errno::PERM, Errno::BUSY, Errno::NOMEM] {
        relays_all_the_same(&[Rule::fail(FCNTL, errno).when(1, SET_PIPE_SIZE)]);
    }
    let both = [SET_PIPE_SIZE, GET_PIPE_SIZE].map(|which| Rule::fail(FCNTL, Errno::INVAL).when(1, which));
    relays_all_the_same(&both);
}

// ----- names, options and the kernel's queues

#[test]
fn what_is_only_asked_for_may_fail() {
    for_each([Errno::NOBUFS, Errno::NOMEM, Errno::INVAL], |errno| {
        relays_all_the_same(&[Rule::fail(GET_SOCK_OPT, errno)]);
        // The listener's is asked for at the start.
        let (stage, mut faults) = hosted("", 1);
        faults.begin(&[Rule::fail(GET_SOCK_NAME, errno)]);
        relays_all(stage);
    });
}

/// Rules for one socket option, at this level with this number.
fn option(level: u32, name: u32, errno: Errno) -> Rule {
    Rule::fail(SET_SOCK_OPT, errno).when(1, level).when(2, name)
}

#[test]
fn small_writes_go_out_though_the_option_for_it_fails() {
    const TCP: (u32, u32) = (6, 1);
    for_each([Errno::NOBUFS, Errno::NOMEM, Errno::INVAL], |errno| {
        // The listener's is set at the start.
        let rules = [1, 2, 3].map(|number| option(TCP.0, TCP.1, errno).when(0, descriptors(number).target));
        relays_all_the_same(&rules);
    });
}

#[test]
fn a_stream_goes_on_though_its_unsent_bytes_cannot_be_limited() {
    const UNSENT: (u32, u32) = (6, 25);
    for_each([Errno::NOBUFS, Errno::INVAL], |errno| {
        relays_all_the_same(&[option(UNSENT.0, UNSENT.1, errno)]);
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
fn a_reset_that_cannot_be_made_ends_the_session_all_the_same() {
    const LINGER: (u32, u32) = (1, 13);
    let mut stage = Stage::real(1, |_, _| vec![option(LINGER.0, LINGER.1, Errno::NOBUFS)]);
    let mut victim = stage.victims.remove(0);
    net::reset(victim.requester);
    // There is no other way to reset than the one that failed.
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
fn a_refusal_is_a_refusal_though_nothing_more_can_be_asked_of_the_socket() {
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
            assert_rests(&relay);
        }
    }
}

#[test]
fn a_connection_that_cannot_be_told_from_none_is_given_up_in_time() {
    let silent = net::Silent::new();
    let start = Start::to(silent.address()).connect_timeout(3);
    let mut relay = start_with(start, &[Rule::fail(GET_PEER_NAME, Errno::NOBUFS)]);
    let mut requester = relay.connect();
    relay.log.expect_all(&[16, 18, 26], 1);
    // That the target answers and that it ends are one report.
    relay.freeze();
    let listener = silent.wake();
    drop(net::accept(&listener));
    thread::sleep(Duration::from_millis(50));
    relay.thaw();
    relay.log.expect(25, 1);
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    assert_rests(&relay);
}

#[test]
fn the_idle_timeout_needs_no_answer_about_the_send_queues() {
    let faults = [Errno::INVAL, Errno::NOTTY, Errno::PERM]
        .map(|errno| Rule::fail(IO_CONTROL, errno).when(1, SEND_QUEUE));
    thread::scope(|scope| {
        for fault in faults {
            scope.spawn(move || {
                let start = |target| Start::to(target).idle_timeout(1);
                let listener = net::listen();
                let (relay, mut faults) = start_hosted(start(net::address(&listener)));
                let mut stage = Stage::set(relay, listener, 1);
                faults.begin(&[fault]);
                let victim = stage.victims.remove(0);
                let open = sockets(&stage.relay);
                // Enough for the relay to wonder, and nobody reads it.
                let mut writer = victim.target.try_clone().unwrap();
                let writer = thread::spawn(move || while writer.write_all(&[7; 4096]).is_ok() {});
                for round in 0_u8..15 {
                    let Session { requester, target, .. } = &mut stage.bystander;
                    net::assert_passes(requester, target, &[round]);
                    thread::sleep(Duration::from_millis(100));
                }
                stage.relay.log.expect(24, victim.serial);
                assert_cut(&victim.requester);
                writer.join().unwrap();
                eventually("both sockets closed", || sockets(&stage.relay) <= open - 2);
                let Session { requester, target, .. } = &mut stage.bystander;
                net::assert_passes(requester, target, b"still there");
            });
        }
    });
}

// ----- beginning: accept, socket, connect, register

/// A hosted relay with a session that is well, and others.
#[track_caller]
fn hosted(options: &str, victims: usize) -> (Stage, host::Faults) {
    let listener = net::listen();
    let (relay, faults) = start_hosted(Start::to(net::address(&listener)).options(options));
    (Stage::set(relay, listener, victims), faults)
}

#[test]
fn an_accept_that_fails_for_good_is_told_once_and_hurts_nobody_inside() {
    for_each(calls::OF_ACCEPT, |errno| {
        let (mut stage, mut faults) = hosted("", 1);
        let mut victim = stage.victims.remove(0);
        faults.begin(&[Rule::fail(ACCEPT, errno)]);
        let waiting: Vec<_> = (0..20).map(|_| stage.relay.connect()).collect();
        stage.relay.log.expect_text(&accept_failed(errno));
        stage.assert_undisturbed();
        // A session that ends makes it try again, and tells nothing new.
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
fn a_pause_that_cannot_be_ended_goes_on_and_hurts_nobody_inside() {
    let (mut stage, mut faults) = hosted("", 0);
    faults.begin(&[
        Rule::fail(ACCEPT, Errno::MFILE),
        Rule::fail(EPOLL_CONTROL, Errno::NOMEM).when(1, EPOLL_ADD),
    ]);
    let waiting = stage.relay.connect();
    stage.relay.log.expect_text(&accept_failed(Errno::MFILE));
    // Some attempts to end it.
    stage.assert_undisturbed();
    stage.assert_undisturbed();
    drop(waiting);
    stage.relay.signal(Signal::TERM);
    assert_eq!(stage.relay.wait().code(), Some(0));
}

#[test]
fn a_target_socket_that_cannot_be_had_costs_only_the_requester_that_came() {
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

/// Sessions whose descriptors have each of these errors, then end, so that the next ones meet them.
fn each_beginning_ends(
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
    // The lowest descriptors are given out first, so the last session must go first.
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
fn a_source_address_that_cannot_be_had_is_a_refusal() {
    let errors = [Errno::ADDRNOTAVAIL, Errno::ADDRINUSE, Errno::ACCESS, Errno::INVAL, Errno::NOMEM];
    each_beginning_ends("--source 127.0.0.1", &errors, &[16, 18, 26, 27], false, |errno, descriptors| {
        Rule::fail(BIND, errno).when(0, descriptors.target)
    });
}

#[test]
fn a_source_port_that_must_be_chosen_early_does() {
    const NO_PORT: (u32, u32) = (0, 24);
    let (stage, mut faults) = hosted("--source 127.0.0.1", 0);
    faults.begin(&[option(NO_PORT.0, NO_PORT.1, Errno::NOPROTOOPT)]);
    stage.relay.assert_relays(&stage.listener);
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
fn memory_that_is_not_to_be_had_ends_only_the_session_that_asks() {
    let (mut stage, mut faults) = hosted("", 2);
    // What it gives back is there for the next one, whatever else the process has left over.
    stage.relay.assert_relays(&stage.listener);
    stage.relay.log.wait(34, 4);
    // A break that cannot be moved is no error but the old break, which a filter cannot say.
    process::limit(stage.relay.pid, Resource::Data, Some(0));
    faults.begin(&[MAP, PROTECT, REMAP].map(|call| Rule::fail(call, Errno::NOMEM)));
    let mut sessions = Vec::new();
    let mut serial = 4;
    loop {
        serial += 1;
        assert!(serial < 500, "its memory does not end");
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
    // Whoever leaves makes room.
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

// ----- the loop itself, the log, and what is asked from outside

#[test]
fn without_events_it_says_so_and_ends() {
    for_each([Errno::BADF, Errno::INVAL, Errno::FAULT], |errno| {
        let (mut stage, mut faults) = hosted("", 0);
        faults.begin(&[Rule::fail(EPOLL_WAIT, errno)]);
        // The wait that is under way is not filtered.
        stage.bystander.requester.write_all(b"the last").unwrap();
        let told = stage.relay.log.line().text;
        let number = errno.raw_os_error();
        assert!(told.starts_with(&format!("Error number {number} was returned while waiting")), "{told}");
        assert_eq!(stage.relay.wait().code(), Some(1));
        assert_eq!(stage.relay.log.rest(), [""; 0]);
    });
}

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
    // That the log blocks cannot be watched either.
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
fn a_log_that_cannot_be_asked_not_to_wait_is_written_when_it_is_ready() {
    for_each([Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM, Errno::INVAL], |errno| {
        let mut stage = Stage::real(3, |_, _| vec![Rule::fail(POSITIONED_WRITE, errno)]);
        for mut victim in stage.victims.drain(..) {
            drop(victim.requester);
            assert_eq!(net::read_all(&mut victim.target), (Vec::new(), End::Clean));
        }
        let mut told =
            [stage.relay.log.line().text, stage.relay.log.line().text, stage.relay.log.line().text];
        told.sort();
        assert_eq!(told, [2, 3, 4].map(|serial| message(34, serial)));
        stage.assert_over();
    });
}

#[test]
fn a_log_is_not_asked_again_not_to_wait_once_that_is_refused() {
    let (mut stage, mut faults) = hosted("", 0);
    let mut serial = 1;
    // The later error would be one of the log itself.
    for errno in [Errno::PERM, Errno::BADF] {
        faults.begin(&[Rule::fail(POSITIONED_WRITE, errno)]);
        serial += 1;
        stage.relay.assert_relays(&stage.listener);
        stage.relay.log.expect_all(&STARTED, serial);
        stage.relay.log.expect(34, serial);
    }
}

#[test]
fn a_log_that_cannot_be_asked_not_to_wait_and_is_not_read_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let unsupported = [Rule::fail(POSITIONED_WRITE, Errno::NOSYS)];
    siege::goes_on_unread_as(|start| start_with(start, &unsupported), writer.into(), reader);
}

#[test]
fn a_descriptor_that_says_it_cannot_be_closed_stops_nothing() {
    for_each([Errno::IO, Errno::INTR], |errno| {
        let mut stage = Stage::real(1, |_, descriptors| {
            [descriptors.requester, descriptors.target]
                .map(|descriptor| Rule::fail(CLOSE, errno).when(0, descriptor))
                .into()
        });
        let victim = stage.victims.remove(0);
        drop(victim);
        stage.relay.log.expect(34, 2);
        // The fault itself keeps both open.
        stage.open += 2;
        stage.assert_over();
    });
}

#[test]
fn a_wake_up_that_fails_does_not_lose_the_signal() {
    let rules = [
        Rule::fail(RECEIVE, Errno::AGAIN).when(2, CONTROL_READ),
        Rule::fail(RECEIVE, Errno::NOMEM).when(2, CONTROL_READ),
        Rule::fail(SEND, Errno::AGAIN).when(2, SIGNAL_WAKE.0).when(3, SIGNAL_WAKE.1),
    ];
    for_each(rules, |rule| {
        let mut stage = Stage::real(0, |_, _| Vec::new());
        drop(stage.relay);
        stage.relay = start_with(Start::to(net::address(&stage.listener)), std::slice::from_ref(&rule));
        stage.bystander = session(&mut stage.relay, &stage.listener, 1);
        process::settle(stage.relay.pid);
        stage.relay.signal(Signal::USR1);
        assert!(stage.relay.log.line().text.starts_with("Status: 1 session"), "{rule:?}");
        assert!(stage.relay.log.line().text.starts_with("Status: session handler serial number 1"));
        stage.assert_undisturbed();
        stage.relay.signal(Signal::TERM);
        assert_eq!(stage.relay.wait().code(), Some(0), "{rule:?}");
    });
}

#[test]
fn signals_interrupt_no_stream() {
    // A splice that a signal cuts short moves less than it could: the socket still has room, and no event will
    // tell so.
    let mut stage = Stage::real(4, |_, _| Vec::new());
    let pid = stage.relay.pid;
    let over = AtomicBool::new(false);
    let bytes = net::random(5, 32 * MIB);
    let streams = std::mem::take(&mut stage.victims);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                rustix::process::kill_process(pid, Signal::USR1).unwrap();
                thread::yield_now();
            }
        });
        let readers: Vec<_> = streams
            .iter()
            .map(|stream| {
                scope.spawn(|| (&stream.target).write_all(&bytes).unwrap());
                scope.spawn(|| {
                    // A reader with pauses fills the queues, and a full pipe takes long to splice.
                    for part in bytes.chunks(MIB) {
                        net::assert_same(&net::read_exactly(&mut &stream.requester, MIB), part);
                        thread::sleep(Duration::from_millis(2));
                    }
                })
            })
            .collect();
        let heard: Vec<_> = readers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        assert!(heard.iter().all(Result::is_ok), "a stream stands still");
    });
    drop(streams);
    eventually("all sockets closed", || sockets(&stage.relay) == stage.open);
    process::settle(pid);
    let told = stage.relay.log.pending();
    let told: Vec<_> =
        told.iter().map(|line| &*line.text).filter(|line| !line.starts_with("Status: ")).collect();
    // The log may have been too slow for so many lines.
    assert!(told.iter().all(|line| line.ends_with(" read closure.") || line.contains("dropped")), "{told:?}");
    stage.relay.assert_relays(&stage.listener);
}

#[test]
fn to_a_target_that_cannot_be_told_who_connects_the_header_says_so() {
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (options, header) in
        [("--proxy-protocol v1", &b"PROXY UNKNOWN\r\n"[..]), ("--proxy-protocol v2", &local[..])]
    {
        let listener = net::listen();
        let rule = Rule::fail(GET_SOCK_NAME, Errno::NOBUFS).when(0, descriptors(0).requester);
        let relay = start_with(Start::to(net::address(&listener)).options(options), &[rule]);
        let (mut requester, mut target) = relay.session(&listener);
        requester.write_all(b"words").unwrap();
        assert_eq!(net::read_exactly(&mut target, header.len() + 5), [header, b"words"].concat());
        net::assert_passes(&mut target, &mut requester, b"an answer");
    }
}

// ----- the table is complete

/// A relay that may make no other calls than those of the table goes through all that a relay goes through.
fn goes_through_everything(log_to_file: bool, rules: &[Rule]) {
    let scratch = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "calls.{}.{:?}",
        std::process::id(),
        thread::current().id()
    ));
    let listener = net::listen();
    let address = net::address(&listener);
    let mut start = Start::to(address).connect_timeout(1).idle_timeout(1);
    if log_to_file {
        start = start.stdout(File::create(&scratch).unwrap());
    }
    let options = "--source 127.0.0.1 --proxy-protocol v2 --max-per-source 100 --timestamps";
    // A log with time stamps has no line that a start knows, so the file's relay alone has them.
    let options = if log_to_file { options } else { options.trim_end_matches(" --timestamps") };
    let (mut relay, mut faults) = start_hosted(start.options(options));
    if log_to_file {
        eventually("it runs", || fs::read_to_string(&scratch).unwrap().contains(" is now active."));
    }
    faults.begin(rules);
    faults.allow_only(&CALLS.map(|row| row.call));
    let pass = |requester: &mut TcpStream, target: &mut TcpStream| {
        // The header that tells who connects.
        net::read_exactly(target, 28);
        net::assert_passes(requester, target, b"ping");
        net::assert_passes(target, requester, b"pong");
    };

    // Bulk in both directions, and ends of streams.
    let bytes = net::random(6, 4 * MIB);
    let (mut requester, mut target) = relay.session(&listener);
    pass(&mut requester, &mut target);
    for (mut from, mut to) in [(&requester, &target), (&target, &requester)] {
        thread::scope(|scope| {
            scope.spawn(|| {
                from.write_all(&bytes).unwrap();
                from.shutdown(Shutdown::Write).unwrap();
            });
            net::assert_same(&net::read_all(&mut to).0, &bytes);
        });
    }
    // An urgent byte among others, and a reset each way.
    for side in [Requester, Target] {
        let (mut requester, mut target) = relay.session(&listener);
        pass(&mut requester, &mut target);
        let (mut from, mut to) = if side == Requester { (requester, target) } else { (target, requester) };
        from.write_all(b"abc").unwrap();
        net::send_urgent(&from, b'!');
        assert_eq!(net::read_exactly(&mut to, 4), b"abc!");
        net::reset(from);
        assert_cut(&to);
    }
    // A reader that stops: muted, then watched, then idle; and more sessions than are looked at one by one.
    let idle: Vec<_> = (0..70).map(|_| relay.session(&listener)).collect();
    let (_requester, mut target) = relay.session(&listener);
    target.set_nonblocking(true).unwrap();
    while target.write(&[7; 4096]).is_ok() {}
    relay.signal(Signal::USR1);
    // No descriptor is left, then there are some again.
    let next = process::next_descriptors(relay.pid).next().unwrap();
    let limit = process::limit(relay.pid, Resource::Nofile, Some(next.into()));
    let waiting = relay.connect();
    thread::sleep(Duration::from_millis(150));
    process::limit(relay.pid, Resource::Nofile, limit);
    let mut last = net::accept(&listener);
    net::read_exactly(&mut last, 28);
    for (requester, target) in idle {
        assert_eq!(net::read_all(&mut &requester).0, [0_u8; 0]);
        net::read_all(&mut &target);
    }
    drop((waiting, last));
    // Somebody stops it for a while, then nobody answers any more, and it drains.
    relay.freeze();
    relay.thaw();
    drop(listener);
    let mut requester = relay.connect();
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    relay.signal(Signal::QUIT);
    let ended = relay.wait();
    // A call that the table does not have ends the process by SIGSYS; `strace -f` tells which it was.
    assert_eq!(ended.code(), Some(0), "a call without a row in the table? {ended:?}");
    if log_to_file {
        assert!(
            fs::read_to_string(&scratch)
                .unwrap()
                .ends_with("The last session has ended. This process will now terminate.\n")
        );
        fs::remove_file(&scratch).unwrap();
    }
}

#[test]
fn a_running_relay_makes_no_call_that_the_table_does_not_have() {
    thread::scope(|scope| {
        scope.spawn(|| goes_through_everything(false, &[]));
        scope.spawn(|| goes_through_everything(true, &[]));
        scope.spawn(|| goes_through_everything(false, &[Rule::fail(POSITIONED_WRITE, Errno::NOSYS)]));
    });
}

#[test]
fn a_call_that_is_not_in_the_table_is_found() {
    let (mut stage, mut faults) = hosted("", 0);
    let but_for_one: Vec<_> = CALLS.iter().map(|row| row.call).filter(|call| *call != SHUTDOWN).collect();
    faults.allow_only(&but_for_one);
    stage.assert_undisturbed();
    stage.bystander.requester.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stage.relay.wait().code(), None);
}

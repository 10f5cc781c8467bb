//! The messages of a running relay whose system calls fail. It goes on where it can.
//!
//! The other messages are provoked where their subject is tested: 2 to 8 in `command_line`, 11 to 14 in
//! `starts`, 16 to 18 in `acl`, 21 in `exhaustion`, 23 to 25 in `timers`, 27 in `matrix`, and 34 and 38 in
//! `endings`. Most tests see those of a session that goes well. Messages 9 and 10 belong to Windows, and the relay never logs 30.
//! No Linux has a clock so coarse that it needs message 1.

use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Resource;

use crate::support::catalogue::{connection_failed, filled, message};
use crate::support::faults::{Call, Faults, WRITES, When};
use crate::support::net::{self, End};
use crate::support::{Relay, STARTED, Start, eventually, process};

/// Opens a session, which must log the messages `before` and end with message `number`. Its requester's connection
/// must end, and its descriptors must be closed. `reason` is the error in the line that follows, None if there is no
/// such line.
#[track_caller]
fn assert_given_up(relay: &mut Relay, before: &[u8], number: u8, serial: u64, reason: Option<Errno>) {
    let idle = process::descriptors(relay.pid);
    let mut requester = relay.connect();
    relay.log.expect_all(before, serial);
    relay.log.expect(number, serial);
    if let Some(errno) = reason {
        relay.log.expect_text(&connection_failed(errno));
    }
    assert_eq!(net::read_all(&mut requester).0, [0_u8; 0]);
    eventually("all sockets closed", || process::descriptors(relay.pid) == idle);
}

#[test]
fn without_a_socket_for_the_target_the_request_is_aborted() {
    const AF_INET6: u32 = 10;
    // The listener's socket is IPv4, so only the target's fails.
    let faults = Faults::new().fail(Call::Socket, Errno::NFILE, &[When::Is(0, AF_INET6)]);
    let target = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
    let mut relay = Start::to(target).faults(faults).start();
    for _ in 0..3 {
        let mut requester = relay.connect();
        relay.log.expect_all(&[16, 18], 0);
        relay.log.expect_text(&filled(19, &[("<trg host>", "::1"), LOCAL]));
        relay.log.expect_text(&connection_failed(Errno::NFILE));
        assert_eq!(net::read_all(&mut requester).0, [0_u8; 0]);
    }
}

const LOCAL: (&str, &str) = ("<rqst IP addr>", "127.0.0.1");

#[test]
fn without_a_descriptor_for_the_target_the_request_is_aborted() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let next = process::next_descriptors(relay.pid).next().unwrap();
    // Room for the requester's descriptor and no other.
    let limit = process::limit(relay.pid, Resource::Nofile, Some(u64::from(next) + 1));
    assert_given_up(&mut relay, &[16, 18], 19, 0, Some(Errno::MFILE));
    process::limit(relay.pid, Resource::Nofile, limit);
    relay.assert_relays(&listener);
    // The aborted request took no serial number.
    relay.log.expect_all(&STARTED, 1);
}

/// A relay whose second session meets faults on its descriptors, and whose first session meets none.
struct SecondSession {
    relay: Relay,
    listener: TcpListener,
    first: (TcpStream, TcpStream),
}

impl SecondSession {
    /// Starts the relay and opens the first session. `faults` gets the descriptors of the second session: the
    /// requester's and the target's.
    #[track_caller]
    fn meets(faults: impl FnOnce(u32, u32) -> Faults) -> Self {
        let listener = net::listen();
        let start = Start::to(net::address(&listener));
        // The descriptor numbers are the same in every run, so a twin of the relay shows them.
        let twin = start.start();
        process::settle(twin.pid);
        let mut next = process::next_descriptors(twin.pid).skip(2);
        let (requester, target) = (next.next().unwrap(), next.next().unwrap());
        drop(twin);

        let mut relay = start.faults(faults(requester, target)).start();
        let first = relay.session(&listener);
        relay.log.expect_all(&STARTED, 1);
        Self { relay, listener, first }
    }

    /// Asserts that the first session still works, and that another is served after its end.
    #[track_caller]
    fn assert_first_is_well(self) {
        let (mut requester, mut target) = self.first;
        net::assert_passes(&mut requester, &mut target, b"still there?");
        net::assert_passes(&mut target, &mut requester, b"sure");
        let open = process::descriptors(self.relay.pid).len();
        drop(requester);
        assert_eq!(net::read_all(&mut target), (Vec::new(), End::Clean));
        drop(target);
        eventually("both sockets closed", || process::descriptors(self.relay.pid).len() == open - 2);
        self.relay.assert_relays(&self.listener);
    }
}

#[test]
fn a_target_that_cannot_be_registered_while_it_connects_drops_the_requester() {
    let mut second = SecondSession::meets(|_, target| {
        Faults::new().fail(Call::EpollControl, Errno::NOSPC, &[When::Is(2, target)])
    });
    for serial in 2..=4 {
        assert_given_up(&mut second.relay, &[16, 18, 26], 20, serial, Some(Errno::NOSPC));
        net::turn_away(&second.listener);
    }
    second.assert_first_is_well();
}

#[test]
fn a_connect_that_cannot_be_started_is_logged() {
    let mut second = SecondSession::meets(|_, target| {
        Faults::new().fail(Call::Connect, Errno::ADDRNOTAVAIL, &[When::Is(0, target)])
    });
    let idle = process::descriptors(second.relay.pid);
    let mut requester = second.relay.connect();
    second.relay.log.expect_all(&[16, 18, 26], 2);
    let line = second.relay.log.line().text;
    // Message 20 is for a connect that does not start, 27 for one that fails. Either is right here.
    assert!([message(20, 2), message(27, 2)].contains(&line), "neither message 20 nor 27: {line}");
    second.relay.log.expect_text(&connection_failed(Errno::ADDRNOTAVAIL));
    assert_eq!(net::read_all(&mut requester).0, [0_u8; 0]);
    eventually("all sockets closed", || process::descriptors(second.relay.pid) == idle);
    second.assert_first_is_well();
}

#[test]
fn a_requester_that_cannot_be_registered_ends_its_session() {
    let mut second = SecondSession::meets(|requester, _| {
        Faults::new().fail(Call::EpollControl, Errno::NOMEM, &[When::Is(2, requester)])
    });
    for serial in 2..=4 {
        assert_given_up(&mut second.relay, &[16, 18, 26], 29, serial, None);
        net::turn_away(&second.listener);
    }
    second.assert_first_is_well();
}

/// Returns faults that make every write to this descriptor fail.
fn no_writing_to(descriptor: u32) -> Faults {
    WRITES
        .iter()
        .fold(Faults::new(), |faults, call| faults.fail(*call, Errno::PIPE, &[When::Is(0, descriptor)]))
}

#[test]
fn a_failed_write_to_the_target_ends_the_session() {
    let mut second = SecondSession::meets(|_, target| no_writing_to(target));
    let (mut requester, mut target) = second.relay.session(&second.listener);
    second.relay.log.expect_all(&STARTED, 2);
    // The other direction works.
    net::assert_passes(&mut target, &mut requester, b"come in");
    requester.write_all(b"lost").unwrap();
    second.relay.log.expect(35, 2);
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    assert_eq!(net::read_all(&mut target), (Vec::new(), End::Reset));
    second.assert_first_is_well();
}

#[test]
fn a_failed_write_to_the_requester_ends_the_session() {
    let mut second = SecondSession::meets(|requester, _| no_writing_to(requester));
    let (mut requester, mut target) = second.relay.session(&second.listener);
    second.relay.log.expect_all(&STARTED, 2);
    net::assert_passes(&mut requester, &mut target, b"may I?");
    target.write_all(b"lost").unwrap();
    second.relay.log.expect(39, 2);
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    assert_eq!(net::read_all(&mut target), (Vec::new(), End::Reset));
    second.assert_first_is_well();
}

/// Returns a relay with one session and no free descriptor. With it come the target's listener, both ends of the
/// session, two requesters in the backlog, and the descriptor limit to restore.
fn out_of_descriptors() -> (Relay, TcpListener, [TcpStream; 2], [TcpStream; 2], u64) {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let session = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    let next = process::next_descriptors(relay.pid).next().unwrap();
    let limit = process::limit(relay.pid, Resource::Nofile, Some(u64::from(next)));
    let waiting = [relay.connect(), relay.connect()];
    let failed = filled(22, &[("<err num>", &Errno::MFILE.raw_os_error().to_string())]);
    relay.log.expect_text(&failed);
    let session = [session.0, session.1];
    (relay, listener, session, waiting, limit.unwrap())
}

#[test]
fn a_lack_of_descriptors_is_logged_once_and_accepting_resumes_with_them() {
    let (mut relay, listener, [mut requester, mut target], waiting, limit) = out_of_descriptors();
    let before = process::processor_time(relay.pid);
    // Long enough for many retries.
    thread::sleep(Duration::from_millis(1500));
    let again = relay.log.pending();
    assert!(again.is_empty(), "logged again: {again:?}");
    let spent = process::processor_time(relay.pid).saturating_sub(before);
    assert!(spent <= Duration::from_millis(50), "waiting for descriptors took {spent:?}");
    net::assert_passes(&mut requester, &mut target, b"those inside notice nothing");

    process::limit(relay.pid, Resource::Nofile, Some(limit));
    // These sessions stay open: descriptors that they freed would postpone the next lack.
    let _served = waiting.map(|mut requester| {
        let mut target = net::accept(&listener);
        net::assert_passes(&mut requester, &mut target, b"at last");
        (requester, target)
    });
    relay.log.wait(37, 3);

    // The next lack is a new one, so it is logged again.
    let next = process::next_descriptors(relay.pid).next().unwrap();
    process::limit(relay.pid, Resource::Nofile, Some(next.into()));
    let waiting = relay.connect();
    let failed = filled(22, &[("<err num>", "24")]);
    while relay.log.line().text != failed {}
    process::limit(relay.pid, Resource::Nofile, Some(limit));
    relay.log.wait(37, 4);
    drop(waiting);
}

#[test]
fn a_session_that_ends_frees_its_descriptors_for_a_requester_in_the_backlog() {
    let (mut relay, listener, [requester, target], [mut waiting, _other], _) = out_of_descriptors();
    net::reset(requester);
    assert_eq!(net::read_all(&mut &target), (Vec::new(), End::Reset));
    relay.log.expect(34, 1);
    relay.log.wait(37, 2);
    let mut target = net::accept(&listener);
    net::assert_passes(&mut waiting, &mut target, b"at last");
}

/// Asserts that a relay with these faults, which leave it 60 descriptors, logs the limit at its start, and serves.
#[track_caller]
fn assert_logs_the_limit_of_60(faults: Faults) {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).faults(faults).start();
    let limit = "The limit of 60 descriptors is enough for 22 sessions, not for all 500 of the pool.";
    relay.log.expect_text(limit);
    relay.assert_relays(&listener);
    relay.log.expect_all(&STARTED, 1);
}

#[test]
fn a_descriptor_limit_too_low_for_the_pool_is_logged_at_start() {
    assert_logs_the_limit_of_60(Faults::new().descriptors(60));
}

#[test]
fn a_soft_descriptor_limit_that_cannot_be_raised_is_logged_at_start() {
    const NOFILE: u32 = 7;
    const NO_OLD_LIMIT: u32 = 0;
    // Reading the limit is the same call, prlimit64, with a place for the old limit. Let it succeed.
    let set = [When::Is(1, NOFILE), When::Is(3, NO_OLD_LIMIT)];
    let faults = Faults::new().soft_descriptors(60).fail(Call::ProcessLimit, Errno::PERM, &set);
    assert_logs_the_limit_of_60(faults);
}

#[test]
fn a_soft_descriptor_limit_is_raised_at_start() {
    let listener = net::listen();
    let start = Start::to(net::address(&listener)).shell("ulimit -S -n 40; exec \"$0\" \"$@\"");
    let mut relay = start.start();
    let _sessions: Vec<_> = (0..100).map(|_| relay.session(&listener)).collect();
    for _ in 0..100 {
        while !relay.log.line().text.ends_with("channel is now active.") {}
    }
    let seen = relay.log.seen();
    assert!(!seen.iter().any(|line| line.contains("descriptor")));
}

/// Opens sessions until the relay lacks the memory for a buffer. Returns the message that reports it: 32 for the
/// requester's buffer, 36 for the target's.
fn short_of_memory(buf: usize) -> u8 {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).buf(buf).start();
    let size = process::address_space(relay.pid);
    let limit = process::limit(relay.pid, Resource::As, Some(size));
    let mut sessions = Vec::new();
    let number = loop {
        let serial = sessions.len() as u64 + 1;
        assert!(serial <= 500, "the relay does not run out of memory");
        let (requester, target) = relay.session(&listener);
        relay.log.expect_all(&STARTED[..5], serial);
        let line = relay.log.line().text;
        if line == message(33, serial) {
            // Message 33 may come before or after the allocation of the other channel's buffer.
            let line = relay.log.line().text;
            if line == message(37, serial) {
                sessions.push((requester, target));
                continue;
            }
            assert_eq!(line, message(36, serial));
        } else if line != message(36, serial) {
            assert_eq!(line, message(32, serial));
        }
        assert_eq!(net::read_all(&mut &requester).0, [0_u8; 0]);
        assert_eq!(net::read_all(&mut &target).0, [0_u8; 0]);
        break if line == message(32, serial) { 32 } else { 36 };
    };
    for (requester, target) in &mut sessions {
        net::assert_passes(requester, target, b"those inside notice nothing");
    }
    process::limit(relay.pid, Resource::As, limit);
    relay.assert_relays(&listener);
    number
}

#[test]
fn a_lack_of_memory_for_a_buffer_ends_only_the_session_that_asks() {
    // The buffer that finds no memory depends on the size of both.
    let mut numbers = Vec::new();
    for buf in [4000, 3700, 3400, 3100, 2800, 2500, 2200, 1900, 1600, 1300] {
        numbers.push(short_of_memory(buf));
        if numbers.contains(&32) && numbers.contains(&36) {
            return;
        }
    }
    panic!("only one of messages 32 and 36 ever came: {numbers:?}");
}

//! `--backup`: sessions whose target cannot be reached go on to the next one.

use std::fmt::Write as _;
use std::io::{Write as _, pipe};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Signal};
use serde_json::Value;
use socket2::{SockRef, Socket};

use crate::support::catalogue::{connection_failed, message};
use crate::support::net::{self, End, Silent};
use crate::support::{Log, Relay, STARTED, Start, eventually, process, run};

/// Returns the start of a relay to these targets, in this order, and with `options`.
fn start(targets: &[SocketAddr], options: &str) -> Start {
    let mut all = String::new();
    for backup in &targets[1..] {
        write!(all, "--backup {backup} ").unwrap();
    }
    Start::to(targets[0]).options(&(all + options))
}

/// Returns the line of a session that goes on to its next target (message 122).
fn goes_on(serial: u64, from: SocketAddr, why: &str, to: SocketAddr) -> String {
    format!(
        "Session handler serial number {serial} could not connect to {from} ({why}). Connecting to target {to}."
    )
}

/// Returns the line of a target that begins to rest (message 123).
fn rests(target: SocketAddr, why: &str) -> String {
    format!(
        "Target {target} could not be reached ({why}). Sessions go to other targets first, until it answers again."
    )
}

const REFUSED: &str = "Connection refused";
const SILENT: &str = "no answer in time";

/// Opens a session whose requester sends its first bytes before any target has answered. Returns both ends.
#[track_caller]
fn eager_session(relay: &Relay, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut requester = relay.connect();
    requester.write_all(b"sent before the target was known").unwrap();
    let mut target = net::accept(listener);
    assert_eq!(net::read_exactly(&mut target, 32), b"sent before the target was known");
    net::assert_passes(&mut target, &mut requester, b"and back");
    (requester, target)
}

#[test]
fn a_target_that_refuses_is_followed_by_its_backup_in_the_same_session() {
    let (_socket, first) = net::refusing();
    let listener = net::listen();
    let backup = net::address(&listener);
    let mut relay = start(&[first, backup], "").start();
    let (requester, mut target) = eager_session(&relay, &listener);
    relay.log.expect_all(&[16, 18, 26], 1);
    relay.log.expect_text(&rests(first, REFUSED));
    relay.log.expect_text(&goes_on(1, first, REFUSED, backup));
    relay.log.expect_all(&[28, 31, 33, 37], 1);
    drop(requester);
    assert_eq!(net::read_all(&mut target), (Vec::new(), End::Clean));
    drop(target);
    relay.log.expect(34, 1);
}

#[test]
fn a_target_that_does_not_answer_is_followed_by_its_backup_after_the_connect_timeout() {
    let silent = Silent::new();
    let listener = net::listen();
    let (first, backup) = (silent.address(), net::address(&listener));
    let mut relay = start(&[first, backup], "").connect_timeout(1).start();
    let before = process::descriptors(relay.pid);
    let session = eager_session(&relay, &listener);
    let allocated = relay.log.wait(26, 1).at;
    relay.log.expect_text(&rests(first, SILENT));
    let gone_on = relay.log.expect_text(&goes_on(1, first, SILENT, backup)).at;
    assert!(gone_on - allocated >= Duration::from_millis(900), "the session went on too early");
    relay.log.expect_all(&[28, 31, 33, 37], 1);
    drop(session);
    relay.log.line();
    eventually("the descriptors of the session closed", || process::descriptors(relay.pid) == before);
}

#[test]
fn each_target_gets_a_whole_connect_timeout_and_the_last_failure_ends_the_session() {
    let targets = [Silent::new(), Silent::new()];
    let addresses = [targets[0].address(), targets[1].address()];
    let mut relay = start(&addresses, "").connect_timeout(1).start();
    let mut requester = relay.connect();
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    relay.log.expect_all(&[16, 18, 26], 1);
    relay.log.expect_text(&rests(addresses[0], SILENT));
    let gone_on = relay.log.expect_text(&goes_on(1, addresses[0], SILENT, addresses[1])).at;
    relay.log.expect_text(&rests(addresses[1], SILENT));
    let ended = relay.log.expect(25, 1).at;
    assert!(ended - gone_on >= Duration::from_millis(900), "the last target got less time");
}

#[test]
fn where_every_target_refuses_the_session_ends_once_and_the_next_one_tries_each_again() {
    let targets = [net::refusing(), net::refusing(), net::refusing()];
    let [first, second, third] = targets.each_ref().map(|(_, address)| *address);
    let mut relay = start(&[first, second, third], "").start();
    for serial in 1..=2 {
        let mut requester = relay.connect();
        assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
        relay.log.expect_all(&[16, 18, 26], serial);
        for (from, to) in [(first, second), (second, third)] {
            if serial == 1 {
                relay.log.expect_text(&rests(from, REFUSED));
            }
            relay.log.expect_text(&goes_on(serial, from, REFUSED, to));
        }
        if serial == 1 {
            relay.log.expect_text(&rests(third, REFUSED));
        }
        relay.log.expect(27, serial);
    }
    relay.signal(Signal::USR1);
    relay.log.expect_text(
        "Status: 0 sessions, 2 accepted, 0 rejected, 2 refused, 0 expired, 0 dropped, 0 bytes to the target, \
         0 bytes to the requester, 0 log lines dropped.",
    );
    for target in [first, second, third] {
        relay.log.expect_text(&format!(
            "Status: target {target} is resting, connects failed: 2 refused, 0 expired, 0 unreachable, 0 for \
             reasons of this host."
        ));
    }
}

#[test]
fn a_target_rests_and_is_tried_again_once_it_listens() {
    let (socket, first): (Socket, SocketAddr) = net::refusing();
    let listener = net::listen();
    let mut relay = start(&[first, net::address(&listener)], "").start();
    net::end(eager_session(&relay, &listener));
    let mut serial = 1;
    // While the first target rests, sessions skip it. A rest may be over by then on a busy machine, but each failure
    // doubles it.
    eventually("a session connects to the backup at once", || {
        serial += 1;
        net::end(eager_session(&relay, &listener));
        relay.log.wait(26, serial);
        let of_session = format!(" number {serial} ");
        relay.log.wait_text(&of_session).text == message(28, serial)
    });

    socket.listen(16).unwrap();
    let first = TcpListener::from(socket);
    eventually("a session tries the first target", || {
        serial += 1;
        let _requester = relay.connect();
        relay.log.wait(26, serial);
        let line = relay.log.line().text;
        let is_back = line == format!("Target {} answers again.", net::address(&first));
        assert!(is_back || line == message(28, serial), "{line}");
        is_back
    });
    drop(net::accept(&first));
    drop(eager_session(&relay, &first));
}

#[test]
fn without_a_backup_neither_log_nor_status_mentions_a_rest() {
    let (socket, only) = net::refusing();
    let mut relay = Start::to(only).start();
    assert_eq!(net::read_all(&mut relay.connect()), (Vec::new(), End::Reset));
    relay.log.expect_all(&[16, 18, 26, 27], 1);
    socket.listen(16).unwrap();
    let _session = eager_session(&relay, &TcpListener::from(socket));
    relay.log.expect_all(&STARTED, 2);
    relay.signal(Signal::USR1);
    let status = relay.log.wait_text("Status: ").text;
    assert!(relay.log.line().text.starts_with("Status: session handler "), "behind {status}");
}

#[test]
fn targets_of_both_families_serve_one_relay() {
    if !net::has_ipv6() {
        return;
    }
    let six = net::listen_on((Ipv6Addr::LOCALHOST, 0).into(), 16);
    let (_socket, first) = net::refusing();
    let relay = start(&[first, net::address(&six)], "--proxy-protocol v1").start();
    let mut requester = relay.connect();
    let mut target = net::accept(&six);
    let header = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
        requester.local_addr().unwrap().port(),
        relay.port
    );
    assert_eq!(net::read_exactly(&mut target, header.len()), header.as_bytes());
    net::assert_passes(&mut requester, &mut target, b"hello");

    // The other way round: an IPv6 target, and IPv4 backups that name their ports.
    let four = net::listen();
    let (_socket, refusing) = net::refusing();
    let backups = format!("--backup {refusing} --backup {}", net::address(&four));
    let (reader, writer) = pipe().unwrap();
    let relay = Start::to((Ipv6Addr::LOCALHOST, refusing.port()).into()).options(&backups).stdout(writer);
    let (relay, mut log) = (relay.start(), Log::of(reader));
    let _session = eager_session(&relay, &four);
    log.wait_text(&format!("Connecting to target {}.", net::address(&four)));
}

#[test]
fn a_backup_of_another_family_than_the_source_is_logged_at_start_and_fails_at_once() {
    let (_socket, first) = net::refusing();
    let listener = net::listen();
    let other = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
    let mut relay = start(&[first, other, net::address(&listener)], "--source 127.0.0.1").start();
    relay.log.expect_text(&format!(
        "Target {other} cannot be tried, because --source 127.0.0.1 is of the other address family."
    ));
    let _session = eager_session(&relay, &listener);
    relay.log.wait_text(&goes_on(1, first, REFUSED, other));
    let line = relay.log.line().text;
    assert!(
        line.starts_with(&format!("Session handler serial number 1 could not connect to {other} (")),
        "{line}"
    );
    relay.log.expect_all(&[28, 31, 33, 37], 1);
    // The error is local, so that target does not rest.
    relay.signal(Signal::USR1);
    relay.log.wait_text(&format!(
        "target {other} is up, connects failed: 0 refused, 0 expired, 0 unreachable, 1 "
    ));
}

#[test]
fn a_session_that_goes_on_never_has_three_descriptors() {
    let (_socket, first) = net::refusing();
    let silent = Silent::new();
    let listener = net::listen();
    let targets = [first, silent.address(), net::address(&listener)];
    let mut relay = start(&targets, "").connect_timeout(1).start();
    let third = process::next_descriptors(relay.pid).nth(2).unwrap();
    process::limit(relay.pid, Resource::Nofile, Some(third.into()));
    let _session = eager_session(&relay, &listener);
    relay.log.wait(28, 1);
}

#[test]
fn a_lack_of_descriptors_makes_no_target_rest() {
    let listeners = [net::listen(), net::listen()];
    let targets = listeners.each_ref().map(net::address);
    let mut relay = start(&targets, "").start();
    let second = process::next_descriptors(relay.pid).nth(1).unwrap();
    let limit = process::limit(relay.pid, Resource::Nofile, Some(second.into()));
    let mut requester = relay.connect();
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    relay.log.expect_all(&[16, 18, 19], 1);
    relay.log.expect_text(&connection_failed(Errno::MFILE));
    process::limit(relay.pid, Resource::Nofile, limit);
    let _session = eager_session(&relay, &listeners[0]);
    relay.signal(Signal::USR1);
    let failures = "0 refused, 0 expired, 0 unreachable, 1 for reasons of this host.";
    relay.log.wait_text(&format!("target {} is up, connects failed: {failures}", targets[0]));
}

#[test]
fn as_json_both_targets_and_the_reason_are_fields() {
    let (_socket, first) = net::refusing();
    let listener = net::listen();
    let backup = net::address(&listener);
    let (reader, writer) = pipe().unwrap();
    let relay = start(&[first, backup], "--log-format json").stdout(writer).start();
    let mut log = Log::of(reader);
    let _session = eager_session(&relay, &listener);
    let line = log.wait_text("\"next_target\"").text;
    let object: Value = serde_json::from_str(&line).unwrap();
    for (field, value) in [
        ("number", Value::from(122)),
        ("serial", 1.into()),
        ("target", "127.0.0.1".into()),
        ("target_port", first.port().into()),
        ("next_target", "127.0.0.1".into()),
        ("next_target_port", backup.port().into()),
        ("errno", Errno::CONNREFUSED.raw_os_error().into()),
        ("reason", REFUSED.into()),
    ] {
        assert_eq!(object[field], value, "{field} in {line}");
    }
    // From here on the backup is the session's target.
    let connected: Value = serde_json::from_str(&log.wait_text("\"connected\"").text).unwrap();
    assert_eq!(connected["target_port"], backup.port());
}

#[test]
fn a_backup_has_the_port_of_the_target_unless_it_names_another() {
    let check = |options: &[&str]| {
        run(&[&["--check"], options, &["8080", "192.0.2.7", "80", "ANY", "1", "30", "0", "100"]].concat())
    };
    let accepted =
        check(&["--backup", "192.0.2.8", "--backup", "[2001:db8::8]:81", "--backup", "2001:db8::9"]);
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    let written = "--backup 192.0.2.8:80 --backup [2001:db8::8]:81 --backup [2001:db8::9]:80 8080 ";
    assert!(accepted.stdout.contains(written), "{accepted:?}");
    for wrong in
        ["192.0.2.7", "192.0.2.7:80", "0.0.0.0", "192.0.2.8:0", "192.0.2.8:", ":80", "fe80::1", "host", ""]
    {
        let refused = check(&["--backup", wrong]);
        assert_eq!(refused.code, Some(2), "{wrong}");
        let beginning = format!("Error: --backup cannot be {wrong:?}. It takes up to 7 targets, ");
        assert!(refused.stdout.starts_with(&beginning), "{refused:?}");
    }
    let own = check(&["--backup", "127.0.0.1:8080"]);
    let allowed = "It takes a target that is not where this relay itself listens.\n";
    assert_eq!(
        (own.stdout, own.code),
        (format!("Error: --backup cannot be \"127.0.0.1:8080\". {allowed}"), Some(2))
    );
}

/// Sends each connection its own bytes back at its EOF. Once `lives` is false, empties the backlog, so that no
/// completed connection is reset. Then shuts the listener down and sets `dead`.
fn serve(listener: &TcpListener, lives: &AtomicBool, dead: &AtomicBool, served: &AtomicUsize) {
    thread::scope(|sessions| {
        while net::readable_within(listener, Duration::from_millis(20)) || lives.load(Ordering::SeqCst) {
            if !net::readable_within(listener, Duration::ZERO) {
                continue;
            }
            let mut stream = net::accept(listener);
            sessions.spawn(move || {
                let (bytes, _) = net::read_all(&mut stream);
                stream.write_all(&bytes).unwrap();
                served.fetch_add(1, Ordering::SeqCst);
            });
        }
        // The open connections go on. The kernel refuses new ones.
        SockRef::from(listener).shutdown(Shutdown::Both).unwrap();
        dead.store(true, Ordering::SeqCst);
    });
}

/// Makes one exchange through the relay, and panics if it fails.
fn exchange(relay: SocketAddr) {
    let mut requester = net::connect(relay);
    requester.write_all(b"whole").unwrap();
    requester.shutdown(Shutdown::Write).unwrap();
    assert_eq!(net::read_all(&mut requester), (b"whole".to_vec(), End::Clean));
}

#[test]
fn no_exchange_fails_when_the_first_target_dies_under_load() {
    const EXCHANGES: usize = 150;
    let listeners = [net::listen(), net::listen()];
    let mut relay = start(&listeners.each_ref().map(net::address), "").start();
    let address = relay.address();
    let [first, second] =
        [(); 2].map(|()| (AtomicBool::new(true), AtomicBool::new(false), AtomicUsize::new(0)));
    let asks = AtomicBool::new(true);
    thread::scope(|scope| {
        for (listener, (lives, dead, served)) in listeners.iter().zip([&first, &second]) {
            scope.spawn(|| serve(listener, lives, dead, served));
        }
        for _ in 0..6 {
            scope.spawn(|| {
                while asks.load(Ordering::SeqCst) {
                    exchange(address);
                }
            });
        }
        eventually("the first target serves", || first.2.load(Ordering::SeqCst) >= EXCHANGES);
        assert_eq!(second.2.load(Ordering::SeqCst), 0, "the backup served beside the first target");
        // The relay starts no connect while the target dies: that one would be reset instead of refused.
        relay.freeze();
        first.0.store(false, Ordering::SeqCst);
        eventually("the first target is dead", || first.1.load(Ordering::SeqCst));
        relay.thaw();
        eventually("the backup serves", || second.2.load(Ordering::SeqCst) >= EXCHANGES);
        asks.store(false, Ordering::SeqCst);
        second.0.store(false, Ordering::SeqCst);
    });
    let lines: Vec<_> = relay.log.pending().into_iter().map(|line| line.text).collect();
    let reports = lines.iter().filter(|line| line.contains(" could not be reached (")).count();
    assert_eq!(reports, 1, "the rest is logged once");
    assert!(!lines.iter().any(|line| line.starts_with("The target refused")), "message 27 came");
}

//! Targets by name: /etc/hosts, name servers that change, lie, truncate, delay and die, and sessions meanwhile.
//!
//! A relay gets an /etc/hosts and an /etc/resolv.conf of its own, in a mount namespace, and asks a server on port
//! 53 of a loopback address. Both need root. Without it a test prints the reason and checks nothing.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use rustix::process::Signal;
use serde_json::Value;
use tcprelay::internal::limits::TTL_MIN;

use crate::name_files::{Files, NAME};
use crate::name_server::{Manner, NameServer, Zone, free_address};
use crate::support::catalogue::filled;
use crate::support::net::{self, End};
use crate::support::skip::skipped;
use crate::support::{Kill, Log, PATIENCE, Relay, eventually, free_port, process, run};

/// A time to live that is longer than any test, in seconds.
pub const LONG: u32 = 3000;

/// Starts a target that sends `byte` to each connection and then echoes.
pub fn target(ip: &str, port: u16, byte: u8) {
    let listener = net::listen_on((ip.parse::<Ipv4Addr>().unwrap(), port).into(), 1024);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let _ = stream.write_all(&[byte]);
                let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
            });
        }
    });
}

/// Returns the byte of the target that a new session reaches.
#[track_caller]
pub fn reached(relay: &Relay) -> u8 {
    net::read_exactly(&mut relay.connect(), 1)[0]
}

#[track_caller]
pub fn expect_resolved(log: &mut Log, addresses: &str) {
    log.wait_text(&format!("The target name {NAME} has the addresses {addresses}."));
}

#[test]
fn a_name_is_refused_without_resolve_and_a_malformed_one_with_it() {
    let refused = |options: &[&str], host: &str| {
        let arguments = [options, &["8080", host, "80", "ANY", "1", "30", "0", "4000"]].concat();
        let run = run(&arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}");
        let (message, reason) = run.stdout.split_once('\n').unwrap();
        assert_eq!(message, filled(3, &[]));
        reason.trim_end().to_owned()
    };
    assert_eq!(
        refused(&[], NAME),
        format!("The value given was {NAME:?}. A name needs --resolve. A valid example: 192.0.2.7")
    );
    let object: Value = serde_json::from_str(
        &run(&["--log-format", "json", "8080", NAME, "80", "ANY", "1", "30", "0", "4000"]).stdout,
    )
    .unwrap();
    assert_eq!(object["cure"], "A name needs --resolve.", "{object}");
    let backup = run(&["--backup", NAME, "8080", "192.0.2.7", "80", "ANY", "1", "30", "0", "4000"]);
    assert!(backup.stdout.ends_with(", or a name with --resolve.\n"), "{backup:?}");
    for host in ["", ".", "a..b", "a b", "1.2.3", "0.0.0.0", "224.0.0.1", "-", "fe80::1", "a/b", "db:80"] {
        let reason = refused(&["--resolve"], host);
        assert!(!reason.contains("--resolve"), "{reason}");
    }
    let check = run(&["--resolve", "--check", "8080", NAME, "80", "ANY", "1", "30", "0", "4000"]);
    assert_eq!(
        check.stdout,
        format!("Would listen on 0.0.0.0:8080, as: --resolve 8080 {NAME} 80 ANY 1 30 0 4000\n")
    );
}

#[test]
fn the_hosts_file_resolves_the_target_and_sighup_reads_it_again() {
    let Some(files) = Files::new(&format!("127.41.1.1 {NAME}\n"), "") else { return };
    let port = free_port();
    target("127.41.1.1", port, b'a');
    target("127.41.1.2", port, b'b');
    let mut relay = files.start(port).start();
    let mut first = relay.connect();
    assert_eq!(net::read_exactly(&mut first, 1), b"a");
    relay.log.expect(16, 0);
    relay.log.expect(18, 0);
    expect_resolved(&mut relay.log, "127.41.1.1");
    let allocated = relay.log.line().text;
    assert!(allocated.ends_with("Connecting to target 127.41.1.1."), "{allocated}");
    files.set_hosts(&format!("127.41.1.2 {NAME}\n"));
    relay.signal(Signal::HUP);
    expect_resolved(&mut relay.log, "127.41.1.2");
    assert_eq!(reached(&relay), b'b');
    net::assert_passes(&mut first.try_clone().unwrap(), &mut first, b"still there");
}

#[test]
fn a_name_is_resolved_despite_forged_truncated_and_late_answers() {
    let port = free_port();
    target("127.41.2.1", port, b'a');
    for manner in [
        Manner::Honest,
        Manner::AfterLies("127.41.2.66".parse().unwrap()),
        Manner::Truncated,
        Manner::Late(Duration::from_millis(300)),
    ] {
        let zone = Zone::of(&["127.41.2.1"], LONG).manner(manner);
        let Some(server) = NameServer::start(zone) else { return };
        let Some(files) = Files::asking(&server) else { return };
        let mut relay = files.start(port).start();
        let asked = server.queries();
        assert_eq!(asked, 0, "the relay asks before a requester connects");
        let mut first = relay.connect();
        // Bytes that come before the name is resolved wait.
        first.write_all(b"early").unwrap();
        assert_eq!(net::read_exactly(&mut first, 6), b"aearly", "{manner:?}");
        expect_resolved(&mut relay.log, "127.41.2.1");
        assert_eq!(reached(&relay), b'a');
    }
}

#[test]
fn a_session_waits_for_an_address_and_expires_without_one() {
    let Some(server) = NameServer::start(Zone::of(&[], LONG).manner(Manner::Silent)) else { return };
    let Some(files) = Files::asking(&server) else { return };
    let port = free_port();
    target("127.41.3.1", port, b'a');
    let mut relay = files.start(port).connect_timeout(2).start();
    let begun = Instant::now();
    let mut requester = relay.connect();
    let values = [("<ser num>", "1"), ("<rqst IP addr>", "127.0.0.1"), ("<trg host>", NAME)];
    relay.log.expect(16, 0);
    relay.log.expect(18, 0);
    relay.log.expect_text(&filled(26, &values));
    relay.log.expect_text(&format!(
        "The target name {NAME} could not be resolved: no answer in time. No address of it is known."
    ));
    relay.log.expect_text(&filled(25, &values));
    assert!(begun.elapsed() >= Duration::from_secs(2), "the session ended early");
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));

    // Once the server answers again, the session that waits goes on.
    let mut relay = files.start(port).connect_timeout(3).start();
    let mut waiting = relay.connect();
    relay.log.wait_text("could not be resolved");
    server.set(Zone::of(&["127.41.3.1"], LONG));
    assert_eq!(net::read_exactly(&mut waiting, 1), b"a");
    expect_resolved(&mut relay.log, "127.41.3.1");
}

#[test]
fn the_last_addresses_stay_while_no_server_answers() {
    let Some(server) = NameServer::start(Zone::of(&["127.41.4.1"], LONG)) else { return };
    let Some(files) = Files::asking(&server) else { return };
    let port = free_port();
    target("127.41.4.1", port, b'a');
    let mut relay = files.start(port).start();
    assert_eq!(reached(&relay), b'a');
    let failures = [
        (Manner::Refusing(Rcode::NXDOMAIN), "no such name"),
        (Manner::Refusing(Rcode::SERVFAIL), "server failure"),
        (Manner::Silent, "no answer in time"),
    ];
    for (manner, why) in failures {
        server.set(Zone::of(&[], LONG).manner(manner));
        relay.signal(Signal::HUP);
        relay.log.wait_text(&format!(
            "The target name {NAME} could not be resolved: {why}. Its last addresses stay: 127.41.4.1."
        ));
        assert_eq!(reached(&relay), b'a');
    }
    // Without the server its port is closed.
    drop(server);
    relay.signal(Signal::HUP);
    relay.log.wait_text(": server unreachable: connection refused. Its last addresses stay: 127.41.4.1.");
    assert_eq!(reached(&relay), b'a');
}

#[test]
fn a_changed_address_cuts_no_session_and_is_used_in_time() {
    const SESSIONS: usize = 200;
    let Some(server) = NameServer::start(Zone::of(&["127.41.5.1"], 1)) else { return };
    let Some(files) = Files::asking(&server) else { return };
    let port = free_port();
    target("127.41.5.1", port, b'a');
    target("127.41.5.2", port, b'b');
    let relay = files.start(port).start();
    let mut kept = Vec::new();
    let session = |kept: &mut Vec<_>| {
        let mut requester = relay.connect();
        let byte = net::read_exactly(&mut requester, 1)[0];
        kept.push(requester);
        byte
    };
    for _ in 0..SESSIONS / 2 {
        assert_eq!(session(&mut kept), b'a');
    }
    server.set(Zone::of(&["127.41.5.2"], 1));
    let changed = Instant::now();
    while session(&mut kept) == b'a' {
        // The session that finds the answer expired still goes to the old address. A later one gets the new address.
        assert!(changed.elapsed() < TTL_MIN + PATIENCE / 4, "the new address is not used");
        if kept.len() > SESSIONS {
            kept.truncate(SESSIONS);
        }
        thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..SESSIONS / 2 {
        assert_eq!(session(&mut kept), b'b');
    }
    for mut requester in kept {
        net::assert_passes(&mut requester.try_clone().unwrap(), &mut requester, b"kept");
    }
}

#[test]
fn an_idle_relay_sends_no_query_and_does_not_wake() {
    let Some(server) = NameServer::start(Zone::of(&["127.41.6.1"], 1)) else { return };
    let Some(files) = Files::asking(&server) else { return };
    let port = free_port();
    target("127.41.6.1", port, b'a');
    let relay = files.start(port).start();
    process::settle(relay.pid);
    assert_eq!(server.queries(), 0);
    let kept = relay.connect();
    net::read_exactly(&mut &kept, 1);
    process::settle(relay.pid);
    let asked = server.queries();
    // Past the time to live.
    process::assert_rests(relay.pid, TTL_MIN + Duration::from_secs(1));
    assert_eq!((asked, server.queries()), (2, 2));
}

#[test]
fn failed_connects_start_a_lookup_at_once_but_not_one_each() {
    let Some(server) = NameServer::start(Zone::of(&["127.41.7.1"], LONG)) else { return };
    let Some(files) = Files::asking(&server) else { return };
    let port = free_port();
    // Nothing listens on the first address.
    target("127.41.7.2", port, b'b');
    let mut relay = files.start(port).start();
    assert_eq!(net::read_all(&mut relay.connect()), (Vec::new(), End::Reset));
    relay.log.wait(27, 1);
    server.set(Zone::of(&["127.41.7.2"], LONG));
    let begun = Instant::now();
    let mut failed: u32 = 0;
    eventually("the new address is used", || {
        let (bytes, end) = net::read_all(&mut relay.connect().take(1));
        failed += u32::from(end == End::Reset);
        bytes == b"b"
    });
    let seconds = u32::try_from(begun.elapsed().as_secs()).unwrap();
    let lookups = u32::try_from(server.queries()).unwrap() / 2;
    assert!(lookups <= 2 + seconds, "{lookups} lookups in {seconds} s for {failed} failed connects");
}

#[test]
fn all_sessions_that_wait_go_on_once_the_name_is_resolved() {
    // More sessions than look for a target in one turn (`WAITING_SLOTS_PER_TURN`).
    const SESSIONS: usize = 200;
    let zone = Zone::of(&["127.41.8.1"], LONG).manner(Manner::Late(Duration::from_millis(300)));
    let Some(server) = NameServer::start(zone) else { return };
    let conf = format!("nameserver {}\noptions timeout:5\n", server.address);
    let Some(files) = Files::new("", &conf) else { return };
    let port = free_port();
    target("127.41.8.1", port, b'a');
    let mut relay = files.start(port).start();
    let mut waiting: Vec<_> = (0..SESSIONS).map(|_| relay.connect()).collect();
    for requester in &mut waiting {
        assert_eq!(net::read_exactly(requester, 1), b"a");
    }
    assert_eq!(server.queries(), 2, "one for each family, however many wait");
    let mut connected = 0;
    while connected < SESSIONS {
        let line = relay.log.line().text;
        assert!(!line.contains("could not connect"), "the wait of a session has expired: {line}");
        connected += usize::from(line.contains("made a successful connection"));
    }
}

#[test]
fn a_backup_serves_at_once_while_the_target_is_unresolved_and_may_be_a_name_itself() {
    let refusing = Manner::Refusing(Rcode::NXDOMAIN);
    let Some(server) = NameServer::start(Zone::of(&[], LONG).manner(refusing)) else { return };
    let conf = format!("nameserver {}\noptions timeout:1 attempts:1\n", server.address);
    let Some(files) = Files::new("127.41.10.2 spare\n", &conf) else { return };
    let port = free_port();
    target("127.41.10.1", port, b'a');
    target("127.41.10.2", port, b'b');
    let mut relay = files.start(port).options("--resolve --backup spare").start();
    let begun = Instant::now();
    assert_eq!(reached(&relay), b'b');
    assert!(begun.elapsed() < Duration::from_secs(3), "the session waited for its connect timeout");
    server.set(Zone::of(&["127.41.10.1"], LONG));
    relay.signal(Signal::HUP);
    expect_resolved(&mut relay.log, "127.41.10.1");
    assert_eq!(reached(&relay), b'a');
}

#[test]
fn a_real_server_resolves_the_target_through_an_alias_in_a_search_domain() {
    let address = free_address();
    let Some(files) = Files::new("", &format!("nameserver {address}\nsearch nowhere.example example\n"))
    else {
        return;
    };
    let mut command = Command::new("dnsmasq");
    command.args([
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--bind-interfaces",
    ]);
    command
        .arg(format!("--listen-address={address}"))
        .args(["--cname=db.example,real.example", "--local=/example/"]);
    command.args(["--host-record=real.example,127.41.12.1", "--local-ttl=60"]);
    let Ok(dnsmasq) = command.stderr(Stdio::null()).spawn() else {
        skipped("dnsmasq is not installed");
        return;
    };
    let _dnsmasq = Kill(dnsmasq);
    let port = free_port();
    target("127.41.12.1", port, b'a');
    let relay = files.start_to("db", port).start();
    eventually("the server answers", || {
        let mut requester = relay.connect();
        let mut byte = [0];
        requester.read_exact(&mut byte).is_ok() && byte == *b"a"
    });
}

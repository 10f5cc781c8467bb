//! The table of calls is complete: a relay that goes through everything makes no call without a row.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use rustix::io::Errno;
use rustix::process::{Resource, Signal};

use super::MIB;
use super::calls::{CALLS, POSITIONED_WRITE, SHUTDOWN};
use super::host::{Rule, start_hosted};
use super::stage::{Requester, Target, assert_cut, hosted};
use crate::checks::accept_failed;
use crate::support::net::{self, End};
use crate::support::{Folder, Relay, Start, eventually, process};

/// The length of a PROXY header of version 2 for IPv4.
const HEADER_BYTES: usize = 28;

/// Takes a relay through everything that can happen to it, and lets it make only the calls of the table.
fn goes_through_everything(log_to_file: bool, rules: &[Rule]) {
    let folder = Folder::new();
    let scratch = folder.join("log");
    let listener = net::listen();
    let address = net::address(&listener);
    let mut start = Start::to(address).connect_timeout(1).idle_timeout(1);
    if log_to_file {
        start = start.stdout(File::create(&scratch).unwrap());
    }
    let options = "--source 127.0.0.1 --proxy-protocol v2 --max-per-source 100 --timestamps";
    // A start waits for exact lines in a piped log, so only the relay that logs to a file has time stamps.
    let options = if log_to_file { options } else { options.trim_end_matches(" --timestamps") };
    let (mut relay, mut faults) = start_hosted(start.options(options));
    if log_to_file {
        eventually("the relay runs", || fs::read_to_string(&scratch).unwrap().contains(" is now active."));
    }
    faults.begin(rules);
    faults.allow_only(&CALLS.map(|row| row.call));
    passes_bulk(&relay, &listener);
    passes_urgent_bytes_and_resets(&relay, &listener);
    let log = log_to_file.then_some(&*scratch);
    let _stuck = meets_idle_sessions_and_a_lack_of_descriptors(&mut relay, &listener, log);
    drains(relay, listener);
    if log_to_file {
        assert!(
            fs::read_to_string(&scratch)
                .unwrap()
                .ends_with("The last session has ended. This process will now terminate.\n")
        );
    }
}

/// Relays a few bytes each way, behind the header that names the requester.
#[track_caller]
fn pass(requester: &mut TcpStream, target: &mut TcpStream) {
    net::read_exactly(target, HEADER_BYTES);
    net::assert_passes(requester, target, b"ping");
    net::assert_passes(target, requester, b"pong");
}

/// Relays bulk and an EOF in both directions.
fn passes_bulk(relay: &Relay, listener: &TcpListener) {
    let bytes = net::random(6, 4 * MIB);
    let (mut requester, mut target) = relay.session(listener);
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
}

/// Relays an urgent byte among others, and a reset each way.
fn passes_urgent_bytes_and_resets(relay: &Relay, listener: &TcpListener) {
    for side in [Requester, Target] {
        let (mut requester, mut target) = relay.session(listener);
        pass(&mut requester, &mut target);
        let (mut from, mut to) = if side == Requester { (requester, target) } else { (target, requester) };
        from.write_all(b"abc").unwrap();
        net::send_urgent(&from, b'!');
        assert_eq!(net::read_exactly(&mut to, 4), b"abc!");
        net::reset(from);
        assert_cut(&to);
    }
}

/// Lets sessions run into the idle timeout, one of them with a reader that has stopped. Meanwhile the relay
/// runs out of descriptors for a moment. Its log goes to the test, unless this is its file. Returns both ends of
/// the session with the stopped reader.
fn meets_idle_sessions_and_a_lack_of_descriptors(
    relay: &mut Relay,
    listener: &TcpListener,
    log: Option<&Path>,
) -> (TcpStream, TcpStream) {
    // More sessions than the status report looks at in one turn.
    let idle: Vec<_> = (0..70).map(|_| relay.session(listener)).collect();
    let (requester, mut target) = relay.session(listener);
    target.set_nonblocking(true).unwrap();
    while target.write(&[7; 4096]).is_ok() {}
    relay.signal(Signal::USR1);
    // The relay gets no descriptor, whatever ends meanwhile, and later gets some again. A poll of one descriptor,
    // its log, takes a limit of 1.
    let limit = process::limit(relay.pid, Resource::Nofile, Some(1));
    let waiting = relay.connect();
    let short = accept_failed(Errno::MFILE);
    match log {
        Some(log) => eventually("a failed accept", || fs::read_to_string(log).unwrap().contains(&short)),
        None => _ = relay.log.wait_text(&short),
    }
    process::limit(relay.pid, Resource::Nofile, limit);
    let mut last = net::accept(listener);
    net::read_exactly(&mut last, HEADER_BYTES);
    for (requester, target) in idle {
        assert_eq!(net::read_all(&mut &requester).0, [0_u8; 0]);
        net::read_all(&mut &target);
    }
    drop((waiting, last));
    (requester, target)
}

/// Stops the relay for a while, closes the target's listener, and drains the relay to its end.
fn drains(mut relay: Relay, listener: TcpListener) {
    relay.freeze();
    relay.thaw();
    drop(listener);
    let mut requester = relay.connect();
    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
    relay.signal(Signal::QUIT);
    let ended = relay.wait();
    // A call that the table does not have ends the process by SIGSYS; `strace -f` shows which one.
    assert_eq!(ended.code(), Some(0), "a call without a row in the table? {ended:?}");
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

//! A terminal as the log: one that is not read, and one that its user has stopped.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::catalogue::message;
use crate::support::siege::{LINES_OF_A_SESSION, count, goes_on_unread, serve};
use crate::support::{Log, Start, net};

/// Opens a pseudo-terminal. Returns the side that shows the output, and the side that programs write to.
fn terminal() -> (File, OwnedFd) {
    let shown = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&shown).unwrap();
    unlockpt(&shown).unwrap();
    let name = ptsname(&shown, Vec::new()).unwrap();
    let written = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (shown.into(), written.into())
}

#[test]
fn a_terminal_that_is_not_read_does_not_stop_the_relay() {
    let (shown, written) = terminal();
    goes_on_unread(written, shown);
}

#[test]
fn a_terminal_stopped_by_its_user_does_not_stop_the_relay_and_shows_the_log_once_resumed() {
    const STOP: u8 = 0x13;
    const START: u8 = 0x11;
    const SESSIONS: usize = 30;
    let (mut shown, written) = terminal();
    let mut log = Log::of(shown.try_clone().unwrap());
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).stdout(written).start();
    log.line();
    shown.write_all(&[STOP]).unwrap();
    serve(&relay, &listener, SESSIONS);
    shown.write_all(&[START]).unwrap();
    serve(&relay, &listener, 1);
    serve(&relay, &listener, 1);
    log.wait(34, SESSIONS as u64 + 2);
    let (came, missing) = count(log.seen().iter().map(String::as_str));
    assert_eq!(came + missing, 1 + LINES_OF_A_SESSION * (SESSIONS + 2));
    assert_eq!(*log.seen().last().unwrap(), message(34, SESSIONS as u64 + 2));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_terminal_that_cannot_be_reopened_takes_the_log() {
    use crate::support::STARTED;
    use crate::support::faults::{Call, Faults};

    let (shown, written) = terminal();
    let mut log = Log::of(shown);
    let listener = net::listen();
    let faults = Faults::new().fail(Call::Open, rustix::io::Errno::ACCESS, &[]);
    let relay = Start::to(net::address(&listener)).faults(faults).stdout(written).start();
    log.line();
    for serial in 1..=5 {
        relay.assert_relays(&listener);
        log.expect_all(&STARTED, serial);
        log.expect(34, serial);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_terminal_that_cannot_be_reopened_and_is_not_read_does_not_stop_the_relay() {
    use crate::support::faults::{Call, Faults};
    use crate::support::siege::goes_on_unread_as;

    let (shown, written) = terminal();
    let faults = || Faults::new().fail(Call::Open, rustix::io::Errno::ACCESS, &[]);
    goes_on_unread_as(|start| start.faults(faults()).start(), written, shown);
}

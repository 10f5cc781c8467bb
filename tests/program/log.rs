//! Whatever becomes of the log, the traffic goes on; what could not be told is counted and told later.

use std::fs::{self, File, OpenOptions};
use std::io::pipe;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::support::catalogue::message;
use crate::support::faults::{Call, Faults, When};
use crate::support::siege::{LINES_OF_A_SESSION, count, goes_on, goes_on_unread, serve};
use crate::support::{Log, STARTED, Start, net, process, run_with};

#[test]
fn a_pipe_that_nobody_reads_stops_nothing() {
    let (reader, writer) = pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    goes_on_unread(writer.into(), reader);
}

#[test]
fn a_socket_that_nobody_reads_stops_nothing() {
    let (reader, writer) = UnixStream::pair().unwrap();
    socket2::SockRef::from(&writer).set_send_buffer_size(4096).unwrap();
    goes_on_unread(writer.into(), reader);
}

#[test]
fn a_tcp_socket_takes_the_log() {
    let collector = net::listen();
    let writer = net::connect(net::address(&collector));
    let reader = net::accept(&collector);
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).stdout(writer).start();
    let mut log = Log::of(reader);
    log.line();
    relay.assert_relays(&listener);
    log.expect_all(&STARTED, 1);
    log.expect(34, 1);
}

/// The log cannot be written, and the relay neither minds nor tries for ever.
#[track_caller]
fn goes_on_without(stdout: OwnedFd) {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).stdout(stdout).start();
    goes_on(&mut relay, &listener);
}

#[test]
fn a_pipe_that_was_closed_stops_nothing() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    goes_on_without(writer.into());
}

#[test]
fn a_pipe_that_closes_later_stops_nothing() {
    let (reader, writer) = pipe().unwrap();
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).stdout(writer).start();
    serve(&relay, &listener, 3);
    drop(reader);
    goes_on(&mut relay, &listener);
}

#[test]
fn a_socket_that_was_closed_stops_nothing() {
    let (reader, writer) = UnixStream::pair().unwrap();
    drop(reader);
    goes_on_without(writer.into());
}

#[test]
fn a_full_disk_stops_nothing() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    goes_on_without(full.into());
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    goes_on_without(File::open("/dev/null").unwrap().into());
}

#[test]
fn what_is_neither_file_nor_pipe_nor_terminal_stops_nothing() {
    goes_on_without(File::open("/").unwrap().into());
}

#[test]
fn without_a_descriptor_for_its_log_it_does_not_start() {
    const F_DUPFD_CLOEXEC: u32 = 1030;
    let faults = Faults::new().fail(Call::FileControl, Errno::MFILE, &[When::Is(1, F_DUPFD_CLOEXEC)]);
    let run = run_with(faults, &["8080", "127.0.0.1", "9", "ANY", "1", "30", "1", "4000"]);
    // There is nothing to say it with.
    assert_eq!((run.stdout.as_str(), run.code), ("", Some(1)));
}

#[test]
fn a_closed_stdout_stops_nothing_and_no_line_strays_into_a_stream() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener))
        .shell("exec \"$0\" \"$@\" >&-")
        .stdout(File::open("/dev/null").unwrap())
        .start();
    let (mut requester, mut target) = relay.session(&listener);
    // Were descriptor 1 a socket of the relay's, the log would be sent to somebody.
    let stdout = process::descriptor_is(relay.pid, 1);
    assert!(stdout.as_deref().is_none_or(|is| is == "/dev/null"), "descriptor 1 is {stdout:?}");
    net::assert_passes(&mut requester, &mut target, b"this and nothing else");
    net::assert_passes(&mut target, &mut requester, b"as here");
    drop(requester);
    assert_eq!(net::read_all(&mut target).0, [0_u8; 0]);
    drop(target);
    goes_on(&mut relay, &listener);
}

/// A file of a test's own, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = directory.join(format!("{name}.{}", std::process::id()));
        File::create(&path).unwrap();
        Self(path)
    }

    /// Opened as `>>` does in a shell.
    fn append(&self) -> File {
        OpenOptions::new().append(true).open(&self.0).unwrap()
    }

    fn read(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody is hurt by a file that stays.
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_takes_every_line_in_order() {
    const SESSIONS: usize = 50;
    let file = Scratch::new("log");
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).stdout(file.append()).start();
    serve(&relay, &listener, SESSIONS);
    let text = file.read();
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("The relayer is now active. "));
    for serial in 1..=SESSIONS as u64 {
        for number in STARTED.into_iter().chain([34]) {
            assert_eq!(lines.next(), Some(&*message(number, serial)));
        }
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn a_file_that_may_not_grow_stops_nothing_and_is_used_again_when_it_is_emptied() {
    const MOST_BYTES: u64 = 32 * 1024;
    const UNTOLD: usize = 200;
    let file = Scratch::new("limited");
    let listener = net::listen();
    let relay = Start::to(net::address(&listener))
        .faults(Faults::new().file_size(MOST_BYTES))
        .stdout(file.append())
        .start();
    serve(&relay, &listener, UNTOLD);
    assert!(file.read().len() as u64 <= MOST_BYTES);

    // What was held back may be more than the file takes at once.
    let mut text = String::new();
    let mut sessions = UNTOLD;
    while text.lines().last() != Some(&*message(34, sessions as u64)) {
        assert!(sessions < UNTOLD + 20, "the log does not come back");
        text += &file.read();
        file.append().set_len(0).unwrap();
        serve(&relay, &listener, 1);
        sessions += 1;
        text += &file.read();
        file.append().set_len(0).unwrap();
    }
    let (came, missing) = count(text.lines());
    assert!(missing > 0);
    assert_eq!(came + missing, 1 + LINES_OF_A_SESSION * sessions);
}

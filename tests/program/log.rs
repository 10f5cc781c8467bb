//! Traffic goes on, whatever happens to the log. Lines that cannot be written are counted, and the count is logged
//! later.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::support::catalogue::{filled, message};
use crate::support::faults::{Call, Faults, When};
use crate::support::line::with;
use crate::support::siege::{LINES_OF_A_SESSION, count, goes_on, goes_on_unread, serve};
use crate::support::{self, Folder, Log, STARTED, Start, net, process, run_with};

#[test]
fn an_unread_pipe_stops_nothing() {
    let (reader, writer) = pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    goes_on_unread(writer.into(), reader);
}

#[test]
fn an_unread_socket_stops_nothing() {
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

/// Asserts that a relay which cannot write its log serves on, and does not retry for ever.
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
fn a_read_only_stdout_stops_nothing() {
    goes_on_without(File::open("/dev/null").unwrap().into());
}

#[test]
fn a_stdout_that_is_a_directory_stops_nothing() {
    goes_on_without(File::open("/").unwrap().into());
}

#[test]
fn without_a_descriptor_for_its_log_it_does_not_start() {
    const F_DUPFD_CLOEXEC: u32 = 1030;
    let faults = Faults::new().fail(Call::FileControl, Errno::MFILE, &[When::Is(1, F_DUPFD_CLOEXEC)]);
    let run = run_with(faults, &with(&[]));
    // Without STDOUT the relay cannot print the reason.
    assert_eq!((run.stdout.as_str(), run.code), ("", Some(1)));
}

#[test]
fn a_closed_stdout_stops_nothing_and_no_line_enters_a_stream() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener))
        .shell("exec \"$0\" \"$@\" >&-")
        .stdout(File::open("/dev/null").unwrap())
        .start();
    let (mut requester, mut target) = relay.session(&listener);
    // If descriptor 1 were a socket of a session, the log would go to its peer.
    let stdout = process::descriptor_is(relay.pid, 1);
    assert!(stdout.as_deref().is_none_or(|is| is == "/dev/null"), "descriptor 1 is {stdout:?}");
    net::assert_passes(&mut requester, &mut target, b"this and nothing else");
    net::assert_passes(&mut target, &mut requester, b"as here");
    drop(requester);
    assert_eq!(net::read_all(&mut target).0, [0_u8; 0]);
    drop(target);
    goes_on(&mut relay, &listener);
}

/// The file of a log, in a folder of its own.
struct Scratch(Folder);

impl Scratch {
    fn new() -> Self {
        Self(Folder::new())
    }

    /// Opens the file as `>>` does in a shell.
    fn append(&self) -> File {
        OpenOptions::new().append(true).create(true).open(self.path()).unwrap()
    }

    fn path(&self) -> PathBuf {
        self.0.join("log")
    }

    fn read(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }
}

#[test]
fn a_file_takes_every_line_in_order() {
    const SESSIONS: usize = 50;
    let file = Scratch::new();
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
fn a_file_at_its_size_limit_stops_nothing_and_is_written_again_once_emptied() {
    const FILE_BYTES_MAX: u64 = 32 * 1024;
    const SESSIONS: usize = 200;
    let file = Scratch::new();
    let listener = net::listen();
    let relay = Start::to(net::address(&listener))
        .faults(Faults::new().file_size(FILE_BYTES_MAX))
        .stdout(file.append())
        .start();
    serve(&relay, &listener, SESSIONS);
    assert!(file.read().len() as u64 <= FILE_BYTES_MAX);

    // The lines that the relay holds back may be more than the file takes at once.
    let mut text = String::new();
    let mut sessions = SESSIONS;
    while text.lines().last() != Some(&*message(34, sessions as u64)) {
        assert!(sessions < SESSIONS + 20, "the relay does not write its log again");
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

#[test]
fn relays_that_share_a_pipe_write_whole_lines() {
    const RELAYS: usize = 2;
    // More lines than the pipe and the relays hold, so that both write as much as they can once it is read.
    const SESSIONS: usize = 100;
    let (reader, writer) = pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let listener = net::listen();
    let writers = [writer.try_clone().unwrap(), writer];
    let mut relays = writers.map(|writer| Start::to(net::address(&listener)).stdout(writer).start());
    for relay in &relays {
        serve(relay, &listener, SESSIONS);
    }
    let mut log = Log::of(reader);
    // Both go on logging while the pipe is read.
    for relay in &relays {
        serve(relay, &listener, SESSIONS);
    }
    for relay in &mut relays {
        relay.signal(Signal::TERM);
        relay.wait();
    }
    drop(relays);
    let lines = log.rest();
    let (came, missing) = count(lines.iter().map(String::as_str));
    assert!(missing > 0);
    assert_eq!(came + missing, RELAYS * (2 + 2 * SESSIONS * LINES_OF_A_SESSION));
}

#[test]
fn lines_that_do_not_fit_before_the_relay_ends_are_counted_in_its_last_line() {
    const PIPE_BYTES: usize = 4096;
    const SESSIONS: usize = 50;
    let listener = net::listen();
    let (mut reader, mut writer) = pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES).unwrap();
    let port = support::free_port();
    let target = net::address(&listener).port().to_string();
    let values = [("<fwd port>", &*port.to_string()), ("<trg host>", "127.0.0.1"), ("<trg port>", &target)];
    let active = filled(15, &values).len() + "\n".len();
    // Room for message 15 and for a count of dropped lines, but not for the lines of a session's start, which are
    // written together.
    let room = active + 80;
    writer.write_all(&[b'-'; PIPE_BYTES][room..]).unwrap();
    let mut relay = Start::to(net::address(&listener)).stdout(writer).start_on(port).unwrap();
    serve(&relay, &listener, SESSIONS);
    relay.signal(Signal::TERM);
    relay.wait();
    drop(relay);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let (came, missing) = count(text.trim_start_matches('-').lines());
    assert_eq!((came, missing), (1, SESSIONS * LINES_OF_A_SESSION + 1));
}

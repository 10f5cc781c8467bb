//! The latches of a socket, over fake streams whose answers no real kernel gives on demand.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::SockRef;
use tcprelay::internal::buffer::Buffers;
use tcprelay::internal::limits::{PIPES_BYTES_MAX, UNSENT_BESIDE_INTERACTIVE};
use tcprelay::internal::message::{Identity, Serial};
use tcprelay::internal::session::{Session, Side, Timeouts, Turn, Verdict};
use tcprelay::internal::splice::{Pipe, Pipes};
use tcprelay::internal::stream::{Connect, Readiness, Socket, Stream, Transfer};

/// A stream whose answers are set beforehand. It counts the calls that move bytes.
#[derive(Default)]
struct Fake {
    has_peer: bool,
    /// The pending error; `None`: there is none.
    error: Option<Errno>,
    /// The error of each write and of each splice into the stream; `None`: they succeed.
    written: Option<Errno>,
    /// Bytes left to read, while a write takes all it is offered; `None`: nothing to read, no room to write.
    left: Option<usize>,
    /// Bytes that each splice into the stream moves.
    drained: usize,
    /// Bytes that the stream certainly has room for.
    room: usize,
    /// For each write, whether EOF was to follow.
    eof_follows: Vec<bool>,
    /// Calls that move bytes.
    calls: usize,
    /// Calls of `send_at_once`.
    at_once: usize,
    /// The argument of each `limit_unsent`.
    limited: Vec<bool>,
    /// Calls of `shutdown_write`.
    ends: usize,
}

impl Stream for Fake {
    fn read(&mut self, room: &mut Vec<u8>) -> io::Result<usize> {
        self.calls += 1;
        let count = self.left.unwrap_or(0).min(room.capacity() - room.len());
        room.resize(room.len() + count, 0);
        self.left = self.left.map(|left| left - count);
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8], eof_follows: bool) -> io::Result<usize> {
        self.calls += 1;
        self.eof_follows.push(eof_follows);
        let taken = if self.left.is_some() { bytes.len() } else { 0 };
        self.written.map_or(Ok(taken), |errno| Err(errno.into()))
    }

    fn fill(&mut self, _: &Pipe, _: usize) -> io::Result<usize> {
        self.calls += 1;
        Ok(0)
    }

    fn drain(&mut self, _: &Pipe, _: usize) -> io::Result<usize> {
        self.calls += 1;
        self.written.map_or(Ok(self.drained), |errno| Err(errno.into()))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.ends += 1;
        Ok(())
    }

    fn has_peer(&self) -> bool {
        self.has_peer
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.error.map(Into::into))
    }

    fn send_at_once(&mut self) {
        self.at_once += 1;
    }

    fn limit_unsent(&mut self, limited: bool) {
        self.limited.push(limited);
    }

    fn reset_on_close(&mut self) {}

    fn unacknowledged(&self) -> Option<u32> {
        None
    }

    fn certain_room(&self) -> usize {
        self.room
    }
}

const READY: Readiness =
    Readiness { readable: true, writable: true, marked: true, failed: false, eof: false };

fn ready(stream: Fake) -> Socket<Fake> {
    let mut socket = Socket::connecting(stream);
    socket.note(READY);
    socket
}

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// Returns a session that relays, with buffers of 100 bytes.
fn relaying(requester: Fake, target: Fake, now: Instant) -> Session<Fake> {
    let mut session = Session::new(
        Identity { serial: Serial::MIN, requester: ADDRESS, target: ADDRESS.into() },
        requester,
        Some(target),
        now,
    );
    session.start_relaying(&mut Buffers::new(100), &[], now).unwrap();
    session
}

/// Lets a session work, without pipes.
fn work(session: &mut Session<Fake>, now: Instant, beside_interactive: bool) -> Verdict {
    let timeouts = Timeouts { connect: Duration::from_secs(1), idle: Duration::from_secs(1) };
    session.work(&mut Turn::new(now, timeouts, &mut Pipes::new(0), beside_interactive))
}

fn pipe() -> Pipe {
    Pipes::new(PIPES_BYTES_MAX).take().unwrap()
}

#[test]
fn a_connect_that_is_reported_without_a_peer_or_an_error_is_still_pending() {
    let mut socket = ready(Fake::default());
    assert_eq!(socket.connect_state(), Connect::Pending);
    // The latch is cleared, so the socket waits for another report.
    assert!(!socket.is_writable());
    socket.stream_mut().has_peer = true;
    socket.note(READY);
    assert_eq!(socket.connect_state(), Connect::Done);
}

#[test]
fn a_connect_has_failed_unless_its_error_shows_that_there_was_a_connection() {
    for (error, there_was) in [(Errno::CONNRESET, true), (Errno::PIPE, true), (Errno::CONNREFUSED, false)] {
        let failed = Connect::Failed(error.raw_os_error());
        let expected = if there_was { Connect::Done } else { failed };
        assert_eq!(ready(Fake { error: Some(error), ..Fake::default() }).connect_state(), expected);
    }
}

#[test]
fn a_refused_splice_into_a_socket_is_no_error_of_its_connection() {
    let mut socket = ready(Fake { written: Some(Errno::INVAL), left: Some(0), ..Fake::default() });
    assert_eq!(socket.drain(&pipe(), 5), Transfer::Refused);
    socket.stream_mut().written = None;
    assert_eq!(socket.write(b"bytes", false), Transfer::Bytes(5));
}

#[test]
fn the_certain_room_is_at_most_half_of_the_cap_on_unsent_bytes() {
    let mut socket = Socket::connecting(Fake { room: usize::MAX, ..Fake::default() });
    assert_eq!(socket.certain_room(), 0);
    socket.note(READY);
    assert_eq!(socket.certain_room(), usize::MAX);
    socket.limit_unsent(true);
    assert_eq!(socket.certain_room(), UNSENT_BESIDE_INTERACTIVE as usize / 2);
}

#[test]
fn a_write_that_takes_nothing_waits_for_room() {
    let mut socket = ready(Fake::default());
    assert_eq!(socket.write(b"bytes", false), Transfer::Blocked);
    assert!(!socket.is_writable());
    socket.note(READY);
    assert_eq!(socket.drain(&pipe(), 5), Transfer::Blocked);
    assert!(!socket.is_writable());
}

#[test]
fn no_call_is_made_on_a_socket_that_is_not_ready() {
    let mut socket = Socket::connecting(Fake::default());
    assert_eq!(socket.read(&mut room(1)), Transfer::Blocked);
    assert_eq!(socket.fill(&pipe(), 1), Transfer::Blocked);
    assert_eq!(socket.write(b"bytes", false), Transfer::Blocked);
    assert_eq!(socket.drain(&pipe(), 5), Transfer::Blocked);
    assert_eq!(socket.stream().calls, 0);
}

#[test]
fn the_first_error_is_returned_again_and_again_without_another_call() {
    let mut socket = ready(Fake { written: Some(Errno::TIMEDOUT), ..Fake::default() });
    let failed = Transfer::Failed(Errno::TIMEDOUT.raw_os_error());
    assert_eq!(socket.write(b"bytes", false), failed);
    socket.stream_mut().written = Some(Errno::PIPE);
    assert_eq!(socket.write(b"bytes", false), failed);
    assert_eq!(socket.drain(&pipe(), 5), failed);
    assert_eq!(socket.shutdown_write(), Err(Errno::TIMEDOUT.raw_os_error()));
    assert_eq!(socket.stream().calls, 1);
}

#[test]
fn a_short_read_after_a_reported_eof_is_the_last_one() {
    let eof = Readiness { eof: true, ..READY };
    let mut socket = Socket::connecting(Fake { left: Some(15), ..Fake::default() });
    socket.note(eof);
    assert_eq!((socket.read(&mut room(10)), socket.eof_is_next()), (Transfer::Bytes(10), false));
    assert_eq!((socket.read(&mut room(10)), socket.eof_is_next()), (Transfer::Bytes(5), true));

    // Without a reported EOF, more bytes may come.
    let mut socket = ready(Fake { left: Some(5), ..Fake::default() });
    assert_eq!((socket.read(&mut room(10)), socket.eof_is_next()), (Transfer::Bytes(5), false));

    // After an error, a short read proves no EOF.
    let mut socket = ready(Fake { left: Some(5), written: Some(Errno::CONNRESET), ..Fake::default() });
    socket.note(eof);
    assert_eq!(socket.write(b"bytes", false), Transfer::Failed(Errno::CONNRESET.raw_os_error()));
    assert_eq!((socket.read(&mut room(10)), socket.eof_is_next()), (Transfer::Bytes(5), false));
}

#[test]
fn a_read_of_0_is_an_eof_after_a_broken_pipe_but_not_after_a_reset() {
    for (error, is_eof) in [(Errno::PIPE, true), (Errno::CONNRESET, false)] {
        let mut socket = ready(Fake { written: Some(error), ..Fake::default() });
        let failed = Transfer::Failed(error.raw_os_error());
        assert_eq!(socket.write(b"bytes", false), failed);
        assert_eq!(socket.read(&mut room(10)), if is_eof { Transfer::Eof } else { failed });
    }
}

/// Returns room for a read of `bytes` bytes.
fn room(bytes: usize) -> Vec<u8> {
    Vec::with_capacity(bytes)
}

/// Returns a socket with 5 bytes to read. A splice of 10 bytes into it has moved `drained` of them.
fn spliced_into(drained: usize, has_peer: bool) -> Socket<Fake> {
    let mut socket = Socket::connecting(Fake { left: Some(5), drained, has_peer, ..Fake::default() });
    socket.note(Readiness { eof: true, ..READY });
    assert_eq!(socket.drain(&pipe(), 10), Transfer::Bytes(drained));
    socket
}

#[test]
fn after_a_short_splice_a_short_read_does_not_prove_the_eof() {
    let mut socket = spliced_into(10, true);
    assert_eq!((socket.read(&mut room(10)), socket.eof_is_next()), (Transfer::Bytes(5), true));
    let mut socket = spliced_into(9, true);
    assert_eq!((socket.read(&mut room(10)), socket.eof_is_next()), (Transfer::Bytes(5), false));
    // A later write shows that there was no reset.
    assert_eq!(socket.write(b"bytes", false), Transfer::Bytes(5));
    assert!(socket.eof_is_next());
}

#[test]
fn after_a_short_splice_a_read_of_0_is_an_eof_only_if_there_is_a_peer() {
    let read_of_0 = |mut socket: Socket<Fake>| {
        socket.stream_mut().left = Some(0);
        socket.read(&mut room(10))
    };
    assert_eq!(read_of_0(spliced_into(9, true)), Transfer::Eof);
    assert_eq!(read_of_0(spliced_into(10, false)), Transfer::Eof);
    assert_eq!(read_of_0(spliced_into(9, false)), Transfer::Failed(Errno::CONNRESET.raw_os_error()));
    // Once both sides have sent their FIN, a socket has no peer any more.
    let mut socket = spliced_into(9, false);
    socket.shutdown_write().unwrap();
    assert_eq!(read_of_0(socket), Transfer::Eof);
}

#[test]
fn the_doubt_after_a_short_splice_outlasts_a_check_that_finds_no_pending_error() {
    let mut socket = spliced_into(9, false);
    assert_eq!(socket.pending_error(), None);
    socket.stream_mut().left = Some(0);
    assert_eq!(socket.read(&mut room(10)), Transfer::Failed(Errno::CONNRESET.raw_os_error()));
}

#[test]
fn the_last_bytes_and_the_eof_go_out_together() {
    let now = Instant::now();
    let requester = Fake { left: Some(250), ..Fake::default() };
    let mut session = relaying(requester, Fake { left: Some(0), ..Fake::default() }, now);
    session.note(Side::Requester, Readiness { eof: true, ..READY });
    session.note(Side::Target, Readiness { writable: true, ..Readiness::default() });
    assert_eq!(work(&mut session, now, false), Verdict::Wait);
    let target = session.socket(Side::Target).unwrap().stream();
    assert_eq!((target.eof_follows.as_slice(), target.ends), ([false, false, true].as_slice(), 1));
    // Three reads, none of them for the EOF alone.
    assert_eq!(session.socket(Side::Requester).unwrap().stream().calls, 3);
}

#[test]
fn the_second_write_of_a_socket_switches_nagle_off_unless_the_socket_was_accepted() {
    let taker = || Fake { left: Some(0), ..Fake::default() };
    // An accepted socket has the option from the listener.
    for (mut socket, calls) in [(Socket::accepted(taker()), [0; 3]), (Socket::connecting(taker()), [0, 1, 1])]
    {
        socket.note(READY);
        for calls in calls {
            assert_eq!(socket.write(b"bytes", false), Transfer::Bytes(5));
            assert_eq!(socket.stream().at_once, calls);
        }
    }
}

#[test]
fn little_of_a_bulk_stream_waits_unsent_beside_interactive_traffic() {
    let now = Instant::now();
    let requester = Fake { left: Some(usize::MAX), ..Fake::default() };
    let mut session = relaying(requester, Fake { left: Some(usize::MAX), ..Fake::default() }, now);
    session.note(Side::Requester, Readiness { readable: true, ..Readiness::default() });
    session.note(Side::Target, Readiness { writable: true, ..Readiness::default() });
    for _ in 0..4 {
        assert_eq!(work(&mut session, now, true), Verdict::Again);
    }
    assert_eq!(session.socket(Side::Target).unwrap().stream().limited, [true]);
    for _ in 0..3 {
        assert_eq!(work(&mut session, now, false), Verdict::Again);
    }
    assert_eq!(session.socket(Side::Target).unwrap().stream().limited, [true, false]);
    // No bulk goes to the requester.
    assert_eq!(session.socket(Side::Requester).unwrap().stream().limited, [false; 0]);
}

#[test]
fn the_cap_on_unsent_bytes_is_set_on_the_socket_and_lifted_again() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut stream = mio::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.limit_unsent(true);
    assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().unwrap(), UNSENT_BESIDE_INTERACTIVE);
    stream.limit_unsent(false);
    assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().unwrap(), 0);
}

#[test]
fn without_bytes_for_pipes_no_pipe_is_made() {
    let mut pipes = Pipes::new(0);
    assert!(pipes.take().is_none());
    assert_eq!(pipes.held(), 0);
}

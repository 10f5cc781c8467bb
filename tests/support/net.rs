//! Sockets of both sides: requesters and targets, well-behaved and not.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::random::Random;

/// The loopback address, with a port that the kernel chooses.
const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// The size of a small receive buffer: a few packets' worth.
pub const NARROW: usize = 4096;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With EOF.
    Clean,
    /// With ECONNRESET.
    Reset,
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[track_caller]
pub fn connect(to: SocketAddr) -> TcpStream {
    connect_between(None, to)
}

#[track_caller]
pub fn connect_from(ip: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let from = Some(SocketAddr::from((ip, 0))).filter(|_| !ip.is_unspecified());
    connect_between(from, to)
}

/// Connects, from the address `from` if there is one, and waits until the connection is established.
///
/// If the peer resets it at once, the first read returns the error. The standard library's connect would return
/// it; this one leaves it in the socket.
#[track_caller]
pub fn connect_between(from: Option<SocketAddr>, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    if let Some(from) = from {
        socket.bind(&from.into()).unwrap();
    }
    establish(socket, to)
}

/// Connects with a receive buffer of [`NARROW`] bytes.
#[track_caller]
pub fn connect_narrow(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    // Set before the handshake, because a window that was advertised cannot shrink.
    socket.set_recv_buffer_size(NARROW).unwrap();
    establish(socket, to)
}

#[track_caller]
fn establish(socket: Socket, to: SocketAddr) -> TcpStream {
    socket.set_nonblocking(true).unwrap();
    if let Err(error) = socket.connect(&to.into()) {
        assert_eq!(error.raw_os_error(), Some(Errno::INPROGRESS.raw_os_error()));
    }
    assert!(ready_within(&socket, PollFlags::OUT, PATIENCE), "the peer does not answer");
    socket.set_nonblocking(false).unwrap();
    patient(socket.into())
}

/// Listens as a target does, on a free port of the loopback address.
pub fn listen() -> TcpListener {
    listen_on(ANYWHERE.into(), 1024)
}

pub fn listen_on(address: SocketAddr, backlog: i32) -> TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(backlog).unwrap();
    socket.into()
}

/// Returns whether this machine has IPv6. Prints a message if it has not, because then a test of IPv6 is skipped.
pub fn has_ipv6() -> bool {
    let bound = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    if let Err(error) = &bound {
        super::skip::skipped(format_args!("no IPv6 here: {error}"));
    }
    bound.is_ok()
}

/// Returns whether a socket listens on `port`. /proc/net/tcp shows that too, but it is long after many connections.
pub fn is_listened_on(port: u16) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // With SO_REUSEADDR, only a listener makes this bind fail, and this socket makes no other bind fail.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).is_err()
}

pub fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap()
}

/// Returns whether `file` becomes readable within this time.
pub fn readable_within(file: &impl AsFd, time: Duration) -> bool {
    ready_within(file, PollFlags::IN, time)
}

/// Returns whether `file` becomes ready in one of these ways, hangs up or fails within this time.
pub fn ready_within(file: &impl AsFd, what: PollFlags, time: Duration) -> bool {
    any_ready_within(&[(file, what)], time)
}

/// Does the same for several files: one of them is enough.
pub fn any_ready_within(files: &[(&impl AsFd, PollFlags)], time: Duration) -> bool {
    let mut files: Vec<_> = files.iter().map(|&(file, what)| PollFd::new(file, what)).collect();
    let time = Timespec::try_from(time).unwrap();
    poll(&mut files, Some(&time)).unwrap() > 0
}

/// Waits for the next connection to `listener`, and accepts it.
#[track_caller]
pub fn accept(listener: &TcpListener) -> TcpStream {
    assert!(readable_within(listener, PATIENCE), "no connection arrives");
    patient(listener.accept().unwrap().0)
}

/// Accepts the next connection to `listener` and closes it. The peer may have reset it already.
#[track_caller]
pub fn turn_away(listener: &TcpListener) {
    assert!(readable_within(listener, PATIENCE), "no connection arrives");
    drop(listener.accept());
}

/// Returns an address that refuses connections as long as the socket beside it lives: bound, but not listening.
pub fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(ANYWHERE).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A target that does not answer. Its backlog is full, so the kernel drops every SYN.
pub struct Silent {
    listener: TcpListener,
    _filler: TcpStream,
}

impl Silent {
    pub fn new() -> Self {
        let listener = listen_on(ANYWHERE.into(), 0);
        let filler = connect(address(&listener));
        // Linux lets one connection more wait than the backlog says. Once it waits, the backlog is full.
        assert!(readable_within(&listener, PATIENCE), "no connection waits");
        Self { listener, _filler: filler }
    }

    pub fn address(&self) -> SocketAddr {
        address(&self.listener)
    }

    /// Turns it into an ordinary target. A pending connect succeeds when its SYN is sent again, in a second or two.
    pub fn wake(self) -> TcpListener {
        drop(accept(&self.listener));
        SockRef::from(&self.listener).listen(1024).unwrap();
        self.listener
    }
}

/// Starts a target that echoes every byte, and half-closes after its peer's EOF.
pub fn echo() -> SocketAddr {
    let listener = listen();
    let address = address(&listener);
    // The thread ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream.map(patient) else {
                return;
            };
            thread::spawn(move || {
                // A reset ends the copy as well. A test that must notice it brings a target of its own.
                let _ = io::copy(&mut &stream, &mut &stream);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

/// Shuts these connections down when it is dropped, after a failed assertion too. A scope joins its threads, and
/// a thread that reads from an open connection would not end.
pub struct Cut<'a>(pub &'a [(TcpStream, TcpStream)]);

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        for stream in self.0.iter().flat_map(|(requester, target)| [requester, target]) {
            // Fails if the connection is gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Closes a connection with an RST.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Sends a byte as urgent data.
pub fn send_urgent(stream: &TcpStream, byte: u8) {
    let sent = SockRef::from(stream).send_out_of_band(&[byte]).unwrap();
    assert_eq!(sent, 1);
}

/// Repeats a call as long as it fails with EINTR. On a socket with a timeout, it does so when the test's process is
/// stopped and continued.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Reads up to EOF or a reset. Returns the bytes, and which of the two it was.
#[track_caller]
pub fn read_all(stream: &mut impl Read) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match uninterrupted(|| stream.read(&mut chunk)) {
            Ok(0) => return (bytes, End::Clean),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return (bytes, End::Reset);
            }
            Err(error) => panic!("after {} bytes: {error}", bytes.len()),
        }
    }
}

/// Reads exactly this many bytes.
#[track_caller]
pub fn read_exactly(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Writes these bytes to `from`, and asserts that they arrive at `to`.
#[track_caller]
pub fn assert_passes(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).unwrap();
    assert_eq!(read_exactly(to, bytes.len()), bytes);
}

/// Does the same with more bytes than the queues between the two may hold.
#[track_caller]
pub fn assert_moves(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    let got = thread::scope(|scope| {
        scope.spawn(|| from.write_all(bytes).unwrap());
        read_exactly(to, bytes.len())
    });
    assert_same(&got, bytes);
}

/// Accepts the target's connection of a requester's session, and asserts that the session relays. Returns both.
#[track_caller]
pub fn relayed(mut requester: TcpStream, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut target = accept(listener);
    assert_passes(&mut requester, &mut target, b"hello");
    (requester, target)
}

/// Ends a session from the requester's side. The target closes only after the EOF, so the requester's end is first.
#[track_caller]
pub fn end((requester, mut target): (TcpStream, TcpStream)) {
    drop(requester);
    assert_eq!(read_all(&mut target).1, End::Clean);
}

/// Asserts that the bytes are the same, without printing megabytes if they are not.
#[track_caller]
pub fn assert_same(got: &[u8], sent: &[u8]) {
    if got == sent {
        return;
    }
    let same = got.iter().zip(sent).take_while(|(a, b)| a == b).count();
    panic!("{} bytes arrived of {}, and only the first {same} are right", got.len(), sent.len());
}

/// Returns bytes without a pattern, the same for the same seed.
pub fn random(seed: u64, count: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend_from_slice(&random.bits().to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

//! Under a service manager: a socket passed in, telling that it is ready, draining, and a restart that nobody
//! notices.

use std::io::{Read, Write, pipe};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use crate::support::catalogue::{STOPPED, filled};
use crate::support::net::{self, End};
use crate::support::{self, Log, PATIENCE, STARTED, Start, TCPRELAY, eventually, process};

const DRAINED: &str = "The last session has ended. This process will now terminate.";

/// The socket is passed in as STDIN; what starts a service passes it from descriptor 3 on.
const ONE_SOCKET: &str = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&0 0</dev/null"#;
const TWO_SOCKETS: &str = r#"LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" "$@" 3<&0 4<&0 0</dev/null"#;
const SOCKET_OF_ANOTHER: &str = r#"LISTEN_PID=1 LISTEN_FDS=1 exec "$0" "$@" 3<&0 0</dev/null"#;

fn draining(sessions: usize) -> String {
    format!("Drain signal received. No more connections are accepted. Sessions that go on: {sessions}.")
}

/// A relay that was started as a service manager does. It dies with this value.
struct Service {
    child: Child,
    log: Log,
}

impl Service {
    /// Starts a relay with `socket` for its listener.
    fn start(script: &str, socket: impl Into<OwnedFd>, fwd_port: u16, target: SocketAddr) -> Self {
        Self::start_with("", script, socket, fwd_port, target)
    }

    /// The same, with these options.
    fn start_with(
        options: &str,
        script: &str,
        socket: impl Into<OwnedFd>,
        fwd_port: u16,
        target: SocketAddr,
    ) -> Self {
        let (reader, writer) = pipe().unwrap();
        // Nobody looks at the log during a load.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20);
        let arguments =
            [fwd_port.to_string(), target.ip().to_string(), target.port().to_string(), "ANY".to_owned()];
        let child = Command::new("sh")
            .args(["-c", script, TCPRELAY])
            .args(options.split_whitespace())
            .args(arguments)
            .args(["3", "60", "0", "4000"])
            .stdin(Stdio::from(socket.into()))
            .stdout(writer)
            .spawn()
            .unwrap();
        Self { child, log: Log::of(reader) }
    }

    /// Starts a relay on a listener that stays open here as well, and waits until it is ready.
    #[track_caller]
    fn on(listener: &TcpListener, target: SocketAddr) -> Self {
        let address = net::address(listener);
        let mut service = Self::start(ONE_SOCKET, listener.try_clone().unwrap(), address.port(), target);
        service.expect_active(address.port(), target);
        service.log.expect_text(&format!("Listening on {address}."));
        service
    }

    #[track_caller]
    fn expect_active(&mut self, port: u16, target: SocketAddr) {
        let (port, host) = (port.to_string(), target.ip().to_string());
        let target_port = target.port().to_string();
        let values =
            [("<fwd port>", port.as_str()), ("<trg host>", &host), ("<trg port>", target_port.as_str())];
        self.log.expect_text(&filled(15, &values));
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    #[track_caller]
    fn wait(&mut self) -> Option<i32> {
        eventually("ended", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session through `port` that has been seen to relay.
#[track_caller]
fn session(to: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut requester = net::connect(to);
    let mut target = net::accept(listener);
    net::assert_passes(&mut requester, &mut target, b"hello");
    (requester, target)
}

/// Ends a session in an order that leaves no doubt about who ended it: the requester.
#[track_caller]
fn end((requester, mut target): (TcpStream, TcpStream)) {
    drop(requester);
    assert_eq!(net::read_all(&mut target).1, End::Clean);
}

// ----- a socket passed in

#[test]
fn a_socket_that_is_passed_in_is_served_if_it_is_what_the_arguments_say() {
    let target = net::listen();
    let any = net::listen_on(([0, 0, 0, 0], 0).into(), 16);
    let sharing = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    sharing.set_reuse_port(true).unwrap();
    sharing.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    sharing.listen(16).unwrap();
    for (options, socket, shown) in [
        ("", net::listen(), true),
        ("--bind 127.0.0.1", net::listen(), true),
        ("--reuse-port", sharing.into(), true),
        ("", any.try_clone().unwrap(), false),
        ("--bind 0.0.0.0", any, false),
    ] {
        let address = net::address(&socket);
        let inherited = socket.try_clone().unwrap();
        let mut service =
            Service::start_with(options, ONE_SOCKET, inherited, address.port(), net::address(&target));
        service.expect_active(address.port(), net::address(&target));
        if shown {
            service.log.expect_text(&format!("Listening on {address}."));
        }
        let _session = session(([127, 0, 0, 1], address.port()).into(), &target);
        service.log.expect_all(&STARTED, 1);
    }
}

#[test]
fn a_socket_that_contradicts_an_argument_is_refused_and_both_are_named() {
    let target = net::address(&net::listen());
    let any = net::listen_on(([0, 0, 0, 0], 0).into(), 16);
    let local = net::listen();
    let other = support::free_port();
    for (options, socket, port, given) in [
        ("--bind 127.0.0.9", &any, net::address(&any).port(), "--bind 127.0.0.9".to_owned()),
        ("--bind 0.0.0.0", &local, net::address(&local).port(), "--bind 0.0.0.0".to_owned()),
        ("--reuse-port", &local, net::address(&local).port(), "--reuse-port".to_owned()),
        ("", &local, other, format!("<fwd port> {other}")),
    ] {
        let inherited = socket.try_clone().unwrap();
        let mut service = Service::start_with(options, ONE_SOCKET, inherited, port, target);
        let address = net::address(socket);
        let text = format!("Error: {given} contradicts the socket passed in, which listens on {address}.");
        assert_eq!(service.log.line().text, text);
        assert_eq!(service.wait(), Some(2), "for {given}");
    }
}

#[test]
fn who_has_waited_in_the_socket_since_before_the_start_is_served() {
    let target = net::listen();
    let socket = net::listen();
    let mut early = net::connect(net::address(&socket));
    early.write_all(b"early").unwrap();
    let _service = Service::on(&socket, net::address(&target));
    assert_eq!(net::read_exactly(&mut net::accept(&target), 5), b"early");
}

#[test]
fn a_socket_meant_for_another_process_is_none_of_its_business() {
    let target = net::listen();
    let socket = net::listen();
    let port = support::free_port();
    let mut service =
        Service::start(SOCKET_OF_ANOTHER, socket.try_clone().unwrap(), port, net::address(&target));
    service.expect_active(port, net::address(&target));
}

#[test]
fn what_is_not_one_listening_tcp_socket_is_refused() {
    let target = net::address(&net::listen());
    let peer = net::listen();
    let cases: [(&str, &str, OwnedFd); 5] = [
        ("udp", ONE_SOCKET, UdpSocket::bind("127.0.0.1:0").unwrap().into()),
        ("unix", ONE_SOCKET, UnixDatagram::unbound().unwrap().into()),
        ("not listening", ONE_SOCKET, net::connect(net::address(&peer)).into()),
        ("no socket", ONE_SOCKET, pipe().unwrap().0.into()),
        ("two", TWO_SOCKETS, net::listen().into()),
    ];
    for (what, script, socket) in cases {
        let mut service = Service::start(script, socket, support::free_port(), target);
        let text = "Error: The socket passed in is not one listening TCP socket.";
        assert_eq!(service.log.line().text, text, "for {what}");
        assert_eq!(service.wait(), Some(1), "for {what}");
    }
}

#[test]
fn it_says_that_it_is_ready_once_it_is() {
    let path = std::env::temp_dir().join(format!("tcprelay-ready-{}", std::process::id()));
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = net::listen();
    let port = support::free_port();
    let host = net::address(&target);
    let mut relay = Command::new(TCPRELAY)
        .args([&port.to_string(), "127.0.0.1", &host.port().to_string(), "ANY", "3", "60", "0", "4000"])
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut bytes = [0; 64];
    let told = manager.recv(&mut bytes);
    let served = TcpStream::connect(("127.0.0.1", port));
    relay.kill().unwrap();
    relay.wait().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(&bytes[..told.unwrap()], b"READY=1\n");
    served.unwrap();
}

// ----- draining

#[test]
fn draining_it_lets_sessions_go_on_and_nobody_in_and_ends_with_the_last() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let (mut requester, mut target) = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    let second = relay.session(&listener);
    relay.log.expect_all(&STARTED, 2);

    relay.signal(Signal::QUIT);
    relay.log.expect_text(&draining(2));
    assert!(TcpStream::connect(relay.address()).is_err());
    let bytes = net::random(1, 100_000);
    net::assert_passes(&mut requester, &mut target, &bytes);
    end(second);
    relay.log.expect(34, 2);
    relay.assert_alive();
    net::assert_passes(&mut target, &mut requester, &bytes);

    requester.shutdown(Shutdown::Write).unwrap();
    assert_eq!(net::read_all(&mut target).1, End::Clean);
    target.write_all(b"a last reply").unwrap();
    drop(target);
    assert_eq!(net::read_all(&mut requester), (b"a last reply".to_vec(), End::Clean));
    relay.log.expect(34, 1);
    relay.log.expect_text(DRAINED);
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn draining_with_no_session_it_ends_at_once() {
    let mut relay = Start::to(net::address(&net::listen())).start();
    relay.signal(Signal::QUIT);
    relay.log.expect_text(&draining(0));
    relay.log.expect_text(DRAINED);
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn told_twice_to_drain_it_stops() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    let (mut requester, mut target) = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    relay.signal(Signal::QUIT);
    relay.log.expect_text(&draining(1));
    relay.signal(Signal::QUIT);
    relay.log.expect_text(STOPPED);
    assert_eq!(relay.wait().code(), Some(0));
    for stream in [&mut requester, &mut target] {
        assert!(net::read_all(stream).0.is_empty());
    }
}

#[test]
fn a_drain_takes_no_longer_than_the_sessions_own_timeouts() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).idle_timeout(1).start();
    let _session = relay.session(&listener);
    relay.log.expect_all(&STARTED, 1);
    let start = Instant::now();
    relay.signal(Signal::QUIT);
    relay.log.expect_text(&draining(1));
    relay.log.expect(24, 1);
    relay.log.expect_text(DRAINED);
    assert!(start.elapsed() > Duration::from_millis(500));
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn who_was_in_the_queue_before_the_drain_is_served() {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).start();
    relay.freeze();
    let mut waiting: Vec<_> = (0..100).map(|_| relay.connect()).collect();
    relay.signal(Signal::QUIT);
    relay.thaw();
    for requester in &mut waiting {
        let mut target = net::accept(&listener);
        // Which of them it is, only the target can tell.
        target.write_all(b"served").unwrap();
        drop(target);
        let _ = requester.shutdown(Shutdown::Write);
    }
    for requester in &mut waiting {
        assert_eq!(net::read_all(requester).0, b"served");
    }
    assert_eq!(relay.wait().code(), Some(0));
}

// ----- a restart that nobody notices

/// Requesters that come all the time, each for a reply: how many got it, and what befell the others.
struct Load {
    stop: AtomicBool,
    served: AtomicUsize,
}

impl Load {
    fn new() -> Self {
        Self { stop: AtomicBool::new(false), served: AtomicUsize::new(0) }
    }

    fn run(&self, to: SocketAddr) -> Vec<String> {
        let mut failures = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            match Self::request(to) {
                Ok(reply) if reply == b"request" => {
                    self.served.fetch_add(1, Ordering::Relaxed);
                }
                other => failures.push(format!("{other:?}")),
            }
        }
        failures
    }

    fn request(to: SocketAddr) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"request")?;
        stream.shutdown(Shutdown::Write)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        Ok(reply)
    }

    /// Waits until some more were served.
    #[track_caller]
    fn goes_on(&self) {
        let before = self.served.load(Ordering::Relaxed);
        eventually("more served", || self.served.load(Ordering::Relaxed) > before + 20);
    }
}

/// Keeps the socket through restarts under load, each done by `restart`, and finds nobody refused or cut.
#[track_caller]
fn assert_unnoticed(restart: impl Fn(Service, &dyn Fn() -> Service, &Load) -> Service) {
    let target = net::echo();
    let socket = net::listen();
    let address = net::address(&socket);
    let load = Load::new();
    let failures: Vec<String> = thread::scope(|scope| {
        let requesters: Vec<_> = (0..3).map(|_| scope.spawn(|| load.run(address))).collect();
        let start = || Service::on(&socket, target);
        let mut service = start();
        for _ in 0..5 {
            load.goes_on();
            service = restart(service, &start, &load);
        }
        load.goes_on();
        load.stop.store(true, Ordering::Relaxed);
        requesters.into_iter().flat_map(|requester| requester.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} of {:?}: {failures:?}", failures.len(), load.served);
}

#[test]
fn while_one_drains_and_the_next_is_not_there_yet_connections_wait() {
    assert_unnoticed(|mut old, start, _| {
        old.signal(Signal::QUIT);
        assert_eq!(old.wait(), Some(0));
        start()
    });
}

#[test]
fn while_one_drains_the_next_already_serves() {
    assert_unnoticed(|mut old, start, load| {
        let new = start();
        old.signal(Signal::QUIT);
        load.goes_on();
        assert_eq!(old.wait(), Some(0));
        new
    });
}

#[test]
fn a_long_session_outlives_the_restart() {
    let target = net::listen();
    let socket = net::listen();
    let mut old = Service::on(&socket, net::address(&target));
    let (mut requester, mut far) = session(net::address(&socket), &target);
    old.log.expect_all(&STARTED, 1);
    old.signal(Signal::QUIT);
    old.log.expect_text(&draining(1));
    let _new = Service::on(&socket, net::address(&target));
    for _ in 0..20 {
        let _short = session(net::address(&socket), &target);
        net::assert_passes(&mut requester, &mut far, b"still here");
    }
    end((requester, far));
    old.log.expect(34, 1);
    old.log.expect_text(DRAINED);
    assert_eq!(old.wait(), Some(0));
}

#[test]
fn a_draining_relay_does_not_wake_up_for_what_its_successor_serves() {
    let target = net::listen();
    let socket = net::listen();
    let mut old = Service::on(&socket, net::address(&target));
    let _session = session(net::address(&socket), &target);
    old.log.expect_all(&STARTED, 1);
    old.signal(Signal::QUIT);
    old.log.expect_text(&draining(1));
    let _new = Service::on(&socket, net::address(&target));
    process::settle(old.pid());
    let before = process::sleeps(old.pid());
    for _ in 0..20 {
        session(net::address(&socket), &target);
    }
    assert_eq!(process::sleeps(old.pid()), before);
}

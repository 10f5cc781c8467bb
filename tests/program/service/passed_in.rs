//! A socket passed in, and the notification that the relay is ready.

use std::io::{Write, pipe};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use socket2::{Domain, Socket, Type};

use super::{ONE_SOCKET, Service, session};
use crate::support::net;
use crate::support::{self, PATIENCE, STARTED, TCPRELAY};

const TWO_SOCKETS: &str = r#"LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" "$@" 3<&0 4<&0 0</dev/null"#;
const SOCKET_OF_ANOTHER: &str = r#"LISTEN_PID=1 LISTEN_FDS=1 exec "$0" "$@" 3<&0 0</dev/null"#;

#[test]
fn a_socket_passed_in_is_served_if_it_agrees_with_the_arguments() {
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
fn a_connection_in_the_backlog_before_the_start_is_served() {
    let target = net::listen();
    let socket = net::listen();
    let mut early = net::connect(net::address(&socket));
    early.write_all(b"early").unwrap();
    let _service = Service::on(&socket, net::address(&target));
    assert_eq!(net::read_exactly(&mut net::accept(&target), 5), b"early");
}

#[test]
fn a_socket_meant_for_another_process_is_ignored() {
    let target = net::listen();
    let socket = net::listen();
    let port = support::free_port();
    let mut service =
        Service::start(SOCKET_OF_ANOTHER, socket.try_clone().unwrap(), port, net::address(&target));
    service.expect_active(port, net::address(&target));
}

#[test]
fn anything_but_one_listening_tcp_socket_is_refused() {
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
fn it_notifies_the_service_manager_once_it_is_ready() {
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
    let length = manager.recv(&mut bytes);
    let served = TcpStream::connect(("127.0.0.1", port));
    relay.kill().unwrap();
    relay.wait().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(&bytes[..length.unwrap()], b"READY=1\n");
    served.unwrap();
}

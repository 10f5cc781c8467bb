//! A socket passed in, and the notification that the relay is ready.

use std::io::{Write, pipe};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use socket2::{Domain, Socket, Type};

use super::{ONE_SOCKET, on, passing};
use crate::support::{Folder, PATIENCE, STARTED, Start, free_port, net};

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
        let start = passing(ONE_SOCKET, inherited, net::address(&target)).options(options);
        let mut relay = start.launch(address.port());
        relay.log.expect_text(&start.active_line(address.port()));
        if shown {
            relay.log.expect_text(&format!("Listening on {address}."));
        }
        relay.assert_relays(&target);
        relay.log.expect_all(&STARTED, 1);
    }
}

#[test]
fn a_socket_that_contradicts_an_argument_is_refused_and_both_are_named() {
    let target = net::address(&net::listen());
    let any = net::listen_on(([0, 0, 0, 0], 0).into(), 16);
    let local = net::listen();
    let other = free_port();
    for (options, socket, port, given) in [
        ("--bind 127.0.0.9", &any, net::address(&any).port(), "--bind 127.0.0.9".to_owned()),
        ("--bind 0.0.0.0", &local, net::address(&local).port(), "--bind 0.0.0.0".to_owned()),
        ("--reuse-port", &local, net::address(&local).port(), "--reuse-port".to_owned()),
        ("", &local, other, format!("<fwd port> {other}")),
    ] {
        let inherited = socket.try_clone().unwrap();
        let mut relay = passing(ONE_SOCKET, inherited, target).options(options).launch(port);
        let address = net::address(socket);
        let text = format!("Error: {given} contradicts the socket passed in, which listens on {address}.");
        assert_eq!(relay.log.rest(), [text]);
        assert_eq!(relay.wait().code(), Some(2), "for {given}");
    }
}

#[test]
fn a_connection_in_the_backlog_before_the_start_is_served() {
    let target = net::listen();
    let socket = net::listen();
    let mut early = net::connect(net::address(&socket));
    early.write_all(b"early").unwrap();
    let _relay = on(&socket, net::address(&target));
    assert_eq!(net::read_exactly(&mut net::accept(&target), 5), b"early");
}

#[test]
fn a_socket_meant_for_another_process_is_ignored() {
    let target = net::listen();
    let socket = net::listen();
    let relay = passing(SOCKET_OF_ANOTHER, socket, net::address(&target)).start();
    relay.assert_relays(&target);
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
        let mut relay = passing(script, socket, target).launch(free_port());
        let text = "Error: The socket passed in is not one listening TCP socket.";
        assert_eq!(relay.log.rest(), [text], "for {what}");
        assert_eq!(relay.wait().code(), Some(1), "for {what}");
    }
}

#[test]
fn it_notifies_the_service_manager_once_it_is_ready() {
    let folder = Folder::new();
    let path = folder.join("socket");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = net::listen();
    let script = format!("NOTIFY_SOCKET={} exec \"$0\" \"$@\"", path.display());
    let relay = Start::to(net::address(&target)).shell(&script).launch(free_port());
    let mut bytes = [0; 64];
    let length = manager.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"READY=1\n");
    relay.assert_relays(&target);
}

//! The listener: its share of a turn, its failures, its pauses, and the sockets that it inherits.

use std::net::Ipv4Addr;
#[cfg(target_os = "linux")]
use std::time::Duration;

use super::*;

fn listener() -> Listener {
    let socket = create((Ipv4Addr::LOCALHOST, 0).into(), &Config::without_addresses()).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(BACKLOG).unwrap();
    Listener::new(socket.into(), false)
}

/// Notes a failed accept. Returns `is_news` and `is_lasting`.
fn failed(listener: &mut Listener, errno: Errno) -> (bool, bool) {
    match listener.note_accept(Err(errno.into())) {
        Accepted::Failed { is_news, is_lasting, .. } => (is_news, is_lasting),
        other => panic!("{other:?}"),
    }
}

/// Accepts one real connection.
fn accept_one(listener: &mut Listener) {
    let _requester = std::net::TcpStream::connect(listener.address().unwrap()).unwrap();
    assert!(matches!(listener.accept(), Accepted::Connection(..)));
}

#[test]
fn a_failure_is_news_once_and_again_after_an_accept_that_succeeded() {
    let mut listener = listener();
    listener.note_waiting();
    assert!(failed(&mut listener, Errno::CONNABORTED).0);
    assert!(!failed(&mut listener, Errno::CONNABORTED).0);
    assert!(failed(&mut listener, Errno::PERM).0);
    assert!(failed(&mut listener, Errno::CONNABORTED).0);
    accept_one(&mut listener);
    listener.note_waiting();
    assert!(failed(&mut listener, Errno::CONNABORTED).0);
}

#[test]
fn many_failures_are_lasting_in_one_turn_and_not_over_many_turns() {
    let mut listener = listener();
    for _ in 0..ACCEPT_FAILURES_PER_TURN {
        listener.note_waiting();
        listener.begin_turn();
        assert!(!failed(&mut listener, Errno::CONNABORTED).1);
    }
    listener.begin_turn();
    let lasting: Vec<_> =
        (0..ACCEPT_FAILURES_PER_TURN).map(|_| failed(&mut listener, Errno::CONNABORTED).1).collect();
    assert_eq!(lasting.iter().position(|&lasting| lasting), Some(ACCEPT_FAILURES_PER_TURN - 1));
}

#[test]
fn a_shortage_is_lasting_at_once() {
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
        let mut listener = listener();
        listener.note_waiting();
        assert!(failed(&mut listener, errno).1);
    }
}

/// The listener's part of a turn.
#[cfg(target_os = "linux")]
#[derive(Default)]
struct Turn {
    reported: bool,
    accepted: usize,
    tried: usize,
}

#[cfg(target_os = "linux")]
fn turn(listener: &mut Listener, poll: &mut mio::Poll) -> Turn {
    let mut events = mio::Events::with_capacity(1);
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    let mut turn = Turn { reported: !events.is_empty(), ..Turn::default() };
    if turn.reported {
        listener.note_waiting();
    }
    for _ in 0..listener.begin_turn() {
        if !listener.is_ready() {
            break;
        }
        turn.tried += 1;
        match listener.accept() {
            Accepted::Connection(..) => turn.accepted += 1,
            Accepted::Nothing => return turn,
            failed @ Accepted::Failed { .. } => panic!("{failed:?}"),
        }
    }
    listener.end_turn();
    turn
}

/// Runs turns until the kernel reports no backlog. Returns the numbers of accepted connections and of accepts.
#[cfg(target_os = "linux")]
fn turns(listener: &mut Listener, poll: &mut mio::Poll) -> (usize, usize) {
    let (mut accepted, mut tried) = (0, 0);
    loop {
        let turn = turn(listener, poll);
        (accepted, tried) = (accepted + turn.accepted, tried + turn.tried);
        if !turn.reported {
            return (accepted, tried);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_costs_one_accept_alone_and_in_a_flood() {
    let flood = 200;
    let mut listener = listener();
    let mut poll = mio::Poll::new().unwrap();
    listener.watch(poll.registry(), Token(0)).unwrap();
    let address = listener.address().unwrap();
    let connect = || std::net::TcpStream::connect(address).unwrap();
    for _ in 0..10 {
        let _alone = connect();
        assert_eq!(turns(&mut listener, &mut poll), (1, 1));
    }
    for _ in 0..2 {
        let _waiting: Vec<_> = (0..flood).map(|_| connect()).collect();
        // The last turn of the flood does not use up its share, and gets one EAGAIN.
        assert_eq!(turns(&mut listener, &mut poll), (flood, flood + 1));
        let _alone = connect();
        assert_eq!(turns(&mut listener, &mut poll), (1, 1));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_paused_listener_is_not_reported_until_the_pause_ends() {
    let mut listener = listener();
    let mut poll = mio::Poll::new().unwrap();
    listener.watch(poll.registry(), Token(0)).unwrap();
    let _waiting = std::net::TcpStream::connect(listener.address().unwrap()).unwrap();
    listener.pause(poll.registry());
    listener.note_waiting();
    assert!(!listener.is_ready());
    assert!(!turn(&mut listener, &mut poll).reported);
    for _ in 0..2 {
        listener.resume(poll.registry(), Token(0)).unwrap();
    }
    assert_eq!(turns(&mut listener, &mut poll).0, 1);
}

#[test]
#[cfg(target_os = "linux")]
fn the_share_doubles_with_each_turn_in_a_row_that_finds_connections_up_to_the_limit() {
    let mut listener = listener();
    let batches = [(); 8].map(|()| {
        listener.note_waiting();
        listener.begin_turn()
    });
    assert_eq!(batches, [1, 2, 4, 8, 16, 32, ACCEPTS_PER_TURN, ACCEPTS_PER_TURN]);
    listener.end_turn();
    assert_eq!([(); 2].map(|()| listener.begin_turn()), [ACCEPTS_PER_TURN, 1]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_in_every_turn_costs_one_and_a_half_accepts() {
    let count = 20;
    let mut listener = listener();
    let mut poll = mio::Poll::new().unwrap();
    listener.watch(poll.registry(), Token(0)).unwrap();
    let (mut accepted, mut tried) = (0, 0);
    for _ in 0..count {
        let _requester = std::net::TcpStream::connect(listener.address().unwrap()).unwrap();
        let turn = turn(&mut listener, &mut poll);
        (accepted, tried) = (accepted + turn.accepted, tried + turn.tried);
    }
    assert_eq!((accepted, tried), (count, count + count / 2));
}

#[test]
fn an_inherited_socket_contradicts_only_what_was_given() {
    // `--bind`, `<fwd port>`, `--reuse-port`, the socket's address, and the argument that it contradicts.
    let cases = [
        (None, 80, false, "127.0.0.1:80", None),
        (Some("127.0.0.1"), 80, false, "127.0.0.1:80", None),
        (Some("127.0.0.1"), 80, false, "0.0.0.0:80", Some("--bind 127.0.0.1")),
        (Some("0.0.0.0"), 80, false, "127.0.0.1:80", Some("--bind 0.0.0.0")),
        (Some("::"), 80, false, "0.0.0.0:80", Some("--bind ::")),
        (None, 81, false, "127.0.0.1:80", Some("<fwd port> 81")),
        (None, 80, true, "127.0.0.1:80", Some("--reuse-port")),
    ];
    for (bind, port, shares, socket, expected) in cases {
        let mut config = Config::without_addresses();
        config.set_port(port).set_reuse_port(shares);
        if let Some(bind) = bind {
            config.set_bind(bind.parse().unwrap()).unwrap();
        }
        let given = contradiction(&config, socket.parse().unwrap(), false);
        assert_eq!(given.as_deref(), expected, "{bind:?} {port} on {socket}");
        if shares {
            assert_eq!(contradiction(&config, socket.parse().unwrap(), true), None);
        }
    }
}

#[test]
fn a_check_of_a_shared_port_does_not_listen() {
    for shares_port in [false, true] {
        let mut config = Config::new((Ipv4Addr::LOCALHOST, 0).into(), (Ipv4Addr::LOCALHOST, 81)).unwrap();
        config.set_reuse_port(shares_port);
        let listener = Listener::bind_for_check(&config).unwrap();
        let socket = std::net::TcpListener::from(listener.socket);
        assert_eq!(is_listening(&socket), !shares_port);
    }
}

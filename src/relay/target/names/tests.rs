//! The driver on real files and sockets, with a name server that the test plays. A test moves its own clock, so
//! it waits for no deadline.
//!
//! Name servers have port 53. A test that may not bind it reports that it was skipped, and proves nothing.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use domain::base::Message;
use domain::base::iana::Rcode;
use mio::{Events, Poll};

use super::*;
use crate::limits::{NAME_SOCKETS_MAX, TTL_MIN};
use crate::relay::edge::name_socket;
use crate::resolve::Why;
use crate::resolve::tests::answer;
use crate::skip::skipped;

/// The longest wait for an event that must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// The addresses that the server gives.
const DB: [&str; 2] = ["2001:db8::7", "192.0.2.7"];

/// A driver for the name `db`, with files of its own.
struct Scene {
    names: Names,
    id: Id,
    folder: PathBuf,
    poll: Poll,
    now: Instant,
}

impl Scene {
    fn new(hosts: &str, conf: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tcprelay-names-{}-{}", process::id(), next()));
        fs::create_dir(&folder).unwrap();
        let files = Files { hosts: folder.join("hosts"), conf: folder.join("conf") };
        fs::write(&files.hosts, hosts).unwrap();
        fs::write(&files.conf, conf).unwrap();
        let names = Names::new(files, [(3, Name::parse("db").unwrap())].into_iter());
        let (id, _) = names.targets[0];
        Self { names, id, folder, poll: Poll::new().unwrap(), now: Instant::now() }
    }

    /// Lets a session ask. Returns the known addresses.
    fn ask(&mut self) -> Vec<String> {
        let until = self.now + PATIENCE;
        self.names.ask(until, self.poll.registry(), self.now);
        let addresses = self.names.resolver.addresses(self.id, self.now, until);
        addresses.iter().map(IpAddr::to_string).collect()
    }

    /// Waits for a report, as the relay's loop does. The driver's clock stands still, so the wait for the other
    /// family never expires.
    #[track_caller]
    fn report(&mut self) -> Outcome {
        let end = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(16);
        loop {
            if let Some((index, outcome)) = self.names.next_report() {
                assert_eq!(index, 3);
                return outcome;
            }
            assert!(Instant::now() < end, "no report came");
            self.poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
            for event in &events {
                self.names.note(name_socket(event.token()).unwrap());
            }
            self.names.work(self.poll.registry(), self.now);
        }
    }

    #[track_caller]
    fn assert_at_rest(&mut self) {
        while self.names.next_report().is_some() {}
        assert!(self.names.sockets.iter().all(Option::is_none), "{:?}", self.names.sockets);
        assert_eq!(self.names.wakes_at(self.now), None);
    }

    /// Returns the local ports of the open queries.
    fn ports(&self) -> Vec<u16> {
        let port = |socket: &Socket| match &socket.stream {
            Stream::Udp(socket) => socket.local_addr().unwrap().port(),
            Stream::Tcp(stream, _) => stream.local_addr().unwrap().port(),
        };
        self.names.sockets.iter().flatten().map(port).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns a number that no other test of this process has.
fn next() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Returns a server on a loopback address of its own, and its line of resolv.conf. If port 53 cannot be bound,
/// prints the reason and returns `None`.
fn server() -> Option<(UdpSocket, String)> {
    // Test processes that run at the same time hardly ever share an address.
    let [low, high, ..] = process::id().to_le_bytes();
    let address = Ipv4Addr::new(127, high | 64, low, next());
    match UdpSocket::bind((address, 53)) {
        Ok(socket) => {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            Some((socket, format!("nameserver {address}\n")))
        }
        Err(error) => {
            skipped(format_args!("no name server can be played here: {error}"));
            None
        }
    }
}

/// Receives one query. Returns it and the address that it came from.
fn query(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = [0; 512];
    let (count, from) = server.recv_from(&mut bytes).unwrap();
    (bytes[..count].to_vec(), from)
}

fn resolved(addresses: &[&str]) -> Outcome {
    Outcome::Resolved { addresses: addresses.iter().map(|address| address.parse().unwrap()).collect() }
}

#[test]
fn the_hosts_file_answers_at_once_and_a_change_of_it_is_seen() {
    let mut scene = Scene::new("192.0.2.1 db\n", "");
    assert_eq!(scene.ask(), ["192.0.2.1"]);
    scene.assert_at_rest();
    fs::write(&scene.names.files.hosts, "192.0.2.2 db # was .1\n").unwrap();
    assert_eq!(scene.ask(), ["192.0.2.1"], "the address serves for TTL_MIN");
    scene.now += TTL_MIN;
    assert_eq!(scene.ask(), ["192.0.2.2"]);
    // Replaced by another file of the same size and the same time.
    let replacement = scene.folder.join("other");
    fs::write(&replacement, "192.0.2.3 db # was .2\n").unwrap();
    let time = fs::metadata(&scene.names.files.hosts).unwrap().modified().unwrap();
    File::options().write(true).open(&replacement).unwrap().set_modified(time).unwrap();
    fs::rename(&replacement, &scene.names.files.hosts).unwrap();
    scene.now += TTL_MIN;
    assert_eq!(scene.ask(), ["192.0.2.3"]);
    scene.assert_at_rest();
}

#[test]
fn a_file_is_read_again_only_if_it_has_changed() {
    let scene = Scene::new("192.0.2.1 db\n", "");
    let hosts = &scene.names.files.hosts;
    let (version, text) = read_changed(hosts, None).unwrap();
    assert_eq!(text, "192.0.2.1 db\n");
    assert_eq!(read_changed(hosts, Some(version)), None);
    fs::remove_file(hosts).unwrap();
    assert_eq!(read_changed(hosts, Some(version)), Some((0, String::new())));
    assert_eq!(read_changed(hosts, Some(0)), None);
}

#[test]
fn a_fifo_does_not_block_and_nonsense_in_a_file_is_skipped() {
    let mut scene = Scene::new("", "");
    let hosts = &scene.names.files.hosts;
    fs::remove_file(hosts).unwrap();
    assert!(process::Command::new("mkfifo").arg(hosts).status().unwrap().success());
    assert_eq!(read_changed(hosts, Some(1)), Some((0, String::new())));
    fs::remove_file(hosts).unwrap();
    fs::write(hosts, b"\xff\xfe \x00 db\n192.0.2.1 db\n\xff").unwrap();
    assert_eq!(scene.ask(), ["192.0.2.1"]);
}

#[test]
fn each_query_has_a_socket_of_its_own_which_is_closed_after_the_answer() {
    let Some((server, conf)) = server() else { return };
    let mut scene = Scene::new("", &conf);
    assert_eq!(scene.ask(), [""; 0]);
    let mut ports = scene.ports();
    ports.sort_unstable();
    let queries = [query(&server), query(&server)];
    let mut from = queries.each_ref().map(|(_, from)| from.port());
    from.sort_unstable();
    assert_eq!(ports, from);
    assert_ne!(from[0], from[1]);
    let ids = queries.each_ref().map(|(query, _)| [query[0], query[1]]);
    for (query, from) in &queries {
        server.send_to(&answer(query, Rcode::NOERROR, &DB, 60), from).unwrap();
    }
    assert_eq!(scene.report(), resolved(&DB));
    assert_eq!(scene.ask(), DB);
    scene.assert_at_rest();
    // The ids are random. Both are the same again once in four billion runs.
    scene.now += Duration::from_secs(60);
    assert_eq!(scene.ask(), DB, "the old addresses serve");
    let again = [query(&server), query(&server)].map(|(query, _)| [query[0], query[1]]);
    assert!(ids != again, "the ids are the same: {ids:?}");
}

#[test]
fn an_answer_counts_only_from_the_server_that_was_asked_and_with_the_id() {
    let Some((server, conf)) = server() else { return };
    let mut scene = Scene::new("", &conf);
    scene.ask();
    let neighbour = UdpSocket::bind((server.local_addr().unwrap().ip(), 0)).unwrap();
    for _ in 0..2 {
        let (query, from) = query(&server);
        let lie = answer(&query, Rcode::NOERROR, &["2001:db8::bad", "192.0.2.66"], 60);
        // The kernel may report that no socket takes the lie.
        let _ = neighbour.send_to(&lie, from);
        let mut wrong_id = lie.clone();
        wrong_id[1] ^= 1;
        server.send_to(&wrong_id, from).unwrap();
        server.send_to(&answer(&query, Rcode::NOERROR, &DB, 60), from).unwrap();
    }
    assert_eq!(scene.report(), resolved(&DB));
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp_in_pieces() {
    let Some((server, conf)) = server() else { return };
    let listener = TcpListener::bind(server.local_addr().unwrap()).unwrap();
    let mut scene = Scene::new("", &conf);
    scene.ask();
    for _ in 0..2 {
        let (query, from) = query(&server);
        let mut truncated = answer(&query, Rcode::NOERROR, &[], 60);
        truncated[2] |= 2;
        server.send_to(&truncated, from).unwrap();
    }
    let play = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            assert!(Message::from_octets(&query[..]).is_ok());
            let message = answer(&query, Rcode::NOERROR, &DB, 60);
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            for piece in [&length[..1], &length[1..], &message[..20], &message[20..]] {
                stream.write_all(piece).unwrap();
            }
        }
    });
    assert_eq!(scene.report(), resolved(&DB));
    play.join().unwrap();
    scene.assert_at_rest();
}

#[test]
fn an_absent_server_is_noticed_at_once() {
    let Some((server, conf)) = server() else { return };
    drop(server);
    let mut scene = Scene::new("", &format!("{conf}options attempts:1\n"));
    scene.ask();
    let why = Why::Unreachable(ErrorKind::ConnectionRefused);
    assert_eq!(scene.report(), Outcome::Failed { why, kept: Vec::new() });
    // A session waits, so the next lookup is due later.
    assert!(scene.names.wakes_at(scene.now).unwrap() > scene.now);
    assert!(scene.names.sockets.iter().all(Option::is_none));
}

#[test]
fn a_server_that_sends_without_end_gets_a_share_of_the_turn() {
    let Some((server, conf)) = server() else { return };
    let mut scene = Scene::new("", &conf);
    scene.ask();
    let (_, from) = query(&server);
    for _ in 0..2 * NAME_READS_PER_TURN {
        server.send_to(b"nonsense", from).unwrap();
    }
    for slot in 0..NAME_SOCKETS_MAX {
        scene.names.note(slot);
    }
    scene.names.work(scene.poll.registry(), scene.now);
    assert_eq!(scene.names.wakes_at(scene.now), Some(scene.now), "the rest waits for the next turn");
    for _ in 0..2 {
        scene.names.work(scene.poll.registry(), scene.now);
    }
    assert!(scene.names.wakes_at(scene.now).unwrap() > scene.now);
}

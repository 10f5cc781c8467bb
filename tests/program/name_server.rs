//! A name server for the tests, on port 53 of a loopback address. It misbehaves on demand.
//!
//! The crate `domain` encodes its answers.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Rtype};
use domain::rdata::{A, Aaaa};

use crate::support::skip::skipped;

/// The port of name servers.
const PORT: u16 = 53;
/// Interval at which the server's threads check whether it was dropped.
const CLOSES_WITHIN: Duration = Duration::from_millis(20);

/// A running name server. It stops when this value is dropped.
pub struct NameServer {
    pub address: Ipv4Addr,
    zone: Arc<Mutex<Zone>>,
    queries: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
    /// Held by this value alone, so that the threads see its drop.
    open: Arc<()>,
}

/// The answer to every query.
#[derive(Clone, Debug)]
pub struct Zone {
    pub addresses: Vec<IpAddr>,
    /// In seconds.
    pub ttl: u32,
    pub manner: Manner,
}

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Honest,
    /// Forged answers with this address precede each real one: from another port, with another ID, about another
    /// name.
    AfterLies(IpAddr),
    /// UDP answers have the TC bit set, so that the relay asks again over TCP.
    Truncated,
    Late(Duration),
    Silent,
    /// Answers have this code and no address.
    Refusing(Rcode),
}

impl Zone {
    pub fn of(addresses: &[&str], ttl: u32) -> Self {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Self { addresses, ttl, manner: Manner::Honest }
    }

    pub fn manner(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }
}

impl NameServer {
    /// Starts a server on a free loopback address. Returns None, and prints the reason, where port 53 cannot be bound.
    pub fn start(zone: Zone) -> Option<Self> {
        match Self::start_on(free_address(), zone) {
            Ok(server) => Some(server),
            Err(error) => {
                skipped(format_args!("no name server can be played here: {error}"));
                None
            }
        }
    }

    /// Starts a server on port 53 of `address`.
    pub fn start_on(address: Ipv4Addr, zone: Zone) -> io::Result<Self> {
        let datagrams = UdpSocket::bind((address, PORT))?;
        datagrams.set_read_timeout(Some(CLOSES_WITHIN))?;
        let listener = TcpListener::bind((address, PORT))?;
        listener.set_nonblocking(true)?;
        let (zone, queries, open) = (Arc::new(Mutex::new(zone)), Arc::default(), Arc::new(()));
        let mut server = Self { address, zone, queries, threads: Vec::new(), open };
        let (udp, tcp) = (server.worker(), server.worker());
        server.threads.push(thread::spawn(move || udp.serve_datagrams(&datagrams)));
        server.threads.push(thread::spawn(move || tcp.serve_streams(&listener)));
        Ok(server)
    }

    /// Replaces the answer and the manner from now on.
    pub fn set(&self, zone: Zone) {
        *self.zone.lock().unwrap() = zone;
    }

    /// Returns the number of queries that have come so far.
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }

    fn worker(&self) -> Worker {
        let open = Arc::downgrade(&self.open);
        Worker { zone: Arc::clone(&self.zone), queries: Arc::clone(&self.queries), open }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.open = Arc::default();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            // A second panic would abort the process.
            assert!(ended.is_ok() || thread::panicking(), "the name server panicked");
        }
    }
}

/// Returns a loopback address that no other test uses, in this process or in one that runs beside it.
pub fn free_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [low, high, ..] = std::process::id().to_le_bytes();
    Ipv4Addr::new(127, 128 | high, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The state that one of the server's threads works with.
struct Worker {
    zone: Arc<Mutex<Zone>>,
    queries: Arc<AtomicUsize>,
    /// Dead once the server is dropped.
    open: std::sync::Weak<()>,
}

impl Worker {
    fn is_open(&self) -> bool {
        self.open.strong_count() > 0
    }

    /// Counts a query. Returns its answer, and the manner to give it in.
    fn answer(&self, query: &[u8]) -> (Vec<u8>, Manner) {
        self.queries.fetch_add(1, Ordering::SeqCst);
        let zone = self.zone.lock().unwrap().clone();
        (answer(query, &zone), zone.manner)
    }

    fn serve_datagrams(&self, socket: &UdpSocket) {
        let mut bytes = [0; 512];
        while self.is_open() {
            let Ok((count, from)) = socket.recv_from(&mut bytes) else { continue };
            let query = &bytes[..count];
            let (mut answer, manner) = self.answer(query);
            match manner {
                Manner::Silent => continue,
                Manner::Late(time) => thread::sleep(time),
                Manner::Truncated => answer[2] |= 2,
                Manner::AfterLies(lie) => {
                    let other_port = UdpSocket::bind((socket.local_addr().unwrap().ip(), 0)).unwrap();
                    let lie = self::answer(query, &Zone::of(&[&lie.to_string()], 60));
                    let _ = other_port.send_to(&lie, from);
                    // A wrong ID, then a question about a name with another first letter.
                    for place in [0, 13] {
                        let mut lie = lie.clone();
                        lie[place] ^= 1;
                        let _ = socket.send_to(&lie, from);
                    }
                }
                Manner::Honest | Manner::Refusing(_) => {}
            }
            let _ = socket.send_to(&answer, from);
        }
    }

    fn serve_streams(&self, listener: &TcpListener) {
        while self.is_open() {
            match listener.accept() {
                Ok((stream, _)) => drop(self.serve(stream)),
                Err(_) => thread::sleep(CLOSES_WITHIN / 4),
            }
        }
    }

    /// Answers one query, in two pieces.
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(crate::support::PATIENCE))?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        let (answer, _) = self.answer(&query);
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &answer[..9]].concat())?;
        stream.write_all(&answer[9..])
    }
}

/// Returns the answer to a query, with the zone's addresses of the family that the query asks for.
fn answer(query: &[u8], zone: &Zone) -> Vec<u8> {
    let query = Message::from_octets(query).unwrap();
    let question = query.sole_question().unwrap();
    let (rcode, addresses) = match zone.manner {
        Manner::Refusing(rcode) => (rcode, &[][..]),
        _ => (Rcode::NOERROR, &zone.addresses[..]),
    };
    let mut answer = MessageBuilder::new_vec().start_answer(&query, rcode).unwrap();
    for address in addresses {
        match address {
            IpAddr::V4(four) if question.qtype() == Rtype::A => {
                answer.push((question.qname(), zone.ttl, A::new(*four))).unwrap();
            }
            IpAddr::V6(six) if question.qtype() == Rtype::AAAA => {
                answer.push((question.qname(), zone.ttl, Aaaa::new(*six))).unwrap();
            }
            _ => {}
        }
    }
    answer.finish()
}

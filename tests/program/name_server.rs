//! A name server of the tests' own, on port 53 of a loopback address, that misbehaves on demand.
//!
//! Its answers are written by the crate `domain`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Rtype};
use domain::rdata::{A, Aaaa};

/// The port of name servers.
const PORT: u16 = 53;
/// How soon a server that was closed is gone.
const CLOSES_WITHIN: Duration = Duration::from_millis(20);

/// A running name server. It ends with this value.
pub struct NameServer {
    pub address: Ipv4Addr,
    zone: Arc<Mutex<Zone>>,
    queries: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
    open: Arc<()>,
}

/// The answer to every question.
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
    /// Every answer comes after lies: from another port, with another id, about another name.
    AfterLies(IpAddr),
    /// UDP answers are cut, so that they are asked for over TCP.
    Truncated,
    Late(Duration),
    Silent,
    /// With this code and no address.
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
    /// Starts a server; `None`, with a word on why, where port 53 may not be bound.
    pub fn start(zone: Zone) -> Option<Self> {
        match Self::start_on(free_address(), zone) {
            Ok(server) => Some(server),
            Err(error) => {
                eprintln!("SKIPPED: no name server can be played here: {error}");
                None
            }
        }
    }

    /// Starts a server on an address.
    pub fn start_on(address: Ipv4Addr, zone: Zone) -> io::Result<Self> {
        let datagrams = UdpSocket::bind((address, PORT))?;
        datagrams.set_read_timeout(Some(CLOSES_WITHIN))?;
        let listener = TcpListener::bind((address, PORT))?;
        listener.set_nonblocking(true)?;
        let (zone, queries, open) = (Arc::new(Mutex::new(zone)), Arc::default(), Arc::new(()));
        let mut server = Self { address, zone, queries, threads: Vec::new(), open };
        let (udp, tcp) = (server.desk(), server.desk());
        server.threads.push(thread::spawn(move || udp.serve_datagrams(&datagrams)));
        server.threads.push(thread::spawn(move || tcp.serve_streams(&listener)));
        Ok(server)
    }

    /// Lets it answer otherwise from now on.
    pub fn set(&self, zone: Zone) {
        *self.zone.lock().unwrap() = zone;
    }

    /// The queries that have come so far.
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }

    fn desk(&self) -> Desk {
        let open = Arc::downgrade(&self.open);
        Desk { zone: Arc::clone(&self.zone), queries: Arc::clone(&self.queries), open }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.open = Arc::default();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A loopback address that no other test has, nor another process of tests.
fn free_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [low, high, ..] = std::process::id().to_le_bytes();
    Ipv4Addr::new(127, 128 | high, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Where one of the server's threads works.
struct Desk {
    zone: Arc<Mutex<Zone>>,
    queries: Arc<AtomicUsize>,
    /// The server's value; it is gone when the server ends.
    open: std::sync::Weak<()>,
}

impl Desk {
    fn is_open(&self) -> bool {
        self.open.strong_count() > 0
    }

    fn zone(&self) -> Zone {
        self.queries.fetch_add(1, Ordering::SeqCst);
        self.zone.lock().unwrap().clone()
    }

    fn serve_datagrams(&self, socket: &UdpSocket) {
        let mut bytes = [0; 512];
        while self.is_open() {
            let Ok((count, from)) = socket.recv_from(&mut bytes) else { continue };
            let (query, zone) = (&bytes[..count], self.zone());
            let mut answer = answer(query, &zone);
            match zone.manner {
                Manner::Silent => continue,
                Manner::Late(time) => thread::sleep(time),
                Manner::Truncated => answer[2] |= 2,
                Manner::AfterLies(lie) => {
                    let other_port = UdpSocket::bind((socket.local_addr().unwrap().ip(), 0)).unwrap();
                    let lie = self::answer(query, &Zone { addresses: vec![lie], ..zone });
                    let _ = other_port.send_to(&lie, from);
                    // A wrong id, and a question in which the first letter is another one.
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

    /// Answers one query. The answer comes in two pieces.
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(crate::support::PATIENCE))?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        let answer = answer(&query, &self.zone());
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &answer[..9]].concat())?;
        stream.write_all(&answer[9..])
    }
}

/// Writes the answer to a query: the addresses of the family that it asks for.
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

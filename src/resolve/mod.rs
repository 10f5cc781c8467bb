//! A stub resolver without I/O. It resolves host names with the hosts file and DNS.
//!
//! ```text
//! Resolver      the driver's interface: requests, bytes and time in; actions and reports out
//! └─ Held       a name, its addresses, and when to look it up again
//!    └─ Lookup  one lookup: each search domain in turn, both families at once
//!       └─ Exchange  one family: one try after another, server by server, over UDP or TCP
//! wire, hosts, conf  the formats: DNS messages, the hosts file, resolv.conf
//! ```
//!
//! **The driver** owns the sockets, the files, the clock and the randomness. After each call of a method that
//! takes `now`, it takes actions and reports until there are none, and then sleeps until
//! [`Resolver::wakes_at`]. A lookup begins only for a session, or by [`Resolver::ask_all`]. So a relay without
//! sessions sends nothing of its own accord and does not wake.
//!
//! **Addresses stay in use until there are others.** A session that asks after their time to live gets the old
//! ones, and begins a lookup. A failed lookup changes only the time of the next one.
//!
//! **An answer counts** if it arrives on the socket of the try that waits for it, and repeats the id and the
//! question of the query. The socket is connected, so the answer is the server's. A server from before EDNS may
//! leave out the question of a format error. Any other message is ignored over UDP, and the try keeps waiting.
//! Over TCP it fails the try.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

pub mod conf;
mod exchange;
mod held;
pub mod hosts;
mod lookup;
mod name;
pub mod wire;

use conf::Conf;
use held::{Held, Phase};
use lookup::Lookup;
pub use name::{InvalidName, Name};

/// The names to resolve, and the settings from resolv.conf.
#[derive(Debug)]
pub struct Resolver {
    names: Vec<Held>,
    hosts_version: Option<Version>,
    conf_version: Option<Version>,
    conf: Conf,
    /// A function from an interface's name to its index, for servers with a zone.
    zone: fn(&str) -> Option<u32>,
    /// Lookups that have begun. With `options rotate`, it selects the first server of a lookup.
    lookups: usize,
    /// The sockets that the driver has open.
    open: Vec<Key>,
    /// The serial number of the last socket.
    serial: u64,
}

/// The id of one of a resolver's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

/// The key of the socket of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The slot, below twice the number of names. It has one socket at a time.
    pub slot: usize,
    /// A number that is never used again.
    pub serial: u64,
}

/// A number that changes when the file changes; 0: there is no file.
pub type Version = u128;

/// A step for the driver to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look at the files, and call [`Resolver::files_read`] before the next action is taken.
    ReadFiles {
        /// The version of the hosts file that was read last. None: it was not read yet, or must be read again.
        hosts: Option<Version>,
        /// The version of resolv.conf that was read last. None: it was not read yet.
        conf: Option<Version>,
    },
    /// Open a socket with a random port, connect it to the server, and send the bytes.
    Open {
        /// The key of the socket from now on.
        key: Key,
        /// The server to ask.
        server: SocketAddr,
        /// The kind of the socket.
        transport: Transport,
        /// The datagram, or all bytes to write to the stream.
        bytes: Vec<u8>,
    },
    /// Close this socket. Every opened socket is closed by this action.
    Close(Key),
}

/// How to reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A connected UDP socket.
    Udp,
    /// A TCP connection.
    Tcp,
}

/// A change in what is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The name.
    pub id: Id,
    /// The result of the lookup.
    pub outcome: Outcome,
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Other addresses than before, or the same ones after a reported failure.
    Resolved {
        /// The addresses, at least one.
        addresses: Vec<IpAddr>,
    },
    /// A failure for another reason than the last one reported.
    Failed {
        /// The reason.
        why: Why,
        /// The old addresses, which stay in use.
        kept: Vec<IpAddr>,
    },
}

/// Why a name could not be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The name does not exist.
    NoSuchName,
    /// The name exists, but has no address that can be connected to.
    NoAddress,
    /// The last server asked has not answered in time.
    TimedOut,
    /// The last server asked has answered with this response code.
    Refused(u8),
    /// The last server asked has sent a malformed answer.
    Malformed,
    /// The last server asked could not be reached.
    Unreachable(io::ErrorKind),
}

impl Resolver {
    /// Returns a resolver without names. `zone` returns the index of an interface by its name.
    #[must_use]
    pub fn new(zone: fn(&str) -> Option<u32>) -> Self {
        Self {
            names: Vec::new(),
            hosts_version: None,
            conf_version: None,
            conf: Conf::default(),
            zone,
            lookups: 0,
            open: Vec::new(),
            serial: 0,
        }
    }

    /// Adds a name. Its first lookup begins when a session asks for it.
    pub fn add(&mut self, name: Name) -> Id {
        self.names.push(Held::new(name));
        // If the hosts file was read before, read it again for this name.
        self.hosts_version = None;
        Id(self.names.len() - 1)
    }

    /// Returns the name of an id.
    #[must_use]
    pub fn name(&self, id: Id) -> &Name {
        &self.names[id.0].name
    }

    /// Returns the known addresses of a name, and begins a lookup if one is due. If there are none, the session waits
    /// for some until `until`. A report follows when there are others.
    pub fn addresses(&mut self, id: Id, now: Instant, until: Instant) -> &[IpAddr] {
        let held = &mut self.names[id.0];
        held.ask(now, until);
        &held.addresses
    }

    /// Begins a lookup because none of the addresses could be connected to, but at most once a second, and not while
    /// one is under way.
    pub fn ask_now(&mut self, id: Id, now: Instant) {
        self.names[id.0].ask_now(now);
    }

    /// Begins a lookup of each name at once. It replaces one that is under way.
    pub fn ask_all(&mut self, now: Instant) {
        for held in &mut self.names {
            held.begin(now);
        }
    }

    /// Returns the next action; None: there is none for now. If the action sends a query, `random` is its id.
    pub fn next_action(&mut self, random: u16, now: Instant) -> Option<Action> {
        if let Some(index) = self.open.iter().position(|key| !self.waits_for(*key)) {
            return Some(Action::Close(self.open.swap_remove(index)));
        }
        if self.names.iter().any(|held| matches!(held.phase, Phase::Files)) {
            return Some(Action::ReadFiles { hosts: self.hosts_version, conf: self.conf_version });
        }
        for (index, held) in self.names.iter_mut().enumerate() {
            let Phase::Asking(lookup) = &mut held.phase else { continue };
            for family in 0..2 {
                let key = Key { slot: 2 * index + family, serial: self.serial + 1 };
                if let Some(action) = lookup.open(family, &self.conf, (key, random), now) {
                    self.serial += 1;
                    self.open.push(key);
                    return Some(action);
                }
            }
        }
        None
    }

    /// Takes the files that have changed since the versions in the action, each with its new version and its text,
    /// which is empty if there is no file. None: the file has not changed.
    pub fn files_read(
        &mut self,
        hosts: Option<(Version, &str)>,
        conf: Option<(Version, &str)>,
        now: Instant,
    ) {
        if let Some((version, text)) = hosts {
            self.hosts_version = Some(version);
            self.names.iter_mut().for_each(|held| held.read_hosts(text));
        }
        if let Some((version, text)) = conf {
            self.conf_version = Some(version);
            self.conf = Conf::parse(text, self.zone);
        }
        for held in self.names.iter_mut().filter(|held| matches!(held.phase, Phase::Files)) {
            let first_server = if self.conf.rotate { self.lookups } else { 0 };
            self.lookups = self.lookups.wrapping_add(1);
            held.files_read(&self.conf, first_server, now);
        }
    }

    /// Takes a datagram, or the next bytes of a stream.
    pub fn received(&mut self, key: Key, bytes: &[u8], now: Instant) {
        self.lookup(key, now, |lookup, conf| lookup.received(conf, key, bytes, now));
    }

    /// Notes that a socket could not be opened or has failed, or that a stream has ended.
    pub fn failed(&mut self, key: Key, error: io::ErrorKind, now: Instant) {
        self.lookup(key, now, |lookup, conf| lookup.failed(conf, key, Why::Unreachable(error)));
    }

    /// Ends the waits whose time is over, and begins the lookups that sessions wait for.
    pub fn expire(&mut self, now: Instant) {
        for held in &mut self.names {
            held.expire(&self.conf, now);
            held.conclude(now);
        }
    }

    /// Returns when to call [`Resolver::expire`]; None: nothing is under way.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Instant> {
        self.names.iter().filter_map(Held::wakes_at).min()
    }

    /// Returns the next report. A newer report of a name replaces one that was not taken. After it, sessions that
    /// wait for the name can go on with its addresses.
    pub fn next_report(&mut self) -> Option<Report> {
        let mut names = self.names.iter_mut().enumerate();
        names.find_map(|(index, held)| Some(Report { id: Id(index), outcome: held.news.take()? }))
    }

    /// Returns the lookups since the start: those that have found addresses, and those that have failed.
    #[must_use]
    pub fn ended(&self) -> [u64; 2] {
        self.names
            .iter()
            .fold([0; 2], |[found, failed], held| [found + held.ended[0], failed + held.ended[1]])
    }

    /// Returns whether there is a report.
    #[must_use]
    pub fn has_report(&self) -> bool {
        self.names.iter().any(|held| held.news.is_some())
    }

    fn lookup(&mut self, key: Key, now: Instant, act: impl FnOnce(&mut Lookup, &Conf)) {
        let Some(held) = self.names.get_mut(key.slot / 2) else { return };
        if let Phase::Asking(lookup) = &mut held.phase {
            act(lookup, &self.conf);
            held.conclude(now);
        }
    }

    fn waits_for(&self, key: Key) -> bool {
        match self.names.get(key.slot / 2) {
            Some(Held { phase: Phase::Asking(lookup), .. }) => lookup.waits_for(key),
            _ => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("no such name"),
            Self::NoAddress => f.write_str("no usable address"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Refused(2) => f.write_str("server failure"),
            Self::Refused(5) => f.write_str("refused by the server"),
            Self::Refused(rcode) => write!(f, "response code {rcode}"),
            Self::Malformed => f.write_str("malformed answer"),
            Self::Unreachable(kind) => write!(f, "server unreachable: {kind}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

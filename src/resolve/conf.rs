//! resolv.conf: the servers to ask, how often and for how long, and the domains to search for a name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use crate::limits::{
    DNS_ATTEMPTS_MAX, DNS_PORT, DNS_TIMEOUT_SECONDS_MAX, NAME_SERVERS_MAX, NDOTS_MAX, SEARCH_DOMAINS_MAX,
};
use crate::resolve::name::Name;

/// The settings of resolv.conf that matter here. Its defaults are those of the C library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// The servers to ask, in this order; never empty.
    servers: Vec<SocketAddr>,
    /// The domains in which a name is searched.
    search: Vec<Name>,
    /// The number of dots with which a name is asked for as it is before the search domains are tried.
    ndots: u32,
    /// The time that one try waits for its answer.
    pub timeout: Duration,
    /// The number of tries of each server.
    attempts: u32,
    /// Whether each lookup begins with the next server.
    pub rotate: bool,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            servers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
        }
    }
}

impl Conf {
    /// Parses the text of a resolv.conf. `zone` returns the index of an interface by its name.
    ///
    /// As in the C library, unknown or malformed lines and options are skipped, values are clamped to their
    /// range, and without a server the one on this machine is asked.
    #[must_use]
    pub fn parse(text: &str, zone: fn(&str) -> Option<u32>) -> Self {
        let mut conf = Self::default();
        let mut servers = Vec::new();
        // A comment looks like a line with an unknown keyword.
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => servers.extend(words.next().and_then(|word| server(word, zone))),
                // The last `search` or `domain` line counts.
                Some("search") => conf.search = words.filter_map(|word| Name::parse(word).ok()).collect(),
                Some("domain") => conf.search = words.next().into_iter().flat_map(Name::parse).collect(),
                Some("options") => words.for_each(|word| conf.set(word)),
                _ => {}
            }
        }
        servers.truncate(NAME_SERVERS_MAX);
        conf.search.truncate(SEARCH_DOMAINS_MAX);
        if !servers.is_empty() {
            conf.servers = servers;
        }
        conf
    }

    fn set(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        match (name, value.parse::<u32>()) {
            ("rotate", _) => self.rotate = true,
            ("ndots", Ok(dots)) => self.ndots = dots.min(NDOTS_MAX),
            ("attempts", Ok(attempts)) => self.attempts = attempts.clamp(1, DNS_ATTEMPTS_MAX),
            ("timeout", Ok(seconds)) => {
                self.timeout = Duration::from_secs(seconds.clamp(1, DNS_TIMEOUT_SECONDS_MAX).into());
            }
            _ => {}
        }
    }

    /// Returns the names to ask for, in order, until one has an address.
    #[must_use]
    pub fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut candidates = Vec::new();
        if !name.is_absolute() {
            candidates.extend(self.search.iter().filter_map(|domain| name.inside(domain)));
        }
        let dots = u32::try_from(name.dots()).unwrap_or(u32::MAX);
        let place = if dots >= self.ndots { 0 } else { candidates.len() };
        candidates.insert(place, name.clone());
        candidates
    }

    /// Returns the server to ask after `tries` failed tries: each in turn, from the one at `first` on. None: each
    /// server has had all its attempts.
    #[must_use]
    pub fn server(&self, first: usize, tries: usize) -> Option<SocketAddr> {
        let most = usize::try_from(self.attempts).unwrap_or(1) * self.servers.len();
        let server = self.servers.get((first % self.servers.len() + tries) % self.servers.len());
        server.copied().filter(|_| tries < most)
    }
}

/// Parses the address of a server. An IPv6 address may have a zone, by name or by index.
fn server(text: &str, zone: fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, name)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, DNS_PORT));
    };
    let index = name.parse().ok().or_else(|| zone(name))?;
    Some(SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, index).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Option<u32> {
        (name == "eth0").then_some(7)
    }

    fn servers(text: &str) -> Vec<String> {
        let conf = Conf::parse(text, zone);
        (0..conf.servers.len()).map(|tries| conf.server(0, tries).unwrap().to_string()).collect()
    }

    fn candidates(text: &str, name: &str) -> Vec<String> {
        let names = Conf::parse(text, zone).candidates(&Name::parse(name).unwrap());
        names.iter().map(Name::to_string).collect()
    }

    #[test]
    fn without_a_server_this_machine_is_asked() {
        for text in ["", "# nameserver 10.0.0.1\n", ";nameserver 10.0.0.1", "nameserver\nnameserver x"] {
            assert_eq!(Conf::parse(text, zone), Conf::default(), "{text:?}");
        }
        assert_eq!(servers(""), ["127.0.0.1:53"]);
    }

    #[test]
    fn the_first_three_servers_are_asked_in_order() {
        let text = "nameserver 10.0.0.1\r\n\tnameserver fe80::1%eth0\nnameserver fe80::2%3 x\n\
                    nameserver fe80::1%eth9\nnameserver ::4\n";
        assert_eq!(servers(text), ["10.0.0.1:53", "[fe80::1%7]:53", "[fe80::2%3]:53"]);
    }

    #[test]
    fn each_server_is_tried_in_turn_from_the_first_on_until_its_attempts_are_used_up() {
        let conf = Conf::parse("nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions attempts:2", zone);
        let order = |first: usize| -> Vec<_> {
            (0..5).map(|tries| conf.server(first, tries).map(|at| at.ip().to_string())).collect()
        };
        let of = |last: [u8; 4]| last.map(|byte| Some(format!("10.0.0.{byte}"))).into_iter().chain([None]);
        assert_eq!(order(0), of([1, 2, 1, 2]).collect::<Vec<_>>());
        assert_eq!(order(3), of([2, 1, 2, 1]).collect::<Vec<_>>());
        assert!(conf.server(usize::MAX, 0).is_some());
    }

    #[test]
    fn options_are_honoured_within_their_ranges() {
        let text = "options ndots:3 timeout:2 attempts:4 rotate edns0 ndots:x timeout:-1";
        let conf = Conf::parse(text, zone);
        let (timeout, rotate) = (Duration::from_secs(2), true);
        assert_eq!(conf, Conf { ndots: 3, timeout, attempts: 4, rotate, ..Conf::default() });
        let (timeout, attempts) = (Duration::from_secs(30), 5);
        let conf = Conf::parse("options ndots:99 timeout:99\noptions attempts:99", zone);
        assert_eq!(conf, Conf { ndots: 15, timeout, attempts, ..Conf::default() });
        let timeout = Duration::from_secs(1);
        let conf = Conf::parse("options ndots:0 timeout:0 attempts:0", zone);
        assert_eq!(conf, Conf { ndots: 0, timeout, attempts: 1, ..Conf::default() });
    }

    #[test]
    fn a_name_with_few_dots_is_tried_in_the_search_domains_first() {
        let text = "search a.example b.example . c..d";
        assert_eq!(candidates(text, "db"), ["db.a.example.", "db.b.example.", "db"]);
        assert_eq!(candidates(text, "db.x"), ["db.x", "db.x.a.example.", "db.x.b.example."]);
        let text = "search a.example\noptions ndots:2";
        assert_eq!(candidates(text, "db.x"), ["db.x.a.example.", "db.x"]);
        assert_eq!(candidates(text, "db.x.y"), ["db.x.y", "db.x.y.a.example."]);
    }

    #[test]
    fn an_absolute_name_is_not_tried_in_the_search_domains() {
        assert_eq!(candidates("search a.example", "db."), ["db."]);
    }

    #[test]
    fn the_last_search_or_domain_line_counts() {
        assert_eq!(candidates("search a b\ndomain c d", "db"), ["db.c.", "db"]);
        assert_eq!(candidates("domain c\nsearch a b", "db"), ["db.a.", "db.b.", "db"]);
    }

    #[test]
    fn a_name_that_would_be_too_long_is_not_asked_for() {
        let long = [&"a".repeat(63)[..], &"b".repeat(63), &"c".repeat(63)].join(".");
        assert_eq!(candidates(&format!("search {long}"), &"d".repeat(61)).len(), 2);
        assert_eq!(candidates(&format!("search {long}"), &"d".repeat(62)).len(), 1);
    }
}

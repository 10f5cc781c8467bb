//! How a configuration is made: its defaults, and a setter for each argument and option.
//!
//! Each setter holds its value's rule. The command line has no other.

use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::acl::{Acl, Entry};
use crate::config::error::{Argument, ConfigError, Given, shown};
use crate::config::host::Host;
use crate::config::privileges::Privileges;
use crate::config::status::{STATUS_TAKES, StatusAddress};
use crate::config::way::Way;
use crate::config::{Config, LogStyle, ProxyProtocol, Target};
use crate::limits::{
    ABSOLUTE_SECONDS, BACKUPS_MAX, BUF, BUF_MAX, CONNECT_DEFAULT, CONNECT_SECONDS, IDLE_DEFAULT,
    IDLE_SECONDS, SESSIONS_MAX,
};

/// The addresses that `--bind` takes.
pub(crate) const BIND_TAKES: &str =
    "an IPv4 or IPv6 address to listen on, a link-local one as in fe80::1%eth0";

/// Returns the targets that `--backup` takes.
pub(crate) fn backup_taken() -> String {
    format!(
        "up to {BACKUPS_MAX} targets, each another IPv4 or IPv6 address, with a port as in 192.0.2.8:80 or \
         [2001:db8::8]:80, a link-local one as in [fe80::1%eth0]:80"
    )
}

/// Returns the numbers of sessions that an option takes.
pub(crate) fn sessions_taken() -> String {
    format!("a number from 1 to {SESSIONS_MAX}")
}

/// The networks that a new configuration admits.
const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

impl Config {
    /// Returns the configuration of a relay that listens on `listen` and connects to `target`.
    ///
    /// It admits requesters from loopback addresses alone; [`set_acl`](Self::set_acl) admits others. The
    /// connect timeout is 3 s, the idle timeout 300 s, and there is no absolute timeout. A buffer has 4000
    /// bytes, and the pool 500 sessions. With port 0 the system chooses a port, and
    /// [`Relay::local_addr`](crate::Relay::local_addr) returns it.
    ///
    /// # Errors
    /// The relay cannot listen on such an address, or cannot connect to such a target.
    pub fn new(listen: SocketAddr, target: impl Into<Target>) -> Result<Self, ConfigError> {
        let mut config = Self::without_addresses();
        config.set_listen(listen)?.set_target(target)?;
        Ok(config)
    }

    /// The defaults. The addresses are not valid yet.
    pub(crate) fn without_addresses() -> Self {
        Self {
            fwd_port: 0,
            bind: None,
            target: (Ipv4Addr::UNSPECIFIED, 0).into(),
            backups: Vec::new(),
            acl: Acl { admit: LOOPBACK.map(Entry::Net).to_vec(), deny: Vec::new() },
            connect_timeout: CONNECT_DEFAULT,
            idle_timeout: IDLE_DEFAULT,
            absolute_timeout: Duration::ZERO,
            buf: BUF_MAX,
            source: None,
            way: Way::default(),
            privileges: Privileges::default(),
            reuse_port: false,
            sessions: None,
            max_per_source: None,
            proxy_protocol: None,
            status: None,
            log_style: LogStyle::default(),
            splice: true,
        }
    }

    /// Sets the address to listen on: `<fwd port>` and `--bind`. Port 0: the system chooses.
    ///
    /// # Errors
    /// It is a multicast or broadcast address, or link-local without its zone.
    pub fn set_listen(&mut self, address: SocketAddr) -> Result<&mut Self, ConfigError> {
        self.set_port(address.port()).set_bind(address.into())
    }

    pub(crate) fn set_port(&mut self, port: u16) -> &mut Self {
        self.fwd_port = port;
        self
    }

    pub(crate) fn set_bind(&mut self, host: Host) -> Result<&mut Self, ConfigError> {
        if !host.can_be_listened_on() {
            return Err(invalid("--bind", &host, BIND_TAKES.into()));
        }
        self.bind = Some(host);
        Ok(self)
    }

    /// Sets the target: `<trg host>` and `<trg port>`.
    ///
    /// # Errors
    /// It is an unspecified, multicast or broadcast address, or link-local without its zone. Or the port is 0. Or no
    /// connection to it can come from the source that was set.
    pub fn set_target(&mut self, target: impl Into<Target>) -> Result<&mut Self, ConfigError> {
        let Target { host, port } = target.into();
        let mut changed = self.clone();
        changed.set_target_host(host)?.set_target_port(port)?;
        // A source that suited the target before may not suit this one.
        if let Some(source) = changed.source {
            changed.set_source(source)?;
        }
        *self = changed;
        Ok(self)
    }

    pub(crate) fn set_target_host(&mut self, host: Host) -> Result<&mut Self, ConfigError> {
        if !host.can_be_connected_to() {
            return Err(refused(Argument::TrgHost, &host));
        }
        self.target.host = host;
        Ok(self)
    }

    pub(crate) fn set_target_port(&mut self, port: u16) -> Result<&mut Self, ConfigError> {
        if port == 0 {
            return Err(refused(Argument::TrgPort, &port));
        }
        self.target.port = port;
        Ok(self)
    }

    /// Adds a target that sessions go on to where those before it cannot be reached: `--backup`.
    ///
    /// # Errors
    /// [`set_target`](Self::set_target) would refuse it, it is among the targets already, or there are 7.
    pub fn add_backup(&mut self, target: impl Into<Target>) -> Result<&mut Self, ConfigError> {
        let target = target.into();
        // A backup has the port of a target that was not read, as its own.
        let suits = target.host.can_be_connected_to() && (target.port != 0 || self.target.port == 0);
        let is_new = self.targets().all(|other| other != target);
        if !suits || !is_new || self.backups.len() == BACKUPS_MAX {
            return Err(invalid("--backup", &target, backup_taken()));
        }
        self.backups.push(target);
        Ok(self)
    }

    /// Admits this network instead of those admitted so far: `<ACL>`.
    pub fn set_acl(&mut self, entry: Entry) -> &mut Self {
        self.acl.admit = vec![entry.whole()];
        self
    }

    /// Admits this network as well: `--allow`.
    pub fn allow(&mut self, entry: Entry) -> &mut Self {
        self.acl.admit.push(entry.whole());
        self
    }

    /// Never admits this network: `--deny`. It wins over what admits.
    pub fn deny(&mut self, entry: Entry) -> &mut Self {
        self.acl.deny.push(entry.whole());
        self
    }

    /// Sets the connect timeout, 1 to 3 whole seconds: `<c t/o>`.
    ///
    /// # Errors
    /// It is out of this range.
    pub fn set_connect_timeout(&mut self, timeout: Duration) -> Result<&mut Self, ConfigError> {
        self.connect_timeout = whole_seconds(Argument::ConnectTimeout, timeout, CONNECT_SECONDS)?;
        Ok(self)
    }

    /// Sets the idle timeout, 1 to 1800 whole seconds: `<i t/o>`.
    ///
    /// # Errors
    /// It is out of this range.
    pub fn set_idle_timeout(&mut self, timeout: Duration) -> Result<&mut Self, ConfigError> {
        self.idle_timeout = whole_seconds(Argument::IdleTimeout, timeout, IDLE_SECONDS)?;
        Ok(self)
    }

    /// Sets the absolute timeout, whole seconds up to 4294967295: `<a t/o>`. Zero: none.
    ///
    /// # Errors
    /// It is out of this range.
    pub fn set_absolute_timeout(&mut self, timeout: Duration) -> Result<&mut Self, ConfigError> {
        self.absolute_timeout = whole_seconds(Argument::AbsoluteTimeout, timeout, ABSOLUTE_SECONDS)?;
        Ok(self)
    }

    /// Sets the size of each of a session's two buffers, 100 to 4000 bytes: `<buf>`.
    ///
    /// # Errors
    /// It is out of this range.
    pub fn set_buf(&mut self, bytes: usize) -> Result<&mut Self, ConfigError> {
        if !BUF.contains(&(bytes as u64)) {
            return Err(refused(Argument::Buf, &bytes));
        }
        self.buf = bytes;
        Ok(self)
    }

    /// Shares the port with others that do the same: `--reuse-port`.
    pub fn set_reuse_port(&mut self, shares: bool) -> &mut Self {
        self.reuse_port = shares;
        self
    }

    /// Sets the size of the pool, 1 to 100000 sessions: `--sessions`.
    ///
    /// # Errors
    /// It is out of this range.
    pub fn set_sessions(&mut self, sessions: usize) -> Result<&mut Self, ConfigError> {
        self.sessions = Some(checked_sessions("--sessions", sessions)?);
        Ok(self)
    }

    /// Sets the most sessions that one source may have, 1 to 100000: `--max-per-source`. An IPv4 address or an
    /// IPv6 /64 is a source.
    ///
    /// # Errors
    /// It is out of this range.
    pub fn set_max_per_source(&mut self, sessions: usize) -> Result<&mut Self, ConfigError> {
        self.max_per_source = Some(checked_sessions("--max-per-source", sessions)?);
        Ok(self)
    }

    /// Sends the target a PROXY header first: `--proxy-protocol`. None: it gets none.
    pub fn set_proxy_protocol(&mut self, version: Option<ProxyProtocol>) -> &mut Self {
        self.proxy_protocol = version;
        self
    }

    /// Serves a status page, metrics and JSON there, by HTTP: `--status`. None: nowhere.
    ///
    /// # Errors
    /// Nothing could reach it: a multicast or broadcast address, a link-local one without its zone, or port 0.
    /// Or the path has no slash, has white space, or is longer than 103 bytes.
    pub fn set_status(&mut self, place: Option<StatusAddress>) -> Result<&mut Self, ConfigError> {
        if let Some(place) = place.as_ref().filter(|place| !place.can_be_served_on()) {
            return Err(invalid("--status", place, STATUS_TAKES.into()));
        }
        self.status = place;
        Ok(self)
    }

    /// Sets how a [`Log`](crate::Log) writes: `--log-format`, `--log-level` and `--timestamps`.
    pub fn set_log_style(&mut self, style: LogStyle) -> &mut Self {
        self.log_style = style;
        self
    }

    /// Moves bulk data inside the kernel, or copies every byte: `--no-splice`.
    pub fn set_splice(&mut self, splices: bool) -> &mut Self {
        self.splice = splices;
        self
    }
}

// A command line can say only whole seconds.
fn whole_seconds(
    argument: Argument,
    time: Duration,
    range: RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    if time.subsec_nanos() == 0 && range.contains(&time.as_secs()) {
        Ok(time)
    } else {
        Err(refused(argument, &format_args!("{}.{:09} s", time.as_secs(), time.subsec_nanos())))
    }
}

fn checked_sessions(option: &'static str, sessions: usize) -> Result<usize, ConfigError> {
    if (1..=SESSIONS_MAX).contains(&sessions) {
        Ok(sessions)
    } else {
        Err(invalid(option, &sessions, sessions_taken()))
    }
}

#[cold]
fn refused(argument: Argument, given: &dyn fmt::Display) -> ConfigError {
    ConfigError::Argument { argument, given: Given::of(argument, OsStr::new(&given.to_string())) }
}

#[cold]
pub(crate) fn invalid(option: &'static str, given: &dyn fmt::Display, allowed: String) -> ConfigError {
    ConfigError::Option { option, given: shown(OsStr::new(&given.to_string())), allowed }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn config() -> Config {
        Config::new("127.0.0.1:0".parse().unwrap(), ([192, 0, 2, 7], 80)).unwrap()
    }

    /// Returns the name of the field that a refusal is about, and the value that it shows.
    fn refusal(result: Result<&mut Config, ConfigError>) -> (String, String) {
        match result {
            Err(ConfigError::Argument { argument, given }) => (format!("{argument:?}"), given.text),
            Err(ConfigError::Option { option, given, .. }) => (option.into(), given),
            Ok(config) => panic!("{config:?}"),
        }
    }

    #[test]
    fn a_new_one_admits_loopback_addresses_alone() {
        let mut config = config();
        let admits = |config: &Config, ip: &str| config.acl().admits(ip.parse().unwrap());
        for (address, expected) in
            [("127.9.9.9", true), ("::1", true), ("192.0.2.1", false), ("2001:db8::1", false)]
        {
            assert_eq!(admits(&config, address), expected, "{address}");
        }
        config.set_acl("192.0.2.0/24".parse().unwrap()).deny("192.0.2.9/32".parse().unwrap());
        assert!(admits(&config, "192.0.2.1") && !admits(&config, "127.0.0.1"));
        config.allow(Entry::Any);
        assert!(admits(&config, "2001:db8::1") && !admits(&config, "192.0.2.9"));
    }

    #[test]
    fn an_entry_that_a_caller_makes_is_taken_as_the_network_that_its_text_would_be() {
        let mut config = config();
        let made = |net: &str| Entry::Net(net.parse().unwrap());
        config.set_acl(made("10.1.2.3/8")).allow(made("::ffff:192.0.2.0/120")).deny(made("10.9.9.9/16"));
        let written = |entries: &[Entry]| entries.iter().map(Entry::to_string).collect::<Vec<_>>();
        assert_eq!(written(config.acl().admitted()), ["10.0.0.0/8", "192.0.2.0/24"]);
        assert_eq!(written(config.acl().denied()), ["10.9.0.0/16"]);
        assert!(config.acl().admits([192, 0, 2, 7].into()) && !config.acl().admits([10, 9, 0, 1].into()));
    }

    #[test]
    fn ranges_end_where_those_of_the_command_line_do() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut config = config();
        for (valid, seconds) in [(true, 1), (true, 3), (false, 0), (false, 4)] {
            assert_eq!(config.set_connect_timeout(seconds * SECOND).is_ok(), valid, "{seconds}");
        }
        for (valid, seconds) in [(true, 1), (true, 1800), (false, 0), (false, 1801)] {
            assert_eq!(config.set_idle_timeout(seconds * SECOND).is_ok(), valid, "{seconds}");
        }
        for (valid, seconds) in [(true, 0), (true, 4_294_967_295), (false, 4_294_967_296)] {
            assert_eq!(config.set_absolute_timeout(Duration::from_secs(seconds)).is_ok(), valid, "{seconds}");
        }
        for (valid, bytes) in [(true, 100), (true, 4000), (false, 99), (false, 4001)] {
            assert_eq!(config.set_buf(bytes).is_ok(), valid, "{bytes}");
        }
        for (valid, count) in [(true, 1), (true, 100_000), (false, 0), (false, 100_001)] {
            assert_eq!(config.set_sessions(count).is_ok(), valid, "{count}");
            assert_eq!(config.set_max_per_source(count).is_ok(), valid, "{count}");
        }
        // What was refused has changed nothing.
        assert_eq!((config.connect_timeout(), config.idle_timeout()), (3 * SECOND, 1800 * SECOND));
        assert_eq!(
            (config.buf(), config.sessions(), config.max_per_source()),
            (4000, 100_000, Some(100_000))
        );
    }

    #[test]
    fn a_refusal_names_the_field_and_the_value() {
        let mut config = config();
        let half = refusal(config.set_idle_timeout(Duration::from_millis(1500)));
        assert_eq!(half, ("IdleTimeout".into(), "1.500000000 s".into()));
        let text = config.set_buf(99).unwrap_err().to_string();
        assert!(text.contains("<buf> must be between 100 and 4000 inclusive."), "{text}");
        assert!(text.contains("\"99\""), "{text}");
        assert_eq!(refusal(config.set_sessions(0)), ("--sessions".into(), "0".into()));
        let cases = [("224.0.0.1:80", "TrgHost"), ("0.0.0.0:80", "TrgHost"), ("192.0.2.7:0", "TrgPort")];
        for (target, field) in cases {
            let target: SocketAddr = target.parse().unwrap();
            assert_eq!(refusal(config.set_target(target)).0, field, "{target}");
        }
        for listen in ["224.0.0.1:80", "255.255.255.255:80", "[fe80::1]:80"] {
            assert_eq!(refusal(config.set_listen(listen.parse().unwrap())).0, "--bind", "{listen}");
        }
        assert_eq!(config.target(), ([192, 0, 2, 7], 80).into(), "what was refused has changed nothing");
        config.set_source(IpAddr::from(Ipv4Addr::LOCALHOST)).unwrap();
        let of_another_family: SocketAddr = "[2001:db8::7]:80".parse().unwrap();
        assert_eq!(refusal(config.set_target(of_another_family)).0, "--source");
        assert_eq!(config.target(), ([192, 0, 2, 7], 80).into());
        let other_family: IpAddr = Ipv6Addr::LOCALHOST.into();
        assert_eq!(refusal(config.set_source(other_family)), ("--source".into(), "::1".into()));
    }
}

//! How a configuration is made: its defaults, and a setter for each argument and option.
//!
//! Each setter enforces its value's rule. The command line adds two: `<fwd port>` is not 0, and a name needs
//! `--resolve`.

use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::acl::{Acl, Entry};
use crate::config::error::{Argument, ConfigError, Given, shown};
use crate::config::host::{Host, TargetHost};
use crate::config::privileges::Privileges;
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
         [2001:db8::8]:80, a link-local one as in [fe80::1%eth0]:80, or a name with --resolve"
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
    /// It admits only requesters at loopback addresses, `127.0.0.0/8` and `::1`; [`allow`](Self::allow) admits
    /// others as well. The connect timeout is 3 s, the idle timeout 300 s, and there is no absolute timeout. A
    /// buffer has 4000 bytes, and the pool 500 sessions. With port 0 the system chooses a port, and
    /// [`Relay::local_addr`](crate::Relay::local_addr) returns it.
    ///
    /// # Errors
    /// The relay cannot listen on such an address, or cannot connect to such a target.
    pub fn new(listen: SocketAddr, target: impl Into<Target>) -> Result<Self, ConfigError> {
        let mut config = Self::without_addresses();
        config.set_listen(listen)?.set_target(target)?;
        Ok(config)
    }

    /// Returns the defaults. The target and the port are not valid yet.
    pub(crate) fn without_addresses() -> Self {
        Self {
            fwd_port: 0,
            bind: None,
            target: (Ipv4Addr::UNSPECIFIED, 0).into(),
            backups: Vec::new(),
            resolve: false,
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

    /// Sets the target: `<trg host>` and `<trg port>`. A target by name turns `--resolve` on.
    ///
    /// # Errors
    /// It is an unspecified, multicast or broadcast address, or link-local without its zone. Or the port is 0, or
    /// the source that was set is of the other address family.
    pub fn set_target(&mut self, target: impl Into<Target>) -> Result<&mut Self, ConfigError> {
        let Target { host, port } = target.into();
        let mut changed = self.clone();
        changed.set_target_host(host)?.set_target_port(port)?;
        // A source that suited the target before may not suit this one.
        changed.set_source(changed.source)?;
        *self = changed;
        Ok(self)
    }

    pub(crate) fn set_target_host(&mut self, host: TargetHost) -> Result<&mut Self, ConfigError> {
        if !can_be_connected_to(&host) {
            return Err(refused(Argument::TrgHost, &host));
        }
        self.target.host = host;
        Ok(self.set_resolve(self.resolve))
    }

    pub(crate) fn set_target_port(&mut self, port: u16) -> Result<&mut Self, ConfigError> {
        if port == 0 {
            return Err(refused(Argument::TrgPort, &port));
        }
        self.target.port = port;
        Ok(self)
    }

    /// Adds a target for sessions that cannot reach those before it: `--backup`.
    ///
    /// # Errors
    /// [`set_target`](Self::set_target) would refuse its address or its port, it is among the targets already, or
    /// there are 7 backups. A backup of another address family than the source is accepted: message 136 reports it.
    pub fn add_backup(&mut self, target: impl Into<Target>) -> Result<&mut Self, ConfigError> {
        let target = target.into();
        // A backup without a port of its own takes that of the target, which is 0 if the arguments were not read.
        let suits = can_be_connected_to(&target.host) && (target.port != 0 || self.target.port == 0);
        let is_new = self.targets().all(|other| *other != target);
        if !suits || !is_new || self.backups.len() == BACKUPS_MAX {
            return Err(invalid("--backup", &target, backup_taken()));
        }
        self.backups.push(target);
        Ok(self.set_resolve(self.resolve))
    }

    /// Allows names as targets, which the relay looks up, and lets SIGHUP look them up at once: `--resolve`. It
    /// stays on while a target is a name.
    pub fn set_resolve(&mut self, resolves: bool) -> &mut Self {
        self.resolve = resolves || self.targets().any(|target| target.address().is_none());
        self
    }

    /// Admits this network in place of those admitted so far: `<ACL>`.
    pub fn set_acl(&mut self, entry: Entry) -> &mut Self {
        self.acl.admit = vec![entry.whole()];
        self
    }

    /// Admits this network as well: `--allow`.
    pub fn allow(&mut self, entry: Entry) -> &mut Self {
        self.acl.admit.push(entry.whole());
        self
    }

    /// Never admits this network: `--deny`. It overrides every entry that admits.
    pub fn deny(&mut self, entry: Entry) -> &mut Self {
        self.acl.deny.push(entry.whole());
        self
    }

    /// Sets the connect timeout, 1 to 3 whole seconds: `<c t/o>`.
    ///
    /// # Errors
    /// It is out of this range, or not whole seconds.
    pub fn set_connect_timeout(&mut self, timeout: Duration) -> Result<&mut Self, ConfigError> {
        self.connect_timeout = whole_seconds(Argument::ConnectTimeout, timeout, CONNECT_SECONDS)?;
        Ok(self)
    }

    /// Sets the idle timeout, 1 to 1800 whole seconds: `<i t/o>`. A session in which no byte moves for that long
    /// ends. Each side sees EOF, or a reset if bytes for it were not delivered.
    ///
    /// # Errors
    /// It is out of this range, or not whole seconds.
    pub fn set_idle_timeout(&mut self, timeout: Duration) -> Result<&mut Self, ConfigError> {
        self.idle_timeout = whole_seconds(Argument::IdleTimeout, timeout, IDLE_SECONDS)?;
        Ok(self)
    }

    /// Sets the absolute timeout, whole seconds up to 4294967295: `<a t/o>`. Zero: there is none.
    ///
    /// # Errors
    /// It is out of this range, or not whole seconds.
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

    /// Shares the port with other sockets that allow it too (`SO_REUSEPORT`): `--reuse-port`.
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

    /// Sets the most sessions that one source may have, 1 to 100000: `--max-per-source`. A source is an IPv4
    /// address or an IPv6 /64. None: no limit.
    ///
    /// # Errors
    /// It is out of this range.
    pub fn set_max_per_source(&mut self, sessions: Option<usize>) -> Result<&mut Self, ConfigError> {
        let check = |sessions| checked_sessions("--max-per-source", sessions);
        self.max_per_source = sessions.map(check).transpose()?;
        Ok(self)
    }

    /// Sends the target a PROXY header first: `--proxy-protocol`. None: no header is sent.
    pub fn set_proxy_protocol(&mut self, version: Option<ProxyProtocol>) -> &mut Self {
        self.proxy_protocol = version;
        self
    }

    /// Sets how a [`Log`](crate::Log) writes: `--log-format`, `--log-level` and `--timestamps`.
    pub fn set_log_style(&mut self, style: LogStyle) -> &mut Self {
        self.log_style = style;
        self
    }

    /// Sets whether bulk data may be spliced, and so stay inside the kernel. False copies every byte: `--no-splice`.
    pub fn set_splice(&mut self, splices: bool) -> &mut Self {
        self.splice = splices;
        self
    }
}

/// Returns whether a connection can reach the host. A name passes, because its addresses are not known yet.
fn can_be_connected_to(host: &TargetHost) -> bool {
    host.address().is_none_or(Host::can_be_connected_to)
}

// Whole seconds only, because a command line can express nothing else.
fn whole_seconds(
    argument: Argument,
    time: Duration,
    range: RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
    if nanos != 0 {
        let text = format!("{seconds}.{nanos:09} s");
        return Err(ConfigError::Argument { argument, given: Given::of_part_seconds(argument, text) });
    }
    if range.contains(&seconds) { Ok(time) } else { Err(refused(argument, &format_args!("{seconds} s"))) }
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
mod tests;

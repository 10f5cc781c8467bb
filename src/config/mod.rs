//! The configuration of a relay. It holds checked values only.

pub mod acl;
pub mod error;
pub mod host;
pub(crate) mod privileges;
pub(crate) mod setters;
#[cfg(feature = "status")]
pub mod status;
#[cfg(not(feature = "status"))]
#[path = "status/absent.rs"]
pub mod status;
pub(crate) mod way;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::config::acl::Acl;
use crate::config::host::{Host, TargetHost};
use crate::config::privileges::Privileges;
use crate::config::status::StatusAddress;
use crate::config::way::{Source, Way};
use crate::resolve::{InvalidName, Name};

/// Everything that a relay is asked to do. [`new`](Self::new) and the setters make it, or `cli::parse` does.
/// Every value is valid. A setter that refuses a value leaves the old one.
///
/// `Display` needs the feature `cli`. It writes the options and arguments that parse to the same `Config`. A
/// configuration with port 0 has none, because a command line does not accept that port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `<fwd port>`.
    pub(crate) fwd_port: u16,
    /// `--bind`. None: any IPv4 address of this host.
    pub(crate) bind: Option<Host>,
    /// `<trg host>` and `<trg port>`.
    pub(crate) target: Target,
    /// Each `--backup`.
    pub(crate) backups: Vec<Target>,
    /// `--resolve`.
    pub(crate) resolve: bool,
    /// `<ACL>`, `--allow` and `--deny`.
    pub(crate) acl: Acl,
    /// `<c t/o>`.
    pub(crate) connect_timeout: Duration,
    /// `<i t/o>`.
    pub(crate) idle_timeout: Duration,
    /// `<a t/o>`. Zero: no absolute timeout.
    pub(crate) absolute_timeout: Duration,
    /// `<buf>`, in bytes.
    pub(crate) buf: usize,
    /// `--source`. None: the system chooses.
    pub(crate) source: Option<Source>,
    /// `--source-interface`, `--bind-interface`, `--mark` and `--dscp`.
    pub(crate) way: Way,
    /// `--user` and `--chroot`.
    pub(crate) privileges: Privileges,
    /// `--reuse-port`.
    pub(crate) reuse_port: bool,
    /// `--sessions`. None: it was not given, and the default applies.
    pub(crate) sessions: Option<usize>,
    /// `--max-per-source`. None: no limit.
    pub(crate) max_per_source: Option<usize>,
    /// `--proxy-protocol`. None: no header is sent.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// `--status`. None: the status is not served.
    pub(crate) status: Option<StatusAddress>,
    /// `--log-format`, `--log-level` and `--timestamps`.
    pub(crate) log_style: LogStyle,
    /// Whether bulk data may be spliced; `--no-splice` turns it off.
    pub(crate) splice: bool,
}

/// Versions of the PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyProtocol {
    /// The header as one line of text.
    V1,
    /// The binary header.
    V2,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStyle {
    /// The format of a line.
    pub format: LogFormat,
    /// Whether lines carry the time.
    pub timestamps: bool,
    /// Which messages are written.
    pub level: LogLevel,
}

/// The format of a line of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// The catalogue's text.
    #[default]
    Text,
    /// One JSON object a line. Needs the feature `json`.
    #[cfg(feature = "json")]
    Json,
}

/// Which messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogLevel {
    /// Every message.
    #[default]
    All,
    /// The start and the end of the relay, one line for each connection, and problems.
    Ends,
    /// Problems only.
    Problems,
}

/// A target of a relay: a host and a port. `Display` writes what `--backup` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host.
    pub host: TargetHost,
    /// The TCP port.
    pub port: u16,
}

impl Target {
    /// Returns the target of this name.
    ///
    /// # Errors
    /// The text is not a host name.
    pub fn named(name: &str, port: u16) -> Result<Self, InvalidName> {
        Ok(Self { host: TargetHost::Name(Name::parse(name)?), port })
    }

    /// Returns the address of the target, unless it is a name.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.host.address().map(|host| host.at(self.port))
    }

    /// Returns whether the target's address is IPv4. None: the target is not set yet, or it is a name, which
    /// may have addresses of both families.
    pub(crate) fn is_ipv4(&self) -> Option<bool> {
        let ip = self.host.address().map(Host::ip);
        ip.filter(|ip| !ip.is_unspecified()).map(|ip| ip.is_ipv4())
    }
}

/// Converts an address, or anything that converts to one, such as `([192, 0, 2, 7], 80)`.
impl<T: Into<SocketAddr>> From<T> for Target {
    fn from(address: T) -> Self {
        let address = address.into();
        Self { host: TargetHost::Address(address.into()), port: address.port() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => address.fmt(f),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Config {
    /// Returns the number of sessions in the pool.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.unwrap_or(crate::limits::SESSIONS)
    }

    /// Returns the address to listen on.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.fwd_port));
        self.bind.map_or(any, |host| host.at(self.fwd_port))
    }

    /// Returns the first target.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the targets in the order in which they are tried: `<trg host>`, then each `--backup`.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.target).chain(&self.backups)
    }

    /// Returns whether targets may be names, which SIGHUP looks up.
    #[must_use]
    pub fn resolve(&self) -> bool {
        self.resolve
    }

    /// Returns the access list.
    #[must_use]
    pub fn acl(&self) -> &Acl {
        &self.acl
    }

    /// Returns the connect timeout.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Returns the idle timeout.
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// Returns the absolute timeout. Zero: there is none.
    #[must_use]
    pub fn absolute_timeout(&self) -> Duration {
        self.absolute_timeout
    }

    /// Returns the size of each of a session's two buffers, in bytes.
    #[must_use]
    pub fn buf(&self) -> usize {
        self.buf
    }

    /// Returns the address that connections to the target come from. None: the system chooses.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// Returns whether other sockets that allow it too may share the port (`SO_REUSEPORT`).
    #[must_use]
    pub fn reuse_port(&self) -> bool {
        self.reuse_port
    }

    /// Returns the most sessions that one source may have. None: no limit.
    #[must_use]
    pub fn max_per_source(&self) -> Option<usize> {
        self.max_per_source
    }

    /// Returns the version of the PROXY header that is sent to the target first. None: no header is sent.
    #[must_use]
    pub fn proxy_protocol(&self) -> Option<ProxyProtocol> {
        self.proxy_protocol
    }

    /// Returns how a log is written.
    #[must_use]
    pub fn log_style(&self) -> LogStyle {
        self.log_style
    }

    /// Returns whether bulk data may be spliced, and so stay inside the kernel.
    #[must_use]
    pub fn splice(&self) -> bool {
        self.splice
    }
}

/// Parses decimal digits and nothing else. `parse` alone would accept a plus sign.
pub(crate) fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

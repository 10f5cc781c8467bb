//! What the relay was asked to do.

pub mod acl;
pub mod error;
pub mod host;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::config::acl::Acl;
use crate::config::host::Host;

/// A checked command line. It is only made by [`cli::parse`](crate::cli::parse), so every value is
/// in its range. `Display` writes the options and arguments that parse to the same configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `<fwd port>`.
    pub(crate) fwd_port: u16,
    /// `--bind`, where it was given.
    pub(crate) bind: Option<Host>,
    /// `<trg host>` and `<trg port>`.
    pub(crate) target: SocketAddr,
    /// `<ACL>`, `--allow` and `--deny`.
    pub(crate) acl: Acl,
    /// `<c t/o>`.
    pub(crate) connect_timeout: Duration,
    /// `<i t/o>`.
    pub(crate) idle_timeout: Duration,
    /// `<a t/o>`; zero: none.
    pub(crate) absolute_timeout: Duration,
    /// `<buf>`, in bytes.
    pub(crate) buf: usize,
    /// `--source`.
    pub(crate) source: Option<Host>,
    /// `--reuse-port`.
    pub(crate) reuse_port: bool,
    /// `--sessions`, where it was given.
    pub(crate) sessions: Option<usize>,
    /// `--max-per-source`.
    pub(crate) max_per_source: Option<usize>,
    /// `--proxy-protocol`.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// `--log-format`, `--log-level` and `--timestamps`.
    pub(crate) log_style: LogStyle,
    /// Not `--no-splice`.
    pub(crate) splice: bool,
}

/// Versions of the PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// The line of text.
    V1,
    /// The binary header.
    V2,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStyle {
    /// How a line reads.
    pub format: LogFormat,
    /// Whether lines carry the time.
    pub timestamps: bool,
    /// Which messages are written.
    pub level: LogLevel,
}

/// How a line of the log reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// The catalogue's texts.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// Which messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Every message.
    #[default]
    All,
    /// The start and the end of the relay, one line for each connection, and problems.
    Ends,
    /// Problems only.
    Problems,
}

impl Config {
    /// The sessions of the pool.
    #[must_use]
    pub fn pool(&self) -> usize {
        self.sessions.unwrap_or(crate::limits::SESSIONS)
    }

    /// Returns the address to listen on.
    #[must_use]
    pub fn listener(&self) -> SocketAddr {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.fwd_port));
        self.bind.map_or(any, |host| host.at(self.fwd_port))
    }

    /// How the log is written.
    #[must_use]
    pub fn log_style(&self) -> LogStyle {
        self.log_style
    }
}

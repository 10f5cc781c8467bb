//! The arguments and the options, a row each: name, help, how a value is read into a [`Config`], and
//! how it is written back.

use std::ffi::OsStr;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::acl::{Acl, Entry};
use crate::config::error::Argument;
use crate::config::host::Host;
use crate::config::{Config, LogFormat, LogLevel, LogStyle, ProxyProtocol};
use crate::limits::{ABSOLUTE_SECONDS, BUF, CONNECT_SECONDS, IDLE_SECONDS, SESSIONS, SESSIONS_MAX};

/// One of the eight arguments.
pub(super) struct ArgumentRow {
    pub(super) argument: Argument,
    /// The name that stands between `<` and `>`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// A valid value.
    pub(super) example: &'static str,
    /// Reads a value into the configuration; `None`: it is refused.
    pub(super) read: fn(&mut Config, &OsStr) -> Option<()>,
    write: fn(&Config) -> String,
}

/// The arguments, in their order.
pub(super) const ARGUMENTS: &[ArgumentRow] = &[
    ArgumentRow {
        argument: Argument::FwdPort,
        name: "fwd port",
        help: "TCP port to listen on, 1 to 65535",
        example: "8080",
        read: |config, text| put(&mut config.fwd_port, port(text)),
        write: |config| config.fwd_port.to_string(),
    },
    ArgumentRow {
        argument: Argument::TrgHost,
        name: "trg host",
        help: "Target's IPv4 or IPv6 address; no names",
        example: "192.0.2.7",
        read: |config, text| put(&mut config.target, target_host(text).map(|host| host.at(0))),
        write: |config| Host::from(config.target).to_string(),
    },
    ArgumentRow {
        argument: Argument::TrgPort,
        name: "trg port",
        help: "Target's TCP port, 1 to 65535",
        example: "80",
        read: |config, text| port(text).map(|port| config.target.set_port(port)),
        write: |config| config.target.port().to_string(),
    },
    ArgumentRow {
        argument: Argument::Acl,
        name: "ACL",
        help: "Who may connect: ANY, or ip/mask with a mask like 24 or 255.255.255.0",
        example: "192.168.100.0/24",
        read: |config, text| put(&mut config.acl.admit[0], entry(text)),
        write: |config| config.acl.admit[0].to_string(),
    },
    ArgumentRow {
        argument: Argument::ConnectTimeout,
        name: "c t/o",
        help: "Connect timeout, 1 to 3 s: after that the target is given up",
        example: "1",
        read: |config, text| put(&mut config.connect_timeout, seconds(text, CONNECT_SECONDS)),
        write: |config| config.connect_timeout.as_secs().to_string(),
    },
    ArgumentRow {
        argument: Argument::IdleTimeout,
        name: "i t/o",
        help: "Idle timeout, 1 to 1800 s: with no byte moved a session ends",
        example: "30",
        read: |config, text| put(&mut config.idle_timeout, seconds(text, IDLE_SECONDS)),
        write: |config| config.idle_timeout.as_secs().to_string(),
    },
    ArgumentRow {
        argument: Argument::AbsoluteTimeout,
        name: "a t/o",
        help: "Absolute timeout in s: after that the relay ends; 0: never",
        example: "600",
        read: |config, text| put(&mut config.absolute_timeout, seconds(text, ABSOLUTE_SECONDS)),
        write: |config| config.absolute_timeout.as_secs().to_string(),
    },
    ArgumentRow {
        argument: Argument::Buf,
        name: "buf",
        help: "Transfer buffer of each direction of a session, 100 to 4000 bytes",
        example: "4000",
        read: |config, text| put(&mut config.buf, count(text, BUF)),
        write: |config| config.buf.to_string(),
    },
];

/// An option that is part of the configuration.
pub(super) struct OptionRow {
    /// Its name, with the hyphens.
    pub(super) name: &'static str,
    /// The name of its value; empty: it is a flag.
    pub(super) value: &'static str,
    /// It may be given more than once.
    pub(super) repeats: bool,
    pub(super) help: &'static str,
    /// Reads a value into the configuration, an empty one for a flag.
    ///
    /// # Errors
    /// What the option takes.
    pub(super) read: fn(&mut Config, &OsStr) -> Result<(), String>,
    /// Writes each value that was given, an empty one for a flag.
    write: fn(&Config) -> Vec<String>,
}

/// The options, in the order in which their values are checked.
pub(super) const OPTIONS: &[OptionRow] = &[
    OptionRow {
        name: "--bind",
        value: "ADDR",
        repeats: false,
        help: "Listen here only; :: is IPv6 and IPv4 [0.0.0.0]",
        read: |config, text| {
            let takes = "an IPv4 or IPv6 address to listen on, a link-local one as in fe80::1%eth0";
            put_some(&mut config.bind, listening_host(text)).ok_or_else(|| takes.into())
        },
        write: |config| config.bind.iter().map(Host::to_string).collect(),
    },
    OptionRow {
        name: "--source",
        value: "ADDR",
        repeats: false,
        help: "Connect to the target from this address",
        read: |config, text| {
            let host = target_host(text).filter(|host| suits(*host, config));
            let family = if config.target.is_ipv4() { "IPv4" } else { "IPv6" };
            put_some(&mut config.source, host)
                .ok_or_else(|| format!("one {family} address of this host, as <trg host> is {family}"))
        },
        write: |config| config.source.iter().map(Host::to_string).collect(),
    },
    OptionRow {
        name: "--reuse-port",
        value: "",
        repeats: false,
        help: "Share the port with others that do the same",
        read: |config, _| {
            config.reuse_port = true;
            Ok(())
        },
        write: |config| flag(config.reuse_port),
    },
    OptionRow {
        name: "--allow",
        value: "NET",
        repeats: true,
        help: "Admit this network as well; repeatable",
        read: |config, text| add_entry(&mut config.acl.admit, text),
        // The first entry is the argument <ACL>.
        write: |config| config.acl.admit[1..].iter().map(Entry::to_string).collect(),
    },
    OptionRow {
        name: "--deny",
        value: "NET",
        repeats: true,
        help: "Never admit this network; repeatable",
        read: |config, text| add_entry(&mut config.acl.deny, text),
        write: |config| config.acl.deny.iter().map(Entry::to_string).collect(),
    },
    OptionRow {
        name: "--max-per-source",
        value: "N",
        repeats: false,
        help: "Most sessions from one address (IPv6: one /64)",
        read: |config, text| put_sessions(&mut config.max_per_source, text),
        write: |config| config.max_per_source.iter().map(usize::to_string).collect(),
    },
    OptionRow {
        name: "--sessions",
        value: "N",
        repeats: false,
        help: "Size of the session pool, 1 to 100000 [500]",
        read: |config, text| put_sessions(&mut config.sessions, text),
        write: |config| config.sessions.iter().map(usize::to_string).collect(),
    },
    OptionRow {
        name: "--proxy-protocol",
        value: "v1|v2",
        repeats: false,
        help: "Send the target a PROXY header first",
        read: |config, text| {
            put_some(&mut config.proxy_protocol, choice(VERSIONS, text)).ok_or_else(|| "v1 or v2".into())
        },
        write: |config| config.proxy_protocol.iter().map(|version| name(VERSIONS, version)).collect(),
    },
    OptionRow {
        name: "--log-format",
        value: "text|json",
        repeats: false,
        help: "How lines are written [text]",
        read: |config, text| {
            put(&mut config.log_style.format, choice(FORMATS, text)).ok_or_else(|| "text or json".into())
        },
        write: |config| unless_default(FORMATS, &config.log_style.format),
    },
    OptionRow {
        name: "--log-level",
        value: "all|ends|problems",
        repeats: false,
        help: "Which lines are written [all]",
        read: |config, text| {
            put(&mut config.log_style.level, choice(LEVELS, text))
                .ok_or_else(|| "all, ends or problems".into())
        },
        write: |config| unless_default(LEVELS, &config.log_style.level),
    },
    OptionRow {
        name: "--timestamps",
        value: "",
        repeats: false,
        help: "Put the time (UTC) on every line",
        read: |config, _| {
            config.log_style.timestamps = true;
            Ok(())
        },
        write: |config| flag(config.log_style.timestamps),
    },
    OptionRow {
        name: "--no-splice",
        value: "",
        repeats: false,
        help: "Copy bytes; never move them inside the kernel",
        read: |config, _| {
            config.splice = false;
            Ok(())
        },
        write: |config| flag(!config.splice),
    },
];

const VERSIONS: &[(&str, ProxyProtocol)] = &[("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
const LEVELS: &[(&str, LogLevel)] =
    &[("all", LogLevel::All), ("ends", LogLevel::Ends), ("problems", LogLevel::Problems)];

const _: () = assert!(SESSIONS <= SESSIONS_MAX);

/// The configuration before anything is read into it. Its arguments are not valid yet.
pub(super) fn unread() -> Config {
    Config {
        fwd_port: 0,
        bind: None,
        target: (Ipv4Addr::UNSPECIFIED, 0).into(),
        acl: Acl { admit: vec![Entry::Any], deny: Vec::new() },
        connect_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        absolute_timeout: Duration::ZERO,
        buf: 0,
        source: None,
        reuse_port: false,
        sessions: None,
        max_per_source: None,
        proxy_protocol: None,
        log_style: LogStyle::default(),
        splice: true,
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for option in OPTIONS {
            for value in (option.write)(self) {
                let space = if value.is_empty() { "" } else { " " };
                write!(f, "{}{space}{value} ", option.name)?;
            }
        }
        let arguments: Vec<_> = ARGUMENTS.iter().map(|row| (row.write)(self)).collect();
        f.write_str(&arguments.join(" "))
    }
}

// ----- reading

/// Stores a value, if there is one.
fn put<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

fn put_some<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    put(place, value.map(Some))
}

fn put_sessions(place: &mut Option<usize>, text: &OsStr) -> Result<(), String> {
    let most = SESSIONS_MAX as u64;
    put_some(place, count(text, 1..=most)).ok_or_else(|| format!("a number from 1 to {most}"))
}

fn add_entry(entries: &mut Vec<Entry>, text: &OsStr) -> Result<(), String> {
    entries.push(entry(text).ok_or("ANY or a network such as 10.0.0.0/8")?);
    Ok(())
}

/// Returns whether a connection to the target can come from `source`. Of a target that was not read
/// nothing is known.
fn suits(source: Host, config: &Config) -> bool {
    config.target.ip().is_unspecified() || source.ip().is_ipv4() == config.target.is_ipv4()
}

/// Reads decimal digits and nothing else, in `range`.
fn number(text: &OsStr, range: RangeInclusive<u64>) -> Option<u64> {
    let text = text.to_str()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && range.contains(number))
}

fn count(text: &OsStr, range: RangeInclusive<u64>) -> Option<usize> {
    number(text, range)?.try_into().ok()
}

fn seconds(text: &OsStr, range: RangeInclusive<u64>) -> Option<Duration> {
    number(text, range).map(Duration::from_secs)
}

fn port(text: &OsStr) -> Option<u16> {
    number(text, 1..=u64::from(u16::MAX))?.try_into().ok()
}

fn entry(text: &OsStr) -> Option<Entry> {
    text.to_str()?.parse().ok()
}

fn host(text: &OsStr) -> Option<Host> {
    text.to_str()?.parse().ok()
}

/// Reads an address that connections can arrive at.
fn listening_host(text: &OsStr) -> Option<Host> {
    host(text).filter(|host| host.can_be_listened_on())
}

/// Reads an address that one end of a connection can have.
fn target_host(text: &OsStr) -> Option<Host> {
    host(text).filter(|host| host.can_be_connected_to())
}

fn choice<T: Copy>(choices: &[(&str, T)], text: &OsStr) -> Option<T> {
    choices.iter().find(|(name, _)| text == *name).map(|&(_, value)| value)
}

// ----- writing

fn flag(given: bool) -> Vec<String> {
    given.then(String::new).into_iter().collect()
}

fn name<T: PartialEq>(choices: &[(&str, T)], value: &T) -> String {
    choices.iter().filter(|(_, choice)| choice == value).map(|(name, _)| *name).collect()
}

fn unless_default<T: Default + PartialEq>(choices: &[(&str, T)], value: &T) -> Vec<String> {
    if *value == T::default() { Vec::new() } else { vec![name(choices, value)] }
}

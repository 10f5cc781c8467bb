//! The arguments and the options, one row each: the name, the help, and how a value is read into a [`Config`]
//! and written back.

use std::ffi::OsStr;
use std::fmt;
use std::time::Duration;

use super::system;
use crate::config::acl::Entry;
use crate::config::error::{Argument, ConfigError};
use crate::config::host::{Host, TargetHost};
use crate::config::setters::{BIND_TAKES, backup_taken, sessions_taken};
use crate::config::way::Source;
use crate::config::{Config, LogFormat, LogLevel, ProxyProtocol, Target, decimal};
use crate::resolve::Name;

/// The flag that lets targets be names. It is read first, because the arguments depend on it.
pub(super) const RESOLVE: &str = "--resolve";

/// One of the eight arguments.
pub(super) struct ArgumentRow {
    pub(super) argument: Argument,
    /// The name, without `<` and `>`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Reads a value into the configuration. None: the value is refused.
    pub(super) read: fn(&mut Config, &OsStr) -> Option<()>,
    write: fn(&Config) -> String,
}

/// The arguments, in their order.
pub(super) const ARGUMENTS: &[ArgumentRow] = &[
    ArgumentRow {
        argument: Argument::FwdPort,
        name: "fwd port",
        help: "TCP port to listen on, 1 to 65535",
        read: |config, text| port(text).map(|port| _ = config.set_port(port)),
        write: |config| config.fwd_port.to_string(),
    },
    ArgumentRow {
        argument: Argument::TrgHost,
        name: "trg host",
        help: "Target's IPv4 or IPv6 address; a name with --resolve",
        read: |config, text| {
            target_host(text, config.resolve).and_then(|host| taken(config.set_target_host(host)))
        },
        write: |config| config.target.host.to_string(),
    },
    ArgumentRow {
        argument: Argument::TrgPort,
        name: "trg port",
        help: "Target's TCP port, 1 to 65535",
        read: |config, text| port(text).and_then(|port| taken(config.set_target_port(port))),
        write: |config| config.target.port.to_string(),
    },
    ArgumentRow {
        argument: Argument::Acl,
        name: "ACL",
        help: "Who may connect: ANY, or ip/mask, mask 24 or 255.255.255.0",
        read: |config, text| entry(text).map(|entry| _ = config.set_acl(entry)),
        write: |config| config.acl.admit[0].to_string(),
    },
    ArgumentRow {
        argument: Argument::ConnectTimeout,
        name: "c t/o",
        help: "Connect timeout, 1 to 3 s: after that the target is given up",
        read: |config, text| seconds(text).and_then(|time| taken(config.set_connect_timeout(time))),
        write: |config| config.connect_timeout.as_secs().to_string(),
    },
    ArgumentRow {
        argument: Argument::IdleTimeout,
        name: "i t/o",
        help: "Idle timeout, 1 to 1800 s: with no byte moved a session ends",
        read: |config, text| seconds(text).and_then(|time| taken(config.set_idle_timeout(time))),
        write: |config| config.idle_timeout.as_secs().to_string(),
    },
    ArgumentRow {
        argument: Argument::AbsoluteTimeout,
        name: "a t/o",
        help: "Absolute timeout in s: after that the relay ends; 0: never",
        read: |config, text| seconds(text).and_then(|time| taken(config.set_absolute_timeout(time))),
        write: |config| config.absolute_timeout.as_secs().to_string(),
    },
    ArgumentRow {
        argument: Argument::Buf,
        name: "buf",
        help: "Transfer buffer of each direction of a session, 100 to 4000 bytes",
        read: |config, text| count(text).and_then(|bytes| taken(config.set_buf(bytes))),
        write: |config| config.buf.to_string(),
    },
];

/// An option that is part of the configuration.
pub(super) struct OptionRow {
    /// The option's name, with the hyphens.
    pub(super) name: &'static str,
    /// The name of the value; empty: the option is a flag.
    pub(super) value: &'static str,
    /// Whether the option may be given more than once.
    pub(super) repeats: bool,
    pub(super) help: &'static str,
    /// Reads a value into the configuration, an empty one for a flag.
    ///
    /// # Errors
    /// The values that the option takes.
    pub(super) read: fn(&mut Config, &OsStr) -> Result<(), String>,
    /// Returns the text of each value that was given, an empty one for a flag.
    pub(super) write: fn(&Config) -> Vec<String>,
}

/// The options, in the order in which their values are checked.
pub(super) const OPTIONS: &[OptionRow] = &[
    OptionRow {
        name: "--bind",
        value: "ADDR",
        repeats: false,
        help: "Listen here only; :: is both [0.0.0.0]",
        read: |config, text| or_takes(host(text).and_then(|host| taken(config.set_bind(host))), BIND_TAKES),
        write: |config| config.bind.iter().map(Host::to_string).collect(),
    },
    OptionRow {
        name: RESOLVE,
        value: "",
        repeats: false,
        help: "Let targets be names; HUP looks them up",
        read: |config, _| {
            config.set_resolve(true);
            Ok(())
        },
        write: |config| flag(config.resolve),
    },
    OptionRow {
        name: "--backup",
        value: "HOST[:PORT]",
        repeats: true,
        help: "Go here if the target fails; repeatable",
        read: |config, text| {
            target(text, config.target.port, config.resolve)
                .and_then(|target| taken(config.add_backup(target)))
                .ok_or_else(backup_taken)
        },
        write: |config| config.backups.iter().map(Target::to_string).collect(),
    },
    OptionRow {
        name: "--source",
        value: "ADDR|requester",
        repeats: false,
        help: "Connect to the target from this address",
        read: |config, text| {
            let source = text.to_str().and_then(|text| text.parse::<Source>().ok());
            source
                .and_then(|source| taken(config.set_source(Some(source))))
                .ok_or_else(|| config.source_taken())
        },
        write: |config| config.source.iter().map(Source::to_string).collect(),
    },
    system::SOURCE_INTERFACE,
    system::BIND_INTERFACE,
    system::MARK,
    system::DSCP,
    system::USER,
    system::CHROOT,
    OptionRow {
        name: "--reuse-port",
        value: "",
        repeats: false,
        help: "Share the port with others that do so",
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
        read: |config, text| or_takes(entry(text).map(|entry| _ = config.allow(entry)), NET_TAKES),
        // The first entry is the argument <ACL>.
        write: |config| config.acl.admit[1..].iter().map(Entry::to_string).collect(),
    },
    OptionRow {
        name: "--deny",
        value: "NET",
        repeats: true,
        help: "Never admit this network; repeatable",
        read: |config, text| or_takes(entry(text).map(|entry| _ = config.deny(entry)), NET_TAKES),
        write: |config| config.acl.deny.iter().map(Entry::to_string).collect(),
    },
    OptionRow {
        name: "--max-per-source",
        value: "N",
        repeats: false,
        help: "Most sessions from one address, IPv6 /64",
        read: |config, text| {
            count(text)
                .and_then(|most| taken(config.set_max_per_source(Some(most))))
                .ok_or_else(sessions_taken)
        },
        write: |config| config.max_per_source.iter().map(usize::to_string).collect(),
    },
    OptionRow {
        name: "--sessions",
        value: "N",
        repeats: false,
        help: "Size of the session pool, to 100000 [500]",
        read: |config, text| {
            count(text).and_then(|count| taken(config.set_sessions(count))).ok_or_else(sessions_taken)
        },
        write: |config| config.sessions.iter().map(usize::to_string).collect(),
    },
    OptionRow {
        name: "--proxy-protocol",
        value: "v1|v2",
        repeats: false,
        help: "Send the target a PROXY header first",
        read: |config, text| {
            or_takes(put(&mut config.proxy_protocol, choice(VERSIONS, text).map(Some)), "v1 or v2")
        },
        write: |config| config.proxy_protocol.iter().map(|version| name(VERSIONS, version)).collect(),
    },
    #[cfg(feature = "status")]
    OptionRow {
        name: "--status",
        value: "ADDR:PORT|PATH",
        repeats: false,
        help: "Serve a status page and metrics here",
        read: |config, text| {
            let place = text.to_str().and_then(|text| text.parse().ok());
            or_takes(put(&mut config.status, place.map(Some)), crate::config::status::STATUS_TAKES)
        },
        write: |config| config.status.iter().map(ToString::to_string).collect(),
    },
    OptionRow {
        name: "--log-format",
        value: FORMAT_NAMES,
        repeats: false,
        help: "How lines are written [text]",
        read: |config, text| or_takes(put(&mut config.log_style.format, choice(FORMATS, text)), FORMAT_TAKES),
        write: |config| unless_default(FORMATS, &config.log_style.format),
    },
    OptionRow {
        name: "--log-level",
        value: "all|ends|problems",
        repeats: false,
        help: "Which lines are written [all]",
        read: |config, text| {
            or_takes(put(&mut config.log_style.level, choice(LEVELS, text)), "all, ends or problems")
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
        help: "Copy bytes; never splice them",
        read: |config, _| {
            config.splice = false;
            Ok(())
        },
        write: |config| flag(!config.splice),
    },
];

const VERSIONS: &[(&str, ProxyProtocol)] = &[("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
const FORMATS: &[(&str, LogFormat)] = &[
    ("text", LogFormat::Text),
    #[cfg(feature = "json")]
    ("json", LogFormat::Json),
];
/// The names of the formats, as the help lists them and as a refusal does.
const FORMAT_NAMES: &str = if cfg!(feature = "json") { "text|json" } else { "text" };
const FORMAT_TAKES: &str = if cfg!(feature = "json") { "text or json" } else { "text" };
const LEVELS: &[(&str, LogLevel)] =
    &[("all", LogLevel::All), ("ends", LogLevel::Ends), ("problems", LogLevel::Problems)];

/// The networks that `--allow` and `--deny` take.
const NET_TAKES: &str = "ANY or a network such as 10.0.0.0/8";

/// Writes the command line that parses to the same configuration. Needs the feature `cli`.
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

/// Turns None, a refused value, into an error with the values that the option takes.
pub(super) fn or_takes(set: Option<()>, takes: &str) -> Result<(), String> {
    set.ok_or_else(|| takes.into())
}

/// Returns None if the setter refused its value.
pub(super) fn taken(set: Result<&mut Config, ConfigError>) -> Option<()> {
    set.ok().map(|_| ())
}

/// Reads decimal digits and nothing else.
pub(super) fn number(text: &OsStr) -> Option<u64> {
    decimal(text.to_str()?)
}

fn count(text: &OsStr) -> Option<usize> {
    number(text)?.try_into().ok()
}

fn seconds(text: &OsStr) -> Option<Duration> {
    number(text).map(Duration::from_secs)
}

/// Reads a port other than 0. With 0 the system would choose the port, and no requester could find the relay.
fn port(text: &OsStr) -> Option<u16> {
    number(text)?.try_into().ok().filter(|&port| port != 0)
}

fn entry(text: &OsStr) -> Option<Entry> {
    text.to_str()?.parse().ok()
}

fn host(text: &OsStr) -> Option<Host> {
    text.to_str()?.parse().ok()
}

/// Reads a host, and a port if there is one. An IPv6 address with a port must be in brackets.
#[cold]
fn target(text: &OsStr, port_of_first: u16, resolves: bool) -> Option<Target> {
    let text = text.to_str()?;
    let (host_text, port_text) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']').filter(|(host, _)| host.contains(':'))?,
        // With more than one colon, it is an IPv6 address without a port.
        None => text.split_at(text.find(':').filter(|&at| text.rfind(':') == Some(at)).unwrap_or(text.len())),
    };
    let port = match port_text {
        "" => port_of_first,
        _ => port(OsStr::new(port_text.strip_prefix(':')?))?,
    };
    Some(Target { host: target_host(OsStr::new(host_text), resolves)?, port })
}

/// Reads an address, or a name if names are allowed.
fn target_host(text: &OsStr, resolves: bool) -> Option<TargetHost> {
    if let Some(host) = host(text) {
        return Some(TargetHost::Address(host));
    }
    let name = Name::parse(text.to_str()?).ok()?;
    resolves.then_some(TargetHost::Name(name))
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

//! The command line: what was typed becomes a [`Config`], or the one thing to print instead.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::acl::{Acl, Entry};
use crate::config::error::{Argument, ConfigError, Given, shown};
use crate::config::host::Host;
use crate::config::{Config, LogFormat, LogLevel, LogStyle, ProxyProtocol};
use crate::limits::{ABSOLUTE_SECONDS, BUF, BUF_MAX, CONNECT_SECONDS, IDLE_SECONDS, SESSIONS, SESSIONS_MAX};

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Relay.
    Run(Config),
    /// `--check`: say what would be done.
    Check(Config),
    /// Help or version, to be printed as it is.
    Print(String),
}

/// Why a command line was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A value is wrong. The log style is the one that the command line asks for, as far as it is valid.
    Value(ConfigError, LogStyle),
    /// Too few or too many arguments, or an unknown option: what is wrong, and the usage.
    Usage(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(error, _) => error.fmt(f),
            Self::Usage(text) => f.write_str(text),
        }
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Value(error, _) => Some(error),
            Self::Usage(_) => None,
        }
    }
}

/// Parses the arguments that follow the program's name.
///
/// # Errors
/// The first wrong value in the order of the arguments, then of the options; before that, a wrong
/// number of arguments or an unknown option.
pub fn parse<I>(arguments: I) -> Result<Request, Refusal>
where
    I: IntoIterator<Item = OsString>,
{
    let mut arguments = arguments.into_iter().peekable();
    if arguments.peek().is_none() {
        return Ok(Request::Print(command().render_help().to_string()));
    }
    match command().no_binary_name(true).try_get_matches_from(arguments) {
        Ok(matches) => {
            let config = config(&matches).map_err(|error| Refusal::Value(error, wanted_style(&matches)))?;
            let check = matches.get_flag("check");
            Ok(if check { Request::Check(config) } else { Request::Run(config) })
        }
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(Request::Print(error.render().to_string()))
            }
            _ => Err(Refusal::Usage(what_is_wrong(&error))),
        },
    }
}

/// What is wrong, and the usage, without hints that lead astray here.
fn what_is_wrong(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let what = text.split("\n\n").next().unwrap_or_default();
    format!("{what}\n\n{}\n", command().render_usage())
}

/// The command line's definition: the help, the man page and the completions come from it.
#[must_use]
pub fn command() -> Command {
    let argument = |name: &'static str, help: &'static str| {
        // Any text is taken here, whatever it looks like: the message that refuses it is ours.
        Arg::new(name)
            .value_name(name)
            .required(true)
            .value_parser(value_parser!(OsString))
            .allow_negative_numbers(true)
            .help(help)
    };
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .value_parser(value_parser!(OsString))
            .allow_hyphen_values(true)
            .help(help)
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("tcprelay")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Relays TCP connections: one port in, one target out.")
        .override_usage(USAGE)
        .after_help(AFTER_HELP)
        .args([
            argument("fwd port", "TCP port to listen on, 1 to 65535"),
            argument("trg host", "Target's IPv4 or IPv6 address; no names"),
            argument("trg port", "Target's TCP port, 1 to 65535"),
            argument("ACL", "Who may connect: ANY, or ip/mask with a mask like 24 or 255.255.255.0"),
            argument("c t/o", "Connect timeout, 1 to 3 s: after that the target is given up"),
            argument("i t/o", "Idle timeout, 1 to 1800 s: with no byte moved a session ends"),
            argument("a t/o", "Absolute timeout in s: after that the relay ends; 0: never"),
            argument("buf", "Transfer buffer of each direction of a session, 100 to 4000 bytes"),
        ])
        .args([
            option("bind", "ADDR", "Listen here only; :: is IPv6 and IPv4 [0.0.0.0]"),
            option("source", "ADDR", "Connect to the target from this address"),
            flag("reuse-port", "Share the port with others that do the same"),
            option("allow", "NET", "Admit this network as well; repeatable").action(ArgAction::Append),
            option("deny", "NET", "Never admit this network; repeatable").action(ArgAction::Append),
            option("max-per-source", "N", "Most sessions from one address (IPv6: one /64)"),
            option("sessions", "N", "Size of the session pool, 1 to 100000 [500]"),
            option("proxy-protocol", "v1|v2", "Send the target a PROXY header first"),
            option("log-format", "text|json", "How lines are written [text]"),
            option("log-level", "all|ends|problems", "Which lines are written [all]"),
            flag("timestamps", "Put the time (UTC) on every line"),
            flag("no-splice", "Copy bytes; never move them inside the kernel"),
            flag("check", "Say what would be done, and exit"),
        ])
}

const USAGE: &str = "tcprelay [OPTIONS] <fwd port> <trg host> <trg port> <ACL> <c t/o> <i t/o> <a t/o> <buf>";

const AFTER_HELP: &str = "\
Example: host C cannot reach host B, this host can. Let C in for 10 minutes:
  tcprelay 8080 B 80 C/255.255.255.255 1 30 600 4000
with the addresses of B and C in their places. The log goes to STDOUT.

Signals: TERM, INT and HUP stop, QUIT drains: stops after the last session,
USR1 logs the status.
Exit status: 0 help, version, stopped, absolute timeout; 1 cannot start;
2 bad argument.";

/// The addresses that `--bind` takes.
const BIND: &str = "an IPv4 or IPv6 address to listen on, a link-local one as in fe80::1%eth0";

/// Checks the values in the order of the arguments, the options last.
fn config(matches: &ArgMatches) -> Result<Config, ConfigError> {
    use Argument as A;
    let fwd_port = required(matches, A::FwdPort, "fwd port", "8080", port)?;
    let trg_host = required(matches, A::TrgHost, "trg host", "192.0.2.7", target_host)?;
    let trg_port = required(matches, A::TrgPort, "trg port", "80", port)?;
    let acl = required(matches, A::Acl, "ACL", "192.168.100.0/24", entry)?;
    let connect_timeout =
        required(matches, A::ConnectTimeout, "c t/o", "1", |text| seconds(text, CONNECT_SECONDS))?;
    let idle_timeout = required(matches, A::IdleTimeout, "i t/o", "30", |text| seconds(text, IDLE_SECONDS))?;
    let absolute_timeout =
        required(matches, A::AbsoluteTimeout, "a t/o", "600", |text| seconds(text, ABSOLUTE_SECONDS))?;
    let buf = required(matches, A::Buf, "buf", "4000", |text| number(text, BUF))?;

    let bind = optional(matches, "bind", "--bind", BIND, listening_host)?;
    let is_ipv4 = trg_host.ip().is_ipv4();
    let family = if is_ipv4 { "IPv4" } else { "IPv6" };
    let own = format!("one {family} address of this host, as <trg host> is {family}");
    let source = optional(matches, "source", "--source", &own, |text| {
        target_host(text).filter(|host| host.ip().is_ipv4() == is_ipv4)
    })?;
    let net = "ANY or a network such as 10.0.0.0/8";
    let mut admit = vec![acl];
    admit.extend(repeated(matches, "allow", "--allow", net)?);
    let deny = repeated(matches, "deny", "--deny", net)?;
    let most = SESSIONS_MAX as u64;
    let counted = format!("a number from 1 to {most}");
    let count = |text: &OsStr| number(text, 1..=most).and_then(|count| count.try_into().ok());
    let max_per_source = optional(matches, "max-per-source", "--max-per-source", &counted, count)?;
    let sessions = optional(matches, "sessions", "--sessions", &counted, count)?;
    let proxy_protocol =
        optional(matches, "proxy-protocol", "--proxy-protocol", "v1 or v2", |text| match text.to_str()? {
            "v1" => Some(ProxyProtocol::V1),
            "v2" => Some(ProxyProtocol::V2),
            _ => None,
        })?;
    let log_style = log_style(matches)?;

    Ok(Config {
        fwd_port,
        bind,
        target: trg_host.at(trg_port),
        acl: Acl { admit, deny },
        connect_timeout,
        idle_timeout,
        absolute_timeout,
        // The range of <buf> fits every usize.
        buf: usize::try_from(buf).unwrap_or(BUF_MAX),
        source,
        reuse_port: matches.get_flag("reuse-port"),
        sessions,
        max_per_source,
        proxy_protocol,
        log_style,
        splice: !matches.get_flag("no-splice"),
    })
}

fn log_style(matches: &ArgMatches) -> Result<LogStyle, ConfigError> {
    let format = optional(matches, "log-format", "--log-format", "text or json", log_format)?;
    let level = optional(matches, "log-level", "--log-level", "all, ends or problems", log_level)?;
    Ok(LogStyle {
        format: format.unwrap_or_default(),
        timestamps: matches.get_flag("timestamps"),
        level: level.unwrap_or_default(),
    })
}

/// The log style of a command line that is refused. Another value of it may be the wrong one.
fn wanted_style(matches: &ArgMatches) -> LogStyle {
    log_style(matches).unwrap_or_default()
}

fn log_format(text: &OsStr) -> Option<LogFormat> {
    match text.to_str()? {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn log_level(text: &OsStr) -> Option<LogLevel> {
    match text.to_str()? {
        "all" => Some(LogLevel::All),
        "ends" => Some(LogLevel::Ends),
        "problems" => Some(LogLevel::Problems),
        _ => None,
    }
}

/// The value of an argument. The example is one that it could have.
fn required<T>(
    matches: &ArgMatches,
    argument: Argument,
    name: &str,
    example: &'static str,
    parse: impl Fn(&OsStr) -> Option<T>,
) -> Result<T, ConfigError> {
    // The parser has made sure that the argument is there.
    let text = matches.get_one::<OsString>(name).map_or(OsStr::new(""), OsString::as_os_str);
    parse(text).ok_or_else(|| ConfigError::Argument { argument, given: Given { text: shown(text), example } })
}

/// The value of an option, if it was given.
fn optional<T>(
    matches: &ArgMatches,
    name: &str,
    option: &'static str,
    allowed: &str,
    parse: impl Fn(&OsStr) -> Option<T>,
) -> Result<Option<T>, ConfigError> {
    let given = matches.get_one::<OsString>(name);
    given.map(|text| parse(text).ok_or_else(|| invalid(option, text, allowed))).transpose()
}

/// The entries of an option that may be given more than once.
fn repeated(
    matches: &ArgMatches,
    name: &str,
    option: &'static str,
    allowed: &str,
) -> Result<Vec<Entry>, ConfigError> {
    let given = matches.get_many::<OsString>(name).unwrap_or_default();
    given.map(|text| entry(text).ok_or_else(|| invalid(option, text, allowed))).collect()
}

fn invalid(option: &'static str, given: &OsStr, allowed: &str) -> ConfigError {
    ConfigError::Option { option, given: shown(given), allowed: allowed.to_owned() }
}

/// Decimal digits and nothing else, in `range`.
fn number(text: &OsStr, range: RangeInclusive<u64>) -> Option<u64> {
    let text = text.to_str()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && range.contains(number))
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

/// Parses an address that connections can arrive at.
fn listening_host(text: &OsStr) -> Option<Host> {
    host(text).filter(|host| host.can_be_listened_on())
}

/// Parses an address that one end of a connection can have.
fn target_host(text: &OsStr) -> Option<Host> {
    host(text).filter(|host| host.can_be_connected_to())
}

const _: () = assert!(SESSIONS <= SESSIONS_MAX);

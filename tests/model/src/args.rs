//! Command lines against an oracle that follows the table of the arguments.
//!
//! An input is the arguments, one a line. They need not be UTF-8.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;

use tcprelay::Message;
use tcprelay::cli::{Refusal, Request, parse};

use super::acl::Meaning;

/// The outcome that a command line must have.
enum Expected {
    /// It is accepted, and the configuration prints as this text.
    Accepted(String),
    /// It is refused with one line, which begins with this text.
    Refused(String),
}

/// Checks one input.
///
/// # Panics
/// The parser and the oracle disagree, or an accepted configuration does not parse back from its text.
pub fn check(input: &[u8]) {
    let lines = input.split(|&byte| byte == b'\n');
    let arguments: Vec<_> = lines.map(|bytes| OsStr::from_bytes(bytes).to_owned()).collect();
    let arguments = if input.is_empty() { Vec::new() } else { arguments };
    let parsed = parse(arguments.clone());
    match &parsed {
        Ok(Request::Run(config) | Request::Check(config)) => {
            let printed = config.to_string();
            let again = parse(printed.split(' ').map(OsString::from));
            assert_eq!(again, Ok(Request::Run(config.clone())), "{arguments:?} prints {printed:?}");
        }
        Ok(Request::Print(text)) => assert!(!text.is_empty(), "{arguments:?} prints nothing"),
        Err(Refusal::Value(error, _)) => {
            let message = Message::from(error.clone());
            for text in [Some(message.to_string()), message.reason().map(|reason| reason.to_string())] {
                assert!(text.is_none_or(|text| !text.contains(char::is_control)), "{arguments:?}: {error:?}");
            }
            assert!(error.to_string().starts_with("Error: "), "{arguments:?}: {error}");
        }
        Err(Refusal::Usage(text)) => {
            assert!(text.starts_with("Error: "), "{arguments:?}: {text:?}");
            assert!(text.contains("Usage: tcprelay [OPTIONS] <fwd port>"), "{arguments:?}: {text:?}");
            let steers = |letter: char| letter.is_control() && letter != '\n';
            assert!(!text.contains(steers), "{arguments:?}: {text:?}");
        }
    }
    match expect(&arguments) {
        Some(Expected::Accepted(text)) => {
            let Ok(Request::Run(config)) = parsed else { panic!("{arguments:?}: {parsed:?}, not {text:?}") };
            assert_eq!(config.to_string(), text, "{arguments:?}");
        }
        Some(Expected::Refused(start)) => {
            let Err(Refusal::Value(error, _)) = parsed else {
                panic!("{arguments:?}: {parsed:?}, not {start:?}")
            };
            assert!(error.to_string().starts_with(&start), "{arguments:?}: {error}, not {start:?}");
        }
        None => {}
    }
}

/// Returns the expected outcome of options, of which only the repeatable ones come twice, and then eight
/// arguments. For any other command line the oracle has no opinion.
fn expect(arguments: &[OsString]) -> Option<Expected> {
    let (options, arguments) = arguments.split_at_checked(arguments.len().checked_sub(8)?)?;
    // A negative number is an argument like others. Any other word with a hyphen in front is an option.
    let is_number = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    if arguments.iter().any(|text| text.as_bytes().strip_prefix(b"-").is_some_and(|rest| !is_number(rest))) {
        return None;
    }
    // Zones of link-local addresses depend on this machine's interfaces.
    if options.iter().chain(arguments).any(|text| text.as_bytes().contains(&b'%')) {
        return None;
    }
    let options = Options::read(options)?;
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_str()).collect();
    let text = match positional(&words, options.resolve) {
        Ok(text) => text,
        Err(line) => return Some(Expected::Refused(line.into())),
    };
    let port = number(words[2], 1..=65535)?.try_into().ok()?;
    Some(match options.text(words[1]?, port) {
        Ok(options) => Expected::Accepted(options + &text),
        Err((option, given)) => Expected::Refused(format!("Error: {option} cannot be {given:?}. It takes ")),
    })
}

/// Returns the text of eight arguments, or the message that refuses the first wrong one.
fn positional(words: &[Option<&str>], resolve: bool) -> Result<String, &'static str> {
    let check = |index: usize, range, message| number(words[index], range).ok_or(message);
    let fwd_port = check(0, 1..=65535, "Error: <fwd port> must be between 1 and 65535 inclusive.")?;
    let name = words[1].filter(|word| resolve && is_name(word)).map(str::to_owned);
    let trg_host = host(words[1]).map(|address| address.to_string()).or(name);
    let trg_host = trg_host.ok_or("Error: Invalid IP address specified for <trg host>.")?;
    let trg_port = check(2, 1..=65535, "Error: <trg port> must be between 1 and 65535 inclusive.")?;
    let acl = words[3].and_then(Meaning::read);
    let acl = acl.ok_or("Error: <ACL> needs to be keyword ANY, or dotted decimal IP/mask notation.")?.text();
    let connect = check(4, 1..=3, "Error: <c t/o> must be between 1 and 3 inclusive.")?;
    let idle = check(5, 1..=1800, "Error: <i t/o> must be between 1 and 1800 inclusive.")?;
    let absolute = check(6, 0..=4_294_967_295, "Error: <a t/o> must be between 0 and 4294967295 inclusive.")?;
    let buf = check(7, 100..=4000, "Error: <buf> must be between 100 and 4000 inclusive.")?;
    Ok(format!("{fwd_port} {trg_host} {trg_port} {acl} {connect} {idle} {absolute} {buf}"))
}

/// Reads decimal digits as a number in `range`, with any number of leading zeros.
fn number(word: Option<&str>, range: RangeInclusive<u64>) -> Option<u64> {
    let word = word.filter(|word| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_digit()))?;
    let significant = word.trim_start_matches('0');
    if significant.len() > 10 {
        return None;
    }
    let number =
        significant.chars().fold(0, |number, digit| number * 10 + (u64::from(digit) - u64::from('0')));
    range.contains(&number).then_some(number)
}

/// Reads an address that a socket can listen on. A link-local one would need a zone.
fn address(word: Option<&str>) -> Option<IpAddr> {
    let address = word?.parse::<IpAddr>().ok()?.to_canonical();
    Some(address).filter(|address| match address {
        IpAddr::V4(four) => !(224..=239).contains(&four.octets()[0]) && !four.is_broadcast(),
        IpAddr::V6(six) => six.octets()[0] != 0xff && six.segments()[0] & 0xffc0 != 0xfe80,
    })
}

/// Reads an address that a socket can connect to.
fn host(word: Option<&str>) -> Option<IpAddr> {
    address(word).filter(|address| match address {
        IpAddr::V4(four) => u32::from(*four) != 0,
        IpAddr::V6(six) => u128::from(*six) != 0,
    })
}

/// Reads a host, with or without a port, and returns it as `--backup` prints it.
fn target(word: &str, port_of_first: u16, resolve: bool) -> Option<String> {
    let (host_word, port_word) = match word.rsplit_once(':') {
        Some((six, port)) if six.starts_with('[') && six.ends_with(']') => (six, Some(port)),
        Some((four, port)) if !four.contains(':') => (four, Some(port)),
        _ => (word, None),
    };
    let inside = host_word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
    if inside.is_some_and(|word| !word.contains(':')) {
        return None;
    }
    let port = match port_word {
        Some(word) => number(Some(word), 1..=65535)?.try_into().ok()?,
        None => port_of_first,
    };
    match host(Some(inside.unwrap_or(host_word))) {
        Some(address) => Some(SocketAddr::from((address, port)).to_string()),
        None => Some(format!("{host_word}:{port}")).filter(|_| resolve && is_name(host_word)),
    }
}

/// Reads `requester`, or an address of the target's family; `ipv4` at `None`: of any family.
fn source(word: Option<&str>, ipv4: Option<bool>) -> Option<String> {
    if word == Some("requester") {
        return word.map(str::to_owned);
    }
    let suits = |address: &IpAddr| ipv4.is_none_or(|ipv4| address.is_ipv4() == ipv4);
    host(word).filter(suits).map(|address| address.to_string())
}

/// Returns whether `word` is labels of letters, digits, hyphens and underscores, the last of them no number.
fn is_name(word: &str) -> bool {
    let name = word.strip_suffix('.').unwrap_or(word);
    let is_label = |label: &str| {
        let known = label.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter));
        known && !label.is_empty() && label.len() < 64 && !label.starts_with('-')
    };
    let is_number = |label: &str| label.chars().all(|letter| letter.is_ascii_digit());
    let has_number = name.rsplit('.').next().is_some_and(is_number);
    name.len() < 254 && name.split('.').all(is_label) && !has_number
}

/// Reads the address or the path at which the status is served.
fn place(word: Option<&str>) -> Option<String> {
    let word = word?;
    if word.contains('/') {
        let is_word = !word.chars().any(|letter| letter.is_whitespace() || letter.is_control());
        return Some(word.to_owned()).filter(|path| is_word && path.len() <= 103);
    }
    let (host, port) = match word.rfind(':') {
        Some(colon) => (&word[..colon], &word[colon + 1..]),
        None => ("127.0.0.1", word),
    };
    let port = u16::try_from(number(Some(port), 1..=65535)?).ok()?;
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip = address(Some(inside.unwrap_or(host)))?;
    let is_six = inside.unwrap_or(host).contains(':');
    (is_six == inside.is_some()).then(|| SocketAddr::new(ip, port).to_string())
}

/// The values of the options, as given.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "the command line has as many flags")]
struct Options<'a> {
    bind: Option<&'a OsStr>,
    resolve: bool,
    backup: Vec<&'a OsStr>,
    source: Option<&'a OsStr>,
    mark: Option<&'a OsStr>,
    dscp: Option<&'a OsStr>,
    reuse_port: bool,
    allow: Vec<&'a OsStr>,
    deny: Vec<&'a OsStr>,
    max_per_source: Option<&'a OsStr>,
    sessions: Option<&'a OsStr>,
    proxy_protocol: Option<&'a OsStr>,
    status: Option<&'a OsStr>,
    log_format: Option<&'a OsStr>,
    log_level: Option<&'a OsStr>,
    timestamps: bool,
    no_splice: bool,
}

impl<'a> Options<'a> {
    /// Reads flags and options of the form `--option value`; `None` if there is anything else.
    fn read(arguments: &'a [OsString]) -> Option<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            let flag = match option.to_str()? {
                "--resolve" => Some(&mut options.resolve),
                "--reuse-port" => Some(&mut options.reuse_port),
                "--timestamps" => Some(&mut options.timestamps),
                "--no-splice" => Some(&mut options.no_splice),
                _ => None,
            };
            if let Some(flag) = flag {
                if std::mem::replace(flag, true) {
                    return None;
                }
                continue;
            }
            let slot = match option.to_str()? {
                "--bind" => &mut options.bind,
                "--source" => &mut options.source,
                "--mark" => &mut options.mark,
                "--dscp" => &mut options.dscp,
                "--max-per-source" => &mut options.max_per_source,
                "--sessions" => &mut options.sessions,
                "--proxy-protocol" => &mut options.proxy_protocol,
                "--status" => &mut options.status,
                "--log-format" => &mut options.log_format,
                "--log-level" => &mut options.log_level,
                "--backup" => {
                    options.backup.push(arguments.next()?);
                    continue;
                }
                "--allow" => {
                    options.allow.push(arguments.next()?);
                    continue;
                }
                "--deny" => {
                    options.deny.push(arguments.next()?);
                    continue;
                }
                _ => return None,
            };
            if slot.replace(arguments.next()?).is_some() {
                return None;
            }
        }
        Some(options)
    }

    /// Returns the text of the options that differ from the defaults, or the first wrong one. `--bind` is
    /// kept even with the default address, because an inherited socket must then have that address.
    fn text(&self, first_host: &str, first_port: u16) -> Result<String, (&'static str, String)> {
        let ipv4 = host(Some(first_host)).map(|address| address.is_ipv4());
        let bind = given("--bind", self.bind, address)?;
        let targets = RefCell::new(Vec::from_iter(target(first_host, first_port, self.resolve)));
        let backup = all("--backup", &self.backup, |word| {
            let target = target(word?, first_port, self.resolve)?;
            let mut targets = targets.borrow_mut();
            let is_accepted = !targets.contains(&target) && targets.len() < 8;
            is_accepted.then(|| targets.push(target.clone()))?;
            Some(target)
        })?;
        let source = given("--source", self.source, |word| source(word, ipv4))?;
        let mark = given("--mark", self.mark, |word| number(word, 1..=4_294_967_295))?;
        let dscp = given("--dscp", self.dscp, |word| number(word, 0..=63))?;
        let net = |word: Option<&str>| Some(Meaning::read(word?)?.text());
        let allow = all("--allow", &self.allow, net)?;
        let deny = all("--deny", &self.deny, net)?;
        let count = |word: Option<&str>| number(word, 1..=100_000);
        let max_per_source = given("--max-per-source", self.max_per_source, count)?;
        let sessions = given("--sessions", self.sessions, count)?;
        let version = |word: Option<&str>| word.filter(|word| ["v1", "v2"].contains(word)).map(str::to_owned);
        let proxy_protocol = given("--proxy-protocol", self.proxy_protocol, version)?;
        let status = given("--status", self.status, place)?;
        let format =
            |word: Option<&str>| word.filter(|word| ["text", "json"].contains(word)).map(str::to_owned);
        let mut log_format = given("--log-format", self.log_format, format)?;
        let level = |word: Option<&str>| {
            word.filter(|word| ["all", "ends", "problems"].contains(word)).map(str::to_owned)
        };
        let mut log_level = given("--log-level", self.log_level, level)?;

        log_format = log_format.filter(|format| format != "--log-format text ");
        log_level = log_level.filter(|level| level != "--log-level all ");
        let flag = |name: &str, on| if on { format!("{name} ") } else { String::new() };
        let parts = [
            bind.unwrap_or_default(),
            flag("--resolve", self.resolve),
            backup,
            source.unwrap_or_default(),
            mark.unwrap_or_default(),
            dscp.unwrap_or_default(),
            flag("--reuse-port", self.reuse_port),
            allow,
            deny,
            max_per_source.unwrap_or_default(),
            sessions.unwrap_or_default(),
            proxy_protocol.unwrap_or_default(),
            status.unwrap_or_default(),
            log_format.unwrap_or_default(),
            log_level.unwrap_or_default(),
            flag("--timestamps", self.timestamps),
            flag("--no-splice", self.no_splice),
        ];
        Ok(parts.concat())
    }
}

/// Returns the text of an option with its value; `None` if the option was not given.
fn given<T: ToString>(
    option: &'static str,
    value: Option<&OsStr>,
    read: impl Fn(Option<&str>) -> Option<T>,
) -> Result<Option<String>, (&'static str, String)> {
    let Some(value) = value else { return Ok(None) };
    match read(value.to_str()) {
        Some(read) => Ok(Some(format!("{option} {} ", read.to_string()))),
        None => Err((option, shown(&value.to_string_lossy()))),
    }
}

/// Shortens a value as a refusal shows it.
fn shown(value: &str) -> String {
    let short: String = value.chars().take(64).collect();
    if short == value { short } else { short + "..." }
}

fn all(
    option: &'static str,
    values: &[&OsStr],
    read: impl Fn(Option<&str>) -> Option<String>,
) -> Result<String, (&'static str, String)> {
    values.iter().map(|value| Ok(given(option, Some(*value), &read)?.unwrap_or_default())).collect()
}

//! The command line: parses arguments into a [`Config`], or into text to print instead. Needs the feature `cli`.

mod help;
mod options;
mod system;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::cli::options::{ARGUMENTS, ArgumentRow, OPTIONS, OptionRow, RESOLVE};
use crate::config::error::{ConfigError, Given, shown};
use crate::config::{Config, LogStyle};

/// The request of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run the relay.
    Run(Config),
    /// `--check`: say what a run would do.
    Check(Config),
    /// Print this text as it is: the help or the version.
    Print(String),
}

/// Why a command line was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A value is wrong. The log style is that of the command line, as far as its options are valid.
    Value(ConfigError, LogStyle),
    /// Too few or too many arguments, or an unknown option: the error and the usage, as text.
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

/// Parses the arguments that follow the program's name. Needs the feature `cli`.
///
/// # Errors
/// A wrong number of arguments or an unknown option comes first. Then comes the first wrong value, in the order
/// of the arguments and then of the options. If there are too few arguments, a wrong value of an option precedes
/// that error, because the option may have swallowed an argument.
pub fn parse<I>(arguments: I) -> Result<Request, Refusal>
where
    I: IntoIterator<Item = OsString>,
{
    let arguments: Vec<_> = arguments.into_iter().collect();
    if arguments.is_empty() {
        return Ok(Request::Print(help::help()));
    }
    let error = match matches(&arguments, true) {
        Ok(matches) => return request(&matches),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp => Ok(Request::Print(help::help())),
        ErrorKind::DisplayVersion => Ok(Request::Print(error.render().to_string())),
        ErrorKind::MissingRequiredArgument => {
            if let Ok(matches) = matches(&arguments, false) {
                let options = read_options(&mut Config::without_addresses(), &matches);
                options.map_err(|error| Refusal::Value(error, wanted_style(&matches)))?;
            }
            Err(usage(&arguments))
        }
        _ => Err(usage(&arguments)),
    }
}

fn matches(arguments: &[OsString], complete: bool) -> Result<ArgMatches, clap::Error> {
    let parser = parser().no_binary_name(true);
    let parser = if complete { parser } else { parser.mut_args(|arg| arg.required(false)) };
    parser.try_get_matches_from(arguments)
}

fn request(matches: &ArgMatches) -> Result<Request, Refusal> {
    let mut config = Config::without_addresses();
    config.set_resolve(matches.get_flag(RESOLVE));
    let read = read_arguments(&mut config, matches).and_then(|()| read_options(&mut config, matches));
    read.map_err(|error| Refusal::Value(error, wanted_style(matches)))?;
    Ok(if matches.get_flag(CHECK) { Request::Check(config) } else { Request::Run(config) })
}

fn read_arguments(config: &mut Config, matches: &ArgMatches) -> Result<(), ConfigError> {
    for &ArgumentRow { argument, name, read, .. } in ARGUMENTS {
        // The parser has checked that the argument is present.
        let value = matches.get_one::<OsString>(name).map_or(OsStr::new(""), OsString::as_os_str);
        let refused = || ConfigError::Argument { argument, given: Given::of(argument, value) };
        read(config, value).ok_or_else(refused)?;
    }
    Ok(())
}

fn read_options(config: &mut Config, matches: &ArgMatches) -> Result<(), ConfigError> {
    OPTIONS.iter().try_for_each(|option| read_option(option, config, matches))
}

fn read_option(row: &OptionRow, config: &mut Config, matches: &ArgMatches) -> Result<(), ConfigError> {
    let &OptionRow { name: option, value, read, .. } = row;
    let invalid = |value: &OsStr, allowed| ConfigError::Option { option, given: shown(value), allowed };
    if value.is_empty() {
        let (is_given, value) = (matches.get_flag(option), OsStr::new(""));
        return if is_given {
            read(config, value).map_err(|allowed| invalid(value, allowed))
        } else {
            Ok(())
        };
    }
    for value in matches.get_many::<OsString>(option).unwrap_or_default() {
        read(config, value).map_err(|allowed| invalid(value, allowed))?;
    }
    Ok(())
}

/// Returns the log style that a refused command line asks for, from those of its options that are valid.
fn wanted_style(matches: &ArgMatches) -> LogStyle {
    let mut config = Config::without_addresses();
    for option in OPTIONS {
        // The first error has been reported already.
        let _ = read_option(option, &mut config, matches);
    }
    config.log_style()
}

/// Returns the parser's error and the usage, without the parser's hints, which mislead here.
fn usage(arguments: &[OsString]) -> Refusal {
    // The parser copies arguments into its text as they are. Parsing them again when they are escaped gives the
    // same error, with text that is safe to print.
    let printable: Vec<_> = arguments.iter().map(|argument| OsString::from(printable(argument))).collect();
    let text = matches(&printable, true).err().map(|error| error.render().to_string()).unwrap_or_default();
    let what = text.split("\n\n").next().unwrap_or_default().trim_end();
    let what = what.strip_prefix("error: ").unwrap_or("these arguments make no command line");
    Refusal::Usage(format!("Error: {what}\n\nUsage: {USAGE}\n"))
}

/// Escapes invisible characters, and those that control a terminal.
fn printable(argument: &OsStr) -> String {
    let mut text = String::new();
    for character in shown(argument).chars() {
        match character {
            '\'' | '"' | '\\' => text.push(character),
            _ => text.extend(character.escape_debug()),
        }
    }
    text
}

/// Returns the definition of the command line, from which the man page and the completions are made.
#[doc(hidden)] // It exposes a type of clap, and only this package's own files need it.
#[must_use]
pub fn command() -> Command {
    let helps = ARGUMENTS.iter().map(|row| (row.name, row.help));
    let helps = helps.chain(OPTIONS.iter().map(|row| (row.name, row.help)));
    let helps = helps.chain([(CHECK, CHECK_HELP), (HELP, "Print help")]);
    let command = parser().about(ABOUT).after_help(AFTER_HELP);
    helps.fold(command, |command, (name, help)| command.mut_arg(name, |arg| arg.help(help)))
}

/// Returns the parser. It has no help texts, because it never prints the help.
fn parser() -> Command {
    Command::new("tcprelay")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage(USAGE)
        .args(ARGUMENTS.iter().map(argument))
        .args(OPTIONS.iter().map(option))
        .arg(flag(CHECK))
        .disable_help_flag(true)
        .arg(Arg::new(HELP).short('h').long(HELP).action(ArgAction::Help))
}

fn argument(row: &ArgumentRow) -> Arg {
    // The parser takes any text here, because a message of our own refuses it.
    Arg::new(row.name)
        .value_name(row.name)
        .required(true)
        .value_parser(value_parser!(OsString))
        .allow_negative_numbers(true)
}

fn option(row: &OptionRow) -> Arg {
    let action = match row {
        OptionRow { value: "", .. } => return flag(row.name),
        OptionRow { repeats: true, .. } => ArgAction::Append,
        OptionRow { repeats: false, .. } => ArgAction::Set,
    };
    Arg::new(row.name)
        .long(row.name.trim_start_matches('-'))
        .value_name(row.value)
        .value_parser(value_parser!(OsString))
        .allow_hyphen_values(true)
        .action(action)
}

fn flag(name: &'static str) -> Arg {
    Arg::new(name).long(name.trim_start_matches('-')).action(ArgAction::SetTrue)
}

/// The option that prints the help.
const HELP: &str = "help";

/// The option that is not part of the configuration.
const CHECK: &str = "--check";
const CHECK_HELP: &str = "Say what would be done, and exit";

const ABOUT: &str = "Relays TCP connections: one port in, one target out.";

const USAGE: &str = "tcprelay [OPTIONS] <fwd port> <trg host> <trg port> <ACL> <c t/o> <i t/o> <a t/o> <buf>";

const AFTER_HELP: &str = "\
Example: host C cannot reach host B, this host can. Let C in for 10 minutes:
  tcprelay 8080 B 80 C/255.255.255.255 1 30 600 4000
with the addresses of B and C in their places. The log goes to STDOUT.

Signals: TERM, INT and HUP stop, QUIT drains: stops after the last session,
USR1 logs the status.
Exit status: 0 help, version, stopped, timed out; 1 cannot start; 2 refused.";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(option: [&str; 2]) -> Result<Request, Refusal> {
        let arguments = ["8080", "192.0.2.7", "80", "ANY", "1", "30", "0", "4000"];
        parse(option.into_iter().chain(arguments).map(OsString::from))
    }

    #[test]
    fn a_command_line_has_the_options_of_its_build_and_a_refusal_names_no_others() {
        let unknown = matches!(parsed(["--status", "9100"]), Err(Refusal::Usage(_)));
        assert_eq!(unknown, cfg!(not(feature = "status")));
        let json = parsed(["--log-format", "json"]);
        assert_eq!(json.is_ok(), cfg!(feature = "json"));
        let takes = if cfg!(feature = "json") { "It takes text or json." } else { "It takes text." };
        let refusal = parsed(["--log-format", "xml"]).unwrap_err().to_string();
        assert!(refusal.ends_with(takes), "{refusal}");
        let help = help::help();
        assert_eq!(help.contains("--status"), cfg!(feature = "status"), "{help}");
        assert_eq!(help.contains("json"), cfg!(feature = "json"), "{help}");
    }
}

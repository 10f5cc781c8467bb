//! Values that a configuration cannot have.

use std::ffi::OsStr;

use crate::limits::GIVEN_CHARS;
use crate::resolve::Name;

/// A refused value. `Display` writes the catalogue's message, with the value that was given.
///
/// The text names a setting as the command line does: `set_idle_timeout` is `<i t/o>`, and `set_sessions` is
/// `--sessions`. The documentation of each setter has its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// One of the eight arguments: messages 2 to 8 and 111.
    Argument {
        /// The argument.
        argument: Argument,
        /// The value, and a valid one.
        given: Given,
    },
    /// An option: message 112.
    Option {
        /// The option's name, with the hyphens.
        option: &'static str,
        /// The value.
        given: String,
        /// The values that the option takes.
        allowed: String,
    },
}

/// The eight arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// `<fwd port>`
    FwdPort,
    /// `<trg host>`
    TrgHost,
    /// `<trg port>`
    TrgPort,
    /// `<ACL>`
    Acl,
    /// `<c t/o>`
    ConnectTimeout,
    /// `<i t/o>`
    IdleTimeout,
    /// `<a t/o>`
    AbsoluteTimeout,
    /// `<buf>`
    Buf,
}

impl Argument {
    /// Returns a valid value.
    fn example(self) -> &'static str {
        match self {
            Self::FwdPort => "8080",
            Self::TrgHost => "192.0.2.7",
            Self::TrgPort => "80",
            Self::Acl => "192.168.100.0/24",
            Self::ConnectTimeout => "1",
            Self::IdleTimeout => "30",
            Self::AbsoluteTimeout => "600",
            Self::Buf => "4000",
        }
    }
}

/// A refused value, and a valid one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The value, cut short if it is long.
    pub text: String,
    /// A valid value.
    pub example: &'static str,
    /// The cure, with a leading space; empty: none is known.
    pub cure: &'static str,
}

/// The cure for a host name, which is valid with this option.
const NEEDS_RESOLVE: &str = " A name needs --resolve.";
/// The cure for a time with a fraction of a second.
const NEEDS_WHOLE_SECONDS: &str = " Whole seconds are needed.";

impl Given {
    /// Returns the refused `value` of `argument`, with a valid value and the cure.
    pub(crate) fn of(argument: Argument, value: &OsStr) -> Self {
        let is_name = || value.to_str().is_some_and(|text| Name::parse(text).is_ok());
        let cure = if argument == Argument::TrgHost && is_name() { NEEDS_RESOLVE } else { "" };
        Self { text: shown(value), example: argument.example(), cure }
    }

    /// Returns the refusal of a time with a fraction of a second, written as `text`.
    pub(crate) fn of_part_seconds(argument: Argument, text: String) -> Self {
        Self { text, example: argument.example(), cure: NEEDS_WHOLE_SECONDS }
    }
}

/// Returns a value as refusals show it: as text, cut after [`GIVEN_CHARS`] characters so that it fits a line.
pub(crate) fn shown(value: &OsStr) -> String {
    let value = value.to_string_lossy();
    match value.char_indices().nth(GIVEN_CHARS) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.into_owned(),
    }
}

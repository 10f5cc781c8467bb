//! Values that a configuration cannot have.

use std::ffi::OsStr;

use crate::limits::GIVEN_CHARS;
use crate::resolve::Name;

/// A value that was refused. Its text is a message of the catalogue, and says what was given.
///
/// The text names a setting as the command line does: `set_idle_timeout` is `<i t/o>`, and `set_sessions` is
/// `--sessions`. The documentation of each setter has its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// One of the eight arguments: messages 2 to 8 and 111.
    Argument {
        /// Which one.
        argument: Argument,
        /// The value, and one that would do.
        given: Given,
    },
    /// An option: message 112.
    Option {
        /// Its name, with the hyphens.
        option: &'static str,
        /// The value.
        given: String,
        /// What the option takes.
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

/// A value that was refused, beside one that would not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The value, shortened where it is long.
    pub text: String,
    /// A valid value.
    pub example: &'static str,
    /// A way out, where one is known, with a space before it.
    pub cure: &'static str,
}

/// The cure for a host name: with the option it is valid.
const NEEDS_RESOLVE: &str = " A name needs --resolve.";
/// The cure for a time with a part of a second.
const NEEDS_WHOLE_SECONDS: &str = " Whole seconds are needed.";

impl Given {
    /// A value that was given for `argument`.
    pub(crate) fn of(argument: Argument, value: &OsStr) -> Self {
        let is_name = || value.to_str().is_some_and(|text| Name::parse(text).is_ok());
        let cure = if argument == Argument::TrgHost && is_name() { NEEDS_RESOLVE } else { "" };
        Self { text: shown(value), example: argument.example(), cure }
    }

    /// A time that is not whole seconds.
    pub(crate) fn of_part_seconds(argument: Argument, text: String) -> Self {
        Self { text, example: argument.example(), cure: NEEDS_WHOLE_SECONDS }
    }
}

/// A value as it is shown: as text, and not longer than a line can hold.
pub(crate) fn shown(value: &OsStr) -> String {
    let value = value.to_string_lossy();
    match value.char_indices().nth(GIVEN_CHARS) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.into_owned(),
    }
}

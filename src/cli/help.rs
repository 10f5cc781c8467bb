//! The help, made from the rows of the arguments and the options.
//!
//! The parser could write it too, but its writer handles every kind of command line, and would make up a
//! twentieth of the program.

use std::fmt::Write as _;

use crate::cli::options::{ARGUMENTS, OPTIONS};
use crate::cli::{ABOUT, AFTER_HELP, CHECK, CHECK_HELP, USAGE};

/// Returns the help.
#[cold]
pub(super) fn help() -> String {
    let mut text = format!("{ABOUT}\n\nUsage: {USAGE}\n\nArguments:\n");
    let arguments: Vec<_> = ARGUMENTS.iter().map(|row| (format!("<{}>", row.name), row.help)).collect();
    put(&mut text, &arguments);
    text.push_str("\nOptions:\n");
    let value = |value: &str| if value.is_empty() { String::new() } else { format!(" <{value}>") };
    let option = |name: &str, of: &str| format!("    {name}{}", value(of));
    let mut options: Vec<_> = OPTIONS.iter().map(|row| (option(row.name, row.value), row.help)).collect();
    options.push((option(CHECK, ""), CHECK_HELP));
    options.push(("-h, --help".into(), "Print help"));
    options.push(("-V, --version".into(), "Print version"));
    put(&mut text, &options);
    text + "\n" + AFTER_HELP + "\n"
}

/// Adds a line for each entry, with the help texts aligned.
fn put(text: &mut String, entries: &[(String, &str)]) {
    let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, help) in entries {
        // Writing to memory does not fail.
        let _ = writeln!(text, "  {name:width$}  {help}");
    }
}

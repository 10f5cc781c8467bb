//! Writes what a package ships beside the program: the man page and the shell completions. Both
//! come from the definition of the command line, so that they cannot say anything else than it does.
//!
//! `cargo run --release --example dist -- <folder>`

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use tcprelay::cli;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        return fail("Usage: dist <folder for the man page and the completions>");
    };
    match write_all(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{}: {error}", folder.display())),
    }
}

fn write_all(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut page = Vec::new();
    write_man_page(&mut page)?;
    fs::write(folder.join("tcprelay.1"), page)?;
    let mut command = cli::command().mut_args(with_hints);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "tcprelay", folder)?;
    }
    Ok(())
}

/// What a shell is to offer as the value of an argument: `v1` and `v2` for `<v1|v2>`.
fn with_hints(argument: Arg) -> Arg {
    if !argument.get_action().takes_values() {
        return argument;
    }
    let name = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    // clap keeps only text that lives as long as the program.
    let choices: Vec<&'static str> = name.unwrap_or_default().leak().split('|').collect();
    if choices.len() > 1 {
        return argument.value_parser(choices);
    }
    // No value is the name of a file.
    argument.value_hint(ValueHint::Other)
}

fn write_man_page(out: &mut dyn Write) -> io::Result<()> {
    let command = cli::command();
    let notes = command.get_after_help().map(ToString::to_string);
    let command = command.mut_args(|argument| {
        if argument.is_positional() { argument.help_heading("Arguments") } else { argument }
    });

    let page = Man::new(command).manual("User Commands");
    page.render_title(out)?;
    page.render_name_section(out)?;
    let mut synopsis = Vec::new();
    page.render_synopsis_section(&mut synopsis)?;
    out.write_all(&firm_placeholders(&synopsis))?;
    page.render_options_section(out)?;
    write_sections(out, &notes.unwrap_or_default())
}

/// Keeps `<fwd port>` on one line: the spaces in it become `\ `.
fn firm_placeholders(synopsis: &[u8]) -> Vec<u8> {
    let mut firm = Vec::new();
    let mut inside = false;
    for &byte in synopsis {
        inside = (inside || byte == b'<') && byte != b'>';
        if inside && byte == b' ' {
            firm.push(b'\\');
        }
        firm.push(byte);
    }
    firm
}

/// The notes below the help. "Heading: text" begins a section; an indented line is an example.
fn write_sections(out: &mut dyn Write, notes: &str) -> io::Result<()> {
    for line in notes.lines() {
        let escaped = line.replace('\\', "\\e").replace('-', "\\-");
        if let Some((heading, text)) = section_start(&escaped) {
            let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
            writeln!(out, ".SH \"{}\"\n\\&{}{rest}", heading.to_uppercase(), first.to_uppercase())?;
        } else if line.starts_with(' ') {
            writeln!(out, ".PP\n.EX\n\\&{escaped}\n.EE\n.PP")?;
        } else if !line.is_empty() {
            writeln!(out, "\\&{escaped}")?;
        }
    }
    Ok(())
}

fn section_start(line: &str) -> Option<(&str, &str)> {
    let (heading, text) = line.split_once(": ")?;
    let is_heading = heading.starts_with(|first: char| first.is_ascii_uppercase())
        && heading.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b' ');
    is_heading.then_some((heading, text))
}

fn fail(why: &str) -> ExitCode {
    // The exit status tells as well, should nobody read this.
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::FAILURE
}

//! The man page: `tcprelay.1.in` with the places in it filled from the command line, its help and the README.

use std::io;

use clap_mangen::Man;
use tcprelay::cli;

const TEMPLATE: &str = include_str!("tcprelay.1.in");
const CHANGELOG: &str = include_str!("changelog");
const README: &str = include_str!("../../README.md");

/// Returns the page, in roff. A line `@NAME@` of the template is a place.
pub(crate) fn page() -> io::Result<String> {
    TEMPLATE.lines().map(fill).collect()
}

fn fill(line: &str) -> io::Result<String> {
    Ok(match line {
        "@TITLE@" => title()?,
        "@NAME@" => rendered(Man::render_name_section)?,
        "@SYNOPSIS@" => firm_placeholders(&rendered(Man::render_synopsis_section)?),
        "@OPTIONS@" => rendered(Man::render_options_section)?,
        "@NOTES@" => notes(),
        "@MESSAGES@" => README.lines().filter_map(message).collect(),
        _ => format!("{line}\n"),
    })
}

fn title() -> io::Result<String> {
    let date = date().ok_or_else(|| io::Error::other("no date in SOURCE_DATE_EPOCH or the changelog"))?;
    Ok(format!(".TH TCPRELAY 1 {date} \"tcprelay {}\" \"User Commands\"\n", env!("CARGO_PKG_VERSION")))
}

/// Returns the page's date: that of the release, so that two builds give the same bytes.
fn date() -> Option<String> {
    if let Some(epoch) = std::env::var_os("SOURCE_DATE_EPOCH") {
        let since = std::time::Duration::from_secs(epoch.to_str()?.parse().ok()?);
        let stamp = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH.checked_add(since)?).to_string();
        return stamp.split('T').next().map(ToOwned::to_owned);
    }
    // " -- Name <address>  Tue, 24 Nov 2026 12:00:00 +0000"
    let signature = CHANGELOG.lines().find(|line| line.starts_with(" -- "))?;
    let (_, stamp) = signature.split_once(">  ")?;
    let [_, day, month, year, ..] = stamp.split(' ').collect::<Vec<_>>()[..] else { return None };
    let month = "JanFebMarAprMayJunJulAugSepOctNovDec".find(month)? / 3 + 1;
    Some(format!("{year}-{month:02}-{day}"))
}

fn rendered(section: impl Fn(&Man, &mut dyn io::Write) -> io::Result<()>) -> io::Result<String> {
    let command = cli::command().mut_args(|argument| {
        if argument.is_positional() { argument.help_heading("Arguments") } else { argument }
    });
    let mut text = Vec::new();
    section(&Man::new(command), &mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// Keeps `<fwd port>` on one line: the spaces in it become `\ `.
fn firm_placeholders(synopsis: &str) -> String {
    let mut firm = String::new();
    let mut inside = false;
    for letter in synopsis.chars() {
        inside = (inside || letter == '<') && letter != '>';
        if inside && letter == ' ' {
            firm.push('\\');
        }
        firm.push(letter);
    }
    firm
}

/// Returns the notes below the help as sections, but for the example: the template has more of them.
fn notes() -> String {
    let notes = cli::command().get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut sections = Vec::new();
    let mut is_example = true;
    for line in notes.lines().map(escaped) {
        let (heading, text) = section_start(&line).unwrap_or(("", &line));
        if !heading.is_empty() {
            is_example = heading == "Example";
        }
        if is_example || text.is_empty() {
            continue;
        }
        if heading.is_empty() {
            sections.push(format!("\\&{text}\n"));
        } else {
            let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
            let (heading, first) = (heading.to_uppercase(), first.to_uppercase());
            sections.push(format!(".SH \"{heading}\"\n\\&{first}{rest}\n"));
        }
    }
    sections.concat()
}

/// Splits "Heading: text", with which a section begins.
fn section_start(line: &str) -> Option<(&str, &str)> {
    let (heading, text) = line.split_once(": ")?;
    let is_heading = heading.starts_with(|first: char| first.is_ascii_uppercase())
        && heading.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b' ');
    is_heading.then_some((heading, text))
}

/// Returns a message of the catalogue, from its row in the README: "| 15 | `active` | end | The relayer ... |".
fn message(row: &str) -> Option<String> {
    let row = row.strip_prefix("| ")?.strip_suffix(" |")?;
    let [number, event, level, text] = row.splitn(4, " | ").collect::<Vec<_>>()[..] else { return None };
    let is_message = number.bytes().all(|byte| byte.is_ascii_digit());
    let (event, text) = (escaped(&event.replace('`', "")), escaped(&text.replace("\\<", "<")));
    is_message.then(|| format!(".TP\n{number} \\fB{event}\\fR ({level})\n\\&{text}\n"))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq")
}

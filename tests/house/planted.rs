//! The rules applied to sources that break them, and to sources that only look as if they did.

use std::collections::BTreeSet;

use crate::source::Source;
use crate::{CIRCLE, DOCUMENTED, FILE_LINES, FILES, FUNCTION_LINES, FUNCTIONS, NEVER, NUMBERS, ONLY, judge};

/// Returns the rules that these sources break. Each source is a path and its code.
fn broken(sources: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<_> =
        sources.iter().map(|(path, code)| Source::new(path, format!("//! A module.\n{code}\n"))).collect();
    let broken: BTreeSet<_> = judge(&sources).into_iter().map(|finding| finding.rule).collect();
    broken.into_iter().collect()
}

/// A rule, and the path and code of a source that breaks only this rule.
const PLANTED: &[(&str, &str, &str)] = &[
    ("clap in its places", "src/config/mod.rs", "use clap::Command;"),
    ("mio in its places", "src/pool/mod.rs", "fn wait(poll: &mut mio::Poll) {}"),
    ("rustix in its places", "src/session/socket.rs", "use rustix::io::Errno;"),
    ("rustix in its places", "src/relay/status.rs", "use {std::io, rustix::net};"),
    ("socket2 in its places", "src/relay/mod.rs", "use socket2::Socket;"),
    ("serde in its places", "src/pool/totals.rs", "use serde::Serialize;"),
    ("serde_json in its places", "src/log/message.rs", "use serde_json::Value;"),
    ("feature in its places", "src/pool/mod.rs", "#[cfg(feature = \"json\")] mod json;"),
    ("nix in its places", "src/relay/listener.rs", "use nix::sys;"),
    ("signal_hook in its places", "src/main.rs", "use signal_hook::flag;"),
    ("Instant::now in its places", "src/pool/wheel.rs", "fn now() -> Instant { std::time::Instant::now() }"),
    ("SystemTime::now in its places", "src/log/json.rs", "fn now() { let _ = SystemTime::now(); }"),
    ("src/session/ stands alone", "src/session/mod.rs", "use crate::pool::wheel::Wheel;"),
    (
        "src/session/ stands alone",
        "src/session/mod.rs",
        "use crate::{limits::TICK, relay::{Relay, control}};",
    ),
    ("src/session/ stands alone", "src/session/mod.rs", "use super::relay::Relay;"),
    ("src/session/ stands alone", "src/session/socket.rs", "use super::super::relay::Relay;"),
    (
        "src/session/ stands alone",
        "src/session/socket.rs",
        "use super::{side::Side, super::{sys, log::Log}};",
    ),
    ("src/session/ stands alone", "src/session/mod.rs", "use crate::*;"),
    ("src/session/ stands alone", "src/session/channel.rs", "fn log(_: &crate::log::message::Message) {}"),
    ("src/pool/ stands alone", "src/pool/mod.rs", "use crate::log::{message::Message, Log};"),
    ("src/pool/ stands alone", "src/pool/mod.rs", "use crate::relay;"),
    ("src/resolve/ stands alone", "src/resolve/mod.rs", "use crate::sys::net::interface_index;"),
    (NUMBERS, "src/relay/mod.rs", "const FIRST: usize = 4;"),
    (NUMBERS, "src/session/mod.rs", "impl Session { pub(crate) const GRACE: std::time::Duration = TICK; }"),
    (NUMBERS, "src/cli/mod.rs", "const SECONDS: RangeInclusive<u64> = 1..=3;"),
];

#[test]
fn each_rule_finds_the_source_that_breaks_it() {
    for (rule, path, code) in PLANTED {
        assert_eq!(broken(&[(path, code)]), [*rule], "in {path}: {code}");
    }
}

#[test]
fn each_rule_about_words_and_layers_is_broken_by_a_planted_source() {
    let planted: BTreeSet<_> = PLANTED.iter().map(|(rule, _, _)| (*rule).to_owned()).collect();
    let words = ONLY.iter().flat_map(|rule| rule.words).map(|word| format!("{word} in its places"));
    for rule in words.chain(NEVER.iter().map(|rule| format!("{} stands alone", rule.folder))) {
        assert!(planted.contains(&rule), "no planted source breaks this rule: {rule}");
    }
}

#[test]
fn a_function_or_file_is_found_when_it_is_a_line_too_long() {
    // The first line, the last, and the rest between them.
    let function = |lines: usize| format!("fn f<T, U>(_: [u8; 4]) {{\n{}}}", "    ();\n".repeat(lines - 2));
    assert_eq!(broken(&[("tests/a.rs", &function(FUNCTION_LINES))]), [""; 0]);
    assert_eq!(broken(&[("tests/a.rs", &function(FUNCTION_LINES + 1))]), [FUNCTIONS]);
    // `broken` adds a first line and the last line break.
    let file = |lines: usize| "\n".repeat(lines - 2);
    assert_eq!(broken(&[("src/a.rs", &file(FILE_LINES))]), [""; 0]);
    assert_eq!(broken(&[("src/a.rs", &file(FILE_LINES + 1))]), [FILES]);
}

#[test]
fn a_module_without_its_documentation_is_found() {
    let source = Source::new("src/a.rs", "// A module.\nfn f() {}\n".into());
    assert_eq!(judge(&[source])[0].rule, DOCUMENTED);
}

#[test]
fn a_circle_is_found_however_long_it_is() {
    let chain = [
        ("src/a/mod.rs", "use crate::b::B;"),
        ("src/b.rs", "fn b() { crate::c::d() }"),
        ("src/c/e.rs", "use crate::{limits::TICK, c::f};"),
    ];
    assert_eq!(broken(&chain), [""; 0]);
    for last in [
        ("src/c/g.rs", "use crate::a;"),
        ("src/c/g.rs", "use super::super::a;"),
        ("src/c.rs", "use super::a;"),
    ] {
        let sources: Vec<_> = chain.into_iter().chain([last]).collect();
        assert_eq!(broken(&sources), [CIRCLE]);
    }
    // The crate's root may import everything.
    assert_eq!(broken(&[("src/lib.rs", "pub use crate::a::A;"), ("src/a.rs", "use crate::lib;")]), [""; 0]);
}

/// Sources that keep every rule, although they look as if they broke one.
const INNOCENT: &[(&str, &str)] = &[
    ("src/session/mod.rs", "// not with mio, clap or rustix: crate::relay would be one floor too high"),
    (
        "src/session/mod.rs",
        "/* mio /* clap */ rustix */ fn f() { let _ = (\"mio::Poll\", 'a', r#\"crate::relay \"rustix\"\"#); }",
    ),
    ("src/session/mod.rs", "fn f<'a>(mio_like: &'a str) -> char { let unix = b'\"'; '\"' }"),
    (
        "src/session/mod.rs",
        "#[cfg(test)]\nuse crate::relay::Relay;\n#[cfg(test)]\nmod tests { use crate::log::Log; }",
    ),
    ("src/pool/wheel.rs", "#[cfg(test)]\nmod tests { fn f() { Instant::now(); } const N: u8 = 1; }"),
    ("src/pool/mod.rs", "use crate::session::relay::Relay;"),
    ("src/session/socket.rs", "use super::relay::Relay;\npub(super) fn f() {}"),
    ("src/pool/tests.rs", "use crate::relay::Relay;"),
    ("src/resolve/tests/tries.rs", "const SECOND: Duration = TICK;"),
    (
        "src/relay/mod.rs",
        "const fn size<const N: usize>() -> usize { N }\nconst NAME: &str = \"4\";\nconst _: () = ();",
    ),
    ("src/sys/tcp.rs", "use mio::net::TcpStream;\nuse rustix::io;\nconst LEVEL: i32 = 4;"),
    ("tests/program/log.rs", "use rustix::io::Errno;\nconst SECONDS: u64 = 4;\nfn f() { Instant::now(); }"),
];

#[test]
fn a_source_that_only_looks_wrong_is_not_found() {
    for (path, code) in INNOCENT {
        assert_eq!(broken(&[(path, code)]), [""; 0], "in {path}: {code}");
    }
}

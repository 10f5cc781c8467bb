//! The command line: its values, its refusals, the help and the version.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use tcprelay::cli::parse;

use crate::support::catalogue::message;
use crate::support::net::{self, End};
use crate::support::{self, Run, Start, TCPRELAY, run};

/// The original's example. Every argument is valid.
const RIGHT: [&str; 8] =
    ["8080", "192.168.200.20", "80", "192.168.100.30/255.255.255.255", "1", "30", "600", "4000"];

/// Values that no argument takes.
const NEVER: [&[u8]; 9] = [
    b"",
    b" ",
    b"-1",
    b"-12345678901234567890",
    b"\xff\xfe",
    b"123456789012345678901234567890",
    b"1.5",
    b"one",
    b"\x1b[31mred\x07\r\n",
];

/// The position of the absolute timeout. Its refusal is not in the original's catalogue.
const ABSOLUTE: usize = 6;

/// Returns the line that refuses the argument at this position, counted from 0.
fn refusal(position: usize) -> String {
    match position {
        ABSOLUTE => "Error: <a t/o> must be between 0 and 4294967295 inclusive.".into(),
        7 => message(8, 0),
        _ => message(u8::try_from(position).unwrap() + 2, 0),
    }
}

/// Returns [`RIGHT`] with one argument replaced.
fn with(position: usize, argument: &OsStr) -> Vec<OsString> {
    let mut arguments: Vec<_> = RIGHT.iter().map(OsString::from).collect();
    arguments[position] = argument.into();
    arguments
}

#[track_caller]
fn assert_refused(position: usize, argument: &OsStr) {
    let run = run(&with(position, argument));
    assert_refuses(&run, position, argument);
    assert_eq!(run.code, Some(2), "for {} as number {position}", argument.display());
}

/// Asserts that the output is the argument's message, then the value given and a valid example, which the parser
/// accepts.
#[track_caller]
fn assert_refuses(run: &Run, position: usize, argument: &OsStr) {
    let (message, reason) = run.stdout.split_once('\n').unwrap();
    assert_eq!(message, refusal(position), "for {} as number {position}", argument.display());
    let given = format!("The value given was {:?}. ", argument.to_string_lossy());
    let rest = reason.strip_prefix(&given).unwrap_or_else(|| panic!("{reason} is not {given}"));
    let (_cure, example) = rest.split_once("A valid example: ").unwrap();
    assert!(!reason.trim_end().contains(char::is_control), "{reason:?}");
    let valid = with(position, example.trim_end().as_ref());
    assert!(parse(valid).is_ok(), "{example} is not valid");
}

#[test]
fn a_value_that_no_argument_takes_gets_the_arguments_own_message() {
    for position in 0..RIGHT.len() {
        for argument in NEVER {
            assert_refused(position, OsStr::from_bytes(argument));
        }
    }
}

#[test]
fn a_value_out_of_range_gets_the_arguments_own_message() {
    let wrong: [(usize, &[&str]); 8] = [
        (0, &["0", "65536", "0x50", "80 "]),
        (
            1,
            &[
                "localhost",
                "example.com",
                "0.0.0.0",
                "255.255.255.255",
                "224.0.0.1",
                "239.255.255.255",
                "::",
                "ff02::1",
                "::ffff:0.0.0.0",
                "::ffff:224.0.0.1",
                "192.168.200",
                "192.168.200.256",
                "192.168.200.20:80",
                "192.168.200.20/32",
                "[::1]",
            ],
        ),
        (2, &["0", "65536", "http"]),
        (
            3,
            &[
                "all",
                "192.168.100.30",
                "192.168.100.30/",
                "/24",
                "192.168.100.0/33",
                "192.168.100.0/-1",
                "192.168.100.0/255.0.255.0",
                "192.168.100.0/0.0.0.255",
                "192.168.100.0/255.255.255.253",
                "192.168.100.0/24,10.0.0.0/8",
                "192.168.100.0/24 10.0.0.0/8",
                "192.168.100.0/24/24",
                "ANY/24",
                "host/24",
                "fd00::/129",
                "fd00::/255.255.255.0",
                "fd00::",
            ],
        ),
        (4, &["0", "4"]),
        (5, &["0", "1801"]),
        (ABSOLUTE, &["4294967296"]),
        (7, &["0", "99", "4001"]),
    ];
    for (position, arguments) in wrong {
        for argument in arguments {
            assert_refused(position, OsStr::new(argument));
        }
    }
}

#[test]
fn only_the_first_wrong_argument_is_reported() {
    for first in 0..RIGHT.len() {
        let mut arguments = RIGHT;
        arguments[first..].fill("-1");
        let run = run(&arguments);
        assert_refuses(&run, first, OsStr::new("-1"));
        assert_eq!(run.code, Some(2));
    }
}

#[test]
fn without_arguments_it_prints_the_help() {
    let nothing = run::<&str>(&[]);
    assert_eq!(nothing.code, Some(0));
    assert_eq!(nothing, run(&["--help"]));
    // The original's names, in its order.
    let mut rest = nothing.stdout.as_str();
    for name in ["<fwd port>", "<trg host>", "<trg port>", "<ACL>", "<c t/o>", "<i t/o>", "<a t/o>", "<buf>"]
    {
        let (_, after) = rest.split_once(name).unwrap_or_else(|| panic!("no {name} in\n{}", nothing.stdout));
        rest = after;
    }
    assert_eq!(run(&["-h"]).code, Some(0));
    assert!(run(&["-h"]).stdout.contains("<fwd port>"));
}

#[test]
fn it_prints_its_version() {
    let version = format!("tcprelay {}\n", env!("CARGO_PKG_VERSION"));
    for option in ["-V", "--version"] {
        let run = run(&[option]);
        assert_eq!((run.stdout, run.code), (version.clone(), Some(0)));
    }
}

#[test]
fn a_wrong_number_of_arguments_or_an_unknown_option_is_reported_with_the_usage() {
    let mut wrong: Vec<Vec<&str>> = (1..8).map(|count| RIGHT[..count].to_vec()).collect();
    wrong.push([&RIGHT[..], &["one more"]].concat());
    wrong.push([&["--no-such-option"], &RIGHT[..]].concat());
    wrong.push([&RIGHT[..], &["--no-such-option"]].concat());
    for arguments in wrong {
        let run = run(&arguments);
        assert_eq!(run.code, Some(2), "for {arguments:?}");
        assert!(run.stdout.contains("Usage: tcprelay"), "for {arguments:?}: {}", run.stdout);
        if arguments.contains(&"--no-such-option") {
            assert!(run.stdout.contains("--no-such-option"), "{}", run.stdout);
        }
    }
}

#[test]
fn a_usage_error_begins_as_every_error_does_and_holds_no_control_character() {
    let cases: [&[&str]; 5] = [
        &RIGHT[..7],
        &["--no-such\x1b[2J\r\noption\u{202e}"],
        &["--timestamps=\x1b[31m"],
        &["-\x07"],
        &["8080", "\x1b]0;title\x07", "\n\nError: forged"],
    ];
    for arguments in cases {
        let Run { stdout, code } = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(stdout.starts_with("Error: "), "{stdout:?}");
        assert!(!stdout.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{stdout:?}");
        assert_eq!(stdout.matches("Error:").count(), 1, "{stdout:?}");
        assert!(stdout.contains("\n\nUsage: tcprelay [OPTIONS] <fwd port> "), "{stdout:?}");
    }
    let named = run(&["--no-such\x1b[2Joption"]).stdout;
    assert!(named.contains("'--no-such\\u{1b}[2Joption'"), "{named:?}");
}

#[test]
fn an_option_without_its_value_that_swallows_an_argument_is_named() {
    let cases = [
        ("--proxy-protocol", "v1 or v2"),
        ("--bind", "an IPv4 or IPv6 address to listen on, a link-local one as in fe80::1%eth0"),
        ("--allow", "ANY or a network such as 10.0.0.0/8"),
        ("--log-format", "text or json"),
        ("--log-level", "all, ends or problems"),
    ];
    for (option, takes) in cases {
        let Run { stdout, code } = run(&[&[option], &RIGHT[..]].concat());
        let refused = format!("Error: {option} cannot be \"8080\". It takes {takes}.\n");
        assert_eq!((stdout, code), (refused, Some(2)));
    }
    // 8080 is a valid number of sessions, so the error names the argument that is missing.
    let few = run(&[&["--source", "::1", "--sessions"], &RIGHT[..]].concat());
    assert!(few.stdout.starts_with("Error: the following required arguments"), "{}", few.stdout);
    assert!(few.stdout.contains("\n  <buf>\n\nUsage: "), "{}", few.stdout);
}

#[test]
fn a_refusal_is_in_the_format_that_the_command_line_asks_for() {
    let mut arguments = [&["--log-format", "json", "--timestamps", "--sessions", "0"], &RIGHT[..]].concat();
    let object = |arguments: &[&str]| -> serde_json::Value {
        let Run { stdout, code } = run(arguments);
        assert_eq!((stdout.lines().count(), code), (1, Some(2)), "{stdout}");
        serde_json::from_str(&stdout).unwrap()
    };
    let option = object(&arguments);
    assert_eq!((&option["number"], &option["given"]), (&112.into(), &"0".into()), "{option}");
    assert!(option["time"].is_string(), "{option}");
    arguments[5] = "\x1b";
    let argument = object(&arguments);
    let fields = ["number", "given", "example"].map(|name| &argument[name]);
    assert_eq!(fields, [&2.into(), &"\x1b".into(), &serde_json::Value::from("8080")], "{argument}");
}

#[test]
fn a_source_that_cannot_reach_the_target_is_refused_with_the_family_that_can() {
    for (host, source, family) in [("192.0.2.7", "::1", "IPv4"), ("2001:db8::7", "127.0.0.1", "IPv6")] {
        let mut arguments = [&["--source", source], &RIGHT[..]].concat();
        arguments[3] = host;
        let run = run(&arguments);
        let allowed = format!("one {family} address of this host, as <trg host> is {family}, or requester");
        assert_eq!(run.stdout, format!("Error: --source cannot be {source:?}. It takes {allowed}.\n"));
        assert_eq!(run.code, Some(2));
    }
}

#[test]
fn a_full_stdout_changes_no_exit_code() {
    let cases: [(&[&str], i32); 4] = [(&[], 0), (&["--version"], 0), (&RIGHT[..3], 2), (&["0"; 8], 2)];
    for (arguments, code) in cases {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = Command::new(TCPRELAY).args(arguments).stdout(full).status().unwrap();
        assert_eq!(status.code(), Some(code), "for {arguments:?}");
    }
}

#[test]
fn the_limits_themselves_are_accepted() {
    let listener = net::listen();
    for (connect, idle, absolute, buf) in [(1, 1, 0, 100), (3, 1800, u32::MAX, 4000)] {
        let relay = Start::to(net::address(&listener))
            .connect_timeout(connect)
            .idle_timeout(idle)
            .absolute_timeout(absolute)
            .buf(buf)
            .start();
        relay.assert_relays(&listener);
    }
}

#[test]
fn message_15_shows_a_mapped_target_as_ipv4() {
    let listener = net::listen();
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let target = SocketAddr::from((mapped, net::address(&listener).port()));
    // Every start compares message 15, which must name 127.0.0.1 here.
    let mut relay = Start::to(target).start();
    relay.assert_relays(&listener);
    relay.log.expect_all(&support::STARTED, 1);
}

#[test]
fn an_ipv6_target_is_reached() {
    if !net::has_ipv6() {
        return;
    }
    let listener = net::listen_on((Ipv6Addr::LOCALHOST, 0).into(), 16);
    let relay = Start::to(net::address(&listener)).start();
    relay.assert_relays(&listener);
}

#[test]
fn a_relay_to_itself_does_not_start() {
    let port = support::free_port();
    for host in ["127.0.0.1", "127.1.2.3", "::ffff:127.0.0.1"] {
        let port = port.to_string();
        let run = run(&[&port, host, &port, "ANY", "1", "30", "600", "4000"]);
        assert!(run.stdout.starts_with("Error: "), "{}", run.stdout);
        assert_eq!(run.stdout.lines().count(), 1);
        assert_eq!(run.code, Some(2));
    }
}

#[test]
fn a_target_elsewhere_with_the_same_port_is_accepted() {
    let port = support::free_port();
    // The address is from the range for documentation (RFC 5737). No host has it.
    let target = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port));
    assert!(Start::to(target).start_on(port).is_some());
}

#[test]
fn a_relay_that_is_started_again_gets_its_port_at_once() {
    let listener = net::listen();
    let start = Start::to(net::address(&listener));
    let relay = start.start();
    let port = relay.port;
    let (requester, mut target) = relay.session(&listener);
    // The relay closes first, so its end of the connection goes to TIME_WAIT.
    drop(relay);
    assert_eq!(net::read_all(&mut target).1, End::Clean);
    drop((requester, target));
    let relay = start.start_on(port).unwrap();
    relay.assert_relays(&listener);
}

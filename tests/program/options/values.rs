//! The values of options: their ranges, the refusal of a wrong one, and the help on them.

use crate::support::catalogue::message;
use crate::support::line::{on, with};
use crate::support::{self, run};

#[test]
fn a_source_must_be_of_the_targets_family() {
    for (host, source, family) in [("192.0.2.7", "::1", "IPv4"), ("2001:db8::7", "127.0.0.1", "IPv6")] {
        let run = run(&["--source", source, "8080", host, "80", "ANY", "1", "30", "1", "4000"]);
        let takes = format!("one {family} address of this host, as <trg host> is {family}, or requester");
        assert_eq!(run.stdout, format!("Error: --source cannot be {source:?}. It takes {takes}.\n"));
        assert_eq!(run.code, Some(2));
    }
}

#[test]
fn a_wrong_value_of_an_option_gets_one_line_with_the_option_the_value_and_what_is_allowed() {
    let wrong: [(&str, &[&str], &[&str]); 17] = [
        ("--bind", &["", "x", "localhost", "127.0.0.1:80", "[::1]", "-1"], &["IPv4", "IPv6"]),
        ("--bind", &["224.0.0.1", "255.255.255.255", "ff02::1", "ff02::1%lo"], &["to listen on"]),
        (
            "--bind",
            &["fe80::1", "fe80::1%", "fe80::1%0", "fe80::1%no-such-if", "127.0.0.1%lo"],
            &["fe80::1%eth0"],
        ),
        ("--source", &["", "x", "127.0.0.1:80", "::1", "0.0.0.0", "-1"], &["IPv4"]),
        ("--source", &["224.0.0.1", "255.255.255.255", "127.0.0.1%lo", "fe80::1%lo"], &["IPv4"]),
        ("--allow", &["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/255.0.255.0", "-1"], &["ANY", "/8"]),
        ("--deny", &["", "all", "::1", "::1/129", "10.0.0.0/8,11.0.0.0/8"], &["ANY", "/8"]),
        ("--max-per-source", &["", "0", "-1", "+1", "1.5", "100001", "1e3"], &["1", "100000"]),
        ("--sessions", &["", "0", "-1", "+1", "100001", "99999999999999999999999"], &["1", "100000"]),
        ("--proxy-protocol", &["", "v3", "1", "V1", "-"], &["v1", "v2"]),
        ("--mark", &["", "0", "-1", "0x7", "4294967296"], &["1", "4294967295"]),
        ("--dscp", &["", "64", "-1", "EF"], &["0", "63"]),
        (
            "--user",
            &["", "root", "0", "no-such-user", "65534:", "1:4294967295"],
            &["other than root", "UID:GID"],
        ),
        ("--chroot", &["", "tmp", "/no/such/directory", "/etc/passwd"], &["directory"]),
        ("--source-interface", &["", "a/b", "a b", "longer-than-ifname"], &["interface", "ip link"]),
        ("--log-format", &["", "xml", "JSON", "-"], &["text", "json"]),
        ("--log-level", &["", "none", "ENDS", "-"], &["all", "ends", "problems"]),
    ];
    for (option, values, allowed) in wrong {
        for value in values {
            let (joined, right) = (format!("{option}={value}"), with(&[]));
            let separate = with(&[option, value]);
            let joined = [&[joined.as_str()], &right[..]].concat();
            let run = [run(&separate), run(&joined)];
            assert_eq!(run[0], run[1]);
            let (text, takes) = run[0].stdout.split_once(". It takes ").unwrap_or_else(|| panic!("{run:?}"));
            assert_eq!(text, format!("Error: {option} cannot be {value:?}"));
            assert!(allowed.iter().all(|allowed| takes.contains(allowed)), "{run:?}");
            assert_eq!((takes.lines().count(), run[0].code), (1, Some(2)));
        }
    }
}

#[test]
fn a_wrong_argument_is_reported_before_any_wrong_option() {
    let mut arguments = with(&["--sessions", "0", "--bind", "x"]);
    arguments[11] = "9";
    assert_eq!(run(&arguments).stdout.lines().next(), Some(&*message(8, 0)));
    assert!(run(&with(&["--sessions", "0", "--bind", "x"])).stdout.starts_with("Error: --bind "));
}

#[test]
fn options_may_follow_the_arguments() {
    let port = support::free_port();
    let mut arguments = on(port, &[]);
    arguments.extend(["--check", "--sessions", "7"].map(str::to_owned));
    let run = run(&arguments);
    assert!(run.stdout.contains(&format!(", as: --sessions 7 {port} ")), "{}", run.stdout);
    assert_eq!(run.code, Some(0));
}

#[test]
fn the_help_fits_two_screens() {
    const ROWS: usize = 2 * 24;
    const COLUMNS: usize = 80;
    let help = run(&["--help"]).stdout;
    let rows: usize = help.lines().map(|line| line.len().div_ceil(COLUMNS).max(1)).sum();
    assert!(rows <= ROWS, "{rows} rows");
}

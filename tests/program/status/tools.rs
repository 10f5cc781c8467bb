//! Tools that read the metrics.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{page, served};
use crate::support::skip::skipped;
use crate::support::{Start, net};

const DASHBOARD: &str = include_str!("../../../src/dist/grafana/tcprelay.json");

/// Returns the names of the samples in `/metrics`. A histogram has three, with a suffix each.
fn names(metrics: &str) -> BTreeSet<String> {
    let kinds = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let endings = |kind| if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
    kinds.flat_map(|(name, kind)| endings(kind).iter().map(move |ending| format!("{name}{ending}"))).collect()
}

#[test]
fn promtool_accepts_the_metrics() {
    let listener = net::listen();
    let (relay, status) = served(|options| Start::to(net::address(&listener)).options(&options));
    relay.assert_relays(&listener);
    assert_accepted(&page(status, "/metrics"));
}

/// Asserts that `promtool` has no complaint about the metrics. Does nothing where it is not installed.
pub fn assert_accepted(metrics: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) => return skipped(format_args!("promtool: {error}")),
    };
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn every_metric_of_the_dashboard_and_of_the_readme_exists() {
    let listener = net::listen();
    // With a name among the targets, the metrics count lookups as well.
    let with_name = |options| format!("--resolve --backup localhost:9 {options}");
    let start = |options| Start::to(net::address(&listener)).options(&with_name(options));
    let (_relay, status) = served(start);
    let names = names(&page(status, "/metrics"));
    let _: Value = serde_json::from_str(DASHBOARD).unwrap();
    let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = 0;
    for text in [DASHBOARD, include_str!("../../../README.md")] {
        // A package has such a name too, with a digit after the prefix.
        let words = text.split(|letter| !word(letter)).filter(|word| {
            let rest = word.strip_prefix("tcprelay_").or(word.strip_prefix("process_"));
            rest.is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_lowercase()))
        });
        for name in words {
            let of_histogram = names.contains(&format!("{name}_count"));
            assert!(names.contains(name) || of_histogram, "there is no {name}");
            found += 1;
        }
    }
    assert!(found > 20, "only {found} names were found");
}

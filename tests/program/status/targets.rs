//! Targets by name: each is one row of every page, whatever addresses it has.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::json;

use super::tools::assert_accepted;
use super::{json, metric, page, served};
use crate::name_files::Files;
use crate::support::net;
use crate::support::{Start, eventually};

/// Returns the values of the label `target`. No sample may appear twice.
#[track_caller]
fn labels(metrics: &str) -> BTreeSet<String> {
    let mut samples = BTreeSet::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (sample, _) = line.rsplit_once(' ').unwrap();
        assert!(samples.insert(sample), "{sample} appears twice in\n{metrics}");
    }
    let targets = samples.into_iter().filter_map(|sample| sample.split_once("{target=\""));
    targets.map(|(_, rest)| rest.split_once('"').unwrap().0.to_owned()).collect()
}

/// Returns the sample that counts the refused connects of a target.
fn refused(target: &str, port: u16) -> String {
    format!("tcprelay_target_connects_failed_total{{target=\"{target}:{port}\",reason=\"refused\"}}")
}

#[test]
fn targets_that_share_an_address_are_labelled_as_on_the_command_line() {
    let Some(files) = Files::new("127.41.20.1 one\n127.41.20.2 one\n127.41.20.1 two\n", "") else { return };
    // Nothing listens at the names' addresses.
    let (_closed, refusing) = net::refusing();
    let port = refusing.port();
    let listener = net::listen();
    let backup = net::address(&listener);
    let (relay, status) = served(|options| {
        let backups = format!("--backup two --backup 127.41.20.1 --backup {backup}");
        files.start_to("one", port).options(&format!("--resolve {backups} {options}"))
    });
    let given = ["127.41.20.1", "one", "two"].map(|host| format!("{host}:{port}"));
    let given: BTreeSet<_> = given.into_iter().chain([backup.to_string()]).collect();
    assert_eq!(labels(&page(status, "/metrics")), given, "before a name is looked up");

    relay.assert_relays(&listener);
    let metrics = page(status, "/metrics");
    assert_eq!(labels(&metrics), given);
    assert_accepted(&metrics);
    // The session tried the shared address once, which counts for each target that has it.
    for (host, count) in [("one", "2"), ("two", "1"), ("127.41.20.1", "1")] {
        assert_eq!(metric(&metrics, &refused(host, port)), count, "{host}");
        assert_eq!(metric(&metrics, &format!("tcprelay_target_up{{target=\"{host}:{port}\"}}")), "0");
    }
    let row = |host: &str, port: u16, up: bool, refused: u64, addresses: &[&str]| {
        let address = |address: &&str| json!({ "address": address, "port": port, "up": up });
        json!({
            "target": host, "target_port": port, "up": up,
            "addresses": addresses.iter().map(address).collect::<Vec<_>>(),
            "connects_failed": { "refused": refused, "expired": 0, "unreachable": 0, "own": 0 },
        })
    };
    let rows = [
        row("one", port, false, 2, &["127.41.20.1", "127.41.20.2"]),
        row("two", port, false, 1, &["127.41.20.1"]),
        row("127.41.20.1", port, false, 1, &["127.41.20.1"]),
        row("127.0.0.1", backup.port(), true, 0, &["127.0.0.1"]),
    ];
    assert_eq!(json(status)["targets"], json!(rows));
    let shown = format!(
        "<td>one:{port}<br><small>127.41.20.1:{port} down</small><br><small>127.41.20.2:{port} down</small><td>\
         <b class=down>down</b><td>2 refused"
    );
    let html = page(status, "/");
    assert!(html.contains(&shown), "{html}");
}

#[test]
fn a_name_keeps_its_label_and_its_counts_when_its_addresses_change() {
    let Some(files) = Files::new("127.41.21.1 one\n", "") else { return };
    let (_closed, refusing) = net::refusing();
    let port = refusing.port();
    let listener = net::listen();
    let backup = net::address(&listener);
    let (mut relay, status) = served(|options| {
        files.start_to("one", port).options(&format!("--resolve --backup {backup} {options}"))
    });
    relay.assert_relays(&listener);
    let count = || metric(&page(status, "/metrics"), &refused("one", port));
    assert_eq!(count(), "1");
    files.set_hosts("127.41.21.3 one\n");
    relay.signal(Signal::HUP);
    relay.log.wait_text("The target name one has the addresses 127.41.21.3.");
    assert_eq!(count(), "1");
    let addresses = json!([{ "address": "127.41.21.3", "port": port, "up": true }]);
    assert_eq!(json(status)["targets"][0]["addresses"], addresses);
    relay.signal(Signal::USR1);
    relay.log.wait_text(&format!(
        "Status: target one:{port} is up, connects failed: 1 refused, 0 expired, 0 unreachable, 0 for reasons of \
         this host."
    ));
}

#[test]
fn sighup_looks_names_up_even_if_it_was_ignored_at_the_start() {
    let (relay, status) = served(|options| {
        let start = Start::to_host("localhost", "9").options(&format!("--resolve {options}"));
        start.shell("trap '' HUP; exec \"$0\" \"$@\"")
    });
    let lookups = |result: &str| -> u64 {
        let sample = format!("tcprelay_dns_lookups_total{{result=\"{result}\"}}");
        metric(&page(status, "/metrics"), &sample).parse().unwrap()
    };
    assert_eq!(lookups("found") + lookups("failed"), 0);
    relay.signal(Signal::HUP);
    eventually("the name is looked up", || lookups("found") + lookups("failed") == 1);
}

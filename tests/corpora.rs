//! The seed corpora of the fuzz targets, replayed without a fuzzer.

// A test that cannot go on says so by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(missing_docs)]
#![cfg(target_os = "linux")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Checks every input of a corpus, and prints the name of one that fails.
fn replay(corpus: &str, check: fn(&[u8])) {
    let folder = format!("{}/fuzz/corpus/{corpus}", env!("CARGO_MANIFEST_DIR"));
    let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{folder} is empty");
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&bytes))) {
            eprintln!("The input {} has failed.", input.display());
            resume_unwind(panic);
        }
    }
}

#[test]
fn access_lists_mean_what_the_oracle_says() {
    replay("acl", tcprelay_model::acl::check);
}

#[cfg(all(feature = "cli", feature = "json", feature = "status"))]
#[test]
fn command_lines_are_accepted_or_refused_as_the_oracle_says() {
    replay("args", tcprelay_model::args::check);
}

#[test]
fn the_wheel_fires_what_a_list_of_deadlines_would() {
    replay("wheel", tcprelay_model::wheel::check);
}

#[test]
fn a_channel_delivers_everything_in_order_and_ends_as_its_source_did() {
    replay("channel", tcprelay_model::channel::check);
}

#[test]
fn a_session_shows_its_peers_what_a_direct_connection_would() {
    replay("session", tcprelay_model::session::check);
}

#[test]
fn every_line_of_the_log_is_whole_in_its_place_or_counted() {
    replay("log", tcprelay_model::log::check);
}

#[test]
fn dns_messages_mean_what_the_oracle_reads_and_a_resolver_keeps_its_promises() {
    replay("dns", tcprelay_model::dns::check);
}

proptest::proptest! {
    #[test]
    fn arbitrary_dns_messages_mean_what_the_oracle_reads(
        input in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
    ) {
        tcprelay_model::dns::check(&input);
    }
}

#[cfg(feature = "status")]
#[test]
fn requests_for_the_status_are_answered_or_refused_as_the_oracle_says() {
    replay("http", tcprelay_model::http::check);
}

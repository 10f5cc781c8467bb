//! The crates and the Rust version that an embedder's build needs.

use std::collections::BTreeSet;
use std::process::Command;

use crate::skip::skipped;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_names_the_lowest_rust() {
    assert!(README.contains(concat!("from Rust ", env!("CARGO_PKG_RUST_VERSION"), " on")));
}

#[test]
fn a_build_without_features_has_fewer_than_15_crates_and_the_readme_says_how_many() {
    // A test must not download anything, and crates for other systems may be missing here.
    let arguments = "tree --offline --locked -e normal --no-default-features --prefix none --format {p}";
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(arguments.split(' ')).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    if !output.status.success() {
        return skipped(format_args!("cargo tree says {}", String::from_utf8_lossy(&output.stderr)));
    }
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!((2..15).contains(&crates.len()), "{crates:?}");
    assert!(README.contains(&format!("{} crates", crates.len())), "the README does not count {crates:?}");
}

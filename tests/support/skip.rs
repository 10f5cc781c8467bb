//! Tests that cannot run on this machine.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Reports that a test is skipped. The test harness would hide what a passing test prints by `eprintln`.
pub fn skipped(why: impl Display) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

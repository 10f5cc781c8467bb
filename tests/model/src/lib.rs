//! Shared by the tests and the fuzz targets: a simulated kernel and world, and the check that each fuzz
//! target runs.
//!
//! `tests/corpora.rs` calls the checks on the seed corpora, so that a stable toolchain replays them.

// An oracle reports a failure by panicking. Counts of bytes fit every integer here.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::cast_possible_truncation)]
#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc, clippy::must_use_candidate, missing_docs)]
#![cfg(target_os = "linux")]

pub mod acl;
#[cfg(all(feature = "cli", feature = "json", feature = "status"))]
pub mod args;
pub mod channel;
pub mod dns;
#[cfg(feature = "status")]
pub mod http;
pub mod kernel;
pub mod log;
pub mod pair;
/// The package ships the other tests without this crate, so the file lies in their folder.
#[path = "../../support/random.rs"]
pub mod random;
pub mod resolver;
pub mod session;
pub mod wheel;
pub mod world;

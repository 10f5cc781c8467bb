//! The real binary over real sockets, a module for each behaviour.
//!
//! The tests run side by side in one process, so none changes the state of that process, such as its limits, its
//! environment or its standard streams. There is one exception: each start of a relay raises the descriptor limit
//! to its maximum. A test that must change more belongs in `exhaustion`.

// A test that cannot go on panics, and one that is skipped prints the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]
#![allow(unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod acl;
#[cfg(target_os = "linux")]
mod admission;
#[cfg(target_os = "linux")]
mod backups;
mod clock;
mod command_line;
mod dist;
mod edges;
mod endings;
mod figure_one;
mod init_scripts;
mod levels;
#[cfg(target_os = "linux")]
mod link;
mod log;
mod matrix;
mod messages;
#[cfg(target_os = "linux")]
mod name_addresses;
#[cfg(target_os = "linux")]
mod name_files;
#[cfg(target_os = "linux")]
mod name_server;
#[cfg(target_os = "linux")]
mod names;
#[cfg(target_os = "linux")]
mod networks;
mod options;
#[cfg(target_os = "linux")]
mod privileges;
mod readme;
mod service;
mod signals;
mod starts;
mod status;
mod streams;
mod terminal;
mod timers;
#[cfg(target_os = "linux")]
mod ways;

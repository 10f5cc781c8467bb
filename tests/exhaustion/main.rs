//! At the limits: full pools, no descriptors, no memory, and system calls that fail.
//!
//! These tests measure what a relay takes from the machine, or fill the machine up. They have a process of
//! their own, apart from those of `program`.

// A test that cannot go on panics, and the host of a relay exits as the program does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::exit, clippy::print_stderr)]
#![allow(unreachable_pub, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod capacity;
mod checks;
#[cfg(target_os = "linux")]
mod faults;
mod pool;

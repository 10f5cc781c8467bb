//! The base of the integration tests: the real binary on a free port, its log read as it arrives, sockets and
//! targets that misbehave on demand, faults in its system calls, and the kernel's view of its process.
//!
//! No function here sleeps where it can wait for an event, and each wait is bounded.

// Every test file compiles this module for itself and uses only a part of it.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
// A test that cannot go on panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod catalogue;
pub mod faults;
mod folder;
pub mod line;
mod log;
pub mod net;
pub mod process;
pub mod random;
mod relay;
pub mod siege;
pub mod skip;
mod start;

use std::thread;
use std::time::{Duration, Instant};

pub use folder::Folder;
pub use log::{Line, Log};
pub use relay::{Kill, Relay, Run, run, run_with};
pub use start::{Start, free_port};

/// The binary under test.
pub const TCPRELAY: &str = env!("CARGO_BIN_EXE_tcprelay");

/// The longest time that an expected event may take. It allows for a busy machine; only a failing test waits for
/// all of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Messages of a session that goes well, up to the point where bytes flow.
pub const STARTED: [u8; 7] = [16, 18, 26, 28, 31, 33, 37];

/// Polls until `condition` holds. This is for conditions that only /proc shows, because they cause no event.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

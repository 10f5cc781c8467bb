//! Every system call that the relay makes while it runs fails, with each error that it can fail with.
//!
//! A filter cannot fail a call only once. "Once" here means that the call fails for one descriptor, which is one
//! side of one session. "For good" means that it fails for every descriptor, from some moment on.
//!
//! [`calls::CALLS`] has every call that a running relay makes, and the outcome when it fails. The tests of
//! [`table`] end the process at a call without a row there.

mod beginnings;
mod calls;
mod host;
mod log;
mod options;
mod running;
mod splices;
mod stage;
mod streams;
mod table;

use std::thread;

const MIB: usize = 1 << 20;

/// Checks all cases at the same time, because most of their time is waiting.
fn for_each<T: Send>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            let check = &check;
            scope.spawn(move || check(case));
        }
    });
}

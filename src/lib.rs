//! A TCP relay: one port in, one target out, one access list, three timeouts, a fixed pool of
//! sessions, a log in fixed words. One thread, one poll loop, no async runtime.
//!
//! ```text
//!   Config::new(listen, target), setters                 cli::parse(arguments)
//!             └───────────────────► Config ◄───────────────────┘
//!                                     │
//!                          Relay::bind(config, sink) ──► local_addr(), handle()
//!                                     │                                  │
//!   a thread of its own: run() ◄──────┴──────► turn() in your loop       ▼
//!                          │                                          Handle, in any thread:
//!                          ▼                                          stop, drain, report, look_up,
//!   sink: a Log, a closure, your type ◄── Message                     totals, sessions
//! ```
//!
//! # In another program
//!
//! ```
//! use tcprelay::{Config, Message, Outcome, Relay};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Port 0: the system chooses one.
//! let mut config = Config::new(([127, 0, 0, 1], 0).into(), ([192, 0, 2, 7], 80))?;
//! config.allow("10.0.0.0/8".parse()?).set_idle_timeout(std::time::Duration::from_secs(30))?;
//! let relay = Relay::bind(config, |message: &Message| {
//!     if let Some((session, summary)) = message.session_end() {
//!         println!("{}: {} bytes", session.requester, summary.to_target + summary.to_requester);
//!     }
//! })?;
//! println!("relaying on {}", relay.local_addr());
//! let handle = relay.handle();
//! let run = std::thread::spawn(move || relay.run());
//!
//! // From any thread, at any time:
//! println!("{:?} sessions", handle.sessions().map(|sessions| sessions.len()));
//! handle.drain();
//! assert_eq!(run.join().expect("a relay does not panic")?, Outcome::Drained);
//! // After the end, the totals are final:
//! let totals = handle.totals().expect("the relay has ended");
//! println!("{totals}");
//! # assert_eq!(totals.accepted, 0);
//! # Ok(())
//! # }
//! ```
//!
//! - **Admission.** A new [`Config`] admits only loopback addresses, `127.0.0.0/8` and `::1`.
//!   [`Config::allow`] adds to the list, [`Config::set_acl`] replaces it, and [`Entry::Any`] admits every address.
//! - **Messages.** A [`Message`] carries its values as fields. `Display` writes its text, and
//!   [`Message::put_fields`] lists the fields by name. The relay waits while its [`Sink`] handles a message.
//! - **The end.** [`Relay::run`] and [`Relay::turn`] return the [`Outcome`]. After that, [`Handle::totals`] has the
//!   final counts, and so has the relay itself after a `turn`.
//! - **Errors.** [`ConfigError`] names the setting, the refused value and the accepted values. [`StartError`] says
//!   why a relay cannot start, and [`WaitError`] why it cannot go on.
//! - **Several relays** may run in one process, each in a thread or all in one loop. They share only the
//!   limits of the process: at its start, each relay raises the soft descriptor limit to the needs of its own
//!   pool, as far as the hard limit allows.
//! - **Signals and privileges** stay as they are, unless the program calls `Relay::listen_to_signals` or
//!   [`Relay::give_up_privileges`].
//!
//! Complete programs are in the sources, under `tests/examples`:
//!
//! | | |
//! |---|---|
//! | `cargo run --example logging` | messages for the `log` crate |
//! | `cargo run --example host_loop` | two relays in the host program's loop, beside its timer |
//! | `cargo run --example flaky` | a flaky link for tests |
//! | `cargo run --example count_bytes` | bytes counted per session |
//!
//! # Features
//!
//! All are on by default, and the program needs all of them. An embedder can turn them off with
//! `default-features = false`.
//!
//! | feature | brings |
//! |---|---|
//! | `cli` | `cli::parse`, and `Display` for [`Config`]: its command line |
//! | `json` | `LogFormat::Json` |
//! | `signals` | `Relay::listen_to_signals` |
//! | `status` | `Config::set_status`: the status page, metrics and JSON by HTTP |
//! | `systemd` | nothing in the library: the program takes sockets from systemd, and notifies it |
//!
//! # The design on one page
//!
//! ```text
//!   cli ──► Config ──► Relay::bind ──► Relay::run
//!
//!   relay      the edge: Poll, tokens, clock; start, accept, listener, target, status, control
//!     ├─ log       lines out, never blocking ◄── message   the catalogue: one row per message
//!     ├─ resolve   names to addresses: a state machine over given bytes and time, without sockets
//!     └─ pool      all sessions, and the scheduler that runs them; asks its Host for I/O
//!          ├─ slots, sources, own    sessions by key and by source, and the relay's own connections
//!          ├─ queues                 sessions that can go on: interactive before bulk
//!          ├─ wheel                  deadlines: one for each session, and the relay's own
//!          └─ session   one session over any Stream and a given now: connect, relay, abort
//!               ├─ socket    a side's stream: readiness, EOF and the first error, latched
//!               ├─ channel   a direction: takes from one side, delivers to the other, passes EOF
//!               ├─ buffer    <buf> bytes, for interactive traffic
//!               ├─ pipes     for bulk: the bytes never enter the process
//!               └─ idle      when a byte last moved, here or inside the kernel
//!   sys        system calls and nothing else
//! ```
//!
//! A floor never calls the one above it. Session knows no real socket, no clock and no log. Pool adds the
//! schedule and asks its `Host` for the rest. So a simulated world drives the very code that the relay
//! runs (`tests/simulation`).
//!
//! **A turn of the loop** waits for events, notes readiness, works on the sessions that can go on,
//! obeys requests, expires what is due, and accepts. Log lines go out before the loop sleeps. Turns that
//! follow each other at once share a write, at most 10 ms later. The pool frees slots before it gives them
//! out, so no event reaches the wrong session. A turn is bounded: in events, in accepted connections, in
//! expired sessions, in bytes that one session may take, and in bytes that all sessions may move. Sessions
//! that the turn does not reach stay queued, and the loop does not sleep.
//!
//! **Backups.** A session goes to the first target that can be reached. `relay::target::choice` lets a target
//! rest after a failed connect. The session then closes its socket to that target, and gets a new one under the
//! same token.
//!
//! **Interactive before bulk.** While interactive traffic passes, a bulk stream takes 32 KiB at a time and
//! leaves at most 128 KiB unsent in its socket. A peer that took megabytes at once would keep the
//! processors from everything else.
//!
//! **Readiness** is edge-triggered: it is latched per socket, and only the kernel's word clears it.
//! That word is EAGAIN, or a transfer shorter than offered, which saves a system call per request.
//! `session::socket` says when a short transfer proves nothing.
//!
//! **A channel** takes only when it has delivered all it took before. So it holds the bytes of one read or
//! of one splice at most, and a slow reader stops its writer. A stream that keeps filling the buffer is
//! spliced until it thins out. Pipes are bounded in bytes. The last one is lent only for bytes that the
//! other socket is certain to take, so stalled readers cannot keep a live stream from being spliced.
//!
//! **EOF travels** as a FIN, once everything before it is delivered; the opposite channel goes on.
//! **An abort travels** as a reset. The relay first delivers the bytes that the dead side had sent, for as
//! long as the living side's kernel acknowledges some of them. Then it resets the living side. **A stop is
//! an abort.** A stream is complete only when its EOF was passed on. A stop, a failure or a refusal resets
//! every other stream. The idle timeout closes a stream cleanly if no byte of it is left behind, and resets
//! it otherwise.
//!
//! **Unknown is not empty.** The relay asks the socket itself whether bytes still wait in its send queue
//! (`sys::outq`). Where the kernel does not say, the relay acts as if there were some.
//!
//! **Names** are resolved in the loop by a stub resolver of our own (`resolve`), which `relay::target::names`
//! drives. An admitted session asks for the name and gets the known addresses, even expired ones. If none is
//! known yet, it waits in its slot, within the connect timeout. Lookups begin only for a session or on request,
//! so an idle relay sends nothing.
//!
//! **Time** is an argument. The wheel rounds deadlines up to its tick of 10 ms and lets the loop sleep until
//! the earliest, so an idle relay makes no wake-ups. Traffic does not touch the wheel: a session notes when a
//! byte moved, and a timer that fires too early is armed again. If a session is due and its events may be
//! unread, the pool tries its sockets directly. So no load delays a timer, and no timer ends a live session.
//!
//! **Memory** is fixed at the start, except for the buffers of relaying sessions, of which a few are kept for
//! the next ones, and a table that comes once half of the pool is taken. A session that gets no buffer ends.
//! Without the table, a loop is not recognised. Nothing grows with traffic: no table does, nor the log, whose
//! lines are dropped and counted while its reader is stalled.
//!
//! **The status** (`--status`) is served in the same loop, after the sessions, to at most four connections
//! at a time, which take no slot of the pool. Each has a small buffer, a short time and one answer, so it
//! cannot cost a session anything. Log, page, JSON and metrics read one table of counts.
//!
//! # What it will not do
//!
//! - **TLS.** A relay that holds keys is another program; this one passes bytes as they are.
//! - **UDP.** It has no EOF, no abort and no backpressure, so nothing here would apply.
//! - **Balancing.** Sessions go to the first target that can be reached. Load balancers spread them.
//! - **A configuration language.** The command line is the whole of it, and `--check` explains it.
//! - **Threads.** Several processes share a port with `--reuse-port`.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

#[cfg(feature = "cli")]
pub mod cli;
mod config;
mod limits;
mod log;
mod pool;
mod relay;
mod resolve;
mod session;
#[cfg(test)]
#[path = "../tests/support/skip.rs"]
#[allow(unreachable_pub)] // The integration tests share it.
mod skip;
mod sys;

/// The inner parts, for this project's own tests, fuzz targets and benchmarks. Not a stable interface.
#[doc(hidden)]
pub mod internal {
    pub mod acl {
        pub use crate::config::acl::*;
    }
    pub mod buffer {
        pub use crate::session::buffer::*;
    }
    pub mod channel {
        pub use crate::session::channel::*;
    }
    pub mod config {
        pub use crate::config::*;
    }
    #[cfg(feature = "status")]
    pub mod http {
        pub use crate::relay::status::http::*;
    }
    pub mod idle {
        pub use crate::session::idle::*;
    }
    pub mod limits {
        pub use crate::limits::*;
    }
    pub mod message {
        pub use crate::config::error::*;
        pub use crate::log::message::*;
        pub use crate::log::reason::*;
        pub use crate::pool::totals::*;
        pub use crate::session::ended::*;
    }
    pub mod pool {
        pub use crate::pool::queues::*;
        pub use crate::pool::slots::*;
        pub use crate::pool::*;
    }
    pub mod choice {
        pub use crate::relay::target::choice::*;
    }
    pub mod resolve {
        pub use crate::resolve::*;
    }
    pub mod session {
        pub use crate::session::connecting::*;
        pub use crate::session::turn::*;
        pub use crate::session::*;
    }
    pub mod splice {
        pub use crate::session::pipes::*;
        pub use crate::sys::pipe::*;
    }
    pub mod stream {
        pub use crate::session::socket::*;
        pub use crate::session::stream::*;
    }
    pub mod wheel {
        pub use crate::pool::wheel::*;
    }
}

/// The README, so that its example runs as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

pub use ipnet::IpNet;

pub use config::acl::{Acl, Entry, InvalidEntry};
pub use config::error::{Argument, ConfigError, Given};
pub use config::host::{Host, InvalidHost, TargetHost};
pub use config::privileges::{InvalidUser, User};
#[cfg(feature = "status")]
pub use config::status::InvalidStatusAddress;
pub use config::status::StatusAddress;
pub use config::way::Source;
pub use config::{Config, LogFormat, LogLevel, LogStyle, ProxyProtocol, Target};
pub use log::fields::Value;
pub use log::message::{Level, Message};
pub use log::reason::{Addresses, Errno, ListenFailure, OptionFailure, StatusFailure};
pub use log::{Log, Sink};
pub use pool::totals::Totals;
pub use relay::control::Handle;
pub use relay::error::{ListenStep, StartError, WaitError};
pub use relay::privileges::give_up_privileges;
pub use relay::start::Checked;
pub use relay::target::choice::{AddressState, Failure, TargetState};
pub use relay::{Outcome, Relay};
pub use resolve::{InvalidName, Name};
pub use session::ended::{Destination, Identity, Live, Progress, Serial, Summary, Unreached};

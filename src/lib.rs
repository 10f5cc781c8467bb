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
//!                          ▼                                          stop, drain, report,
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
//! - **Admission.** A new [`Config`] admits loopback addresses alone, `127.0.0.0/8` and `::1`.
//!   [`Config::allow`] admits others as well, [`Config::set_acl`] others instead, [`Entry::Any`] all of them.
//! - **Messages.** A [`Message`] carries its values as fields; `Display` gives its text, and
//!   [`Message::put_fields`] all fields by name. The relay waits while its [`Sink`] handles a message.
//! - **The end.** [`Relay::run`] and [`Relay::turn`] return the [`Outcome`]. After that, [`Handle::totals`] has the
//!   final counts, and so has the relay itself after a `turn`.
//! - **Errors.** [`ConfigError`] names the setting, the value and the values it takes. [`StartError`] says why
//!   a relay cannot start, and [`WaitError`] why it cannot go on.
//! - **Several relays** may run in one process, each in a thread or all in one loop. They share nothing
//!   but the limits of the process: a start raises the soft limit of descriptors to the needs of its
//!   own pool, as far as it may.
//! - **Signals** are left alone, unless the program calls `Relay::listen_to_signals`, and privileges are kept
//!   unless it calls [`Relay::give_up_privileges`].
//!
//! The crate's sources have complete programs in `tests/examples`:
//!
//! | | |
//! |---|---|
//! | `cargo run --example logging` | messages for the `log` crate |
//! | `cargo run --example host_loop` | two relays in a loop of the host's, beside its timer |
//! | `cargo run --example flaky` | a flaky link for tests |
//! | `cargo run --example count_bytes` | a count of bytes by session |
//!
//! # Features
//!
//! All are on by default, and the program needs all. An embedder turns them off with `default-features = false`.
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
//!     ├─ log       lines out, never blocking ◄── message   the catalogue: a row a message
//!     ├─ resolve   names to addresses: a machine that gets bytes and time, and has no sockets
//!     └─ pool      all sessions, and the scheduler that runs them; asks its Host for I/O
//!          ├─ slots, sources, own    who is in, from where, and whose connection comes back
//!          ├─ queues                 who can go on: interactive before bulk
//!          ├─ wheel                  deadlines: a session's one, the absolute, the accept pause
//!          └─ session   one session over any Stream and a given now: connect, relay, abort
//!               ├─ socket    a side's stream: readiness, EOF and the first error, latched
//!               ├─ channel   a direction: takes from one side, delivers to the other, passes EOF
//!               ├─ buffer    <buf> bytes, for small messages
//!               ├─ pipes     for bulk: the bytes never enter the process
//!               └─ idle      when a byte last moved, here or inside the kernel
//!   sys        system calls and nothing else
//! ```
//!
//! A floor never calls the one above it. Session knows no socket, no clock and no log; pool adds the
//! schedule and still makes no call of its own, so a simulated world drives the very code that the
//! relay runs (`tests/simulation`).
//!
//! **A turn of the loop** waits for events, notes readiness, works on the sessions that can go on,
//! obeys requests, expires what is due, and accepts. Log lines go out before the loop sleeps, those of
//! turns that follow each other at once in one write, at most 10 ms late. The pool frees slots before
//! it gives them out, so no event reaches the wrong session. A turn is bounded: in events, in accepted
//! connections, in expired sessions, in bytes a session may take and in bytes that
//! all of them may move. Sessions for which it is too short stay queued, and the loop does not sleep.
//!
//! **Backups.** A session goes to the first target that can be reached: `relay::target::choice` knows
//! which one rests. A connect that fails before any byte has passed gives the session another socket under
//! the same token, after the old one is closed.
//!
//! **Interactive before bulk.** While small messages pass, a bulk stream takes 32 KiB at a time and
//! leaves at most 128 KiB unsent in its socket: a peer that takes megabytes at once would keep the
//! processors from everything else.
//!
//! **Readiness** is edge-triggered: it is latched per socket, and only the kernel's word clears it.
//! That word is "would block", or a transfer shorter than offered, which saves a call a message;
//! `session::socket` says when a short transfer proves nothing.
//!
//! **A channel** takes only when it has delivered all it took before. So it holds at most one buffer,
//! or one pipe, and a slow reader stops its writer. A stream that keeps filling the buffer is spliced
//! until it thins out. Pipes are bounded in bytes. The last one is lent only for bytes that the other
//! socket takes for certain, so stalled readers cannot keep a live stream from being spliced.
//!
//! **EOF travels** as a FIN, once everything before it is delivered; the opposite channel goes on.
//! **An abort travels** as a reset: what the dead side had sent is delivered for as long as the living
//! side's kernel acknowledges bytes of it, and then the living side is reset. **A stop is an abort.**
//! A stream is complete only when its EOF was passed on; each other one that a stop, a failure or a
//! refusal ends is reset. The idle timeout closes a stream cleanly where no byte of it is left behind, and
//! resets it elsewhere.
//!
//! **Unknown is not empty.** Whether bytes still wait in a send queue, the very socket is asked
//! (`sys::outq`). Where it does not say, the relay acts as if there were some.
//!
//! **Names** are resolved in the loop by a stub resolver of our own (`resolve`), which `relay::target::names`
//! drives. A session that is let in asks, and gets the addresses that are known, old ones too. Where there are
//! none yet, it waits in its slot within the connect timeout. Nothing else asks, so an idle relay sends nothing.
//!
//! **Time** is an argument. The wheel rounds deadlines up to 10 ms and lets the loop sleep until the
//! earliest, so an idle relay makes no wake-ups. Traffic does not touch it: a session notes when a byte
//! moved, and a timer that fires too early is armed again. A due session whose events may be unread is
//! asked directly, so that no load can delay a timer and no timer can end a live session.
//!
//! **Memory** is fixed at the start, but for the buffers of relaying sessions. Where there is none,
//! that session ends. Nothing grows with traffic: not the log, whose lines are dropped and counted
//! when its reader stands still, and no table.
//!
//! **The status** (`--status`) is served on the same loop, after the sessions, to four connections at a
//! time that have no slot of the pool. Each has a small buffer, a short time and one answer, so nothing
//! that they do can cost a session anything. Log, page, JSON and metrics read one table of counts.
//!
//! # What it will not do
//!
//! - **TLS.** A relay that holds keys is another program; this one passes bytes as they are.
//! - **UDP.** It has no end of stream, no abort and no backpressure: nothing here would apply.
//! - **Balancing.** Sessions go to the first target that can be reached; others spread them over many.
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

/// The README's example, for the tests of the documentation.
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

//! A TCP relay: one port in, one target out, one access list, three timeouts, a fixed pool of
//! sessions, a log in fixed words. One thread, one poll loop, no async runtime.
//!
//! # The design on one page
//!
//! ```text
//!   command line ── cli ──► Config ──► Relay::bind ──► Relay::run
//!
//!   relay     the loop; sole owner of Poll, tokens, pool and clock
//!     ├─ listener   the socket that requesters connect to, and when to accept
//!     ├─ target     the way to the target: socket, connect, PROXY header
//!     ├─ pool       the slots of the sessions, and what is asked of all of them
//!     ├─ resources  what the pool needs, and what the limits give
//!     ├─ wheel      deadlines: connect or idle, one for each session; absolute; accept pause
//!     ├─ control    stop, drain, report: signals, or an embedder's Handle
//!     ├─ log        lines out, never blocking  ◄── message  every line that there is
//!     └─ session    connecting, relaying, ending
//!          ├─ stream    a side's socket: what is known of its readiness and its first error
//!          └─ channel   a direction: takes from one side, delivers to the other
//!               ├─ buffer   <buf> bytes, for small messages
//!               └─ splice   a pipe, for bulk: the bytes never enter the process
//! ```
//!
//! **A turn of the loop** waits for events, notes readiness, works on the sessions that can go on,
//! obeys requests, expires what is due, accepts, and writes the turn's log lines out at once.
//! Slots of the pool are freed before they are given out, so no event reaches the wrong session.
//! Sessions that carry messages go first; a session's share of a turn is bounded, and so is that of
//! all streams together. With more to do, it is queued for the next turn, and the loop does not
//! sleep before. While messages pass, that share is small, and so is what a stream may leave unsent
//! in its socket: a peer that takes megabytes at once keeps the processors from everybody else.
//!
//! **Readiness** of sessions is edge-triggered: it is noted per socket and cleared only by the
//! kernel's word. That word is "would block", or a transfer that was shorter than offered, which
//! saves a call a message; `session::socket` says when a short transfer proves nothing.
//!
//! **A channel** takes only when all it took before is delivered. So it holds at most one buffer,
//! or one pipe, and a slow reader stops its writer. A stream that keeps filling the buffer is
//! spliced instead, until it thins out; a pipe is filled only while it is empty, which makes each
//! answer of the kernel unambiguous. Pipes belong to all channels and are held only with bytes in
//! them.
//!
//! **The end of a stream travels** as a shutdown of the other side's write half, once everything
//! before it is delivered; the opposite channel goes on. **An abort travels** as a reset: what the
//! dead side had sent is delivered, the kernel's acknowledgement of it is awaited for at most two
//! seconds, and then the living side's socket is reset. Nobody sees a clean end of a stream that
//! was cut. A refused or expired connect is a reset to the requester, too.
//!
//! **Time** is an argument. The wheel rounds deadlines up to 10 ms and lets the loop sleep until
//! the earliest, so an idle relay makes no wake-ups. Traffic does not touch it: a session notes
//! when a byte last moved, and a timer that fires too early is armed again. Bytes that still move
//! inside the kernel, to a slow reader, count as well: the send queues show them.
//!
//! **Memory** is fixed at the start, but for the buffers of relaying sessions. Where it cannot be
//! had, that session ends. Nothing grows with traffic: not the log, whose lines are dropped and
//! counted when nobody reads them.
//!
//! # In another program
//!
//! ```no_run
//! use tcprelay::{Config, Message, Relay};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::new(([127, 0, 0, 1], 0).into(), ([192, 0, 2, 7], 80))?;
//! config.set_acl("10.0.0.0/8".parse()?).set_idle_timeout(std::time::Duration::from_secs(30))?;
//! let relay = Relay::bind(config, |message: &Message| println!("{message}"))?;
//! let (address, handle) = (relay.local_addr(), relay.handle());
//! std::thread::spawn(move || relay.run());
//! println!("{address} has {:?} sessions", handle.sessions().map(|sessions| sessions.len()));
//! handle.drain();
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod cli;
mod config;
mod limits;
mod log;
mod pool;
mod relay;
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
    pub mod session {
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

pub use config::acl::{Acl, Entry, InvalidEntry};
pub use config::error::{Argument, ConfigError, Given};
pub use config::host::{Host, InvalidHost};
pub use config::{Config, LogFormat, LogLevel, LogStyle, ProxyProtocol, Target};
pub use log::message::{Level, Message};
pub use log::{Log, Sink};
pub use pool::totals::Totals;
pub use relay::control::Handle;
pub use relay::error::{ListenStep, StartError, WaitError};
pub use relay::{Outcome, Relay};
pub use session::ended::{Identity, Live, Serial, Summary};

//! Every limit of the relay, with its unit, and how the limits relate.

use std::time::Duration;

/// Sessions in the pool unless `--sessions` says otherwise (the original's 500).
pub const SESSIONS: usize = 500;

/// Largest pool that `--sessions` takes.
pub const MOST_SESSIONS: usize = 100_000;

/// Connections that may wait for `accept`; the kernel caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// Connections accepted in one turn, so that a flood of them cannot starve the sessions.
pub const ACCEPTS_PER_TURN: usize = 64;

/// Failed accepts in a row, in one turn, before accepting pauses.
pub const ACCEPT_FAILURES_PER_TURN: usize = 8;

/// How long accepting pauses when descriptors or memory have run out.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Readiness events taken from the kernel in one turn.
pub const EVENTS_PER_TURN: usize = 512;

/// Bytes that one channel may take in one turn, and all streams together, so that a greedy stream
/// cannot starve the others.
pub const BYTES_PER_TURN: usize = 2 * PIPE_BYTES;

/// The same where other sessions carry messages: these wait for a small part of a stream only.
pub const BYTES_BESIDE_MESSAGES: usize = 32 << 10;

/// Bytes of a stream that may wait unsent in its socket beside messages: what a peer that comes
/// back takes all at once keeps the processors from everybody else.
pub const UNSENT_BESIDE_MESSAGES: u32 = 128 << 10;

/// How long streams go on as beside messages after one has passed.
pub const MESSAGES_LINGER: Duration = Duration::from_millis(20);

/// Bytes that one pipe holds. Larger pipes mean fewer system calls for a bulk stream.
pub const PIPE_BYTES: usize = 1 << 20;

/// The smallest pipe worth having: what the kernel hands out when the user's pipe pages run out
/// is smaller still, and costs more calls than it saves.
pub const LEAST_PIPE_BYTES: usize = 64 << 10;

/// Pipes of all sessions together: they pin at most `PIPES * PIPE_BYTES` of kernel memory (16 MiB).
pub const PIPES: usize = 16;

/// Reads in a row that fill the buffer before a channel goes over to splicing.
pub const FULL_READS_BEFORE_SPLICING: u8 = 4;

/// Splices in a row that the buffer could have held before a channel goes back to copying.
pub const THIN_SPLICES_BEFORE_COPYING: u8 = 2;

/// The resolution of the timer wheel. A deadline is rounded up to it, never down.
pub const TICK: Duration = Duration::from_millis(10);

/// The most that a timer may be late on an idle machine.
pub const LATEST: Duration = Duration::from_millis(50);

/// After an abort, how long the other side may take to accept the bytes that were already read.
pub const ABORT_GRACE: Duration = Duration::from_secs(2);

/// How often an aborted session looks whether those bytes have arrived.
pub const ABORT_CHECK: Duration = TICK;

/// Bytes written before it is worth asking the kernel whether some of them still wait there.
pub const KERNEL_QUEUE_WATCH: u32 = 4 << 10;

/// Silence after which the kernel is first asked what still waits in it. Such a session ends by
/// this much later than its idle timeout.
pub const KERNEL_QUEUE_SETTLE: Duration = Duration::from_millis(30);

/// Bytes of log lines that may wait for the reader of STDOUT; what comes on top is dropped.
pub const LOG_BYTES: usize = 32 << 10;

/// The longest line of the log, in bytes, in either format.
pub const LINE_BYTES: usize = 1024;

/// Descriptors beside those of sessions and pipes: STDIO, poll, listener, signals, diagnostics.
pub const OWN_DESCRIPTORS: usize = 16;

// Never late by more than promised: one tick of rounding, the settling, one millisecond of epoll.
const _: () = assert!(TICK.as_millis() + KERNEL_QUEUE_SETTLE.as_millis() < LATEST.as_millis());
// A pipe of the least size moves more than the largest buffer would.
const _: () = assert!(LEAST_PIPE_BYTES > crate::config::MOST_BUF && LEAST_PIPE_BYTES <= PIPE_BYTES);
// All that one turn accepts can be logged before the log must be written out: three lines each.
const _: () = assert!(LOG_BYTES >= ACCEPTS_PER_TURN * 3 * 128 + LINE_BYTES);

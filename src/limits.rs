//! Every limit of the relay, with its unit, and how the limits relate.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The accepted range of `<c t/o>`, in seconds.
pub const CONNECT_SECONDS: RangeInclusive<u64> = 1..=3;
/// Targets besides the first one.
pub const BACKUPS_MAX: usize = 7;

/// Addresses of all targets together.
pub const TARGETS_MAX: usize = 64;

/// Rest of a target after its first failed connect. It doubles with each further failure.
pub const TARGET_REST_MIN: Duration = Duration::from_secs(1);

/// The longest rest of a target.
pub const TARGET_REST_MAX: Duration = Duration::from_secs(30);

/// Time that one session has for trying a target after its rest, before another one may. No connect takes longer.
pub const TARGET_TRIAL_MAX: Duration = Duration::from_secs(4);

/// The connect timeout of a `Config` that sets no other.
pub const CONNECT_DEFAULT: Duration = Duration::from_secs(3);
/// The accepted range of `<i t/o>`, in seconds.
pub const IDLE_SECONDS: RangeInclusive<u64> = 1..=1800;
/// The idle timeout of a `Config` that sets no other.
pub const IDLE_DEFAULT: Duration = Duration::from_secs(300);
/// The accepted range of `<a t/o>`, in seconds. 0: no absolute timeout.
pub const ABSOLUTE_SECONDS: RangeInclusive<u64> = 0..=u32::MAX as u64;
/// The largest code point of `--dscp`.
pub const DSCP_MAX: u8 = 63;
/// The largest `<buf>`, in bytes.
pub const BUF_MAX: usize = 4000;
/// The accepted range of `<buf>`, in bytes.
pub const BUF: RangeInclusive<u64> = 100..=BUF_MAX as u64;
/// Buffers of ended sessions that are kept for the next ones.
pub const SPARE_BUFFERS_MAX: usize = 16;

/// Sessions in the pool unless `--sessions` says otherwise (the original's 500).
pub const SESSIONS: usize = 500;

/// Largest pool that `--sessions` takes.
pub const SESSIONS_MAX: usize = 100_000;

/// Leading bits of an IPv6 address that identify a source for `--max-per-source`. A host can choose the others.
pub const SOURCE_PREFIX_BITS: u32 = 64;

/// Digits of the longest number in a log line. An IPv4 address has fewer characters.
pub const DIGITS_MAX: usize = u64::MAX.ilog10() as usize + 1;

/// The listener's backlog, in connections. The kernel caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// Connections accepted in one turn, so that a flood of them cannot starve the sessions.
pub const ACCEPTS_PER_TURN: usize = 64;

/// Turns that it takes to accept a full backlog, given that a turn's share begins with 1 and doubles.
pub const BACKLOG_TURNS: usize = BACKLOG as usize / ACCEPTS_PER_TURN + ACCEPTS_PER_TURN.ilog2() as usize;

/// Failed accepts in a row, in one turn, before accepting pauses.
pub const ACCEPT_FAILURES_PER_TURN: usize = 8;

/// How long accepting pauses when descriptors or memory have run out.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Readiness events taken from the kernel in one turn.
pub const EVENTS_PER_TURN: usize = 512;

/// Sessions that may expire in one turn; the others follow in the next, which comes at once.
pub const EXPIRES_PER_TURN: usize = 256;

/// Bytes that one channel may take in one turn, so that a greedy one cannot starve the others.
pub const SHARE: usize = PIPE_BYTES_MAX;

/// The same while interactive traffic passes, which then waits only for a small part of a bulk stream.
pub const SHARE_BESIDE_INTERACTIVE: usize = 32 << 10;

/// Bytes that all interactive sessions together may move in one turn, in and out. It bounds the time
/// of a turn, and with it the delay of a timer, to a few milliseconds.
pub const INTERACTIVE_BYTES_PER_TURN: u64 = 8 << 20;

/// Bytes of a bulk stream that may wait unsent in its socket beside interactive traffic. A peer that
/// resumes reading takes them all at once, which keeps the processors from everything else.
pub const UNSENT_BESIDE_INTERACTIVE: u32 = 128 << 10;

/// How long bulk streams keep the smaller share after interactive traffic has passed.
pub const INTERACTIVE_LINGER: Duration = Duration::from_millis(20);

/// Kernel memory that all pipes together may hold, in bytes.
pub const PIPES_BYTES_MAX: usize = 16 << 20;

/// Divisor of the machine's memory. The quotient is a second bound for the bytes of all pipes.
pub const PIPES_MEMORY_SHARE: u64 = 16;

/// Pipes that all sessions together may hold.
pub const PIPES_MAX: usize = 16;

/// Bytes that one pipe holds on a machine with memory to spare. Larger pipes mean fewer system calls.
pub const PIPE_BYTES_MAX: usize = 1 << 20;

/// The smallest pipe worth using, in bytes. When the user's pipe pages run out, the kernel makes
/// smaller ones, which cost more calls than they save.
pub const PIPE_BYTES_MIN: usize = 64 << 10;

/// Requests for a pipe that get none after the kernel has refused to make one, or to splice. So a host where
/// splicing never works does not pay for a try each time.
pub const TAKES_BEFORE_RETRY: u32 = 256;

/// Reads in a row that fill the buffer before a channel switches to splicing.
pub const FULL_READS_BEFORE_SPLICING: u8 = 4;

/// Splices in a row that would have fitted the buffer before a channel goes back to copying.
pub const THIN_SPLICES_BEFORE_COPYING: u8 = 2;

/// The resolution of the timer wheel. A deadline is rounded up to it, never down.
pub const TICK: Duration = Duration::from_millis(10);

/// The most that a timer may be late on an idle machine.
pub const LATE_MAX: Duration = Duration::from_millis(50);

/// The grace of an abort, from the last byte that the living side's kernel acknowledged.
pub const ABORT_GRACE: Duration = Duration::from_secs(2);

/// Interval between two looks of an aborting session at the living side's send queue.
pub const ABORT_LOOK: Duration = TICK;

/// Fewer bytes than this fit any receive window, so they are sent as soon as they are written.
pub const WATCH_BYTES: u32 = 1 << 10;

/// The longest time from the write of a few bytes to the look that finds their delayed ACK.
pub const DELAYED_ACK_MAX: Duration = Duration::from_millis(250);

/// Silence after a write, before the session looks at its send queues.
pub const LOOK_AFTER: Duration = Duration::from_millis(15);

/// Least interval between two looks of a session at its send queues.
pub const LOOK_PAUSE: Duration = Duration::from_millis(28);

/// The interval grows to the time since the last write divided by this, less [`LOOK_MARGIN`].
pub const LOOK_SHARE: u32 = 20;

/// The lateness that the wheel adds to a look and to the timer that follows.
pub const LOOK_MARGIN: Duration = Duration::from_millis(22);

/// The longest wait that the kernel ends punctually.
pub const PUNCTUAL_WAIT_MAX: Duration = Duration::from_secs(5);

/// A longer wait ends earlier, by its length divided by this. Another wait covers the rest.
pub const LAST_WAIT_SHARE: u32 = 64;

/// How long log lines may wait for those of the turns that follow at once.
pub const LINES_HELD_MAX: Duration = Duration::from_millis(10);

/// Turns in a row whose lines go out without a look for events first, as long as such looks find none.
pub const LOOKS_SKIPPED_MAX: u8 = 64;

/// Slots that one turn searches for sessions that wait for the address of their target.
pub const WAITING_SLOTS_PER_TURN: usize = 64;

/// Slots that one turn logs of a status report.
pub const STATUS_SLOTS_PER_TURN: usize = 64;

/// Status connections served at a time. Others wait in the backlog.
pub const STATUS_VISITS: usize = 4;

/// The backlog of the status listener, in connections.
pub const STATUS_BACKLOG: i32 = 128;

/// Bytes of a request for the status.
pub const STATUS_REQUEST_BYTES: usize = 1 << 10;

/// Bytes after a request that are read and dropped before its connection is closed.
pub const STATUS_DISCARDED_BYTES: usize = 64 << 10;

/// The longest life of a status connection, from accept to close.
pub const STATUS_TIME: Duration = Duration::from_secs(2);

/// Sessions that one answer lists.
pub const STATUS_LISTED: usize = 100;

/// Slots that one turn looks at for the sessions of an answer.
pub const STATUS_RANKED_PER_TURN: usize = 512;

/// Descriptors of `--status`: its listener, its connections, and two files of /proc about this process.
pub const STATUS_DESCRIPTORS: usize = 1 + STATUS_VISITS + 2;

/// The longest path of a Unix socket that every supported system takes, in bytes.
pub const STATUS_PATH_BYTES: usize = 103;

/// The period over which the status averages its rates.
pub const RATE_PERIOD: Duration = Duration::from_secs(60);

/// Least interval between two samples for the rates.
pub const RATE_SAMPLE: Duration = Duration::from_secs(1);

/// Samples for the rates: one for each interval of the period, and one at each end.
pub const RATE_SAMPLES: usize = 62;

/// Bounded buckets of each histogram. One more has no bound, and covers all times.
pub const BUCKETS: usize = 11;

/// Bounds for the time that a connect takes, in milliseconds.
pub const CONNECT_BUCKETS_MS: [u64; BUCKETS] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 3000];

/// Bounds for the time that a session takes, in milliseconds.
pub const SESSION_BUCKETS_MS: [u64; BUCKETS] =
    [10, 100, 1000, 5000, 15_000, 60_000, 300_000, 900_000, 3_600_000, 14_400_000, 86_400_000];

/// The largest pool that debug builds check in each turn.
pub const POOL_CHECK_MAX: usize = 1000;

/// Bytes that each session takes in the queues, in the wheel, in the tables of sources and of own connections, and
/// as overhead of its two buffers' allocations. A table has at most five entries of 33 bytes per session.
pub const SHARE_ELSEWHERE: usize = 64 + 2 * 5 * 33;

/// Bytes of log lines that may wait for the reader of STDOUT. Further lines are dropped and counted.
pub const LOG_BYTES: usize = 32 << 10;

/// The longest line of the log, in bytes, in either format.
pub const LINE_BYTES: usize = 2048;

/// Characters of a refused value that the error message shows.
pub const GIVEN_CHARS: usize = 64;

/// Descriptors besides those of sessions and pipes: STDIO, poll, listener, signals.
pub const OWN_DESCRIPTORS: usize = 16;

/// Names that one relay resolves: its target's and those of its backups.
pub const NAMES_MAX: usize = 1 + BACKUPS_MAX;

/// Addresses of one name that a session tries.
pub const ADDRESSES_TRIED_MAX: usize = 8;

/// Sockets that query name servers at a time: each name has one for each family of addresses.
pub const NAME_SOCKETS_MAX: usize = 2 * NAMES_MAX;

/// Reads from one such socket in one turn, so that a server that never stops sending cannot starve the sessions.
pub const NAME_READS_PER_TURN: usize = 8;

/// Bytes that one read from such a socket takes: a datagram of [`DNS_UDP_BYTES`], or a part of a stream.
pub const NAME_READ_BYTES: usize = 2048;

/// Bytes read of each of the files /etc/hosts and /etc/resolv.conf.
pub const NAME_FILE_BYTES: u64 = 4 << 20;

/// Longest host name, in bytes, without the dot at its end.
pub const NAME_BYTES_MAX: usize = 253;

/// Longest label of a name, in bytes.
pub const LABEL_BYTES_MAX: usize = 63;

/// Addresses of each family that are kept for one name.
pub const NAME_ADDRESSES_MAX: usize = 8;

/// Largest UDP answer that a query asks for, in bytes. It fits the MTU of every IPv6 path.
pub const DNS_UDP_BYTES: u16 = 1232;

/// Records read of one answer, so that the longest answer (64 KiB over TCP) costs little time.
pub const DNS_RECORDS_MAX: u16 = 256;

/// Labels and compression pointers of one name in a DNS message: 127 labels, and a pointer after each.
pub const NAME_PARTS_MAX: usize = 255;

/// Aliases (CNAME) followed in one answer.
pub const ALIASES_MAX: usize = 8;

/// Name servers taken from resolv.conf, as in the C library.
pub const NAME_SERVERS_MAX: usize = 3;

/// The port of DNS servers.
pub const DNS_PORT: u16 = 53;

/// Search names taken from resolv.conf.
pub const SEARCH_DOMAINS_MAX: usize = 32;

/// Largest values of the options in resolv.conf, as in the C library: dots, tries per server, and
/// seconds per try.
pub const NDOTS_MAX: u32 = 15;
/// See [`NDOTS_MAX`].
pub const DNS_ATTEMPTS_MAX: u32 = 5;
/// See [`NDOTS_MAX`].
pub const DNS_TIMEOUT_SECONDS_MAX: u32 = 30;

/// Shortest time that an answer is used before the name is looked up again.
pub const TTL_MIN: Duration = Duration::from_secs(5);

/// Longest time that an answer is used.
pub const TTL_MAX: Duration = Duration::from_secs(3600);

/// Time from a failed lookup to the next. It doubles with each further failure.
pub const LOOKUP_RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest time from a failed lookup to the next.
pub const LOOKUP_RETRY_MAX: Duration = Duration::from_secs(60);

/// Shortest time from the start of a lookup to one that a failed connect asks for.
pub const LOOKUP_INTERVAL: Duration = Duration::from_secs(1);

/// Time that a name without addresses waits for the other family's answer after the first one
/// (RFC 8305, resolution delay). A server that ignores AAAA delays no session for longer.
pub const OTHER_FAMILY_WAIT: Duration = Duration::from_millis(50);

const _: () = assert!(SESSIONS <= SESSIONS_MAX);
const _: () = assert!(BACKUPS_MAX < TARGETS_MAX);
const _: () = assert!(TARGET_TRIAL_MAX.as_secs() > *CONNECT_SECONDS.end());
// The smallest pipe moves more than the largest buffer would.
const _: () = assert!(PIPE_BYTES_MIN > BUF_MAX && PIPE_BYTES_MIN <= PIPE_BYTES_MAX);
const _: () = assert!(PIPES_MAX * PIPE_BYTES_MAX == PIPES_BYTES_MAX);
// The log holds three lines for each connection that one turn accepts.
const _: () = assert!(LOG_BYTES >= ACCEPTS_PER_TURN * 3 * 128 + LINE_BYTES);
const _: () = assert!(NAME_READ_BYTES > DNS_UDP_BYTES as usize);
const _: () = assert!(NAMES_MAX * ADDRESSES_TRIED_MAX <= TARGETS_MAX);
const _: () = assert!(TTL_MIN.as_secs() < TTL_MAX.as_secs());
const _: () = assert!(LOOKUP_RETRY_MIN.as_secs() < LOOKUP_RETRY_MAX.as_secs());
// The oldest sample that is kept is as old as the period.
const _: () = assert!(RATE_SAMPLES as u64 * RATE_SAMPLE.as_secs() > RATE_PERIOD.as_secs());

//! Every limit of the relay, with its unit, and how the limits relate.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The accepted range of `<c t/o>`, in seconds.
pub const CONNECT_SECONDS: RangeInclusive<u64> = 1..=3;
/// Targets beside the first one.
pub const BACKUPS_MAX: usize = 7;

/// Addresses of all targets together.
pub const TARGETS_MAX: usize = 64;

/// How long a target rests that could not be reached for the first time. The time doubles with each
/// further failure.
pub const TARGET_REST_MIN: Duration = Duration::from_secs(1);

/// The longest rest of a target.
pub const TARGET_REST_MAX: Duration = Duration::from_secs(30);

/// The time for which one session alone tries a target after its rest. A connect takes no longer.
pub const TARGET_TRIAL_MAX: Duration = Duration::from_secs(4);

/// The connect timeout, where no command line says it.
pub const CONNECT_DEFAULT: Duration = Duration::from_secs(3);
/// The accepted range of `<i t/o>`, in seconds.
pub const IDLE_SECONDS: RangeInclusive<u64> = 1..=1800;
/// The idle timeout, where no command line says it.
pub const IDLE_DEFAULT: Duration = Duration::from_secs(300);
/// The accepted range of `<a t/o>`, in seconds. 0: no absolute timeout.
pub const ABSOLUTE_SECONDS: RangeInclusive<u64> = 0..=u32::MAX as u64;
/// The largest code point of `--dscp`.
pub const DSCP_MAX: u8 = 63;
/// The largest `<buf>`, in bytes.
pub const BUF_MAX: usize = 4000;
/// The accepted range of `<buf>`, in bytes.
pub const BUF: RangeInclusive<u64> = 100..=BUF_MAX as u64;

/// Sessions in the pool unless `--sessions` says otherwise (the original's 500).
pub const SESSIONS: usize = 500;

/// Largest pool that `--sessions` takes.
pub const SESSIONS_MAX: usize = 100_000;

/// Bits of an IPv6 address that make a source of `--max-per-source`: its network's hosts choose the others.
pub const SOURCE_PREFIX_BITS: u32 = 64;

/// Digits of the longest number that a line of the log has. An IPv4 address has fewer characters.
pub const DIGITS_MAX: usize = u64::MAX.ilog10() as usize + 1;

/// Connections that may wait for `accept`; the kernel caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// Connections accepted in one turn, so that a flood of them cannot starve the sessions.
pub const ACCEPTS_PER_TURN: usize = 64;

/// Turns that accept a full backlog, as a turn's share begins with 1 and doubles.
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

/// The same while interactive traffic passes: it waits for a small part of a bulk stream only.
pub const SHARE_BESIDE_INTERACTIVE: usize = 32 << 10;

/// Bytes that all interactive sessions together may move in one turn, in and out. It bounds the time
/// of a turn, and with it the delay of a timer, to a few milliseconds.
pub const INTERACTIVE_BYTES_PER_TURN: u64 = 8 << 20;

/// Bytes of a bulk stream that may wait unsent in its socket beside interactive traffic: a peer that
/// resumes reading takes them all at once, which keeps the processors from everything else.
pub const UNSENT_BESIDE_INTERACTIVE: u32 = 128 << 10;

/// How long bulk streams keep the smaller share after interactive traffic has passed.
pub const INTERACTIVE_LINGER: Duration = Duration::from_millis(20);

/// Kernel memory that all pipes together may hold, in bytes.
pub const PIPES_BYTES_MAX: usize = 16 << 20;

/// They hold no more than this part of the machine's memory.
pub const PIPES_MEMORY_SHARE: u64 = 16;

/// Pipes of all sessions together.
pub const PIPES_MAX: usize = 16;

/// Bytes that one pipe holds on a machine with memory to spare. Larger pipes mean fewer system calls.
pub const PIPE_BYTES_MAX: usize = 1 << 20;

/// The smallest pipe worth having, in bytes. When the user's pipe pages run out, the kernel makes
/// smaller ones, which cost more calls than they save.
pub const PIPE_BYTES_MIN: usize = 64 << 10;

/// Takes of a pipe that go without after the kernel refused one, or refused to splice. A host where
/// that never works does not pay for asking each time.
pub const TAKES_BEFORE_RETRY: u32 = 256;

/// Reads in a row that fill the buffer before a channel goes over to splicing.
pub const FULL_READS_BEFORE_SPLICING: u8 = 4;

/// Splices in a row that the buffer could have held before a channel goes back to copying.
pub const THIN_SPLICES_BEFORE_COPYING: u8 = 2;

/// The resolution of the timer wheel. A deadline is rounded up to it, never down.
pub const TICK: Duration = Duration::from_millis(10);

/// The most that a timer may be late on an idle machine.
pub const LATE_MAX: Duration = Duration::from_millis(50);

/// The grace of an abort, from the last byte that the living side's kernel acknowledged.
pub const ABORT_GRACE: Duration = Duration::from_secs(2);

/// Interval between two looks of an aborting session at the living side's send queue.
pub const ABORT_LOOK: Duration = TICK;

/// Bytes that any receive window has room for.
pub const WATCH_BYTES: u32 = 1 << 10;

/// The longest time that a peer's kernel delays the acknowledgement of a few bytes, and a look.
pub const DELAYED_ACK_MAX: Duration = Duration::from_millis(250);

/// Silence after which a session that wrote looks at its send queues.
pub const LOOK_AFTER: Duration = Duration::from_millis(15);

/// Least interval between two looks of a session at its send queues.
pub const LOOK_PAUSE: Duration = Duration::from_millis(28);

/// The interval grows to this part of the time since the last write, less [`LOOK_MARGIN`].
pub const LOOK_SHARE: u32 = 20;

/// The lateness that the wheel adds to a look and to the timer that follows.
pub const LOOK_MARGIN: Duration = Duration::from_millis(22);

/// The longest wait that the kernel is trusted to end in time.
pub const PUNCTUAL_WAIT_MAX: Duration = Duration::from_secs(5);

/// The part of a longer wait that is left for another one.
pub const LAST_WAIT_SHARE: u32 = 64;

/// How long lines of the log may wait for those of the turns that follow at once.
pub const LINES_HELD_MAX: Duration = Duration::from_millis(10);

/// Turns without a look for events before lines go out, while such looks find none.
pub const LOOKS_SKIPPED_MAX: u8 = 64;

/// Slots in which one turn looks for sessions that wait for the address of their target.
pub const WAITING_SLOTS_PER_TURN: usize = 64;

/// Slots that one turn looks at for the status.
pub const STATUS_SLOTS_PER_TURN: usize = 64;

/// Those who may ask for the status at a time. Others wait in the backlog.
pub const STATUS_VISITS: usize = 4;

/// Connections that may wait for a turn to ask for the status.
pub const STATUS_BACKLOG: i32 = 128;

/// Bytes of a request for the status.
pub const STATUS_REQUEST_BYTES: usize = 1 << 10;

/// Bytes behind a request that are read and dropped before its connection is closed.
pub const STATUS_DISCARDED_BYTES: usize = 64 << 10;

/// From the accept of a connection that asks for the status to its close, at the most.
pub const STATUS_TIME: Duration = Duration::from_secs(2);

/// Sessions that one answer lists.
pub const STATUS_LISTED: usize = 100;

/// Slots that one turn looks at for the sessions of an answer.
pub const STATUS_RANKED_PER_TURN: usize = 512;

/// Descriptors of `--status`: its listener, its visits, and two files of the kernel's about this process.
pub const STATUS_DESCRIPTORS: usize = 1 + STATUS_VISITS + 2;

/// The longest path of a Unix socket that each system takes, in bytes.
pub const STATUS_PATH_BYTES: usize = 103;

/// The time that the status gives rates of.
pub const RATE_PERIOD: Duration = Duration::from_secs(60);

/// Least interval between two samples for the rates.
pub const RATE_SAMPLE: Duration = Duration::from_secs(1);

/// Samples for the rates: those of the period, and one at each end.
pub const RATE_SAMPLES: usize = 62;

/// Bounds of each histogram's buckets, without the one that has all times.
pub const BUCKETS: usize = 11;

/// Bounds for the time that a connect takes, in milliseconds.
pub const CONNECT_BUCKETS_MS: [u64; BUCKETS] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 3000];

/// Bounds for the time that a session takes, in milliseconds.
pub const SESSION_BUCKETS_MS: [u64; BUCKETS] =
    [10, 100, 1000, 5000, 15_000, 60_000, 300_000, 900_000, 3_600_000, 14_400_000, 86_400_000];

/// The largest pool that debug builds check in each turn.
pub const POOL_CHECK_MAX: usize = 1000;

/// Bytes that the queues, the wheel, the two allocations of its buffers, and the tables of sources and of
/// own connections take for each session. A table has at most five entries of 33 bytes a session.
pub const SHARE_ELSEWHERE: usize = 64 + 2 * 5 * 33;

/// Bytes of log lines that may wait for the reader of STDOUT; what comes on top is dropped.
pub const LOG_BYTES: usize = 32 << 10;

/// The longest line of the log, in bytes, in either format.
pub const LINE_BYTES: usize = 2048;

/// Characters of a refused value that its refusal shows.
pub const GIVEN_CHARS: usize = 64;

/// Descriptors beside those of sessions and pipes: STDIO, poll, listener, signals.
pub const OWN_DESCRIPTORS: usize = 16;

/// Names that one relay resolves: its target's and those of its backups.
pub const NAMES_MAX: usize = 1 + BACKUPS_MAX;

/// Addresses of one name that a session tries.
pub const ADDRESSES_TRIED_MAX: usize = 8;

/// Sockets that ask name servers at one time: a name has one for each family of addresses.
pub const NAME_SOCKETS_MAX: usize = 2 * NAMES_MAX;

/// Reads of one such socket in one turn, so that a server that sends without end cannot starve the sessions.
pub const NAME_READS_PER_TURN: usize = 8;

/// Bytes that one read of such a socket takes: a datagram of [`DNS_UDP_BYTES`], or a part of a stream.
pub const NAME_READ_BYTES: usize = 2048;

/// Bytes of /etc/hosts and of /etc/resolv.conf that are read.
pub const NAME_FILE_BYTES: u64 = 4 << 20;

/// Longest host name, in bytes, without the dot at its end.
pub const NAME_BYTES_MAX: usize = 253;

/// Longest label of a name, in bytes.
pub const LABEL_BYTES_MAX: usize = 63;

/// Addresses of each family that are kept of one name.
pub const NAME_ADDRESSES_MAX: usize = 8;

/// Largest UDP answer that a query asks for, in bytes: it fits the MTU of every IPv6 path.
pub const DNS_UDP_BYTES: u16 = 1232;

/// Records looked at in one answer, so that the longest one (64 KiB over TCP) costs little time.
pub const DNS_RECORDS_MAX: u16 = 256;

/// Labels and compression pointers of one name in a message: 127 labels, and a pointer behind each.
pub const NAME_PARTS_MAX: usize = 255;

/// Aliases (CNAME) followed in one answer.
pub const ALIASES_MAX: usize = 8;

/// Name servers taken from resolv.conf, as in the C library.
pub const NAME_SERVERS_MAX: usize = 3;

/// The port of DNS servers.
pub const DNS_PORT: u16 = 53;

/// Search names taken from resolv.conf.
pub const SEARCH_DOMAINS_MAX: usize = 32;

/// Largest values that the options of resolv.conf may have, as in the C library: dots, tries of
/// each server, and seconds of each try.
pub const NDOTS_MAX: u32 = 15;
/// See [`NDOTS_MAX`].
pub const DNS_ATTEMPTS_MAX: u32 = 5;
/// See [`NDOTS_MAX`].
pub const DNS_TIMEOUT_SECONDS_MAX: u32 = 30;

/// Shortest time that an answer is used before the name is asked for again.
pub const TTL_MIN: Duration = Duration::from_secs(5);

/// Longest time that an answer is used.
pub const TTL_MAX: Duration = Duration::from_secs(3600);

/// Time from a failed lookup to the next. It doubles with each further failure.
pub const LOOKUP_RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest time from a failed lookup to the next.
pub const LOOKUP_RETRY_MAX: Duration = Duration::from_secs(60);

/// Shortest time between two lookups that failed connects ask for.
pub const LOOKUP_INTERVAL: Duration = Duration::from_secs(1);

/// Time that a name without addresses waits for the other family's answer after the first one
/// (RFC 8305, resolution delay): a server that ignores AAAA delays no session for longer.
pub const OTHER_FAMILY_WAIT: Duration = Duration::from_millis(50);

const _: () = assert!(SESSIONS <= SESSIONS_MAX);
const _: () = assert!(BACKUPS_MAX < TARGETS_MAX);
const _: () = assert!(TARGET_TRIAL_MAX.as_secs() > *CONNECT_SECONDS.end());
// A pipe of the least size moves more than the largest buffer would.
const _: () = assert!(PIPE_BYTES_MIN > BUF_MAX && PIPE_BYTES_MIN <= PIPE_BYTES_MAX);
const _: () = assert!(PIPES_MAX * PIPE_BYTES_MAX == PIPES_BYTES_MAX);
// All that one turn accepts can be logged before the log must be written out: three lines each.
const _: () = assert!(LOG_BYTES >= ACCEPTS_PER_TURN * 3 * 128 + LINE_BYTES);
const _: () = assert!(NAME_READ_BYTES > DNS_UDP_BYTES as usize);
const _: () = assert!(NAMES_MAX * ADDRESSES_TRIED_MAX <= TARGETS_MAX);
const _: () = assert!(TTL_MIN.as_secs() < TTL_MAX.as_secs());
const _: () = assert!(LOOKUP_RETRY_MIN.as_secs() < LOOKUP_RETRY_MAX.as_secs());
// The oldest sample that is kept is as old as the period.
const _: () = assert!(RATE_SAMPLES as u64 * RATE_SAMPLE.as_secs() > RATE_PERIOD.as_secs());

//! The system calls of a running relay, their errors, and the outcome when they fail.

use rustix::io::Errno;

use super::host::{Call, call};

/// A row of the table.
pub struct Row {
    pub call: Call,
    /// The visible outcome when the call fails. The tests beside this file show it.
    #[allow(dead_code, reason = "for the reader")]
    pub outcome: &'static str,
}

const fn row(call: Call, outcome: &'static str) -> Row {
    Row { call, outcome }
}

pub const ACCEPT: Call = call("accept4", 288, 242);
pub const BIND: Call = call("bind", 49, 200);
pub const CLOSE: Call = call("close", 3, 57);
pub const CONNECT: Call = call("connect", 42, 203);
pub const EPOLL_CONTROL: Call = call("epoll_ctl", 233, 21);
pub const FCNTL: Call = call("fcntl", 72, 25);
pub const GET_PEER_NAME: Call = call("getpeername", 52, 205);
pub const GET_SOCK_NAME: Call = call("getsockname", 51, 204);
pub const GET_SOCK_OPT: Call = call("getsockopt", 55, 209);
pub const IO_CONTROL: Call = call("ioctl", 16, 29);
pub const MAP: Call = call("mmap", 9, 222);
pub const PIPE: Call = call("pipe2", 293, 59);
pub const POSITIONED_WRITE: Call = call("pwritev2", 328, 287);
pub const PROTECT: Call = call("mprotect", 10, 226);
pub const RECEIVE: Call = call("recvfrom", 45, 207);
pub const REMAP: Call = call("mremap", 25, 216);
pub const SEND: Call = call("sendto", 44, 206);
pub const SET_SOCK_OPT: Call = call("setsockopt", 54, 208);
pub const SHUTDOWN: Call = call("shutdown", 48, 210);
pub const SOCKET: Call = call("socket", 41, 198);
pub const SPLICE: Call = call("splice", 275, 76);
pub const WRITE: Call = call("write", 1, 64);
/// `epoll_wait` where there is one, `epoll_pwait` elsewhere.
pub const EPOLL_WAIT: Call = call("epoll_wait", 232, 22);
pub const POLL: Call = call("ppoll", 271, 73);

pub const EPOLL_ADD: u32 = 1;
pub const SET_PIPE_SIZE: u32 = 1031;
pub const GET_PIPE_SIZE: u32 = 1032;
/// The request for the length of a send queue, `SIOCOUTQ`.
pub const SEND_QUEUE: u32 = 0x5411;
/// The length of the reads that drain the wake-ups.
pub const CONTROL_READ: u32 = 64;
/// Length and flags of a wake-up by a signal.
pub const SIGNAL_WAKE: (u32, u32) = (1, 0x40);

/// The table: every call that a relay makes after its start.
pub const CALLS: [Row; 33] = [
    row(ACCEPT, "22 once, then a retry every 100 ms and when a session ends; others wait in the backlog"),
    row(SOCKET, "target: 19, and the requester is reset"),
    row(BIND, "27, a reset to the requester"),
    row(CONNECT, "27, a reset to the requester"),
    row(EPOLL_CONTROL, "add: target 20, requester 29; of the log: retried with the next line"),
    row(EPOLL_WAIT, "110, exit status 1; interrupted: nothing"),
    row(RECEIVE, "34 or 38, resets; of a wake-up: nothing"),
    row(SEND, "35 or 39, resets; of a wake-up: nothing"),
    row(SHUTDOWN, "34 or 38, by the EOF that is not passed on; a reset instead of a clean end"),
    row(SPLICE, "not supported here: copied, without a loss; the connection failed: 34, 35, 38 or 39"),
    row(PIPE, "copied"),
    row(FCNTL, "size of a pipe: it serves as it is, or bytes are copied"),
    row(
        SET_SOCK_OPT,
        "no delay: small writes may be late; unsent: more may wait; linger: an EOF, no reset; urgent: 20",
    ),
    row(GET_SOCK_OPT, "a refusal is still recognised: 27"),
    row(GET_PEER_NAME, "a refusal is still recognised: 27"),
    row(GET_SOCK_NAME, "own connections are not recognised; a PROXY header has no addresses"),
    row(IO_CONTROL, "the send queues are unknown: an abort waits out its grace"),
    row(POSITIONED_WRITE, "not supported: write when ready; else lines wait, then are dropped and counted"),
    row(WRITE, "lines wait, then are dropped and counted"),
    row(POLL, "lines wait, then are dropped and counted"),
    row(CLOSE, "nothing; what the kernel then keeps is the kernel's"),
    row(call("brk", 12, 214), "32 or 36 if a buffer cannot be allocated"),
    row(MAP, "32 or 36 if a buffer cannot be allocated"),
    row(PROTECT, "32 or 36 if a buffer cannot be allocated"),
    row(REMAP, "32 or 36 if a buffer cannot be allocated"),
    // These fail only if their arguments are wrong, or not at all.
    row(call("munmap", 11, 215), "cannot fail"),
    row(call("madvise", 28, 233), "cannot fail"),
    row(call("rt_sigreturn", 15, 139), "cannot fail: after a signal"),
    row(call("restart_syscall", 219, 128), "cannot fail: after a stop"),
    row(call("sigaltstack", 131, 132), "cannot fail: at the end"),
    row(call("exit_group", 231, 94), "cannot fail: at the end"),
    // These are calls of the process that hosts a relay. The relay makes only the last of them.
    row(call("futex", 202, 98), "of the test"),
    row(call("read", 0, 63), "of the test, and of a pipe that could not be spliced from: 34 or 38"),
];

pub const OF_ACCEPT: [Errno; 12] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOBUFS,
    Errno::NOMEM,
    Errno::CONNABORTED,
    Errno::PERM,
    Errno::PROTO,
    Errno::NETDOWN,
    Errno::NOPROTOOPT,
    Errno::HOSTDOWN,
    Errno::OPNOTSUPP,
    Errno::NETUNREACH,
];

pub const OF_CONNECT: [Errno; 12] = [
    Errno::CONNREFUSED,
    Errno::NETUNREACH,
    Errno::HOSTUNREACH,
    Errno::TIMEDOUT,
    Errno::ADDRNOTAVAIL,
    Errno::ADDRINUSE,
    Errno::ACCESS,
    Errno::PERM,
    Errno::NETDOWN,
    Errno::AGAIN,
    Errno::NOBUFS,
    Errno::INVAL,
];

pub const OF_RECEIVE: [Errno; 10] = [
    Errno::CONNRESET,
    Errno::TIMEDOUT,
    Errno::HOSTUNREACH,
    Errno::NETUNREACH,
    Errno::NETDOWN,
    Errno::CONNREFUSED,
    Errno::NOTCONN,
    Errno::NOMEM,
    Errno::NOBUFS,
    Errno::IO,
];

pub const OF_SEND: [Errno; 10] = [
    Errno::PIPE,
    Errno::CONNRESET,
    Errno::TIMEDOUT,
    Errno::HOSTUNREACH,
    Errno::NETUNREACH,
    Errno::NETDOWN,
    Errno::PERM,
    Errno::NOMEM,
    Errno::NOBUFS,
    Errno::IO,
];

pub const OF_SHUTDOWN: [Errno; 3] = [Errno::NOTCONN, Errno::NOBUFS, Errno::INVAL];

/// Errors of a splice on a connection that has failed.
pub const OF_SPLICE_FAILURE: [Errno; 6] =
    [Errno::CONNRESET, Errno::PIPE, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::NOBUFS, Errno::IO];

/// Errors of a splice that the kernel refuses, on a connection that is unharmed.
pub const OF_SPLICE_REFUSAL: [Errno; 5] =
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM, Errno::NOMEM];

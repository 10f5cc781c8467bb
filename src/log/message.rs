//! The catalogue: every line that the relay prints, with its number and its stable event name.
//!
//! 1 to 39 are the original's, to the letter. From 100 on they are ours. Nothing is printed that
//! is not in here, but the help and what the argument parser says of a wrong command line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::pool::totals::Totals;
use crate::session::Side;
use crate::session::ended::{Cause, Ended, Identity, Live, Summary};

/// A message of the catalogue with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// 1: the monotonic clock cannot tell the wheel's ticks apart.
    ClockTooCoarse,
    /// 2: argument 1.
    InvalidFwdPort,
    /// 3: argument 2.
    InvalidTrgHost,
    /// 4: argument 3.
    InvalidTrgPort,
    /// 5: argument 4.
    InvalidAcl,
    /// 6: argument 5.
    InvalidConnectTimeout,
    /// 7: argument 6.
    InvalidIdleTimeout,
    /// 8: argument 8.
    InvalidBuf,
    /// 9: Windows only, cannot occur here.
    WinsockInitialization,
    /// 10: Windows only, cannot occur here.
    WinsockVersion,
    /// 11: `socket` for the listener, or an option of it, failed.
    ListenerSocket(i32),
    /// 12: `bind` failed.
    ListenerBind(i32),
    /// 13: `listen` failed.
    ListenerListen(i32),
    /// 14: the poll instance cannot be made, or what it must watch cannot be registered with it.
    PollUnavailable(i32),
    /// 15: everything is ready. Port of the listener, then the target.
    Active(u16, SocketAddr),
    /// 16: a connection was accepted by the kernel.
    Attempt(SocketAddr),
    /// 17: the ACL does not admit it.
    Rejected(SocketAddr),
    /// 18: the ACL admits it.
    Accepted(SocketAddr),
    /// 19: `socket` for the target failed. Requester, target, error number.
    TargetSocket(SocketAddr, SocketAddr, i32),
    /// 20: the target's socket cannot be registered with the poll instance.
    ConnectNotStarted(Identity, Summary),
    /// 21: every slot of the pool is taken.
    PoolExhausted(SocketAddr),
    /// 22: `accept` failed with this error number.
    AcceptFailed(i32),
    /// 23: the absolute timeout.
    AbsoluteTimeout,
    /// 24: no byte moved for the idle timeout.
    IdleTimeout(Identity, Summary),
    /// 25: not connected within the connect timeout.
    ConnectTimeout(Identity, Summary),
    /// 26: a slot is taken, the connect begins.
    Allocated(Identity),
    /// 27: the connect failed.
    TargetRefused(Identity, Summary),
    /// 28: the connect succeeded.
    Connected(Identity),
    /// 29: the requester's socket cannot be registered with the poll instance.
    RequesterRelayNotStarted(Identity, Summary),
    /// 30: the target's socket cannot be registered again for relaying.
    TargetRelayNotStarted(Identity, Summary),
    /// 31: both sockets are ready for relaying.
    RelaysStarted(Identity),
    /// 32: no memory for the requester-to-target channel's buffer.
    RequesterBuffer(Identity, Summary),
    /// 33: the requester-to-target channel relays.
    RequesterChannelActive(Identity),
    /// 34: the requester closed first, or reading from it failed.
    RequesterReadClosure(Identity, Summary),
    /// 35: writing to the target failed.
    TargetWriteClosure(Identity, Summary),
    /// 36: no memory for the target-to-requester channel's buffer.
    TargetBuffer(Identity, Summary),
    /// 37: the target-to-requester channel relays.
    TargetChannelActive(Identity),
    /// 38: the target closed first, or reading from it failed.
    TargetReadClosure(Identity, Summary),
    /// 39: writing to the requester failed.
    RequesterWriteClosure(Identity, Summary),
    /// 100: SIGTERM, SIGINT, or a second SIGQUIT.
    StopSignal,
    /// 101: SIGQUIT, with the sessions that go on.
    DrainSignal(usize),
    /// 102: after 101, the last session has ended.
    Drained,
    /// 103: lines that the reader of the log did not take.
    LinesDropped(u64),
    /// 104: the descriptor limit, the sessions it is enough for, the sessions of the pool.
    DescriptorLimit(u64, u64, usize),
    /// 105: the sessions of `--sessions`, and the descriptors and KiB of memory that they need.
    PoolNeeds(usize, u64, u64),
    /// 106: the requester is one of the relay's own connections to the target.
    OwnConnection(SocketAddr, SocketAddr),
    /// 107: the requester's address has its share of the pool already.
    SourceLimit(SocketAddr, usize),
    /// 108: SIGUSR1: sessions in the pool, lines of the log that were dropped, and the totals.
    Status(usize, u64, Totals),
    /// 109: SIGUSR1: a live session.
    StatusSession(Live),
    /// 110: waiting for events failed for good, with this error number.
    WaitFailed(i32),
    /// 111: argument 7.
    InvalidAbsoluteTimeout,
    /// 112: an option's value. The option, what was given, what is allowed.
    InvalidOption(&'static str, String, String),
    /// 113: the target is the relay's own listener.
    OwnListener(SocketAddr),
    /// 114: the limits of the process cannot give what `--sessions` needs.
    PoolTooLarge(usize, String),
    /// 115: the socket passed in by the service manager cannot be used.
    InheritedSocket,
    /// 116: `--check`: where it would listen, and the command line that says it all.
    WouldRelay(SocketAddr, String),
    /// 130: an argument contradicts the socket passed in. The argument as it was given, the socket's address.
    InheritedOtherwise(String, SocketAddr),
    /// 131: after 15, where the relay does not listen on 0.0.0.0.
    Listening(SocketAddr),
}

impl Message {
    /// The message's number in the catalogue.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.entry().0
    }

    /// The message's name in the JSON log. Names never change.
    #[must_use]
    pub fn event(&self) -> &'static str {
        self.entry().1
    }

    fn entry(&self) -> (u16, &'static str) {
        match self {
            Self::ClockTooCoarse => (1, "clock_too_coarse"),
            Self::InvalidFwdPort => (2, "invalid_fwd_port"),
            Self::InvalidTrgHost => (3, "invalid_trg_host"),
            Self::InvalidTrgPort => (4, "invalid_trg_port"),
            Self::InvalidAcl => (5, "invalid_acl"),
            Self::InvalidConnectTimeout => (6, "invalid_connect_timeout"),
            Self::InvalidIdleTimeout => (7, "invalid_idle_timeout"),
            Self::InvalidBuf => (8, "invalid_buf"),
            Self::WinsockInitialization => (9, "winsock_initialization"),
            Self::WinsockVersion => (10, "winsock_version"),
            Self::ListenerSocket(_) => (11, "listener_socket"),
            Self::ListenerBind(_) => (12, "listener_bind"),
            Self::ListenerListen(_) => (13, "listener_listen"),
            Self::PollUnavailable(_) => (14, "poll_unavailable"),
            Self::Active(..) => (15, "active"),
            Self::Attempt(_) => (16, "attempt"),
            Self::Rejected(_) => (17, "rejected"),
            Self::Accepted(_) => (18, "accepted"),
            Self::TargetSocket(..) => (19, "target_socket"),
            Self::ConnectNotStarted(..) => (20, "connect_not_started"),
            Self::PoolExhausted(_) => (21, "pool_exhausted"),
            Self::AcceptFailed(_) => (22, "accept_failed"),
            Self::AbsoluteTimeout => (23, "absolute_timeout"),
            Self::IdleTimeout(..) => (24, "idle_timeout"),
            Self::ConnectTimeout(..) => (25, "connect_timeout"),
            Self::Allocated(_) => (26, "allocated"),
            Self::TargetRefused(..) => (27, "target_refused"),
            Self::Connected(_) => (28, "connected"),
            Self::RequesterRelayNotStarted(..) => (29, "requester_relay_not_started"),
            Self::TargetRelayNotStarted(..) => (30, "target_relay_not_started"),
            Self::RelaysStarted(_) => (31, "relays_started"),
            Self::RequesterBuffer(..) => (32, "requester_buffer"),
            Self::RequesterChannelActive(_) => (33, "requester_channel_active"),
            Self::RequesterReadClosure(..) => (34, "requester_read_closure"),
            Self::TargetWriteClosure(..) => (35, "target_write_closure"),
            Self::TargetBuffer(..) => (36, "target_buffer"),
            Self::TargetChannelActive(_) => (37, "target_channel_active"),
            Self::TargetReadClosure(..) => (38, "target_read_closure"),
            Self::RequesterWriteClosure(..) => (39, "requester_write_closure"),
            Self::StopSignal => (100, "stop_signal"),
            Self::DrainSignal(_) => (101, "drain_signal"),
            Self::Drained => (102, "drained"),
            Self::LinesDropped(_) => (103, "lines_dropped"),
            Self::DescriptorLimit(..) => (104, "descriptor_limit"),
            Self::PoolNeeds(..) => (105, "pool_needs"),
            Self::OwnConnection(..) => (106, "own_connection"),
            Self::SourceLimit(..) => (107, "source_limit"),
            Self::Status(..) => (108, "status"),
            Self::StatusSession(_) => (109, "status_session"),
            Self::WaitFailed(_) => (110, "wait_failed"),
            Self::InvalidAbsoluteTimeout => (111, "invalid_absolute_timeout"),
            Self::InvalidOption(..) => (112, "invalid_option"),
            Self::OwnListener(_) => (113, "own_listener"),
            Self::PoolTooLarge(..) => (114, "pool_too_large"),
            Self::InheritedSocket => (115, "inherited_socket"),
            Self::WouldRelay(..) => (116, "would_relay"),
            Self::InheritedOtherwise(..) => (130, "inherited_otherwise"),
            Self::Listening(_) => (131, "listening"),
        }
    }

    /// Who the session of the message is, and what it had done where the message ends it.
    pub(crate) fn session(&self) -> Option<(&Identity, Option<&Summary>)> {
        match self {
            Self::Allocated(identity)
            | Self::Connected(identity)
            | Self::RelaysStarted(identity)
            | Self::RequesterChannelActive(identity)
            | Self::TargetChannelActive(identity) => Some((identity, None)),
            Self::ConnectNotStarted(identity, summary)
            | Self::IdleTimeout(identity, summary)
            | Self::ConnectTimeout(identity, summary)
            | Self::TargetRefused(identity, summary)
            | Self::RequesterRelayNotStarted(identity, summary)
            | Self::TargetRelayNotStarted(identity, summary)
            | Self::RequesterBuffer(identity, summary)
            | Self::RequesterReadClosure(identity, summary)
            | Self::TargetWriteClosure(identity, summary)
            | Self::TargetBuffer(identity, summary)
            | Self::TargetReadClosure(identity, summary)
            | Self::RequesterWriteClosure(identity, summary) => Some((identity, Some(summary))),
            Self::StatusSession(live) => Some((&live.identity, Some(&live.summary))),
            _ => None,
        }
    }

    /// The requester that the message is about, where it has no session.
    pub(crate) fn requester(&self) -> Option<&SocketAddr> {
        match self {
            Self::Attempt(requester)
            | Self::Rejected(requester)
            | Self::Accepted(requester)
            | Self::TargetSocket(requester, ..)
            | Self::PoolExhausted(requester)
            | Self::OwnConnection(requester, _)
            | Self::SourceLimit(requester, _) => Some(requester),
            _ => self.session().map(|(identity, _)| &identity.requester),
        }
    }

    /// The target that the message is about.
    pub(crate) fn target(&self) -> Option<&SocketAddr> {
        match self {
            Self::Active(_, target)
            | Self::TargetSocket(_, target, _)
            | Self::OwnConnection(_, target)
            | Self::OwnListener(target) => Some(target),
            _ => self.session().map(|(identity, _)| &identity.target),
        }
    }

    /// The operating system's error number behind the message.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::ListenerSocket(errno)
            | Self::ListenerBind(errno)
            | Self::ListenerListen(errno)
            | Self::PollUnavailable(errno)
            | Self::TargetSocket(_, _, errno)
            | Self::AcceptFailed(errno)
            | Self::WaitFailed(errno) => Some(*errno),
            _ => self.session().and_then(|(_, summary)| summary?.errno),
        }
    }
}

impl From<Ended> for Message {
    fn from(ended: Ended) -> Self {
        use Side::{Requester, Target};
        let message = match ended.cause {
            Cause::ConnectNotStarted => Self::ConnectNotStarted,
            Cause::IdleTimeout => Self::IdleTimeout,
            Cause::ConnectTimeout => Self::ConnectTimeout,
            Cause::TargetRefused => Self::TargetRefused,
            Cause::RelayNotStarted(Requester) => Self::RequesterRelayNotStarted,
            Cause::RelayNotStarted(Target) => Self::TargetRelayNotStarted,
            Cause::NoBuffer(Requester) => Self::RequesterBuffer,
            Cause::NoBuffer(Target) => Self::TargetBuffer,
            Cause::ReadClosure(Requester) => Self::RequesterReadClosure,
            Cause::ReadClosure(Target) => Self::TargetReadClosure,
            Cause::WriteClosure(Requester) => Self::RequesterWriteClosure,
            Cause::WriteClosure(Target) => Self::TargetWriteClosure,
        };
        message(ended.identity, ended.summary)
    }
}

/// The bare address, an IPv4-mapped one as IPv4.
fn bare(address: &SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

impl fmt::Display for Message {
    #[rustfmt::skip] // One message a line, however long: this is a table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockTooCoarse => write!(f, "Error: This system does not provide a high resolution timer."),
            Self::InvalidFwdPort => write!(f, "Error: <fwd port> must be between 1 and 65535 inclusive."),
            Self::InvalidTrgHost => write!(f, "Error: Invalid IP address specified for <trg host>."),
            Self::InvalidTrgPort => write!(f, "Error: <trg port> must be between 1 and 65535 inclusive."),
            Self::InvalidAcl => write!(f, "Error: <ACL> needs to be keyword ANY, or dotted decimal IP/mask notation."),
            Self::InvalidConnectTimeout => write!(f, "Error: <c t/o> must be between 1 and 3 inclusive."),
            Self::InvalidIdleTimeout => write!(f, "Error: <i t/o> must be between 1 and 1800 inclusive."),
            Self::InvalidBuf => write!(f, "Error: <buf> must be between 100 and 4000 inclusive."),
            Self::WinsockInitialization => write!(f, "Error: WinSock initialization failure."),
            Self::WinsockVersion => write!(f, "Error: WinSock version must be at least 2.0."),
            Self::ListenerSocket(_) => write!(f, "Error: Listener socket creation failure."),
            Self::ListenerBind(_) => write!(f, "Error: Could not bind listener port to socket."),
            Self::ListenerListen(_) => write!(f, "Error: Listener failed to initialize."),
            Self::PollUnavailable(_) => write!(f, "Error: Unable to start the maintenance thread."),
            Self::Active(port, target) => write!(f, "The relayer is now active. Data received on TCP port {port} will be forwarded to {} port {}...", bare(target), target.port()),
            Self::Attempt(requester) => write!(f, "Connection attempt made from {}.", bare(requester)),
            Self::Rejected(requester) => write!(f, "Connection from {} rejected due to ACL mismatch.", bare(requester)),
            Self::Accepted(requester) => write!(f, "Connection from {} was accepted. Allocating a session handler.", bare(requester)),
            Self::TargetSocket(requester, target, _) => write!(f, "Could not allocate a socket to target {}. Request from {} aborted.", bare(target), bare(requester)),
            Self::ConnectNotStarted(session, _) => write!(f, "Connection from {} was dropped because the session handler thread failed to start.", bare(&session.requester)),
            Self::PoolExhausted(requester) => write!(f, "Session pool exhausted. Connection from {} was dropped.", bare(requester)),
            Self::AcceptFailed(errno) => write!(f, "Error number {errno} was returned during requester connection attempt."),
            Self::AbsoluteTimeout => write!(f, "Absolute timeout expired. This process will now terminate."),
            Self::IdleTimeout(session, _) => write!(f, "Session handler serial number {} connecting {} to {} exceeded the idle timeout and has been terminated.", session.serial, bare(&session.requester), bare(&session.target)),
            Self::ConnectTimeout(session, _) => write!(f, "Session handler serial number {} connecting {} to {} has been terminated due to an expired target connection attempt.", session.serial, bare(&session.requester), bare(&session.target)),
            Self::Allocated(session) => write!(f, "Session handler serial number {} was allocated for request from {}. Connecting to target {}.", session.serial, bare(&session.requester), bare(&session.target)),
            Self::TargetRefused(session, _) => write!(f, "The target refused the connection attempt for session handler serial number {}.", session.serial),
            Self::Connected(session) => write!(f, "Session handler serial number {} made a successful connection to the target. Starting the relay threads.", session.serial),
            Self::RequesterRelayNotStarted(session, _) => write!(f, "Session handler serial number {} could not start the requester relay thread.", session.serial),
            Self::TargetRelayNotStarted(session, _) => write!(f, "Session handler serial number {} could not start the target relay thread.", session.serial),
            Self::RelaysStarted(session) => write!(f, "Session handler serial number {} successfully started both relay threads.", session.serial),
            Self::RequesterBuffer(session, _) => write!(f, "Session handler serial number {} failed to allocate a requester transfer buffer.", session.serial),
            Self::RequesterChannelActive(session) => write!(f, "Session handler serial number {} requester-to-target channel is now active.", session.serial),
            Self::RequesterReadClosure(session, _) => write!(f, "Session handler serial number {} terminated due to requester read closure.", session.serial),
            Self::TargetWriteClosure(session, _) => write!(f, "Session handler serial number {} terminated due to target write closure.", session.serial),
            Self::TargetBuffer(session, _) => write!(f, "Session handler serial number {} failed to allocate a target transfer buffer.", session.serial),
            Self::TargetChannelActive(session) => write!(f, "Session handler serial number {} target-to-requester channel is now active.", session.serial),
            Self::TargetReadClosure(session, _) => write!(f, "Session handler serial number {} terminated due to target read closure.", session.serial),
            Self::RequesterWriteClosure(session, _) => write!(f, "Session handler serial number {} terminated due to requester write closure.", session.serial),
            Self::StopSignal => write!(f, "Stop signal received. This process will now terminate."),
            Self::DrainSignal(sessions) => write!(f, "Drain signal received. No more connections are accepted. Sessions that go on: {sessions}."),
            Self::Drained => write!(f, "The last session has ended. This process will now terminate."),
            Self::LinesDropped(count) => write!(f, "{count} log lines were dropped because the log output was not read."),
            Self::DescriptorLimit(limit, enough, sessions) => write!(f, "The limit of {limit} descriptors is enough for {enough} sessions, not for all {sessions} of the pool."),
            Self::PoolNeeds(sessions, descriptors, kib) => write!(f, "A pool of {sessions} sessions needs up to {descriptors} descriptors and {kib} KiB of memory."),
            Self::OwnConnection(requester, target) => write!(f, "Connection from {} was dropped because it is this relay's own: target {} leads back here.", bare(requester), bare(target)),
            Self::SourceLimit(requester, most) => write!(f, "Connection from {} was dropped because it has {most} sessions in the pool already.", bare(requester)),
            Self::Status(sessions, lines, totals) => write!(f, "Status: {sessions} sessions, {} accepted, {} rejected, {} refused, {} expired, {} dropped, {} bytes to the target, {} bytes to the requester, {lines} log lines dropped.", totals.accepted, totals.rejected, totals.refused, totals.expired, totals.dropped, totals.to_target, totals.to_requester),
            Self::StatusSession(Live { identity, phase, summary, idle }) => write!(f, "Status: session handler serial number {} from {} is {phase}, age {} s, idle {} s, {} bytes to the target, {} bytes to the requester.", identity.serial, bare(&identity.requester), summary.duration.as_secs(), idle.as_secs(), summary.to_target, summary.to_requester),
            Self::WaitFailed(errno) => write!(f, "Error number {errno} was returned while waiting for events. This process will now terminate."),
            Self::InvalidAbsoluteTimeout => write!(f, "Error: <a t/o> must be between 0 and 4294967295 inclusive."),
            Self::InvalidOption(option, given, allowed) => write!(f, "Error: {option} cannot be {given:?}. It takes {allowed}."),
            Self::OwnListener(target) => write!(f, "Error: <trg host> {} <trg port> {} is where this relay itself listens.", bare(target), target.port()),
            Self::PoolTooLarge(sessions, need) => write!(f, "Error: --sessions {sessions} needs {need}."),
            Self::InheritedSocket => write!(f, "Error: The socket passed in is not one listening TCP socket."),
            Self::WouldRelay(listener, line) => write!(f, "Would listen on {listener}, as: {line}"),
            Self::InheritedOtherwise(given, listener) => write!(f, "Error: {given} contradicts the socket passed in, which listens on {listener}."),
            Self::Listening(listener) => write!(f, "Listening on {listener}."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_bare_and_mapped_ones_are_printed_as_ipv4() {
        let mapped = "[::ffff:192.0.2.7]:4711".parse().unwrap();
        assert_eq!(Message::Attempt(mapped).to_string(), "Connection attempt made from 192.0.2.7.");
        let six = "[2001:db8::1]:4711".parse().unwrap();
        assert_eq!(Message::Attempt(six).to_string(), "Connection attempt made from 2001:db8::1.");
    }

    #[test]
    fn the_windows_messages_are_in_the_catalogue() {
        assert_eq!(Message::WinsockInitialization.number(), 9);
        assert_eq!(Message::WinsockVersion.to_string(), "Error: WinSock version must be at least 2.0.");
    }
}

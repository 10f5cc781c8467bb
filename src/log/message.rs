//! The catalogue: every line that the relay prints, with its number and its stable event name.
//!
//! 1 to 39 are the original's, to the letter. From 100 on they are ours. Nothing else is printed, except the help,
//! the version, and the argument parser's errors.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::config::error::Given;
use crate::log::fields::{Field as _, Fields, Value};
use crate::log::reason::{Addresses, Errno, ListenFailure, OptionFailure, StatusFailure, words};
use crate::log::text::{AsPart, Part, Quoted, Text, places};
use crate::pool::totals::Totals;
use crate::session::ended::{Destination, Identity, Live, Summary, Unreached};

/// How much a message matters. It decides which `--log-level` keeps the message, and its priority
/// in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// A step in the life of a connection. Only `all` keeps it.
    Step,
    /// The end of a connection, or the start or the end of the relay. `ends` keeps it as well.
    End,
    /// The answer to a request: a status report, a check. Every level keeps it.
    Answer,
    /// The relay goes on, but without this connection, or with less than it needs.
    Problem,
    /// The relay cannot start, or cannot go on.
    Error,
}

/// Makes the enum and its methods from one table. A row has the number, the event name, the level, the variant
/// with its fields, and the text with a value for each `{}`. The fields are also those of the JSON log.
macro_rules! catalogue {
    ($(
        $(#[$doc:meta])*
        $number:literal $event:literal $level:ident $name:ident { $($field:ident: $type:ty),* }
            $words:literal $(, $value:expr)*;
    )*) => {
        /// A message of the catalogue with its values. `Display` writes its text.
        ///
        /// Its fields are named as in the JSON log. A later version may add messages, and fields to a message. A
        /// pattern that ends in `..` still matches then.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum Message {
            $(
                $(#[$doc])*
                #[doc = ""]
                #[doc = concat!("Message ", $number, ", `", $event, "`, level [`", stringify!($level), "`](Level::", stringify!($level), ").")]
                $name { $($field: $type),* },
            )*
        }

        #[allow(unused_variables, reason = "a row may have fields for the JSON log alone")]
        impl Message {
            /// Returns the message's number in the catalogue.
            #[must_use]
            pub fn number(&self) -> u16 {
                match self { $( Self::$name { .. } => $number, )* }
            }

            /// Returns the message's name in the JSON log. Names never change.
            #[must_use]
            pub fn event(&self) -> &'static str {
                match self { $( Self::$name { .. } => $event, )* }
            }

            /// Returns how much the message matters.
            #[must_use]
            pub fn level(&self) -> Level {
                match self { $( Self::$name { .. } => Level::$level, )* }
            }

            /// Passes each field to `put`, with its name in the JSON log.
            pub fn put_fields(&self, put: &mut dyn FnMut(&'static str, Value<'_>)) {
                let fields = &mut Fields { event: self.event(), put };
                match self { $( Self::$name { $($field),* } => { $( $field.put(stringify!($field), fields); )* } )* }
            }
        }

        #[allow(unused_variables, reason = "as above")]
        impl Message {
            /// Writes the text of the message.
            pub(crate) fn write_text(&self, text: &mut Text<'_, '_>) -> fmt::Result {
                match self { $( Self::$name { $($field),* } => {
                    let places = const { &places::<{ <[&str]>::len(&[$(stringify!($value)),*]) }>($words) };
                    text.write($words, places, &[$($value.part()),*])
                } )* }
            }
        }

        impl fmt::Display for Message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.write_text(&mut Text::Formatter(f))
            }
        }
    };
}

catalogue! {
    /// The monotonic clock is too coarse for the ticks of the timer wheel.
    1 "clock_too_coarse" Error ClockTooCoarse {}
        "Error: This system does not provide a high resolution timer.";
    /// `<fwd port>` was refused.
    2 "invalid_fwd_port" Error InvalidFwdPort { given: Given }
        "Error: <fwd port> must be between 1 and 65535 inclusive.";
    /// `<trg host>` was refused.
    3 "invalid_trg_host" Error InvalidTrgHost { given: Given }
        "Error: Invalid IP address specified for <trg host>.";
    /// `<trg port>` was refused.
    4 "invalid_trg_port" Error InvalidTrgPort { given: Given }
        "Error: <trg port> must be between 1 and 65535 inclusive.";
    /// `<ACL>` was refused.
    5 "invalid_acl" Error InvalidAcl { given: Given }
        "Error: <ACL> needs to be keyword ANY, or dotted decimal IP/mask notation.";
    /// `<c t/o>` was refused.
    6 "invalid_connect_timeout" Error InvalidConnectTimeout { given: Given }
        "Error: <c t/o> must be between 1 and 3 inclusive.";
    /// `<i t/o>` was refused.
    7 "invalid_idle_timeout" Error InvalidIdleTimeout { given: Given }
        "Error: <i t/o> must be between 1 and 1800 inclusive.";
    /// `<buf>` was refused.
    8 "invalid_buf" Error InvalidBuf { given: Given }
        "Error: <buf> must be between 100 and 4000 inclusive.";
    /// Windows only, cannot occur here.
    9 "winsock_initialization" Error WinsockInitialization {}
        "Error: WinSock initialization failure.";
    /// Windows only, cannot occur here.
    10 "winsock_version" Error WinsockVersion {}
        "Error: WinSock version must be at least 2.0.";
    /// `socket` for the listener failed, or an option of the socket could not be set.
    11 "listener_socket" Error ListenerSocket { failure: ListenFailure }
        "Error: Listener socket creation failure.";
    /// `bind` failed.
    12 "listener_bind" Error ListenerBind { failure: ListenFailure }
        "Error: Could not bind listener port to socket.";
    /// `listen` failed.
    13 "listener_listen" Error ListenerListen { failure: ListenFailure }
        "Error: Listener failed to initialize.";
    /// The poll instance could not be made, or a socket that it must watch could not be registered with it.
    14 "poll_unavailable" Error PollUnavailable { failure: ListenFailure }
        "Error: Unable to start the maintenance thread.";
    /// The relay is ready.
    15 "active" End Active { port: u16, target: Destination }
        "The relayer is now active. Data received on TCP port {} will be forwarded to {} port {}...", port, Host(target), target.port();
    /// The kernel accepted a connection.
    16 "attempt" Step Attempt { requester: SocketAddr }
        "Connection attempt made from {}.", bare(requester);
    /// The ACL does not admit the requester. That is the ACL's purpose, and strangers can cause any number of these
    /// lines, so the level is not `Problem`.
    17 "rejected" End Rejected { requester: SocketAddr }
        "Connection from {} rejected due to ACL mismatch.", bare(requester);
    /// The ACL admits the requester.
    18 "accepted" Step Accepted { requester: SocketAddr }
        "Connection from {} was accepted. Allocating a session handler.", bare(requester);
    /// `socket` for the target failed.
    19 "target_socket" Problem TargetSocket { requester: SocketAddr, target: Destination, errno: Errno }
        "Could not allocate a socket to target {}. Request from {} aborted.", Host(target), bare(requester);
    /// The target's socket could not be prepared for the connect, or not be registered with the poll instance.
    20 "connect_not_started" Problem ConnectNotStarted { session: Identity, summary: Summary }
        "Connection from {} was dropped because the session handler thread failed to start.", bare(&session.requester);
    /// Every slot of the pool is in use.
    21 "pool_exhausted" Problem PoolExhausted { requester: SocketAddr }
        "Session pool exhausted. Connection from {} was dropped.", bare(requester);
    /// `accept` failed.
    22 "accept_failed" Problem AcceptFailed { errno: Errno }
        "Error number {} was returned during requester connection attempt.", errno;
    /// The absolute timeout ends the relay.
    23 "absolute_timeout" End AbsoluteTimeout {}
        "Absolute timeout expired. This process will now terminate.";
    /// No byte moved for the idle timeout. Each side sees EOF, or a reset if bytes for it were not delivered.
    24 "idle_timeout" End IdleTimeout { session: Identity, summary: Summary }
        "Session handler serial number {} connecting {} to {} exceeded the idle timeout and has been terminated.", session.serial, bare(&session.requester), Host(&session.target);
    /// The connect was not complete within the connect timeout.
    25 "connect_timeout" Problem ConnectTimeout { session: Identity, summary: Summary }
        "Session handler serial number {} connecting {} to {} has been terminated due to an expired target connection attempt.", session.serial, bare(&session.requester), Host(&session.target);
    /// The session has a slot, and its connect begins.
    26 "allocated" Step Allocated { session: Identity }
        "Session handler serial number {} was allocated for request from {}. Connecting to target {}.", session.serial, bare(&session.requester), Host(&session.target);
    /// The connect failed.
    27 "target_refused" Problem TargetRefused { session: Identity, summary: Summary }
        "The target refused the connection attempt for session handler serial number {}.", session.serial;
    /// The connect succeeded.
    28 "connected" Step Connected { session: Identity }
        "Session handler serial number {} made a successful connection to the target. Starting the relay threads.", session.serial;
    /// The requester's socket could not be registered with the poll instance.
    29 "requester_relay_not_started" Problem RequesterRelayNotStarted { session: Identity, summary: Summary }
        "Session handler serial number {} could not start the requester relay thread.", session.serial;
    /// The target's socket could not be registered again for relaying.
    30 "target_relay_not_started" Problem TargetRelayNotStarted { session: Identity, summary: Summary }
        "Session handler serial number {} could not start the target relay thread.", session.serial;
    /// Both sockets are ready for relaying.
    31 "relays_started" Step RelaysStarted { session: Identity }
        "Session handler serial number {} successfully started both relay threads.", session.serial;
    /// There is no memory for the buffer of the requester-to-target channel.
    32 "requester_buffer" Problem RequesterBuffer { session: Identity, summary: Summary }
        "Session handler serial number {} failed to allocate a requester transfer buffer.", session.serial;
    /// The requester-to-target channel relays.
    33 "requester_channel_active" Step RequesterChannelActive { session: Identity }
        "Session handler serial number {} requester-to-target channel is now active.", session.serial;
    /// The requester closed first, or reading from it failed.
    34 "requester_read_closure" End RequesterReadClosure { session: Identity, summary: Summary }
        "Session handler serial number {} terminated due to requester read closure.", session.serial;
    /// Writing to the target failed.
    35 "target_write_closure" End TargetWriteClosure { session: Identity, summary: Summary }
        "Session handler serial number {} terminated due to target write closure.", session.serial;
    /// There is no memory for the buffer of the target-to-requester channel.
    36 "target_buffer" Problem TargetBuffer { session: Identity, summary: Summary }
        "Session handler serial number {} failed to allocate a target transfer buffer.", session.serial;
    /// The target-to-requester channel relays.
    37 "target_channel_active" Step TargetChannelActive { session: Identity }
        "Session handler serial number {} target-to-requester channel is now active.", session.serial;
    /// The target closed first, or reading from it failed.
    38 "target_read_closure" End TargetReadClosure { session: Identity, summary: Summary }
        "Session handler serial number {} terminated due to target read closure.", session.serial;
    /// Writing to the requester failed.
    39 "requester_write_closure" End RequesterWriteClosure { session: Identity, summary: Summary }
        "Session handler serial number {} terminated due to requester write closure.", session.serial;
    /// The relay was asked to stop, or twice to drain, by a [`Handle`](crate::Handle) or a signal.
    100 "stop_signal" End StopSignal {}
        "Stop signal received. This process will now terminate.";
    /// The relay was asked to drain, by a [`Handle`](crate::Handle) or a signal. `sessions` is how many go on.
    101 "drain_signal" End DrainSignal { sessions: usize }
        "Drain signal received. No more connections are accepted. Sessions that go on: {}.", sessions;
    /// The last session has ended, after 101.
    102 "drained" End Drained {}
        "The last session has ended. This process will now terminate.";
    /// The log's output did not take these lines in time.
    103 "lines_dropped" Problem LinesDropped { lines_dropped: u64 }
        "{} log lines were dropped because the log output was not read.", lines_dropped;
    /// The descriptor limit is too low for all sessions of the pool.
    104 "descriptor_limit" Problem DescriptorLimit { limit: u64, enough_for: u64, sessions: usize }
        "The limit of {} descriptors is enough for {} sessions, not for all {} of the pool.", limit, enough_for, sessions;
    /// The needs of the pool, where `--sessions` was given.
    105 "pool_needs" End PoolNeeds { sessions: usize, descriptors: u64, kib: u64 }
        "A pool of {} sessions needs up to {} descriptors and {} KiB of memory.", sessions, descriptors, kib;
    /// The requester is one of the relay's own connections to the target.
    106 "own_connection" Problem OwnConnection { requester: SocketAddr, target: SocketAddr }
        "Connection from {} was dropped because it is this relay's own: target {} leads back here.", bare(requester), bare(target);
    /// The requester's source, its IPv4 address or IPv6 /64, has as many sessions as `--max-per-source` allows.
    107 "source_limit" Problem SourceLimit { requester: SocketAddr, limit: usize }
        "Connection from {} was dropped because it has {} sessions in the pool already.", bare(requester), limit;
    /// The answer to [`Handle::report`](crate::Handle::report) or SIGUSR1: sessions in the pool, the totals, and the
    /// lines of the log that were dropped.
    108 "status" Answer Status { sessions: usize, totals: Totals, lines_dropped: u64 }
        "Status: {} sessions, {}, {} log lines dropped.", sessions, totals, lines_dropped;
    /// A live session, after 108.
    109 "status_session" Answer StatusSession { live: Live }
        "Status: session handler serial number {} from {} is {}, age {} s, idle {} s, {} bytes to the target, {} bytes to the requester.",
        live.identity.serial, bare(&live.identity.requester), live.phase, live.summary.duration.as_secs(), live.idle.as_secs(), live.summary.to_target, live.summary.to_requester;
    /// Waiting for events failed for good.
    110 "wait_failed" Error WaitFailed { errno: Errno }
        "Error number {} was returned while waiting for events. This process will now terminate.", errno;
    /// `<a t/o>` was refused.
    111 "invalid_absolute_timeout" Error InvalidAbsoluteTimeout { given: Given }
        "Error: <a t/o> must be between 0 and 4294967295 inclusive.";
    /// An option's value was refused. `allowed` has the values that the option takes.
    112 "invalid_option" Error InvalidOption { option: &'static str, given: String, allowed: String }
        "Error: {} cannot be {}. It takes {}.", option, Quoted(given), allowed;
    /// The target is the relay's own listener.
    113 "own_listener" Error OwnListener { target: SocketAddr }
        "Error: <trg host> {} <trg port> {} is where this relay itself listens.", bare(target), target.port();
    /// The limits of the process cannot give what `--sessions` needs.
    114 "pool_too_large" Error PoolTooLarge { sessions: usize, need: String }
        "Error: --sessions {} needs {}.", sessions, need;
    /// The socket passed in by the service manager cannot be used.
    115 "inherited_socket" Error InheritedSocket {}
        "Error: The socket passed in is not one listening TCP socket.";
    /// The result of `--check`: the address that the relay would listen on, and its command line.
    116 "would_relay" Answer WouldRelay { address: SocketAddr, command_line: String }
        "Would listen on {}, as: {}", address, command_line;
    /// The refused value, and a valid one. Follows 2 to 8 and 111 in the text log.
    117 "value_given" Error ValueGiven { given: Given }
        "The value given was {}.{} A valid example: {}", Quoted(&given.text), given.cure, given.example;
    /// The system's reason. Follows 11 to 14 in the text log.
    118 "start_reason" Error StartReason { failure: ListenFailure }
        "Listening on {} failed: {} (error number {}).{}", failure.address, failure.errno.words(), failure.errno, failure.cure();
    /// The system's reason. Follows 19, 20, and a 27 other than ECONNREFUSED, in the text log.
    119 "connection_reason" Problem ConnectionReason { requester: SocketAddr, errno: Errno }
        "The connection from {} failed: {} (error number {}).", bare(requester), errno.words(), errno;
    /// A name has other addresses than before, or has been resolved again after 121. With `--resolve`.
    120 "name_resolved" End NameResolved { name: String, addresses: Addresses }
        "The target name {} has the addresses {}.", name, addresses;
    /// A lookup has failed for a new reason. The old addresses stay in use. With `--resolve`.
    121 "name_not_resolved" Problem NameNotResolved { name: String, reason: String, addresses: Addresses }
        "The target name {} could not be resolved: {}. {}", name, reason, addresses.kept();
    /// A session goes on to another target, or to another address of a name.
    122 "next_target" Step NextTarget { session: Identity, unreached: Unreached, next_target: Destination }
        "Session handler serial number {} could not connect to {} ({}). Connecting to target {}.", session.serial, session.target, words(unreached), next_target;
    /// A target could not be reached, and rests from now on. Only if there are several targets or addresses.
    123 "target_rests" Problem TargetRests { target: Destination, unreached: Unreached }
        "Target {} could not be reached ({}). Sessions go to other targets first, until it answers again.", target, words(unreached);
    /// A target that rested (123) has answered a session.
    124 "target_back" Problem TargetBack { target: Destination }
        "Target {} answers again.", target;
    /// The privileges that are left after `--user` and `--chroot`.
    126 "privileges_dropped" End PrivilegesDropped { uid: u32, gid: u32, root: String, capabilities: &'static str }
        "Privileges were given up. User {}, group {}, root directory {}, capabilities: {}.", uid, gid, root, capabilities;
    /// An argument contradicts the socket passed in. `given` is the argument, `address` that of the socket.
    130 "inherited_otherwise" Error InheritedOtherwise { given: String, address: SocketAddr }
        "Error: {} contradicts the socket passed in, which listens on {}.", given, address;
    /// The address that the relay listens on, if it is not 0.0.0.0. Follows 15.
    131 "listening" End Listening { address: SocketAddr }
        "Listening on {}.", address;
    /// The system lacks an option, or does not permit it.
    132 "option_unavailable" Error OptionUnavailable { failure: OptionFailure }
        "Error: {} cannot be used: {} (error number {}). {}", failure.option, failure.errno.words(), failure.errno, failure.cure();
    /// A target, with its failed connects by reason. Follows 108 if there are several targets or addresses.
    135 "status_target" Answer StatusTarget { target: Destination, state: &'static str, refused: u64, expired: u64, unreachable: u64, own_failures: u64 }
        "Status: target {} is {}, connects failed: {} refused, {} expired, {} unreachable, {} for reasons of this host.", target, state, refused, expired, unreachable, own_failures;
    /// A backup cannot be reached from `--source`, because its address is of the other family.
    136 "backup_of_other_family" Problem BackupOfOtherFamily { target: Destination, source: String }
        "Target {} cannot be tried, because --source {} is of the other address family.", target, source;
    /// The place where the status is served, with `--status`. Follows 15 and 131.
    125 "status_listening" End StatusListening { status: String }
        "The status is served on {}.", status;
    /// The status cannot be served at the place that `--status` names.
    137 "status_unavailable" Error StatusUnavailable { failure: StatusFailure }
        "Error: The status cannot be served on {}: {} (error number {}).{}", failure.status, failure.errno.words(), failure.errno, failure.cure();
}

/// A target's bare address, or its name.
struct Host<'a>(&'a Destination);

impl AsPart for Host<'_> {
    fn part(&self) -> Part<'_> {
        match self.0 {
            Destination::Address(address) => Part::Address(bare(address)),
            Destination::Name(name, _) => Part::Other(name),
        }
    }
}

/// Returns the address without its port, an IPv4-mapped one as IPv4.
fn bare(address: &SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_bare_and_mapped_ones_are_printed_as_ipv4() {
        let attempt =
            |requester: &str| Message::Attempt { requester: requester.parse().unwrap() }.to_string();
        assert_eq!(attempt("[::ffff:192.0.2.7]:4711"), "Connection attempt made from 192.0.2.7.");
        assert_eq!(attempt("[2001:db8::1]:4711"), "Connection attempt made from 2001:db8::1.");
    }

    #[test]
    fn the_windows_messages_are_in_the_catalogue() {
        assert_eq!(Message::WinsockInitialization {}.number(), 9);
        assert_eq!(Message::WinsockVersion {}.to_string(), "Error: WinSock version must be at least 2.0.");
    }
}

//! The README agrees with the program: the table of messages, the help, a limit, and the form of its blocks.

use std::fmt::Write as _;
use std::io::{Read as _, pipe};
use std::net::SocketAddr;
use std::num::NonZeroU64;

use serde_json::Value;
use tcprelay::cli::{Request, parse};
use tcprelay::internal::message::{
    Addresses, Cause, Errno, Given, Identity, ListenFailure, Live, Message, OptionFailure, StatusFailure,
    Summary, Totals, Unreached,
};
use tcprelay::{Log, LogFormat, LogStyle, Progress, Sink as _, StatusAddress};

const README: &str = include_str!("../../README.md");

/// Returns the messages in the order of their numbers. Their values stand for placeholders.
fn catalogue() -> Vec<Message> {
    let requester: SocketAddr = "192.0.2.1:50001".parse().unwrap();
    let target: SocketAddr = "198.51.100.2:60002".parse().unwrap();
    let session = Identity { serial: NonZeroU64::new(70003).unwrap(), requester, target: target.into() };
    let summary = Summary::default();
    let errno = Errno(80004);
    let address = "0.0.0.0:40000".parse().unwrap();
    let failure = ListenFailure { address, errno };
    let given = Given { text: "value".into(), example: "example", cure: "" };
    let mut messages = vec![
        Message::ClockTooCoarse {},
        Message::InvalidFwdPort { given: given.clone() },
        Message::InvalidTrgHost { given: given.clone() },
        Message::InvalidTrgPort { given: given.clone() },
        Message::InvalidAcl { given: given.clone() },
        Message::InvalidConnectTimeout { given: given.clone() },
        Message::InvalidIdleTimeout { given: given.clone() },
        Message::InvalidBuf { given: given.clone() },
        Message::WinsockInitialization {},
        Message::WinsockVersion {},
        Message::ListenerSocket { failure },
        Message::ListenerBind { failure },
        Message::ListenerListen { failure },
        Message::PollUnavailable { failure },
        Message::Active { port: 40000, target: target.into() },
        Message::Attempt { requester },
        Message::Rejected { requester },
        Message::Accepted { requester },
        Message::TargetSocket { requester, target: target.into(), errno },
        Message::ConnectNotStarted { session, summary },
        Message::PoolExhausted { requester },
        Message::AcceptFailed { errno },
        Message::AbsoluteTimeout {},
        Message::IdleTimeout { session, summary },
        Message::ConnectTimeout { session, summary },
        Message::Allocated { session },
        Message::TargetRefused { session, summary },
        Message::Connected { session },
        Message::RequesterRelayNotStarted { session, summary },
        Message::TargetRelayNotStarted { session, summary },
        Message::RelaysStarted { session },
        Message::RequesterBuffer { session, summary },
        Message::RequesterChannelActive { session },
        Message::RequesterReadClosure { session, summary },
        Message::TargetWriteClosure { session, summary },
        Message::TargetBuffer { session, summary },
        Message::TargetChannelActive { session },
        Message::TargetReadClosure { session, summary },
        Message::RequesterWriteClosure { session, summary },
    ];
    messages.extend(catalogue_of_process(session));
    messages.extend(catalogue_of_targets(session));
    messages
}

/// Returns the messages from 100 on about the process, its limits and its options.
fn catalogue_of_process(session: Identity) -> Vec<Message> {
    let Identity { requester, target, .. } = session;
    let errno = Errno(80004);
    let address = "0.0.0.0:40000".parse().unwrap();
    let failure = ListenFailure { address, errno };
    let given = Given { text: "value".into(), example: "example", cure: "" };
    vec![
        Message::StopSignal {},
        Message::DrainSignal { sessions: 90005 },
        Message::Drained {},
        Message::LinesDropped { lines_dropped: 90005 },
        Message::DescriptorLimit { limit: 90005, enough_for: 90005, sessions: 90005 },
        Message::PoolNeeds { sessions: 90005, descriptors: 90005, kib: 90005 },
        Message::OwnConnection { requester, target: target.address().unwrap() },
        Message::SourceLimit { requester, limit: 90005 },
        Message::Status { sessions: 90005, totals: totals(), lines_dropped: 90005 },
        Message::StatusSession { live: live(session) },
        Message::WaitFailed { errno },
        Message::InvalidAbsoluteTimeout { given: given.clone() },
        Message::InvalidOption {
            option: "--option",
            given: "value".into(),
            allowed: "what is allowed".into(),
        },
        Message::OwnListener { target: target.address().unwrap() },
        Message::PoolTooLarge { sessions: 90005, need: "what it needs, and the limit".into() },
        Message::InheritedSocket {},
        Message::WouldRelay { address, command_line: "the whole command line".into() },
        Message::ValueGiven { given },
        Message::StartReason { failure },
        Message::ConnectionReason { requester, errno },
    ]
}

/// Returns the messages about targets, the status, privileges and addresses, which follow those of the process.
fn catalogue_of_targets(session: Identity) -> [Message; 13] {
    let target = session.target;
    let addresses = Addresses(target.address().map(|target| target.ip()).into_iter().collect());
    let unreached = Unreached { cause: Cause::TargetRefused, errno: Some(80004) };
    let status: StatusAddress = "127.0.0.1:9100".parse().unwrap();
    let at = |address: &str| address.parse().unwrap();
    [
        Message::NameResolved { name: "db.example".into(), addresses: addresses.clone() },
        Message::NameNotResolved { name: "db.example".into(), reason: "the reason".into(), addresses },
        Message::NextTarget {
            session,
            unreached,
            next_target: SocketAddr::from(([198, 51, 100, 9], 60002)).into(),
        },
        Message::TargetRests { target, unreached },
        Message::TargetBack { target },
        Message::StatusListening { status: status.to_string() },
        Message::PrivilegesDropped { uid: 90005, gid: 90005, root: "/".into(), capabilities: "none" },
        Message::InheritedOtherwise { given: "an argument".into(), address: at("0.0.0.0:40000") },
        Message::Listening { address: at("192.0.2.9:40000") },
        Message::OptionUnavailable { failure: OptionFailure { option: "--option", errno: Errno(80004) } },
        Message::StatusTarget {
            target,
            state: "resting",
            refused: 90005,
            expired: 90005,
            unreachable: 90005,
            own_failures: 90005,
        },
        Message::BackupOfOtherFamily { target, source: "2001:db8::9".into() },
        Message::StatusUnavailable { failure: StatusFailure { status, errno: Errno(80004) } },
    ]
}

fn totals() -> Totals {
    let mut totals = Totals::default();
    (totals.accepted, totals.rejected, totals.refused) = (90005, 90005, 90005);
    (totals.expired, totals.dropped) = (90005, 90005);
    (totals.to_target, totals.to_requester) = (90005, 90005);
    totals
}

fn live(identity: Identity) -> Live {
    let duration = std::time::Duration::from_secs(90005);
    let mut summary = Summary::default();
    (summary.to_target, summary.to_requester, summary.duration) = (90005, 90005, duration);
    Live { identity, phase: Progress::Relaying, summary, idle: duration }
}

#[test]
fn the_readmes_table_of_messages_is_the_catalogue() {
    let mut table = String::new();
    for message in catalogue() {
        let text = message
            .to_string()
            .replace(&Errno(80004).words(), "the system's words")
            .replace("192.0.2.1", "<rqst IP addr>")
            .replace("198.51.100.2", "<trg host>")
            .replace("60002", "<trg port>")
            .replace("40000", "<fwd port>")
            .replace("70003", "<ser num>")
            .replace("80004", "<err num>")
            .replace("90005", "N");
        let text = text.replace('<', "\\<").replace('|', "\\|");
        let level = format!("{:?}", message.level()).to_lowercase();
        writeln!(table, "| {} | `{}` | {level} | {text} |", message.number(), message.event()).unwrap();
    }
    assert!(README.contains(&table), "the README lacks this table:\n{table}");
}

/// Returns how many fields of an object have the value `wanted`. It does not look into nested objects.
fn count_of(object: &Value, wanted: &Value) -> usize {
    object.as_object().unwrap().values().filter(|value| *value == wanted).count()
}

#[test]
fn as_json_every_message_is_one_object_with_the_values_of_its_text() {
    for message in catalogue() {
        let (mut written, output) = pipe().unwrap();
        let mut style = LogStyle::default();
        style.format = LogFormat::Json;
        let mut log = Log::to(output.into(), style);
        log.message(&message);
        log.flush();
        drop(log);
        let mut line = String::new();
        written.read_to_string(&mut line).unwrap();
        assert_eq!(line.lines().count(), 1, "{line}");
        let object: Value = serde_json::from_str(&line).unwrap();
        let text = message.to_string();
        assert_eq!(object["number"], message.number());
        assert_eq!(object["event"], message.event());
        assert_eq!(object["message"], text.as_str());
        for (value, field, expected) in [
            ("192.0.2.1", "requester", Value::from("192.0.2.1")),
            ("70003", "serial", 70003.into()),
            ("80004", "errno", 80004.into()),
            // A message about a name has its addresses, and no target.
            if object.get("addresses").is_some() {
                ("198.51.100.2", "addresses", "198.51.100.2".into())
            } else {
                ("198.51.100.2", "target", "198.51.100.2".into())
            },
        ] {
            if text.contains(value) {
                assert_eq!(object[field], expected, "{line}");
            }
        }
        // An error at the start has its figures in the text alone.
        if !text.starts_with("Error: ") {
            let figures = text.matches("90005").count();
            let found = count_of(&object, &90005.into()) + count_of(&object, &90_005_000.into());
            assert_eq!(found, figures, "{line}");
        }
        // Only a message that ends a session has a cause.
        let ends = object.get("duration_ms").is_some() && object.get("phase").is_none();
        assert_eq!(object.get("cause"), ends.then_some(&object["event"]), "{line}");
        assert_eq!(message.session_end().is_some(), ends, "{line}");
    }
}

#[test]
fn the_catalogue_has_each_number_once_and_in_order() {
    let numbers: Vec<_> = catalogue().iter().map(Message::number).collect();
    let own = (100..=126).chain(130..=132).chain(135..=137);
    let expected: Vec<_> = (1..=39).chain(own).collect();
    assert_eq!(numbers, expected);
    let mut events: Vec<_> = catalogue().iter().map(Message::event).collect();
    events.sort_unstable();
    events.dedup();
    assert_eq!(events.len(), expected.len(), "two messages share a name");
}

#[test]
fn the_readmes_help_is_the_programs() {
    let Ok(Request::Print(help)) = parse([]) else { panic!("no arguments are not the help") };
    assert!(README.contains(&help), "the README lacks this help:\n{help}");
}

#[test]
fn the_readmes_bound_on_pipes_is_the_programs() {
    use tcprelay::internal::limits::{PIPE_BYTES_MAX, PIPES_MAX};

    let bound = format!("{PIPES_MAX} pipes of {} MiB", PIPE_BYTES_MAX >> 20);
    assert!(README.contains(&bound), "the README does not say {bound:?}");
}

#[test]
fn the_readmes_blocks_are_fenced_because_rustdoc_takes_indented_ones_for_rust() {
    let (mut is_fenced, mut before) = (false, "");
    for line in README.lines() {
        is_fenced ^= line.starts_with("```");
        assert!(is_fenced || !before.is_empty() || !line.starts_with("    "), "{line}");
        before = line;
    }
}

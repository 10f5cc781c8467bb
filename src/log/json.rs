//! The log as JSON: an object a line, for machines to read.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::log::message::Message;
use crate::pool::totals::Totals;

/// The fields of a line. What a message has no value for is left out.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    number: u16,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requester: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requester_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_to_target: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_to_requester: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// The end of a session: its event again, so that a filter for ends needs no list of events.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(flatten)]
    figures: Figures,
    message: String,
}

/// Writes `message` and a line break.
pub(crate) fn write(out: &mut Vec<u8>, message: &Message, time: Option<impl Display>) -> io::Result<()> {
    let session = message.session();
    let summary = session.and_then(|(_, summary)| summary);
    let (requester, target) = (message.requester(), message.target());
    let ended = summary.is_some() && !matches!(message, Message::StatusSession(_));
    let line = Line {
        time: time.map(|time| time.to_string()),
        number: message.number(),
        event: message.event(),
        serial: session.map(|(identity, _)| identity.serial.get()),
        requester: requester.map(|address| address.ip().to_canonical()),
        requester_port: requester.map(SocketAddr::port),
        target: target.map(|address| address.ip().to_canonical()),
        target_port: target.map(SocketAddr::port),
        errno: message.errno(),
        bytes_to_target: summary.map(|summary| summary.to_target),
        bytes_to_requester: summary.map(|summary| summary.to_requester),
        duration_ms: summary.map(|summary| summary.duration.as_millis().try_into().unwrap_or(u64::MAX)),
        cause: ended.then(|| message.event()),
        figures: figures(message),
        message: message.to_string(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.push(b'\n');
    Ok(())
}

/// What only some messages have.
#[derive(Serialize)]
#[serde(untagged)]
enum Figures {
    Active {
        port: u16,
    },
    Listening {
        listen: SocketAddr,
    },
    Drain {
        sessions: usize,
    },
    Dropped {
        lines_dropped: u64,
    },
    Descriptors {
        limit: u64,
        enough_for: u64,
        sessions: usize,
    },
    Pool {
        sessions: usize,
        descriptors: u64,
        kib: u64,
    },
    Source {
        limit: usize,
    },
    Status {
        sessions: usize,
        #[serde(flatten)]
        totals: Totals,
        lines_dropped: u64,
    },
    Session {
        phase: &'static str,
        idle_ms: u64,
    },
    None {},
}

fn figures(message: &Message) -> Figures {
    match *message {
        Message::Active(port, _) => Figures::Active { port },
        Message::Listening(listen) => Figures::Listening { listen },
        Message::DrainSignal(sessions) => Figures::Drain { sessions },
        Message::LinesDropped(lines_dropped) => Figures::Dropped { lines_dropped },
        Message::DescriptorLimit(limit, enough_for, sessions) => {
            Figures::Descriptors { limit, enough_for, sessions }
        }
        Message::PoolNeeds(sessions, descriptors, kib) => Figures::Pool { sessions, descriptors, kib },
        Message::SourceLimit(_, limit) => Figures::Source { limit },
        Message::Status(sessions, lines_dropped, totals) => {
            Figures::Status { sessions, totals, lines_dropped }
        }
        Message::StatusSession(live) => Figures::Session {
            phase: live.phase,
            idle_ms: live.idle.as_millis().try_into().unwrap_or(u64::MAX),
        },
        _ => Figures::None {},
    }
}

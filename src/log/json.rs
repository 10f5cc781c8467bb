//! The log as JSON: an object a line, for machines to read.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serializer as _;
use serde::ser::SerializeMap;

use crate::config::error::Given;
use crate::config::host::Host;
use crate::log::message::Message;
use crate::log::reason::{Errno, ListenFailure, words};
use crate::pool::totals::Totals;
use crate::session::ended::{Identity, Live, Summary, Unreached};

/// Writes `message` and a line break.
pub(crate) fn write(out: &mut Vec<u8>, message: &Message, time: Option<impl Display>) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::new(&mut *out);
    let mut map = serializer.serialize_map(None)?;
    if let Some(time) = time {
        map.serialize_entry("time", &format_args!("{time}"))?;
    }
    map.serialize_entry("number", &message.number())?;
    map.serialize_entry("event", message.event())?;
    message.put_fields(&mut Object { map: &mut map, event: message.event() })?;
    map.serialize_entry("message", &format_args!("{message}"))?;
    map.end()?;
    out.push(b'\n');
    Ok(())
}

/// The object of one line while it is written.
pub(crate) struct Object<'a, M> {
    map: &'a mut M,
    event: &'static str,
}

/// A field of a message. It becomes one entry of the object or more.
pub(crate) trait Field {
    fn put<M: SerializeMap>(&self, name: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error>;
}

/// Fields that are one entry, under their own name.
macro_rules! plain {
    ($($type:ty),*) => { $(
        impl Field for $type {
            fn put<M: SerializeMap>(&self, name: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error> {
                object.map.serialize_entry(name, self)
            }
        }
    )* };
}
plain!(u16, u64, usize, String, &'static str);

impl Field for SocketAddr {
    fn put<M: SerializeMap>(&self, name: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error> {
        let ip = self.ip().to_canonical();
        // A link-local address of our own means nothing without its zone.
        match name {
            "address" => object.map.serialize_entry(name, &format_args!("{}", Host::from(*self)))?,
            _ => object.map.serialize_entry(name, &ip)?,
        }
        let port = match name {
            "requester" => "requester_port",
            "target" => "target_port",
            "next_target" => "next_target_port",
            // Where the relay listens.
            _ => "port",
        };
        object.map.serialize_entry(port, &self.port())
    }
}

impl Field for Errno {
    fn put<M: SerializeMap>(&self, name: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error> {
        object.map.serialize_entry(name, &self.0)?;
        object.map.serialize_entry("reason", &self.words())
    }
}

impl Field for Unreached {
    fn put<M: SerializeMap>(&self, _: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error> {
        if let Some(errno) = self.errno {
            object.map.serialize_entry("errno", &errno)?;
        }
        object.map.serialize_entry("reason", &words(self))
    }
}

impl Field for ListenFailure {
    fn put<M: SerializeMap>(&self, _: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error> {
        self.address.put("address", object)?;
        self.errno.put("errno", object)?;
        match self.cure().trim_start() {
            "" => Ok(()),
            cure => object.map.serialize_entry("cure", cure),
        }
    }
}

impl Field for Given {
    fn put<M: SerializeMap>(&self, name: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error> {
        object.map.serialize_entry(name, &self.text)?;
        object.map.serialize_entry("example", self.example)
    }
}

impl Field for Identity {
    fn put<M: SerializeMap>(&self, _: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error> {
        object.map.serialize_entry("serial", &self.serial)?;
        self.requester.put("requester", object)?;
        self.target.put("target", object)
    }
}

/// Only the end of a session has a summary of its own.
impl Field for Summary {
    fn put<M: SerializeMap>(&self, _: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error> {
        put_figures(self, object)?;
        // The event again, so that a filter for ends needs no list of events.
        object.map.serialize_entry("cause", object.event)
    }
}

fn put_figures<M: SerializeMap>(summary: &Summary, object: &mut Object<'_, M>) -> Result<(), M::Error> {
    if let Some(errno) = summary.errno {
        Errno(errno).put("errno", object)?;
    }
    summary.to_target.put("bytes_to_target", object)?;
    summary.to_requester.put("bytes_to_requester", object)?;
    milliseconds(summary.duration).put("duration_ms", object)
}

impl Field for Live {
    fn put<M: SerializeMap>(&self, _: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error> {
        self.identity.put("session", object)?;
        put_figures(&self.summary, object)?;
        self.phase.put("phase", object)?;
        milliseconds(self.idle).put("idle_ms", object)
    }
}

impl Field for Totals {
    fn put<M: SerializeMap>(&self, _: &'static str, object: &mut Object<'_, M>) -> Result<(), M::Error> {
        let Self { accepted, rejected, refused, expired, dropped, to_target, to_requester } = self;
        for (name, count) in [
            ("accepted", accepted),
            ("rejected", rejected),
            ("refused", refused),
            ("expired", expired),
            ("dropped", dropped),
            ("bytes_to_target", to_target),
            ("bytes_to_requester", to_requester),
        ] {
            count.put(name, object)?;
        }
        Ok(())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

//! The fields of a message, under the names that the JSON log gives them.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::error::Given;
use crate::config::host::Host;
use crate::log::reason::{Addresses, Errno, ListenFailure, OptionFailure, StatusFailure, words};
use crate::pool::totals::Totals;
use crate::session::ended::{Destination, Identity, Live, Summary, Unreached};

/// The value of a field.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A count, a size, a port, or a time in the unit that the field's name ends in.
    Number(u64),
    /// Everything else, as text.
    Text(&'a dyn Display),
}

impl Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => f.debug_tuple("Number").field(number).finish(),
            Self::Text(text) => f.debug_tuple("Text").field(&format_args!("{text}")).finish(),
        }
    }
}

/// Takes the fields of one message.
pub(crate) struct Fields<'a> {
    pub(crate) event: &'static str,
    pub(crate) put: &'a mut dyn FnMut(&'static str, Value<'_>),
}

impl Fields<'_> {
    fn number(&mut self, name: &'static str, number: u64) {
        (self.put)(name, Value::Number(number));
    }

    fn text(&mut self, name: &'static str, text: &dyn Display) {
        (self.put)(name, Value::Text(text));
    }

    /// Adds the cure, unless it is empty.
    fn cure(&mut self, cure: &str) {
        match cure.trim_start() {
            "" => {}
            cure => self.text("cure", &cure),
        }
    }
}

/// A part of a message. It becomes one field or several.
pub(crate) trait Field {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>);
}

impl Field for u16 {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        fields.number(name, (*self).into());
    }
}

impl Field for u32 {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        fields.number(name, (*self).into());
    }
}

impl Field for u64 {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        fields.number(name, *self);
    }
}

impl Field for usize {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        fields.number(name, *self as u64);
    }
}

impl Field for String {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        fields.text(name, self);
    }
}

impl Field for &'static str {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        fields.text(name, self);
    }
}

impl Field for SocketAddr {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        // A link-local address to listen on means nothing without its zone.
        match name {
            "address" => fields.text(name, &Host::from(*self)),
            _ => fields.text(name, &self.ip().to_canonical()),
        }
        fields.number(port_of(name), self.port().into());
    }
}

/// Returns the name of the port that belongs to an address.
fn port_of(name: &str) -> &'static str {
    match name {
        "requester" => "requester_port",
        "target" => "target_port",
        "next_target" => "next_target_port",
        // The port that the relay listens on.
        _ => "port",
    }
}

impl Field for Destination {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        match self {
            Self::Address(address) => address.put(name, fields),
            Self::Name(host, port) => {
                fields.text(name, host);
                fields.number(port_of(name), (*port).into());
            }
        }
    }
}

impl Field for Addresses {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        fields.text(name, self);
    }
}

impl Field for Errno {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        fields.number(name, self.0.unsigned_abs().into());
        fields.text("reason", &self.words());
    }
}

impl Field for Unreached {
    fn put(&self, _: &'static str, fields: &mut Fields<'_>) {
        if let Some(errno) = self.errno {
            fields.number("errno", errno.unsigned_abs().into());
        }
        fields.text("reason", &words(self));
    }
}

impl Field for ListenFailure {
    fn put(&self, _: &'static str, fields: &mut Fields<'_>) {
        self.address.put("address", fields);
        self.errno.put("errno", fields);
        fields.cure(&self.cure());
    }
}

impl Field for StatusFailure {
    fn put(&self, _: &'static str, fields: &mut Fields<'_>) {
        fields.text("status", &self.status);
        self.errno.put("errno", fields);
        fields.cure(&self.cure());
    }
}

impl Field for OptionFailure {
    fn put(&self, _: &'static str, fields: &mut Fields<'_>) {
        fields.text("option", &self.option);
        self.errno.put("errno", fields);
        fields.text("cure", &self.cure());
    }
}

impl Field for Given {
    fn put(&self, name: &'static str, fields: &mut Fields<'_>) {
        fields.text(name, &self.text);
        fields.text("example", &self.example);
        fields.cure(self.cure);
    }
}

impl Field for Identity {
    fn put(&self, _: &'static str, fields: &mut Fields<'_>) {
        fields.number("serial", self.serial.get());
        self.requester.put("requester", fields);
        self.target.put("target", fields);
    }
}

/// Only the messages that report the end of a session have a field of this type.
impl Field for Summary {
    fn put(&self, _: &'static str, fields: &mut Fields<'_>) {
        put_figures(self, fields);
        // The event once more, so that a filter for ended sessions needs no list of events.
        let event = fields.event;
        fields.text("cause", &event);
    }
}

fn put_figures(summary: &Summary, fields: &mut Fields<'_>) {
    if let Some(errno) = summary.errno {
        Errno(errno).put("errno", fields);
    }
    fields.number("bytes_to_target", summary.to_target);
    fields.number("bytes_to_requester", summary.to_requester);
    fields.number("duration_ms", milliseconds(summary.duration));
}

impl Field for Live {
    fn put(&self, _: &'static str, fields: &mut Fields<'_>) {
        self.identity.put("session", fields);
        put_figures(&self.summary, fields);
        fields.text("phase", &self.phase);
        fields.number("idle_ms", milliseconds(self.idle));
    }
}

impl Field for Totals {
    fn put(&self, _: &'static str, fields: &mut Fields<'_>) {
        for (name, _, count) in self.rows() {
            fields.number(name, count);
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

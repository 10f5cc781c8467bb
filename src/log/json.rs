//! The log as JSON: one object a line, for machines to read. Nothing else uses serde.

use std::fmt::Display;
use std::io;

use serde::Serializer as _;
use serde::ser::SerializeMap as _;

use crate::log::fields::Value;
use crate::log::message::Message;

/// Writes `message` and a line break.
pub(crate) fn write(out: &mut Vec<u8>, message: &Message, time: Option<impl Display>) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::new(&mut *out);
    let mut map = serializer.serialize_map(None)?;
    let mut written = Ok(());
    let mut put = |name: &str, value: Value<'_>| {
        if written.is_ok() {
            written = match value {
                Value::Number(number) => map.serialize_entry(name, &number),
                Value::Text(text) => map.serialize_entry(name, &format_args!("{text}")),
            };
        }
    };
    if let Some(time) = time {
        put("time", Value::Text(&time));
    }
    put("number", Value::Number(message.number().into()));
    put("event", Value::Text(&message.event()));
    message.put_fields(&mut put);
    put("message", Value::Text(message));
    written?;
    map.end()?;
    out.push(b'\n');
    Ok(())
}

//! The status as one JSON object, its fields named as in the JSON log.
//!
//! It is written by hand, because a build without the JSON log serves it as well.

use std::fmt::Write as _;

use crate::log::fields::{Field, Fields, Value};
use crate::pool::totals::{ENDED, REJECTED};
use crate::relay::status::view::{Quoted, View};
use crate::relay::target::choice::TargetState;
use crate::session::ended::Live;

/// The object written so far.
struct Json(String);

/// Returns the status with these sessions.
#[cold]
pub(super) fn write(view: &View<'_>, sessions: &[Live]) -> String {
    let mut json = Json(String::with_capacity(2048 + 256 * sessions.len()));
    json.0.push('{');
    let totals = view.pool.counts.totals();
    json.value("version", Value::Text(&env!("CARGO_PKG_VERSION")));
    json.value("started", Value::Text(&humantime::format_rfc3339_seconds(view.facts.started)));
    json.field("address", &view.listen);
    let target = view.config.target();
    json.value("target", Value::Text(&target.host));
    json.field("target_port", &target.port);
    json.field("uptime_s", &view.age().as_secs());
    json.flag("draining", view.is_draining);
    json.field("sessions", &view.pool.slots().len());
    json.field("sessions_limit", &view.config.sessions());
    json.field("totals", &totals);
    json.field("lines_dropped", &view.lines_dropped);
    json.field("bytes_spliced", &view.pool.bytes_spliced());
    let lately = view.facts.rates.lately(view.now, &totals);
    json.open("last_minute", '{');
    json.field("accepted", &lately.accepted);
    json.field("bytes_to_target", &lately.to_target);
    json.field("bytes_to_requester", &lately.to_requester);
    json.close('}');
    for wanted in [&REJECTED, &ENDED] {
        json.open(wanted.name, '{');
        for (_, value, count) in view.pool.counts.rows().filter(|(family, ..)| *family == wanted) {
            json.value(value, Value::Number(count));
        }
        json.close('}');
    }
    json.open("targets", '[');
    for target in view.targets {
        json.target(target);
    }
    json.close(']');
    json.open("live", '[');
    for live in sessions {
        json.open("", '{');
        json.field("live", live);
        json.close('}');
    }
    json.close(']');
    json.close('}');
    json.0.push('\n');
    json.0
}

// Writing to memory does not fail.
impl Json {
    #[inline(never)]
    fn field(&mut self, name: &'static str, field: &dyn Field) {
        field.put(name, &mut Fields { event: "status", put: &mut |name, value| self.value(name, value) });
    }

    #[inline(never)]
    fn value(&mut self, name: &str, value: Value<'_>) {
        self.begin(name);
        let _ = match value {
            Value::Number(number) => write!(self.0, "{number}"),
            Value::Text(text) => write!(self.0, "{}", Quoted(text)),
        };
    }

    #[inline(never)]
    fn flag(&mut self, name: &str, is_set: bool) {
        self.begin(name);
        self.0.push_str(if is_set { "true" } else { "false" });
    }

    fn target(&mut self, target: &TargetState) {
        self.open("", '{');
        self.field("target", &target.target);
        self.flag("up", !target.is_resting());
        self.open("addresses", '[');
        for state in &target.addresses {
            if let Some(address) = state.address.address() {
                self.open("", '{');
                self.field("address", &address);
                self.flag("up", !state.is_resting());
                self.close('}');
            }
        }
        self.close(']');
        self.open("connects_failed", '{');
        for (reason, count) in target.named_failures() {
            self.value(reason, Value::Number(count));
        }
        self.close('}');
        self.close('}');
    }

    /// Opens an object or a list inside the one that is open. An entry of a list has an empty name.
    #[inline(never)]
    fn open(&mut self, name: &str, bracket: char) {
        self.begin(name);
        self.0.push(bracket);
    }

    #[inline(never)]
    fn close(&mut self, bracket: char) {
        self.0.push(bracket);
    }

    #[inline(never)]
    fn begin(&mut self, name: &str) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
        if !name.is_empty() {
            let _ = write!(self.0, "\"{name}\":");
        }
    }
}

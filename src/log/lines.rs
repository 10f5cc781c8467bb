//! How a message becomes lines: the level that lets it pass, the prefix of a line, and its format.

use std::io::{self, Write as _};
use std::time::SystemTime;

use crate::config::{LogFormat, LogLevel, LogStyle};
use crate::log::message::{Level, Message};
use crate::log::text::Text;
use crate::sys::output;

/// Writes messages as lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    style: LogStyle,
    /// Whether each line begins with a priority, which the journal reads and removes.
    priorities: bool,
}

impl Lines {
    pub(crate) fn new(style: LogStyle) -> Self {
        Self { style, priorities: false }
    }

    /// Returns the lines for STDOUT, which may be the journal.
    pub(crate) fn on_stdout(style: LogStyle) -> Self {
        Self { style, priorities: output::stdout_is_journal() }
    }

    /// Returns whether `--log-level` keeps the message.
    pub(crate) fn wants(self, message: &Message) -> bool {
        match (self.style.level, message.level()) {
            (LogLevel::All, _) | (_, Level::Answer | Level::Problem | Level::Error) => true,
            (LogLevel::Ends, level) => level == Level::End,
            (LogLevel::Problems, _) => false,
        }
    }

    /// Returns the number of lines that the message takes.
    pub(crate) fn count(self, message: &Message) -> u64 {
        1 + u64::from(self.reason(message).is_some())
    }

    /// Returns whether lines carry the time.
    pub(crate) fn have_time(self) -> bool {
        self.style.timestamps
    }

    /// Appends the message's lines.
    pub(crate) fn append(self, out: &mut Vec<u8>, message: &Message, time: Option<SystemTime>) {
        let start = out.len();
        let mut written = self.append_line(out, message, time);
        if let Some(reason) = self.reason(message) {
            written = written.and_then(|()| self.append_line(out, &reason, time));
        }
        // Writing to memory does not fail. If it did, no half line would stay.
        if written.is_err() {
            out.truncate(start);
        }
    }

    /// Returns the line that follows the message. None: it needs none, or the format is JSON, whose fields have it.
    fn reason(self, message: &Message) -> Option<Message> {
        if self.style.format == LogFormat::Text { message.reason() } else { None }
    }

    fn append_line(self, out: &mut Vec<u8>, message: &Message, time: Option<SystemTime>) -> io::Result<()> {
        if self.priorities {
            write!(out, "<{}>", priority(message.level()))?;
        }
        let time = time.map(humantime::format_rfc3339_millis);
        match self.style.format {
            #[cfg(feature = "json")]
            LogFormat::Json => crate::log::json::write(out, message, time)?,
            LogFormat::Text => {
                if let Some(time) = time {
                    write!(out, "{time} ")?;
                }
                message.write_text(&mut Text::Line(out)).map_err(io::Error::other)?;
                out.push(b'\n');
            }
        }
        Ok(())
    }
}

/// Returns the priority as syslog(3) numbers it: 6 informational, 4 warning, 3 error.
fn priority(level: Level) -> u8 {
    match level {
        Level::Step | Level::End | Level::Answer => 6,
        Level::Problem => 4,
        Level::Error => 3,
    }
}

//! How a message becomes lines: which levels are wanted, what stands before a line, and in which
//! format the line is.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use crate::config::{LogFormat, LogLevel, LogStyle};
use crate::log::message::{Level, Message};
use crate::sys::output;

/// Writes messages as lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    style: LogStyle,
    /// Lines begin with the priority that the journal takes from them.
    priorities: bool,
}

impl Lines {
    pub(crate) fn new(style: LogStyle) -> Self {
        Self { style, priorities: false }
    }

    /// For STDOUT, which may be the journal.
    pub(crate) fn on_stdout(style: LogStyle) -> Self {
        Self { style, priorities: output::stdout_is_journal() }
    }

    /// Whether `--log-level` keeps the message.
    pub(crate) fn wants(self, message: &Message) -> bool {
        match (self.style.level, message.level()) {
            (LogLevel::All, _) | (_, Level::Answer | Level::Problem | Level::Error) => true,
            (LogLevel::Ends, level) => level == Level::End,
            (LogLevel::Problems, _) => false,
        }
    }

    /// The number of lines that the message takes.
    pub(crate) fn count(self, message: &Message) -> u64 {
        1 + u64::from(self.reason(message).is_some())
    }

    /// Whether lines carry the time.
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
        // Writing to memory does not fail; should it, there is no half line.
        if written.is_err() {
            out.truncate(start);
        }
    }

    /// The line that follows the message. A JSON object says it in its fields.
    fn reason(self, message: &Message) -> Option<Message> {
        if self.style.format == LogFormat::Text { message.reason() } else { None }
    }

    fn append_line(self, out: &mut Vec<u8>, message: &Message, time: Option<SystemTime>) -> fmt::Result {
        let mut line = Line(out);
        if self.priorities {
            write!(line, "<{}>", priority(message.level()))?;
        }
        let time = time.map(humantime::format_rfc3339_millis);
        match self.style.format {
            #[cfg(feature = "json")]
            LogFormat::Json => crate::log::json::write(line.0, message, time).map_err(|_| fmt::Error),
            LogFormat::Text => match time {
                Some(time) => writeln!(line, "{time} {message}"),
                None => writeln!(line, "{message}"),
            },
        }
    }
}

/// Text at the end of what was written before. As `io::Write`, the same bytes would take twice as many
/// instructions: each piece could fail.
struct Line<'a>(&'a mut Vec<u8>);

impl fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The priority of syslog(3): 6 informational, 4 warning, 3 error.
fn priority(level: Level) -> u8 {
    match level {
        Level::Step | Level::End | Level::Answer => 6,
        Level::Problem => 4,
        Level::Error => 3,
    }
}

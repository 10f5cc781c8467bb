//! The lines of a relay's log, read as they arrive.

use std::io::{BufRead, BufReader, Read, pipe};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use super::PATIENCE;
use super::catalogue::message;

/// A line of the log, and the time when it arrived.
#[derive(Clone, Debug)]
pub struct Line {
    pub text: String,
    pub at: Instant,
}

/// The lines of a relay's log, which a thread reads as they arrive.
pub struct Log {
    lines: Receiver<Line>,
    seen: Vec<String>,
}

impl Log {
    /// Returns a pipe for the relay to write to, and the log that reads it.
    pub(super) fn piped() -> (OwnedFd, Self) {
        let (reader, writer) = pipe().unwrap();
        // A large pipe, so that the relay drops no lines when the reader is late on a busy machine. If the kernel
        // does not grant the size, the pipe keeps its own.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20);
        (writer.into(), Self::of(reader))
    }

    /// Returns an empty log, for a relay whose lines go elsewhere.
    pub(super) fn none() -> Self {
        Self::of(std::io::empty())
    }

    /// Returns the log that reads its lines from `source`.
    pub fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut bytes = Vec::new();
            while source.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
                let at = Instant::now();
                let text = String::from_utf8_lossy(&bytes);
                // A terminal ends its lines with CR and LF.
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                if sender.send(Line { text, at }).is_err() {
                    return;
                }
                bytes.clear();
            }
        });
        let seen = Vec::new();
        Self { lines, seen }
    }

    /// Waits for the next line.
    #[track_caller]
    pub fn line(&mut self) -> Line {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.seen.push(line.text.clone());
                line
            }
            Err(error) => panic!("no line arrived ({error}) after\n{}", self.tail()),
        }
    }

    /// Waits for the next line, which must be this message.
    #[track_caller]
    pub fn expect(&mut self, number: u8, serial: u64) -> Line {
        self.expect_text(&message(number, serial))
    }

    #[track_caller]
    pub fn expect_text(&mut self, text: &str) -> Line {
        let line = self.line();
        assert_eq!(line.text, text, "the log so far:\n{}", self.tail());
        line
    }

    /// Waits for the next lines, which must be these messages. Returns the last line.
    #[track_caller]
    pub fn expect_all(&mut self, numbers: &[u8], serial: u64) -> Line {
        let last = numbers.last().unwrap();
        for number in &numbers[..numbers.len() - 1] {
            self.expect(*number, serial);
        }
        self.expect(*last, serial)
    }

    /// Skips lines up to this message, and returns it.
    #[track_caller]
    pub fn wait(&mut self, number: u8, serial: u64) -> Line {
        let text = message(number, serial);
        loop {
            let line = self.line();
            if line.text == text {
                return line;
            }
        }
    }

    /// Skips lines until one contains this text, and returns it.
    #[track_caller]
    pub fn wait_text(&mut self, text: &str) -> Line {
        loop {
            let line = self.line();
            if line.text.contains(text) {
                return line;
            }
        }
    }

    /// Returns the lines that have arrived and that the test has not taken yet.
    pub fn pending(&mut self) -> Vec<Line> {
        let lines: Vec<_> = self.lines.try_iter().collect();
        self.seen.extend(lines.iter().map(|line| line.text.clone()));
        lines
    }

    /// Returns the remaining lines up to the end of the log, which comes when the relay ends.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.text.clone());
                    rest.push(line.text);
                }
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("the log does not end"),
            }
        }
    }

    /// Takes the lines that have arrived, and returns the last of them for a failure message.
    pub(super) fn take_last(&self) -> String {
        let lines: Vec<_> = self.lines.try_iter().map(|line| line.text).collect();
        format!("its last lines:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
    }

    /// Returns the lines that the test has taken so far.
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    fn tail(&self) -> String {
        let from = self.seen.len().saturating_sub(30);
        self.seen[from..].join("\n")
    }
}

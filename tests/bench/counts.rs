//! `--counts`: the instructions and system calls of a relay for a fixed script. They depend neither on the
//! machine's speed nor on its other work.
//!
//! The script is 1,000 requests on one connection, and 100 connections of one request each, one after
//! another. Each part runs under a tool, and so does a run without any work, which is subtracted.
//! Callgrind counts the instructions, in user space only, and strace the system calls.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::contestants::{Contestant, find_program};
use crate::running::{Job, LogTo, Running, Workplace};
use crate::table;
use crate::target::{ASK, ASK_ONCE, REPLY_BYTES, REQUEST_BYTES, Target};

const REQUESTS: u32 = 1000;
const CONNECTIONS: u32 = 100;
const SESSIONS: usize = 500;
/// Longest wait for a reply, from a relay that a tool slows down fifty times.
const PATIENCE: Duration = Duration::from_secs(10);

/// A part of the script.
#[derive(Clone, Copy)]
enum Part {
    Nothing,
    /// One connection, with one request.
    OneConnection,
    /// [`REQUESTS`] on one connection.
    Requests,
    /// [`CONNECTIONS`] of one request each.
    Connections,
}

/// A tool, and the unit that it counts.
#[derive(Clone, Copy)]
enum Tool {
    /// Instructions in user space.
    Callgrind,
    /// System calls.
    Strace,
}

/// Prints a row for each contestant that is a process. Returns false if a tool is missing or a count failed.
pub fn compare(contestants: &[Contestant]) -> io::Result<bool> {
    let (target, workplace) = (Target::start()?, Workplace::new()?);
    let tools: Vec<_> = [Tool::Callgrind, Tool::Strace].into_iter().filter(|tool| tool.is_there()).collect();
    let mut rows = vec![vec![String::new()]];
    for tool in &tools {
        rows[0].extend(
            ["a request", "a connection", "start and stop"].map(|of| format!("{}, {of}", tool.unit())),
        );
    }
    let mut is_complete = tools.len() == 2;
    for contestant in contestants.iter().filter(|contestant| contestant.program().is_some()) {
        let mut row = vec![contestant.name_and_version()];
        for tool in &tools {
            match tool.count_all(contestant, &target, &workplace) {
                Ok(counts) => row.extend(counts.map(table::number)),
                Err(error) => {
                    println!("failed: {}, {}: {error}", contestant.name, tool.name());
                    row.extend([(); 3].map(|()| "-".to_owned()));
                    is_complete = false;
                }
            }
        }
        rows.push(row);
    }
    println!("\n{REQUESTS} requests on one connection, {CONNECTIONS} connections of one request each:\n");
    println!("{}", table::lay_out(rows, 1));
    Ok(is_complete)
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Callgrind => "valgrind",
            Self::Strace => "strace",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Callgrind => "instructions",
            Self::Strace => "system calls",
        }
    }

    /// Returns whether the tool is installed, and prints a line if it is not.
    fn is_there(self) -> bool {
        let is_there = find_program(self.name()).is_some();
        if !is_there {
            println!("not counted: {}: {} is not installed", self.unit(), self.name());
        }
        is_there
    }

    fn command(self, output: &Path) -> Vec<String> {
        let output = output.display();
        let line = match self {
            Self::Callgrind => format!("valgrind -q --tool=callgrind --callgrind-out-file={output}"),
            Self::Strace => format!("strace -f -c -o {output}"),
        };
        line.split(' ').map(str::to_owned).collect()
    }

    /// Returns the counts of a request, of a connection, and of starting and stopping.
    fn count_all(
        self,
        contestant: &Contestant,
        target: &Target,
        workplace: &Workplace,
    ) -> io::Result<[f64; 3]> {
        let count = |part| self.count(contestant, part, target, workplace);
        let (idle, one) = (count(Part::Nothing)?, count(Part::OneConnection)?);
        let (requests, connections) = (count(Part::Requests)?, count(Part::Connections)?);
        // The first request and its connection are in both counts.
        let request = (requests - one) / f64::from(REQUESTS - 1);
        Ok([request, (connections - idle) / f64::from(CONNECTIONS), idle])
    }

    fn count(
        self,
        contestant: &Contestant,
        part: Part,
        target: &Target,
        workplace: &Workplace,
    ) -> io::Result<f64> {
        let output = workplace.folder.join(self.name());
        let job = Job { target: target.address(), sessions: SESSIONS, log: LogTo::File };
        let relay = Running::spawn(contestant, &job, workplace, &self.command(&output))?;
        part.play(relay.address())?;
        relay.end()?;
        let text = fs::read_to_string(output)?;
        let count = match self {
            Self::Callgrind => {
                text.lines().filter_map(|line| line.strip_prefix("totals: ")?.parse().ok()).next_back()
            }
            Self::Strace => {
                // The columns of totals: share, seconds, microseconds a call, calls, errors, a name.
                let total = text.lines().find(|line| line.ends_with(" total"));
                total.and_then(|line| line.split_whitespace().nth(3)?.parse().ok())
            }
        };
        count.ok_or_else(|| ErrorKind::InvalidData.into())
    }
}

impl Part {
    fn play(self, relay: SocketAddr) -> io::Result<()> {
        let (connections, requests, how) = match self {
            Self::Nothing => return Ok(()),
            Self::OneConnection => (1, 1, ASK),
            Self::Requests => (1, REQUESTS, ASK),
            Self::Connections => (CONNECTIONS, 1, ASK_ONCE),
        };
        for _ in 0..connections {
            let mut stream = TcpStream::connect_timeout(&relay, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            for _ in 0..requests {
                stream.write_all(&[how; REQUEST_BYTES])?;
                stream.read_exact(&mut [0; REPLY_BYTES])?;
            }
            // After `ASK_ONCE` the target closes by itself.
            if how == ASK {
                stream.shutdown(Shutdown::Write)?;
            }
            if stream.read(&mut [0])? > 0 {
                return Err(ErrorKind::InvalidData.into());
            }
        }
        Ok(())
    }
}

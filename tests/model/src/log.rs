//! The log on a pipe that has a slow reader and another writer.
//!
//! An input is operations of two bytes each: the kind, and an amount. The oracle: every line that arrives is
//! whole, the relay's lines come in the order in which they were logged, and missing lines are counted at the
//! place where they are missing.

use std::io::{Read as _, pipe};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_setfl};
use tcprelay::internal::message::{Identity, Message, Serial};
use tcprelay::{Log, LogStyle, Sink as _};

/// The kernel writes up to this many bytes to a pipe atomically.
const PIPE_BUF: usize = 4096;
/// A line of the other writer.
const OTHER: &str = "another program's line, whole\n";

/// Checks one input.
///
/// # Panics
/// A line is torn, out of order, or missing without being counted.
pub fn check(input: &[u8]) {
    let (mut reader, writer) = pipe().expect("there are descriptors");
    rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BUF).expect("a pipe can be one page");
    fcntl_setfl(&reader, OFlags::NONBLOCK).expect("a pipe can be non-blocking");
    let other: OwnedFd = writer.try_clone().expect("there are descriptors").into();
    let mut log = Log::to(writer.into(), LogStyle::default());
    let (mut logged, mut arrived) = (0_u64, Vec::new());
    for operation in input.chunks_exact(2) {
        let (what, amount) = (operation[0] % 6, usize::from(operation[1]));
        match what {
            0 | 1 => {
                for _ in 0..=amount {
                    logged += 1;
                    log.message(&line(logged));
                }
            }
            2 => log.end_turn(),
            3 => log.flush(),
            4 => take(&mut reader, 1 + amount * 64, &mut arrived),
            _ => write_other(&other),
        }
    }
    // The reader catches up, and then there is room for the last line.
    for _ in 0..1000 {
        take(&mut reader, PIPE_BUF, &mut arrived);
        log.flush();
    }
    logged += 1;
    log.close(&line(logged));
    drop(log);
    while take_some(&mut reader, PIPE_BUF, &mut arrived) {}
    judge(&String::from_utf8(arrived).expect("the log is text"), logged);
}

fn line(serial: u64) -> Message {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let serial = Serial::new(serial).expect("serial numbers begin with 1");
    Message::Connected { session: Identity { serial, requester: address, target: address.into() } }
}

fn take(reader: &mut std::io::PipeReader, count: usize, arrived: &mut Vec<u8>) {
    let _ = take_some(reader, count, arrived);
}

/// Reads up to `count` bytes; returns whether there were any.
fn take_some(reader: &mut std::io::PipeReader, count: usize, arrived: &mut Vec<u8>) -> bool {
    let mut bytes = vec![0; count];
    let read = reader.read(&mut bytes).unwrap_or(0);
    arrived.extend_from_slice(&bytes[..read]);
    read > 0
}

/// Writes a line, like another program that shares the pipe, if the pipe has room for it now.
fn write_other(other: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut ready = [PollFd::new(other, PollFlags::OUT)];
    if poll(&mut ready, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
        let written = rustix::io::write(other, OTHER.as_bytes());
        assert_eq!(written.ok(), Some(OTHER.len()), "a pipe that polls writable takes a page");
    }
}

fn judge(log: &str, logged: u64) {
    assert!(log.is_empty() || log.ends_with('\n'), "the last line is torn");
    let mut next = 1;
    for text in log.lines().filter(|text| *text != OTHER.trim_end()) {
        if let Some((count, _)) = text.split_once(" log lines were dropped ") {
            next += count.parse::<u64>().expect("a count");
        } else {
            assert_eq!(text, line(next).to_string(), "out of order, torn, or missing without a count");
            next += 1;
        }
    }
    assert_eq!(next, logged + 1, "lines are missing at the end");
}

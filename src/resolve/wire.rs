//! DNS messages (RFC 1035): writes a query, and reads the answer to it.
//!
//! Every position in a message is checked. The labels and compression pointers of a name are counted,
//! so a pointer loop ends.

use std::net::IpAddr;

use crate::limits::{ALIASES_MAX, DNS_RECORDS_MAX, DNS_UDP_BYTES, NAME_ADDRESSES_MAX, NAME_PARTS_MAX};
use crate::resolve::name::{Name, keep};

/// The length of a message's header, in bytes. The question follows it.
const HEADER: usize = 12;
const ANSWER_AND_OPCODE: u16 = 0xf800;
const IS_ANSWER: u16 = 0x8000;
const IS_TRUNCATED: u16 = 0x0200;
const RCODE: u16 = 0x000f;
const FORMAT_ERROR: u16 = 1;
const NO_SUCH_NAME: u16 = 3;
const INTERNET: u16 = 1;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// The family of addresses that a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// AAAA records.
    V6,
    /// A records.
    V4,
}

/// The content of an answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The message does not answer this query: it has another id or question, or is no answer at all.
    Foreign,
    /// The answer is too long for UDP.
    Truncated,
    /// The server did not understand the query.
    FormatError,
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The response code of a server that could not or would not answer.
    Refused(u8),
    /// The answer violates the format, or has too many aliases.
    Malformed,
    /// The usable addresses of the name, which may be none, and their time to live in seconds.
    Addresses(Vec<IpAddr>, u32),
}

/// Returns a query. With `edns`, it offers to accept UDP answers of 1232 bytes instead of 512.
///
/// The name is written in lower case, because the answer must repeat it byte for byte, and some servers
/// repeat it in lower case only.
#[must_use]
pub fn query(id: u16, name: &Name, family: Family, edns: bool) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let mut message = Vec::with_capacity(300);
    // Recursion desired; one question; with EDNS, an OPT record in the additional section.
    message.extend([high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
    for label in name.labels() {
        #[expect(clippy::cast_possible_truncation, reason = "a label has at most 63 bytes")]
        message.push(label.len() as u8);
        message.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    let [_, kind] = record_type(family).to_be_bytes();
    message.extend([0, 0, kind, 0, 1]);
    if edns {
        // The root name, and the type. The UDP size takes the place of the class.
        let [high, low] = DNS_UDP_BYTES.to_be_bytes();
        message.extend([0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]);
    }
    message
}

/// Reads `message` as the answer to `query`, which [`query`] wrote.
#[must_use]
pub fn read(query: &[u8], message: &[u8]) -> Answer {
    let header = (word(query, 0), word(message, 0), word(message, 2), word(message, 4), word(message, 6));
    let (Some(asked), Some(id), Some(flags), Some(questions), Some(answers)) = header else {
        return Answer::Foreign;
    };
    if id != asked || flags & ANSWER_AND_OPCODE != IS_ANSWER || message.len() < HEADER {
        return Answer::Foreign;
    }
    // A server from before EDNS may reject the query before it reaches the question.
    if questions == 0 && flags & RCODE == FORMAT_ERROR {
        return Answer::FormatError;
    }
    let question =
        skip_name(query, HEADER).and_then(|end| Some((query.get(HEADER..end + 4)?, word(query, end)?)));
    let Some((question, kind)) = question.filter(|_| questions == 1) else { return Answer::Foreign };
    if !message[HEADER..].starts_with(question) {
        return Answer::Foreign;
    }
    match flags & RCODE {
        _ if flags & IS_TRUNCATED != 0 => Answer::Truncated,
        0 => addresses(message, HEADER + question.len(), answers.min(DNS_RECORDS_MAX), kind)
            .unwrap_or(Answer::Malformed),
        FORMAT_ERROR => Answer::FormatError,
        NO_SUCH_NAME => Answer::NoSuchName,
        // The mask leaves four bits.
        rcode => Answer::Refused(rcode.to_be_bytes()[1]),
    }
}

/// Follows the aliases from the question's name, and returns the addresses of the last one.
/// None: the message is malformed or has too many aliases.
fn addresses(message: &[u8], mut position: usize, count: u16, kind: u16) -> Option<Answer> {
    let mut records = Vec::new();
    for _ in 0..count {
        let record = Record::read(message, position)?;
        position = record.end;
        records.push(record);
    }
    let (mut name, mut ttl, mut aliases) = (HEADER, u32::MAX, 0);
    while let Some(alias) = records.iter().find(|record| record.is(message, name, CNAME)) {
        aliases += 1;
        if aliases > ALIASES_MAX {
            return None;
        }
        (name, ttl) = (alias.data, ttl.min(alias.ttl));
    }
    let mut found = Vec::new();
    for record in records.iter().filter(|record| record.is(message, name, kind)) {
        keep(&mut found, record.address(message)?, NAME_ADDRESSES_MAX);
        ttl = ttl.min(record.ttl);
    }
    Some(Answer::Addresses(found, ttl))
}

/// A resource record. Positions are offsets into the message.
struct Record {
    owner: usize,
    /// The record's type, or the reserved type 0 if its class is not IN.
    kind: u16,
    /// The time to live, in seconds.
    ttl: u32,
    data: usize,
    end: usize,
}

impl Record {
    fn read(message: &[u8], owner: usize) -> Option<Self> {
        let fixed = skip_name(message, owner)?;
        let data = fixed + 10;
        let end = data + usize::from(word(message, fixed + 8)?);
        let class = word(message, fixed + 2)?;
        let kind = if class == INTERNET { word(message, fixed)? } else { 0 };
        let ttl = u32::from(word(message, fixed + 4)?) << 16 | u32::from(word(message, fixed + 6)?);
        // RFC 2181: a time to live with its highest bit set is 0.
        let ttl = if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl };
        (end <= message.len()).then_some(Self { owner, kind, ttl, data, end })
    }

    fn is(&self, message: &[u8], name: usize, kind: u16) -> bool {
        self.kind == kind && same_name(message, self.owner, name)
    }

    fn address(&self, message: &[u8]) -> Option<IpAddr> {
        let data = message.get(self.data..self.end)?;
        match self.kind {
            A => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        }
    }
}

/// Returns whether two names are equal, ignoring case. A malformed name equals no name.
fn same_name(message: &[u8], one: usize, other: usize) -> bool {
    let (mut one, mut other) = (Labels::new(message, one), Labels::new(message, other));
    loop {
        match (one.next(), other.next()) {
            (Some([]), Some([])) => return true,
            (Some(label), Some(other)) if label.eq_ignore_ascii_case(other) => {}
            _ => return false,
        }
    }
}

/// Returns the position after a name, which may end in a pointer.
fn skip_name(message: &[u8], mut position: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(position)?) {
            0 => return Some(position + 1),
            length @ ..0x40 => position += 1 + length,
            0xc0.. => return Some(position + 2),
            _ => return None,
        }
    }
}

/// The labels of a name; the last one is empty. The iterator ends early if the name is malformed.
struct Labels<'a> {
    message: &'a [u8],
    position: usize,
    /// The number of labels and pointers that may still follow.
    left: usize,
}

impl<'a> Labels<'a> {
    fn new(message: &'a [u8], position: usize) -> Self {
        Self { message, position, left: NAME_PARTS_MAX }
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            self.left = self.left.checked_sub(1)?;
            let length = usize::from(*self.message.get(self.position)?);
            if length < 0x40 {
                let start = self.position + 1;
                self.position = start + length;
                return self.message.get(start..self.position);
            }
            self.position = usize::from(word(self.message, self.position)?.checked_sub(0xc000)?);
        }
    }
}

fn record_type(family: Family) -> u16 {
    match family {
        Family::V4 => A,
        Family::V6 => AAAA,
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;

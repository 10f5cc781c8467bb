//! DNS messages, with the crate `domain` as the oracle, and the resolver under arbitrary operations.
//!
//! The first byte of an input chooses the meaning of the rest: the text of a name, the raw records of
//! an answer, a list of records for `domain` to write, or operations on a resolver.

use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::message_builder::AnswerBuilder;
use domain::base::name::ToLabelIter;
use domain::base::wire::Composer;
use domain::base::{Message, MessageBuilder, Name as Oracle, ParsedRecord, Rtype, ToName, TreeCompressor};
use domain::rdata::{A, Aaaa, Cname};
use tcprelay::internal::limits::{ALIASES_MAX, DNS_RECORDS_MAX, NAME_ADDRESSES_MAX};
use tcprelay::internal::resolve::Name;
use tcprelay::internal::resolve::wire::{Answer, Family, query, read};

const HEADER: usize = 12;
/// Bytes of an input for each record.
const RECORD: usize = 6;
/// The name in the question, then others for the records of answers.
const NAMES: [&str; 12] =
    ["db.example", "B.example", "c.B.example", "d", "e.d", "F.e.d", "g", "h.example", "i", "J", "k.j", "db"];

/// Checks one input.
///
/// # Panics
/// The relay and the oracle disagree.
pub fn check(input: &[u8]) {
    let Some((kind, input)) = input.split_first() else { return };
    let family = if kind & 4 == 0 { Family::V4 } else { Family::V6 };
    match kind % 4 {
        0 => check_name(&String::from_utf8_lossy(input), family),
        1 => check_records(input, family),
        2 => check_answer(input, family, kind & 8 == 0),
        _ => super::resolver::check(input),
    }
}

/// Checks that a name which the relay accepts is valid for the oracle too, and so is the query for it.
fn check_name(text: &str, family: Family) {
    let Ok(name) = Name::parse(text) else { return };
    assert_eq!(name.to_string(), text);
    let oracle: Oracle<Vec<u8>> = text.parse().unwrap();
    let bytes = query(0x1234, &name, family, true);
    let message = Message::from_octets(&bytes[..]).unwrap();
    let (header, counts) = (message.header(), message.header_counts());
    assert!(header.id() == 0x1234 && header.opcode() == Opcode::QUERY && header.rd() && !header.qr());
    assert_eq!((counts.qdcount(), counts.ancount(), counts.nscount(), counts.arcount()), (1, 0, 0, 1));
    let question = message.sole_question().unwrap();
    assert_eq!((question.qclass(), question.qtype()), (Class::IN, rtype(family)));
    assert_eq!(question.qname(), &oracle);
    assert_eq!(message.opt().unwrap().udp_payload_size(), 1232);
    let plain = query(0x1234, &name, family, false);
    assert_eq!(plain[HEADER..], bytes[HEADER..plain.len()]);
    assert_eq!(Message::from_octets(&plain[..]).unwrap().header_counts().arcount(), 0);
}

/// Compares arbitrary bytes, as a whole message and as the records of an answer.
fn check_records(input: &[u8], family: Family) {
    let query = query(0x1234, &Name::parse(NAMES[0]).unwrap(), family, false);
    compare(&query, input);
    let Some((count, records)) = input.split_first() else { return };
    let mut message = query.clone();
    message[2] |= 0x80;
    message[7] = *count;
    message.extend(records);
    compare(&query, &message);
}

/// Compares an answer that `domain` writes, with or without compression. With a bit of its ID or question
/// flipped, it answers another query.
fn check_answer(input: &[u8], family: Family, compressed: bool) {
    let query = query(0x1234, &Name::parse(NAMES[0]).unwrap(), family, true);
    let Some((&[flags, bit], records)) = input.split_first_chunk() else { return };
    let mut message = if compressed {
        let target = MessageBuilder::from_target(TreeCompressor::new(Vec::new())).unwrap();
        write(target, &query, flags, records).into_target()
    } else {
        write(MessageBuilder::new_vec(), &query, flags, records)
    };
    compare(&query, &message);
    // The ID, and the question from its name to its class.
    let end = HEADER + NAMES[0].len() + 2 + 4;
    let bits: Vec<_> = (0..16).chain(HEADER * 8..end * 8).collect();
    let bit = bits[usize::from(bit) % bits.len()];
    message[bit / 8] ^= 0x80 >> (bit % 8);
    assert_eq!(read(&query, &message), Answer::Foreign, "bit {bit} of {message:x?}");
}

fn write<T: Composer>(builder: MessageBuilder<T>, query: &[u8], flags: u8, records: &[u8]) -> T {
    let query = Message::from_octets(query).unwrap();
    let mut answer = builder.start_answer(&query, Rcode::masked_from_int(flags)).unwrap();
    answer.header_mut().set_tc(flags & 0x30 == 0x30);
    for record in records.chunks_exact(RECORD) {
        push(&mut answer, record);
    }
    answer.finish()
}

/// Adds a record: a byte each for owner and kind, two for the TTL and two for the data.
fn push<T: Composer>(answer: &mut AnswerBuilder<T>, record: &[u8]) {
    let name = |byte: u8| -> Oracle<Vec<u8>> { NAMES[usize::from(byte) % NAMES.len()].parse().unwrap() };
    let (owner, kind, [high, low]) = (name(record[0]), record[1] % 4, [record[4], record[5]]);
    // The top byte is drawn too: a TTL with its highest bit set is invalid and counts as 0.
    let ttl = u32::from_be_bytes([record[2], 0, 0, record[3]]);
    // A full message takes no more records.
    let _ = match kind {
        0 => answer.push((&owner, ttl, A::from_octets(10, 0, high, low))),
        1 => answer.push((&owner, ttl, A::from_octets(high, low, 0, 0))),
        2 => {
            answer.push((&owner, ttl, Aaaa::new([u16::from(high) << 8, 0, 0, 0, 0, 0, 0, low.into()].into())))
        }
        _ => answer.push((&owner, ttl, Cname::new(name(high)))),
    };
}

/// Compares the two readings of a message, unless the oracle finds it malformed.
fn compare(query: &[u8], message: &[u8]) {
    let ours = read(query, message);
    if let Some(oracle) = meaning(query, message) {
        assert_eq!(ours, oracle, "{message:x?}");
    }
}

/// Returns the oracle's reading of a message as an answer to a query; `None` if it is malformed.
fn meaning(query: &[u8], message: &[u8]) -> Option<Answer> {
    let Ok(answer) = Message::from_octets(message) else { return Some(Answer::Foreign) };
    let query = Message::from_octets(query).unwrap();
    let header = answer.header();
    let is_ours = header.qr() && header.opcode() == Opcode::QUERY && header.id() == query.header().id();
    if !is_ours {
        return Some(Answer::Foreign);
    }
    if answer.header_counts().qdcount() == 0 && header.rcode() == Rcode::FORMERR {
        return Some(Answer::FormatError);
    }
    if !answer.is_answer(&query) {
        return Some(Answer::Foreign);
    }
    // The oracle ignores case and follows pointers. The relay wants its own question back, byte for byte.
    let end = HEADER + usize::from(query.sole_question().unwrap().qname().compose_len()) + 4;
    if message.get(HEADER..end) != Some(&query.as_slice()[HEADER..end]) {
        return Some(Answer::Foreign);
    }
    Some(match header.rcode() {
        _ if header.tc() => Answer::Truncated,
        Rcode::NOERROR => addresses(&answer)?,
        Rcode::FORMERR => Answer::FormatError,
        Rcode::NXDOMAIN => Answer::NoSuchName,
        rcode => Answer::Refused(rcode.to_int()),
    })
}

/// The parts of a record that matter here.
struct Record {
    owner: Oracle<Vec<u8>>,
    ttl: u32,
    data: Data,
}

enum Data {
    Alias(Oracle<Vec<u8>>),
    Address(Rtype, IpAddr),
    Other,
}

fn addresses(answer: &Message<&[u8]>) -> Option<Answer> {
    let kind = answer.sole_question().ok()?.qtype();
    let records = answer.answer().ok()?.take(DNS_RECORDS_MAX.into());
    let records = records.map(|record| record_of(&record.ok()?)).collect::<Option<Vec<_>>>()?;
    let mut name = answer.sole_question().ok()?.qname().to_name::<Vec<u8>>();
    let (mut ttl, mut aliases) = (u32::MAX, 0);
    loop {
        let alias = records.iter().find_map(|record| match &record.data {
            Data::Alias(target) if record.owner == name => Some((target, record.ttl)),
            _ => None,
        });
        let Some((target, alias_ttl)) = alias else { break };
        aliases += 1;
        if aliases > ALIASES_MAX {
            return Some(Answer::Malformed);
        }
        (name, ttl) = (target.clone(), ttl.min(alias_ttl));
    }
    let mut found = Vec::new();
    for record in records.iter().filter(|record| record.owner == name) {
        let Data::Address(rtype, address) = record.data else { continue };
        if rtype == kind {
            ttl = ttl.min(record.ttl);
            if is_usable(address) && !found.contains(&address) && found.len() < NAME_ADDRESSES_MAX {
                found.push(address);
            }
        }
    }
    Some(Answer::Addresses(found, ttl))
}

fn record_of(record: &ParsedRecord<'_, &[u8]>) -> Option<Record> {
    let data = match record.rtype() {
        _ if record.class() != Class::IN => Data::Other,
        Rtype::A => Data::Address(Rtype::A, record.to_record::<A>().ok()??.data().addr().into()),
        Rtype::AAAA => Data::Address(Rtype::AAAA, record.to_record::<Aaaa>().ok()??.data().addr().into()),
        Rtype::CNAME => Data::Alias(record.to_record::<Cname<_>>().ok()??.data().cname().to_name()),
        _ => Data::Other,
    };
    let ttl = record.ttl().as_secs();
    Some(Record { owner: record.owner().to_name(), ttl: if ttl >> 31 == 0 { ttl } else { 0 }, data })
}

fn is_usable(address: IpAddr) -> bool {
    let text = address.to_string();
    let (multicast, mapped) = (224..=239, "::ffff:");
    match address {
        IpAddr::V4(four) => {
            !multicast.contains(&four.octets()[0]) && text != "0.0.0.0" && text != "255.255.255.255"
        }
        IpAddr::V6(six) => {
            let link_local = six.segments()[0] & 0xffc0 == 0xfe80;
            !(six.octets()[0] == 0xff
                || link_local
                || text == "::"
                || text.starts_with(mapped) && text.contains('.'))
        }
    }
}

fn rtype(family: Family) -> Rtype {
    match family {
        Family::V4 => Rtype::A,
        Family::V6 => Rtype::AAAA,
    }
}

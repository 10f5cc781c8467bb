//! Messages written by hand, and the answers read from them.

use proptest::prelude::*;

use super::*;

/// A compression pointer to the name of the question.
const ASKED: &[u8] = &[0xc0, 12];

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn ask(family: Family) -> Vec<u8> {
    query(0x1234, &name("db.example"), family, true)
}

/// Returns an answer to `query`: its header and its question, and these records.
fn answer(query: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = query[..12 + 12 + 4].to_vec();
    message[2] |= 0x80;
    message[7] = u8::try_from(records.len()).unwrap();
    message[11] = 0;
    message.extend(records.concat());
    message
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [owner, &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length, data].concat()
}

/// Returns a name of one label.
fn label(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes(), &[0]].concat()
}

fn found(addresses: &[&str], ttl: u32) -> Answer {
    Answer::Addresses(addresses.iter().map(|text| text.parse().unwrap()).collect(), ttl)
}

#[test]
fn a_query_has_the_bytes_that_the_standards_prescribe() {
    let query = query(0x1234, &name("Db.example."), Family::V6, true);
    let expected = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x02db\x07example\x00\x00\x1c\x00\x01\
                     \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
    assert_eq!(query, expected);
    let query = super::query(0x1234, &name("db.example"), Family::V4, false);
    assert_eq!(
        query,
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02db\x07example\x00\x00\x01\x00\x01"
    );
}

#[test]
fn addresses_of_the_asked_family_and_name_are_found_with_their_shortest_time() {
    let records = [
        record(ASKED, A, 60, &[10, 0, 0, 1]),
        record(b"\x02DB\x07Example\0", A, 50, &[10, 0, 0, 2]),
        record(&label("other"), A, 40, &[10, 0, 0, 3]),
        record(ASKED, AAAA, 30, &[0xfd; 16]),
        record(ASKED, 16, 20, b"\x04text"),
    ];
    let (four, six) = (ask(Family::V4), ask(Family::V6));
    assert_eq!(read(&four, &answer(&four, &records)), found(&["10.0.0.1", "10.0.0.2"], 50));
    let address = "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd";
    assert_eq!(read(&six, &answer(&six, &records)), found(&[address], 30));
}

#[test]
fn records_of_another_class_do_not_count() {
    let query = ask(Family::V4);
    let mut chaos = record(ASKED, A, 60, &[10, 0, 0, 1]);
    chaos[5] = 3;
    assert_eq!(read(&query, &answer(&query, &[chaos])), found(&[], u32::MAX));
}

#[test]
fn an_address_of_the_wrong_length_is_malformed() {
    for (family, kind, length) in [(Family::V4, A, 16), (Family::V4, A, 3), (Family::V6, AAAA, 4)] {
        let query = ask(family);
        let records = [record(ASKED, kind, 60, &vec![10; length])];
        assert_eq!(read(&query, &answer(&query, &records)), Answer::Malformed, "{length}");
    }
}

#[test]
fn aliases_are_followed_in_any_order_up_to_their_number() {
    let query = ask(Family::V4);
    let alias = |from: usize| {
        let owner = if from == 0 { ASKED.to_vec() } else { label(&format!("n{from}")) };
        record(&owner, CNAME, 100 - u32::try_from(from).unwrap(), &label(&format!("N{}", from + 1)))
    };
    for count in [1, 2, ALIASES_MAX] {
        let mut records: Vec<_> = (0..count).map(alias).collect();
        records.push(record(&label(&format!("n{count}")), A, 300, &[10, 0, 0, 1]));
        // The name of the question is an alias, so its own addresses do not count.
        records.push(record(&label("n0"), A, 1, &[10, 0, 0, 2]));
        let ttl = 101 - u32::try_from(count).unwrap();
        assert_eq!(read(&query, &answer(&query, &records)), found(&["10.0.0.1"], ttl));
        records.reverse();
        assert_eq!(read(&query, &answer(&query, &records)), found(&["10.0.0.1"], ttl));
    }
    let records: Vec<_> = (0..=ALIASES_MAX).map(alias).collect();
    assert_eq!(read(&query, &answer(&query, &records)), Answer::Malformed);
}

#[test]
fn a_loop_of_aliases_is_malformed() {
    let query = ask(Family::V4);
    let itself = record(ASKED, CNAME, 60, ASKED);
    assert_eq!(read(&query, &answer(&query, &[itself])), Answer::Malformed);
    let records = [record(ASKED, CNAME, 60, &label("a")), record(&label("a"), CNAME, 60, ASKED)];
    assert_eq!(read(&query, &answer(&query, &records)), Answer::Malformed);
}

#[test]
fn a_name_with_a_pointer_loop_equals_no_name() {
    let query = ask(Family::V4);
    let address = [10, 0, 0, 1];
    // The first record begins at 28. The pointers lead to themselves, alone and after a label, and beyond the message.
    for owner in [&[0xc0, 28][..], &[1, b'a', 0xc0, 28], &[0xff, 0xff]] {
        let records = [record(owner, A, 60, &address), record(ASKED, A, 60, &address)];
        assert_eq!(read(&query, &answer(&query, &records)), found(&["10.0.0.1"], 60), "{owner:?}");
    }
    // A name ends with its first pointer. The two bytes after it are no part of the owner, and spoil the record.
    let records = [record(&[0xc0, 30, 0xc0, 28], A, 60, &address), record(ASKED, A, 60, &address)];
    assert_eq!(read(&query, &answer(&query, &records)), Answer::Malformed);
    // With such a name as its target, an alias leads nowhere.
    let alias = record(ASKED, CNAME, 60, &[0xc0, 40]);
    assert_eq!(alias.len() + 28, 42, "the pointer is at 40");
    let records = [alias, record(ASKED, A, 60, &address)];
    assert_eq!(read(&query, &answer(&query, &records)), found(&[], 60));
}

#[test]
fn an_answer_cut_short_is_malformed_or_foreign() {
    let query = ask(Family::V4);
    let records = [record(ASKED, CNAME, 60, &label("a")), record(&label("a"), A, 60, &[10, 0, 0, 1])];
    let whole = answer(&query, &records);
    for length in 28..whole.len() {
        assert_eq!(read(&query, &whole[..length]), Answer::Malformed, "{length}");
    }
    for length in 0..28 {
        assert_eq!(read(&query, &whole[..length]), Answer::Foreign, "{length}");
    }
}

#[test]
fn the_longest_answer_is_read_only_up_to_a_limit() {
    let query = ask(Family::V4);
    let many = u16::MAX / 16;
    let mut message = answer(&query, &[]);
    message[6..8].copy_from_slice(&many.to_be_bytes());
    for number in 0..many {
        let [high, low] = number.to_be_bytes();
        message.extend(record(ASKED, A, 60, &[10, 0, high, low]));
    }
    let addresses: Vec<_> = (0..NAME_ADDRESSES_MAX).map(|last| format!("10.0.0.{last}")).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    assert_eq!(read(&query, &message), found(&addresses, 60));
    // Records beyond the limit may even be missing.
    message.truncate(28 + 16 * usize::from(DNS_RECORDS_MAX));
    assert_eq!(read(&query, &message), found(&addresses, 60));
    message.pop();
    assert_eq!(read(&query, &message), Answer::Malformed);
}

#[test]
fn a_header_without_a_question_is_an_answer_only_as_a_format_error() {
    let query = ask(Family::V4);
    let mut header = answer(&query, &[])[..12].to_vec();
    header[5] = 0;
    assert_eq!(read(&query, &header), Answer::Foreign);
    header[3] |= 1;
    assert_eq!(read(&query, &header), Answer::FormatError);
    header[0] ^= 1;
    assert_eq!(read(&query, &header), Answer::Foreign);
}

#[test]
fn response_codes_and_truncation_are_distinguished() {
    let query = ask(Family::V4);
    let with = |flags: u8, rcode: u8| {
        let mut message = answer(&query, &[record(ASKED, A, 60, &[10, 0, 0, 1])]);
        message[2] |= flags;
        message[3] |= rcode;
        read(&query, &message)
    };
    assert_eq!(with(0, 0), found(&["10.0.0.1"], 60));
    assert_eq!(with(2, 0), Answer::Truncated);
    assert_eq!(with(0, 1), Answer::FormatError);
    assert_eq!(with(0, 3), Answer::NoSuchName);
    for rcode in [2, 4, 5, 15] {
        assert_eq!(with(0, rcode), Answer::Refused(rcode));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_without_a_panic(query in any::<Vec<u8>>(), message in any::<Vec<u8>>()) {
        let _ = read(&query, &message);
        let ours = ask(Family::V6);
        let _ = read(&ours, &message);
        // They follow a valid header and question here, so that the records are read as well.
        let mut head = answer(&ours, &[]);
        head[7] = message.len().to_le_bytes()[0];
        head.extend(message);
        let _ = read(&ours, &head);
    }
}

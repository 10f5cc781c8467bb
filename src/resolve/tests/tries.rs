//! One lookup: the servers, the names and the transports of its queries, and the messages that count as answers.

use super::*;

use Transport::{Tcp, Udp};

fn udp(servers: &[&str]) -> Vec<(String, Transport)> {
    servers.iter().map(|server| ((*server).to_owned(), Udp)).collect()
}

#[test]
fn both_families_are_asked_for_at_once_on_sockets_of_their_own() {
    let mut driver = Driver::new("db.example", TWO_SERVERS);
    assert_eq!(driver.ask(), [""; 0]);
    assert_eq!(driver.asked(), udp(&["192.0.2.1", "192.0.2.1"]));
    assert_eq!(driver.sockets[0].server.port(), 53);
    let (six, four) = (driver.socket(Rtype::AAAA), driver.socket(Rtype::A));
    assert_ne!(six.query[..2], four.query[..2], "each has its own id");
    driver.answer(&["10.0.0.1", "2001:db8::1", "10.0.0.2"], 60);
    assert_eq!(driver.reports(), [resolved(&["2001:db8::1", "10.0.0.1", "10.0.0.2"])]);
    driver.assert_idle();
    assert_eq!(driver.ask(), ["2001:db8::1", "10.0.0.1", "10.0.0.2"]);
    assert_eq!(driver.opened, 2);
}

#[test]
fn each_server_is_tried_in_turn_for_the_timeout_on_a_fresh_socket() {
    let mut driver =
        Driver::new("db.", "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions timeout:3 attempts:2");
    driver.ask();
    let mut serials = Vec::new();
    for server in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"] {
        assert_eq!(driver.asked(), udp(&[server, server]));
        serials.extend(driver.sockets.iter().map(|socket| socket.key.serial));
        assert_eq!(driver.sleep(), 3 * SECOND);
    }
    assert!(serials.is_sorted_by(|one, next| one < next), "{serials:?}");
    assert_eq!(driver.reports(), [failed(Why::TimedOut, &[])]);
    assert!(driver.sockets.is_empty());
}

#[test]
fn each_lookup_begins_with_the_first_server_or_with_rotate_the_next_one() {
    let rotating = "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions rotate";
    for (conf, second) in [(TWO_SERVERS, "192.0.2.1"), (rotating, "192.0.2.2")] {
        let mut driver = Driver::new("db.", conf);
        for server in ["192.0.2.1", second, "192.0.2.1"] {
            driver.ask();
            assert_eq!(driver.asked(), udp(&[server, server]));
            driver.answer(&["10.0.0.1"], 0);
            driver.pass(crate::limits::TTL_MIN);
        }
    }
}

#[test]
fn a_server_that_fails_refuses_or_cannot_be_reached_is_followed_by_the_next() {
    for refusal in [Some(Rcode::SERVFAIL), Some(Rcode::REFUSED), Some(Rcode::NOTIMP), None] {
        let mut driver = Driver::new("db.", TWO_SERVERS);
        driver.ask();
        match refusal {
            Some(rcode) => driver.refuse(rcode),
            None => driver.sockets.clone().iter().for_each(|socket| driver.fail(socket)),
        }
        assert_eq!(driver.asked(), udp(&["192.0.2.2", "192.0.2.2"]), "{refusal:?}");
        driver.answer(&["10.0.0.1"], 60);
        assert_eq!(driver.reports(), [resolved(&["10.0.0.1"])]);
        driver.assert_idle();
    }
}

#[test]
fn the_reported_reason_is_that_of_the_last_server() {
    let mut driver = Driver::new("db.", "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions attempts:1");
    driver.ask();
    driver.refuse(Rcode::SERVFAIL);
    driver.sockets.clone().iter().for_each(|socket| driver.fail(socket));
    assert_eq!(driver.reports(), [failed(Why::Unreachable(io::ErrorKind::ConnectionRefused), &[])]);
    driver.sleep();
    driver.sockets.clone().iter().for_each(|socket| driver.fail(socket));
    driver.refuse(Rcode::SERVFAIL);
    assert_eq!(driver.reports(), [failed(Why::Refused(2), &[])]);
}

#[test]
fn after_a_format_error_the_same_server_is_asked_without_edns() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    let socket = driver.socket(Rtype::A);
    assert_eq!(socket.query[11], 1, "with EDNS");
    // A server from before EDNS answers with the header only, without a question.
    let mut header = answer(&socket.query, Rcode::FORMERR, &[], 0);
    header.truncate(12);
    header[5] = 0;
    driver.receive(&socket, &header);
    let again = driver.socket(Rtype::A);
    assert_ne!(again.key, socket.key);
    assert_eq!((again.server, again.query[11]), (socket.server, 0));
    // A second format error is a failure of this server, so the next one is asked, with EDNS.
    driver.receive(&again, &answer(&again.query, Rcode::FORMERR, &[], 0));
    let next = driver.socket(Rtype::A);
    assert_eq!((next.server.ip().to_string(), next.query[11]), ("192.0.2.2".into(), 1));
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp_piece_by_piece() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    let (six, four) = (driver.socket(Rtype::AAAA), driver.socket(Rtype::A));
    driver.receive(&six, &answer(&six.query, Rcode::NOERROR, &[], 0));
    let mut truncated = answer(&four.query, Rcode::NOERROR, &["10.0.0.9"], 60);
    truncated[2] |= 2;
    driver.receive(&four, &truncated);
    assert_eq!(driver.asked(), [("192.0.2.1".to_owned(), Tcp)]);
    let tcp = driver.socket(Rtype::A);
    let message = answer(&tcp.query, Rcode::NOERROR, &["10.0.0.1", "10.0.0.2"], 60);
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    let stream = [&length[..], &message].concat();
    for byte in &stream[..stream.len() - 1] {
        driver.receive(&tcp, &[*byte]);
        assert_eq!(driver.reports(), []);
    }
    driver.receive(&tcp, &stream[stream.len() - 1..]);
    assert_eq!(driver.reports(), [resolved(&["10.0.0.1", "10.0.0.2"])]);
    driver.assert_idle();
}

#[test]
fn a_stream_that_ends_early_is_truncated_too_or_has_no_answer_is_followed_by_the_next_server() {
    // Whether the answer is truncated, and whether it has the id of the query. None: the stream ends early.
    for case in [Some((true, true)), Some((false, false)), None] {
        let mut driver = Driver::new("db.", TWO_SERVERS);
        driver.ask();
        let socket = driver.socket(Rtype::A);
        let mut message = answer(&socket.query, Rcode::NOERROR, &["10.0.0.1"], 60);
        message[2] |= 2;
        driver.receive(&socket, &message);
        let tcp = driver.socket(Rtype::A);
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        if let Some((is_truncated, is_ours)) = case {
            message[2] &= if is_truncated { 0xff } else { !2 };
            message[..2].copy_from_slice(&tcp.query[..2]);
            message[1] ^= u8::from(!is_ours);
            driver.receive(&tcp, &[&length[..], &message].concat());
        } else {
            driver.receive(&tcp, &length);
            driver.fail(&tcp);
        }
        assert_eq!(driver.reports(), []);
        let next = driver.socket(Rtype::A);
        assert_eq!((next.server.ip().to_string(), next.transport), ("192.0.2.2".into(), Udp), "{case:?}");
    }
}

#[test]
fn a_stream_of_empty_messages_is_given_up_at_once() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    let socket = driver.socket(Rtype::A);
    let mut truncated = answer(&socket.query, Rcode::NOERROR, &[], 0);
    truncated[2] |= 2;
    driver.receive(&socket, &truncated);
    let tcp = driver.socket(Rtype::A);
    driver.receive(&tcp, &[0; 2048]);
    assert_eq!(driver.socket(Rtype::A).server.ip().to_string(), "192.0.2.2");
}

#[test]
fn a_wrong_answer_is_ignored_and_the_wait_goes_on() {
    let mut driver = Driver::new("db.example", "nameserver 192.0.2.1\noptions timeout:3");
    driver.ask();
    let socket = driver.socket(Rtype::A);
    let wrong = answer(&socket.query, Rcode::NOERROR, &["10.6.6.6"], 60);
    let question_end = 12 + 12 + 4;
    // Each bit of the id, the question count and the question; then the QR bit and the opcode.
    let flips = (0..16).chain(8 * 4..8 * 6).chain(8 * 12..8 * question_end).chain([16, 17, 18, 19, 20]);
    driver.pass(SECOND);
    for bit in flips {
        let mut wrong = wrong.clone();
        wrong[bit / 8] ^= 0x80 >> (bit % 8);
        driver.receive(&socket, &wrong);
        assert!(driver.sockets.iter().any(|open| open.key == socket.key), "bit {bit} of {wrong:x?}");
    }
    for length in 0..question_end {
        driver.receive(&socket, &wrong[..length]);
    }
    driver.receive(&socket, &socket.query.clone());
    assert_eq!(driver.sockets.len(), 2);
    assert_eq!(driver.reports(), []);
    assert_eq!(driver.sleep(), 2 * SECOND, "the timeout does not start over");
}

#[test]
fn an_answer_on_the_socket_of_another_try_is_ignored() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    let (six, four) = (driver.socket(Rtype::AAAA), driver.socket(Rtype::A));
    // One arrives on the other family's socket, one on a socket that was never opened.
    driver.receive(&six, &answer(&four.query, Rcode::NOERROR, &["10.6.6.6"], 60));
    let beyond = Key { slot: 99, ..four.key };
    driver.resolver.received(beyond, &answer(&four.query, Rcode::NOERROR, &["10.6.6.6"], 60), driver.now);
    assert_eq!(driver.sockets.len(), 2);
    // The first server answers late, with the id of the second server's query.
    driver.sleep();
    let second = driver.socket(Rtype::A);
    driver.receive(&four, &answer(&second.query, Rcode::NOERROR, &["10.6.6.6"], 60));
    driver.fail(&four);
    assert_eq!(driver.asked(), udp(&["192.0.2.2", "192.0.2.2"]));
    assert_eq!(driver.reports(), []);
}

#[test]
fn a_malformed_answer_is_followed_by_the_next_server() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    let socket = driver.socket(Rtype::A);
    let mut short = answer(&socket.query, Rcode::NOERROR, &["10.0.0.1"], 60);
    short.pop();
    driver.receive(&socket, &short);
    assert_eq!(driver.socket(Rtype::A).server.ip().to_string(), "192.0.2.2");
}

#[test]
fn a_name_that_does_not_exist_is_searched_in_the_next_domain() {
    let mut driver =
        Driver::new("db", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch a.example b.example");
    driver.ask();
    assert_eq!(driver.questions(), ["db.a.example"; 2]);
    driver.refuse(Rcode::NXDOMAIN);
    assert_eq!(driver.questions(), ["db.b.example"; 2]);
    assert_eq!(driver.asked(), udp(&["192.0.2.1", "192.0.2.1"]));
    // This name exists, but has no address.
    driver.answer(&[], 0);
    assert_eq!(driver.questions(), ["db"; 2]);
    driver.refuse(Rcode::NXDOMAIN);
    assert_eq!(driver.reports(), [failed(Why::NoAddress, &[])]);
    // In the next lookup, none of the names exists.
    driver.sleep();
    driver.refuse(Rcode::NXDOMAIN);
    driver.refuse(Rcode::NXDOMAIN);
    driver.refuse(Rcode::NXDOMAIN);
    assert_eq!(driver.reports(), [failed(Why::NoSuchName, &[])]);
}

#[test]
fn a_server_failure_ends_the_search_of_the_domains() {
    let mut driver = Driver::new("db", "nameserver 192.0.2.1\nsearch a.example\noptions attempts:1");
    driver.ask();
    let (six, four) = (driver.socket(Rtype::AAAA), driver.socket(Rtype::A));
    driver.receive(&six, &answer(&six.query, Rcode::NXDOMAIN, &[], 0));
    driver.receive(&four, &answer(&four.query, Rcode::SERVFAIL, &[], 0));
    assert_eq!(driver.reports(), [failed(Why::Refused(2), &[])], "db.a.example may exist, so db is not used");
}

#[test]
fn one_family_alone_is_used_after_a_short_wait_and_joined_by_the_other() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    let four = driver.socket(Rtype::A);
    driver.receive(&four, &answer(&four.query, Rcode::NOERROR, &["10.0.0.1"], 60));
    assert_eq!(driver.reports(), []);
    assert_eq!(driver.sleep(), crate::limits::OTHER_FAMILY_WAIT);
    assert_eq!(driver.reports(), [resolved(&["10.0.0.1"])]);
    assert_eq!(driver.ask(), ["10.0.0.1"]);
    driver.answer(&["2001:db8::1"], 60);
    assert_eq!(driver.reports(), [resolved(&["2001:db8::1", "10.0.0.1"])]);
    driver.assert_idle();
}

#[test]
fn a_family_whose_servers_fail_keeps_its_addresses() {
    let mut driver = Driver::new("db.", "nameserver 192.0.2.1\noptions attempts:1");
    driver.ask();
    driver.answer(&["10.0.0.1", "2001:db8::1"], 0);
    driver.reports();
    driver.pass(crate::limits::TTL_MIN);
    driver.ask();
    let (six, four) = (driver.socket(Rtype::AAAA), driver.socket(Rtype::A));
    driver.receive(&six, &answer(&six.query, Rcode::SERVFAIL, &[], 0));
    driver.receive(&four, &answer(&four.query, Rcode::NOERROR, &["10.0.0.2"], 60));
    assert_eq!(driver.reports(), [resolved(&["2001:db8::1", "10.0.0.2"])]);
    // An answer without addresses, in contrast, means that the family has none any more.
    driver.pass(60 * SECOND);
    driver.ask();
    driver.answer(&["10.0.0.2"], 60);
    assert_eq!(driver.reports(), [resolved(&["10.0.0.2"])]);
}

#[test]
fn a_lookup_goes_on_when_resolv_conf_now_has_fewer_servers_than_were_tried() {
    let mut driver = Driver::new("db.", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3");
    let other = driver.resolver.add(Name::parse("other.").unwrap());
    driver.ask();
    driver.refuse(Rcode::SERVFAIL);
    // The other name's lookup reads the files again before the next tries begin.
    for socket in driver.sockets.clone() {
        driver.resolver.failed(socket.key, io::ErrorKind::ConnectionRefused, driver.now);
    }
    driver.conf = (2, "nameserver 192.0.2.4\noptions attempts:1");
    driver.resolver.addresses(other, driver.now, driver.now + LONG);
    driver.act();
    assert_eq!(driver.questions(), ["db", "db", "other", "other"]);
    driver.refuse(Rcode::SERVFAIL);
    let failures = [failed(Why::Refused(2), &[]), failed(Why::Refused(2), &[])];
    assert_eq!(driver.reports(), failures);
    assert!(driver.sockets.is_empty());
}

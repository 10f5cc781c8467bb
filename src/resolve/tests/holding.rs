//! Between lookups: the addresses in use, the time of the next lookup, and the reports.

use super::*;

#[test]
fn nothing_is_sent_and_no_wake_up_is_due_until_a_session_asks() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.act();
    driver.assert_idle();
    driver.ask();
    driver.answer(&["10.0.0.1"], 0);
    driver.pass(10 * crate::limits::TTL_MAX);
    driver.act();
    driver.assert_idle();
    assert_eq!((driver.opened, driver.looked), (2, 1));
}

#[test]
fn a_time_to_live_is_clamped_to_its_limits() {
    for (ttl, held) in
        [(0, 5), (4, 5), (5, 5), (6, 6), (3600, 3600), (3601, 3600), (u32::MAX, 5), (1 << 31, 5)]
    {
        let mut driver = Driver::new("db.", TWO_SERVERS);
        driver.ask();
        driver.answer(&["10.0.0.1"], ttl);
        driver.pass((held * SECOND).saturating_sub(Duration::from_nanos(1)));
        driver.ask();
        assert_eq!(driver.opened, 2, "{ttl}: too early");
        driver.pass(Duration::from_nanos(1));
        driver.ask();
        assert_eq!(driver.opened, 4, "{ttl}: too late");
    }
}

#[test]
fn the_shorter_time_to_live_of_the_families_counts() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    let (six, four) = (driver.socket(Rtype::AAAA), driver.socket(Rtype::A));
    driver.receive(&six, &answer(&six.query, Rcode::NOERROR, &["2001:db8::1"], 600));
    driver.receive(&four, &answer(&four.query, Rcode::NOERROR, &["10.0.0.1"], 60));
    driver.pass(60 * SECOND);
    driver.ask();
    assert_eq!(driver.sockets.len(), 2);
}

#[test]
fn the_old_addresses_stay_in_use_until_the_lookup_of_new_ones_is_over() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    driver.answer(&["10.0.0.1"], 60);
    assert_eq!(driver.reports(), [resolved(&["10.0.0.1"])]);
    driver.pass(60 * SECOND);
    assert_eq!(driver.ask(), ["10.0.0.1"]);
    assert_eq!(driver.ask(), ["10.0.0.1"]);
    assert_eq!(driver.opened, 4, "sessions share one lookup");
    // With old addresses in use, one family waits for the other however long that takes.
    let (six, four) = (driver.socket(Rtype::AAAA), driver.socket(Rtype::A));
    driver.receive(&four, &answer(&four.query, Rcode::NOERROR, &["10.0.0.2"], 60));
    driver.pass(SECOND);
    driver.receive(&six, b"nonsense");
    assert_eq!(driver.ask(), ["10.0.0.1"]);
    assert_eq!(driver.sleep(), 4 * SECOND);
    driver.answer(&[], 0);
    assert_eq!(driver.reports(), [resolved(&["10.0.0.2"])]);
    assert_eq!(driver.ask(), ["10.0.0.2"]);
    driver.assert_idle();
}

#[test]
fn the_same_addresses_in_another_order_are_used_and_not_reported() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    driver.answer(&["10.0.0.1", "10.0.0.2"], 0);
    driver.reports();
    driver.pass(crate::limits::TTL_MIN);
    driver.ask();
    driver.answer(&["10.0.0.2", "10.0.0.1"], 0);
    assert_eq!(driver.reports(), []);
    assert_eq!(driver.ask(), ["10.0.0.2", "10.0.0.1"]);
    // An address less is reported, and so is another address.
    for addresses in [&["10.0.0.1"][..], &["10.0.0.3"]] {
        driver.pass(crate::limits::TTL_MIN);
        driver.ask();
        driver.answer(addresses, 0);
        assert_eq!(driver.reports(), [resolved(addresses)]);
    }
}

#[test]
fn after_failures_the_last_addresses_stay_and_the_next_lookup_waits_longer_each_time() {
    let mut driver = Driver::new("db.", "nameserver 192.0.2.1\noptions attempts:1");
    driver.ask();
    driver.answer(&["10.0.0.1"], 0);
    driver.reports();
    driver.pass(crate::limits::TTL_MIN);
    for (lookup, wait) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
        assert_eq!(driver.ask(), ["10.0.0.1"]);
        driver.refuse(Rcode::SERVFAIL);
        let reported = if lookup == 0 { vec![failed(Why::Refused(2), &["10.0.0.1"])] } else { vec![] };
        assert_eq!(driver.reports(), reported, "a lasting failure is reported once");
        driver.assert_idle();
        driver.pass((wait * SECOND).saturating_sub(Duration::from_nanos(1)));
        assert_eq!(driver.ask(), ["10.0.0.1"]);
        assert_eq!(driver.sockets.len(), 0, "the lookup after {lookup} began too early");
        driver.pass(Duration::from_nanos(1));
    }
    // Another reason is reported, and so is the success after it.
    driver.ask();
    driver.refuse(Rcode::NXDOMAIN);
    assert_eq!(driver.reports(), [failed(Why::NoSuchName, &["10.0.0.1"])]);
    driver.pass(60 * SECOND);
    driver.ask();
    driver.answer(&["10.0.0.1"], 0);
    assert_eq!(driver.reports(), [resolved(&["10.0.0.1"])]);
    // After the success, the waits start over.
    driver.pass(crate::limits::TTL_MIN);
    driver.ask();
    driver.refuse(Rcode::SERVFAIL);
    driver.pass(SECOND);
    driver.ask();
    assert_eq!(driver.sockets.len(), 2);
}

#[test]
fn lookups_are_repeated_for_as_long_as_sessions_wait_for_a_first_address() {
    let mut driver = Driver::new("db.", "nameserver 192.0.2.1\noptions attempts:1");
    let until = driver.now + 3 * SECOND;
    assert!(driver.resolver.addresses(driver.id, driver.now, until).is_empty());
    driver.act();
    driver.refuse(Rcode::SERVFAIL);
    // A session that gives up sooner does not shorten the wait of the others.
    driver.resolver.addresses(driver.id, driver.now, driver.now + SECOND);
    assert_eq!(driver.sleep(), SECOND);
    assert_eq!(driver.sockets.len(), 2);
    driver.refuse(Rcode::SERVFAIL);
    // By the time of the next lookup, all of them will have given up.
    driver.assert_idle();
    driver.pass(2 * SECOND);
    driver.ask();
    driver.answer(&["10.0.0.1"], 60);
    assert_eq!(driver.ask(), ["10.0.0.1"]);
    driver.assert_idle();
}

#[test]
fn failed_connects_begin_a_lookup_at_most_once_a_second() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    driver.answer(&["10.0.0.1"], 3600);
    driver.resolver.ask_now(driver.id, driver.now);
    driver.act();
    assert_eq!(driver.opened, 2);
    driver.pass(SECOND);
    driver.resolver.ask_now(driver.id, driver.now);
    driver.act();
    assert_eq!(driver.opened, 4);
    // No lookup begins while one is under way, however long that takes.
    driver.pass(SECOND);
    driver.resolver.ask_now(driver.id, driver.now);
    driver.act();
    assert_eq!(driver.opened, 4);
    assert_eq!(driver.ask(), ["10.0.0.1"]);
}

#[test]
fn a_failed_connect_begins_a_lookup_even_while_failed_lookups_back_off() {
    let mut driver = Driver::new("db.", "nameserver 192.0.2.1\noptions attempts:1");
    for _ in 0..6 {
        driver.resolver.ask_now(driver.id, driver.now);
        driver.act();
        assert_eq!(driver.sockets.len(), 2);
        driver.refuse(Rcode::SERVFAIL);
        driver.pass(SECOND);
    }
}

#[test]
fn all_names_are_looked_up_at_once_even_while_a_lookup_is_under_way() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    let other = driver.resolver.add(Name::parse("other.").unwrap());
    driver.ask();
    driver.sleep();
    let old = driver.sockets.clone();
    driver.conf = (2, "nameserver 192.0.2.3");
    driver.resolver.ask_all(driver.now);
    driver.act();
    assert_eq!(driver.questions(), ["db", "db", "other", "other"]);
    assert!(driver.asked().iter().all(|(server, _)| server == "192.0.2.3"));
    driver.receive(&old[0], &answer(&old[0].query, Rcode::NOERROR, &["10.6.6.6"], 60));
    assert_eq!(driver.sockets.len(), 4);
    driver.answer(&["10.0.0.1"], 60);
    let reports: Vec<_> = std::iter::from_fn(|| driver.resolver.next_report()).collect();
    let outcome = resolved(&["10.0.0.1"]);
    assert_eq!(reports, [driver.id, other].map(|id| Report { id, outcome: outcome.clone() }));
    assert_eq!(driver.resolver.name(other).to_string(), "other.");
    driver.assert_idle();
}

#[test]
fn the_hosts_file_goes_before_the_servers() {
    let mut driver = Driver::new("db", TWO_SERVERS);
    driver.hosts = (7, "10.0.0.1 db\n2001:db8::1 DB");
    driver.ask();
    assert_eq!(driver.reports(), [resolved(&["2001:db8::1", "10.0.0.1"])]);
    assert_eq!(driver.ask(), ["2001:db8::1", "10.0.0.1"]);
    driver.assert_idle();
    assert_eq!((driver.opened, driver.looked, driver.read), (0, 1, 2));
}

#[test]
fn both_files_are_read_again_only_when_they_have_changed() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.hosts = (7, "10.0.0.1 db");
    driver.ask();
    driver.pass(crate::limits::TTL_MIN);
    driver.ask();
    assert_eq!((driver.looked, driver.read), (2, 2));
    driver.hosts = (8, "10.0.0.2 db");
    driver.ask();
    assert_eq!(driver.looked, 2, "no look before the time to live is over");
    driver.pass(crate::limits::TTL_MIN);
    assert_eq!(driver.ask(), ["10.0.0.1"]);
    assert_eq!(driver.ask(), ["10.0.0.2"]);
    assert_eq!((driver.looked, driver.read), (3, 3));
    driver.hosts = (0, "");
    driver.pass(crate::limits::TTL_MIN);
    driver.ask();
    assert_eq!(driver.sockets.len(), 2, "a name that has left the hosts file is asked for");
    assert_eq!(driver.ask(), ["10.0.0.2"]);
    // A lookup asks the servers that resolv.conf has when the lookup begins.
    driver.conf = (2, "nameserver 192.0.2.3");
    driver.answer(&["10.0.0.3"], 0);
    driver.pass(crate::limits::TTL_MIN);
    driver.ask();
    assert_eq!(driver.sockets[0].server.ip().to_string(), "192.0.2.3");
}

#[test]
fn a_name_added_after_the_hosts_file_was_read_is_found_in_it() {
    let mut driver = Driver::new("db", TWO_SERVERS);
    driver.hosts = (7, "10.0.0.1 db\n10.0.0.2 other");
    driver.ask();
    driver.id = driver.resolver.add(Name::parse("other").unwrap());
    driver.ask();
    assert_eq!(driver.ask(), ["10.0.0.2"]);
}

#[test]
fn families_take_turns_and_each_keeps_the_order_of_its_answer() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    let addresses = ["10.0.0.3", "10.0.0.1", "10.0.0.2", "::2", "::1"];
    driver.answer(&addresses, 60);
    assert_eq!(driver.ask(), ["::2", "10.0.0.3", "::1", "10.0.0.1", "10.0.0.2"]);
}

#[test]
fn lookups_are_counted_by_their_results() {
    let mut driver = Driver::new("db.", TWO_SERVERS);
    driver.ask();
    driver.answer(&["10.0.0.1"], 0);
    driver.pass(crate::limits::TTL_MIN);
    driver.ask();
    driver.refuse(Rcode::NXDOMAIN);
    assert_eq!(driver.resolver.ended(), [1, 1]);
}

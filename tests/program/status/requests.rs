//! Requests of all kinds, and scrapers that stall: none costs a session anything.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{answer, ask, body, page, request, served};
use crate::support::net::{self, End};
use crate::support::{Relay, Start, process};

#[test]
fn a_request_that_is_not_for_this_host_or_not_for_a_page_is_refused() {
    let listener = net::listen();
    let (relay, status) = served(|options| Start::to(net::address(&listener)).options(&options));
    let long = format!("GET / HTTP/1.1\r\nCookie: {}", "c".repeat(20_000));
    for (request, answer) in [
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421 Misdirected Request"),
        ("GET /etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", "404 Not Found"),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody", "405 Method Not Allowed"),
        ("PRI * HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported"),
        ("\x16\x03\x01\x02\n\n", "400 Bad Request"),
        (&long, "431 Request Header Fields Too Large"),
    ] {
        // The answer arrives whole although the relay has not read all of the request.
        let answered = ask(status, request);
        assert!(answered.starts_with(&format!("HTTP/1.1 {answer}\r\n")), "{answered}");
        assert!(answered.contains("\r\nConnection: close\r\n"), "{answered}");
    }
    assert!(ask(status, "HEAD /metrics HTTP/1.1\r\nHost: [::1]\r\n\r\n").ends_with("\r\n\r\n"));
    assert!(ask(status, "HEAD /nothing HTTP/1.1\r\nHost: [::1]\r\n\r\n").ends_with("\r\n\r\n"));
    relay.assert_relays(&listener);
}

#[test]
fn a_request_in_pieces_is_answered() {
    let listener = net::listen();
    let (relay, status) = served(|options| Start::to(net::address(&listener)).options(&options));
    let mut scraper = net::connect(status);
    for piece in request("/metrics").as_bytes().chunks(7) {
        scraper.write_all(piece).unwrap();
        process::settle(relay.pid);
    }
    // A scraper that half-closes gets its answer as well.
    scraper.shutdown(Shutdown::Write).unwrap();
    assert!(body(&answer(scraper, "")).contains("tcprelay_sessions 0"));
}

#[test]
fn stalled_scrapers_take_four_places_for_two_seconds_and_nothing_from_a_session() {
    let listener = net::listen();
    let (relay, status) = served(|options| Start::to(net::address(&listener)).options(&options));
    let start = Instant::now();
    let mut silent: Vec<_> = (0..4).map(|_| net::connect(status)).collect();
    silent[0].write_all(b"GET / HT").unwrap();
    let mut fifth = net::connect(status);
    fifth.write_all(request("/metrics").as_bytes()).unwrap();
    for _ in 0..20 {
        relay.assert_relays(&listener);
    }
    let (text, end) = net::read_all(&mut fifth);
    assert!(start.elapsed() >= Duration::from_millis(1990), "{:?}", start.elapsed());
    assert_eq!(end, End::Clean);
    assert!(body(&String::from_utf8(text).unwrap()).contains("\ntcprelay_sessions_limit 500\n"));
    for scraper in &mut silent {
        assert_eq!(net::read_all(scraper).0, [0; 0]);
    }
}

#[test]
fn an_idle_relay_with_a_status_makes_no_wake_ups() {
    let listener = net::listen();
    let (relay, status) = served(|options| Start::to(net::address(&listener)).options(&options));
    page(status, "/");
    process::settle(relay.pid);
    // Longer than a scraper may stay, so that the timer of one left behind would show.
    process::assert_rests(relay.pid, Duration::from_millis(2500));
}

#[test]
fn short_of_descriptors_a_scraper_waits_and_is_answered_later() {
    use rustix::process::Resource::Nofile;

    let listener = net::listen();
    let (relay, status) = served(|options| Start::to(net::address(&listener)).options(&options));
    relay.assert_relays(&listener);
    process::settle(relay.pid);
    let before = process::limit(relay.pid, Nofile, Some(3));
    let mut scraper = net::connect(status);
    scraper.write_all(request("/metrics").as_bytes()).unwrap();
    process::settle(relay.pid);
    assert!(!net::readable_within(&scraper, Duration::from_millis(300)));
    process::limit(relay.pid, Nofile, before);
    assert!(body(&answer(scraper, "")).contains("\ntcprelay_sessions "));
}

/// Prints the latency of requests alone, beside scrapes of another relay, and beside scrapes of this one.
/// The last two keep the machine equally busy, so their difference is the cost of the scrapes.
#[test]
#[ignore = "takes seconds, and its figures depend on the machine"]
fn requests_beside_a_thousand_scrapes_a_second() {
    let target = net::echo();
    let (relay, status) = served(|options| Start::to(target).options(&options));
    let (_other, other_status) = served(|options| Start::to(target).options(&options));
    for _ in 0..5 {
        for (scraped, status) in
            [("nothing", None), ("another relay", Some(other_status)), ("this relay", Some(status))]
        {
            let (p50, p99, rate) = beside_scrapes(&relay, status);
            eprintln!("p50 {p50:?}, p99 {p99:?}, beside {rate:.0} scrapes a second of {scraped}");
        }
    }
}

/// Returns the median and the 99th percentile of requests, and the scrapes a second beside them.
fn beside_scrapes(relay: &Relay, status: Option<SocketAddr>) -> (Duration, Duration, f64) {
    let done = AtomicBool::new(false);
    let done = &done;
    let scrape = |status| {
        let (start, mut count) = (Instant::now(), 0_u32);
        while !done.load(Ordering::Relaxed) {
            let due = start + count * Duration::from_millis(1);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            page(status, "/metrics");
            count += 1;
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let scraper = status.map(|status| scope.spawn(move || scrape(status)));
        let mut stream = relay.connect();
        let request = |_| {
            let start = Instant::now();
            stream.write_all(&[7; 64]).unwrap();
            net::read_exactly(&mut stream, 64);
            start.elapsed()
        };
        let mut times: Vec<_> = (0..20_000).map(request).collect();
        done.store(true, Ordering::Relaxed);
        times.sort_unstable();
        let rate = scraper.map_or(0.0, |scraper| scraper.join().unwrap());
        (times[times.len() / 2], times[times.len() * 99 / 100], rate)
    })
}

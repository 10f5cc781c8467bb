//! The pages: their counts, their list of sessions, and the state of the relay and its targets.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::Value;

use super::{json, metric, page, served};
use crate::support::net::{self, End};
use crate::support::{Relay, Start};

/// Returns a relay, the address of its status, and its one live session: 4 bytes there and 9 back. Before that, a
/// session like it has ended, a requester was over the limit of its source, and the ACL rejected another.
fn busy(listener: &TcpListener) -> (Relay, SocketAddr, (TcpStream, TcpStream)) {
    let target = net::address(listener);
    let (mut relay, status) = served(|options| {
        Start::to(target).acl("127.0.0.1/32").options(&format!("{options} --max-per-source 2"))
    });
    let sessions = [relay.session(listener), relay.session(listener)];
    for (mut requester, mut target) in sessions.iter().map(|(one, two)| (one, two)) {
        requester.write_all(b"four").unwrap();
        assert_eq!(net::read_exactly(&mut target, 4), b"four");
        target.write_all(b"seventeen").unwrap();
        assert_eq!(net::read_exactly(&mut requester, 9), b"seventeen");
    }
    assert_eq!(net::read_all(&mut relay.connect()).1, End::Reset);
    assert_eq!(net::read_all(&mut relay.connect_from([127, 0, 0, 2].into())).1, End::Reset);
    let [first, second] = sessions;
    net::end(first);
    relay.log.wait(34, 1);
    (relay, status, second)
}

#[test]
fn the_metrics_count_sessions_bytes_and_rejections() {
    let listener = net::listen();
    let (_relay, status, _session) = busy(&listener);
    let target = net::address(&listener);
    let metrics = page(status, "/metrics");
    for (sample, value) in [
        ("tcprelay_build_info{version=\"1.0.0\"}", "1"),
        ("tcprelay_sessions", "1"),
        ("tcprelay_sessions_limit", "500"),
        ("tcprelay_draining", "0"),
        ("tcprelay_connections_total", "3"),
        ("tcprelay_connections_rejected_total{reason=\"acl\"}", "1"),
        ("tcprelay_connections_rejected_total{reason=\"source_limit\"}", "1"),
        ("tcprelay_connections_rejected_total{reason=\"pool_exhausted\"}", "0"),
        ("tcprelay_sessions_ended_total{cause=\"requester_read_closure\"}", "1"),
        ("tcprelay_sessions_ended_total{cause=\"idle_timeout\"}", "0"),
        ("tcprelay_bytes_total{direction=\"to_target\"}", "8"),
        ("tcprelay_bytes_total{direction=\"to_requester\"}", "18"),
        ("tcprelay_connect_duration_seconds_count", "2"),
        ("tcprelay_session_duration_seconds_bucket{le=\"+Inf\"}", "1"),
        (&format!("tcprelay_target_up{{target=\"{target}\"}}"), "1"),
        ("tcprelay_log_lines_dropped_total", "0"),
    ] {
        assert_eq!(metric(&metrics, sample), value, "{sample}");
    }
}

#[test]
fn the_json_and_the_page_count_sessions_bytes_and_rejections() {
    let listener = net::listen();
    let (relay, status, _session) = busy(&listener);
    let target = net::address(&listener);
    let object = json(status);
    for (field, value) in [
        ("sessions", 1),
        ("sessions_limit", 500),
        ("accepted", 3),
        ("rejected", 1),
        ("dropped", 1),
        ("bytes_to_target", 8),
        ("bytes_to_requester", 18),
        ("port", relay.port.into()),
        ("target_port", target.port().into()),
    ] {
        assert_eq!(object[field], value, "{field} in {object}");
    }
    assert_eq!(object["last_minute"]["accepted"], 3);
    assert_eq!(object["connections_rejected"]["source_limit"], 1);
    assert_eq!(object["sessions_ended"]["requester_read_closure"], 1);
    let live = &object["live"][0];
    assert_eq!((&live["serial"], &live["phase"]), (&2.into(), &"relaying".into()));
    assert_eq!((&live["bytes_to_target"], &live["bytes_to_requester"]), (&4.into(), &9.into()));

    let html = page(status, "/");
    for part in [
        &format!("TCP port {} → 127.0.0.1 port {}", relay.port, target.port()),
        "<dt>sessions</dt><dd>1 of 500</dd>",
        "<dt>accepted</dt><dd>3</dd>",
        "<dt>bytes to the requester</dt><dd>18 B</dd>",
        "1 of 1",
        "<b class=up>up</b>",
    ] {
        assert!(html.contains(part), "no {part:?} in\n{html}");
    }
}

#[test]
fn a_target_that_refuses_is_down_until_it_answers() {
    let (closed, target) = net::refusing();
    let (mut relay, status) = served(|options| Start::to(target).options(&options));
    let up = format!("tcprelay_target_up{{target=\"{target}\"}}");
    assert_eq!(metric(&page(status, "/metrics"), &up), "1");
    assert_eq!(net::read_all(&mut relay.connect()).1, End::Reset);
    relay.log.wait(27, 1);
    let metrics = page(status, "/metrics");
    assert_eq!(metric(&metrics, &up), "0");
    let refused = format!("tcprelay_target_connects_failed_total{{target=\"{target}\",reason=\"refused\"}}");
    assert_eq!(metric(&metrics, &refused), "1");
    assert!(page(status, "/").contains("<b class=down>down</b><td>1 refused"));
    assert_eq!(json(status)["targets"][0]["connects_failed"]["refused"], 1);

    closed.listen(16).unwrap();
    let listener = TcpListener::from(closed);
    relay.assert_relays(&listener);
    assert_eq!(metric(&page(status, "/metrics"), &up), "1");
}

#[test]
fn bulk_traffic_is_counted_as_spliced_and_interactive_traffic_is_not() {
    let listener = net::listen();
    let (relay, status) = served(|options| Start::to(net::address(&listener)).options(&options));
    let (mut requester, mut target) = relay.session(&listener);
    net::assert_passes(&mut requester, &mut target, b"small");
    assert_eq!(metric(&page(status, "/metrics"), "tcprelay_spliced_bytes_total"), "0");
    let bytes = 8 << 20;
    net::assert_moves(&mut requester, &mut target, &vec![7; bytes]);
    let spliced: usize = metric(&page(status, "/metrics"), "tcprelay_spliced_bytes_total").parse().unwrap();
    let has_splice = cfg!(target_os = "linux");
    assert!(!has_splice || spliced > bytes / 2 && spliced <= bytes, "{spliced}");
}

#[test]
fn a_page_lists_a_bounded_number_of_sessions_in_the_requested_order() {
    const SESSIONS: usize = 120;
    let listener = net::listen();
    let (relay, status) = served(|options| Start::to(net::address(&listener)).options(&options));
    let mut sessions: Vec<_> = (0..SESSIONS).map(|_| relay.session(&listener)).collect();
    let (requester, target) = &mut sessions[SESSIONS - 1];
    net::assert_passes(requester, target, b"the most bytes, and the last to move");

    for path in ["/", "/?sort=bytes", "/?sort=idle"] {
        let html = page(status, path);
        assert!(html.contains("100 of 120"), "{path}");
        assert_eq!(html.matches("\n<tr><td>").count(), 100, "{path}");
        let has_last = html.contains("\n<tr><td>120<td>");
        assert_eq!(has_last, path == "/?sort=bytes", "{path}");
    }
    assert!(page(status, "/?sort=bytes").contains("</a> ▾<th class=n><a href='?sort=bytes'>to requester"));
    let serials = |path| -> Vec<_> {
        let object: Value = serde_json::from_str(&page(status, path)).unwrap();
        object["live"].as_array().unwrap().iter().map(|live| live["serial"].as_u64().unwrap()).collect()
    };
    assert_eq!(serials("/status.json"), (1..=100).collect::<Vec<_>>());
    assert_eq!(serials("/status.json?sort=bytes")[0], 120);
}

#[test]
fn a_draining_relay_says_so_until_it_ends() {
    let listener = net::listen();
    let (mut relay, status) = served(|options| Start::to(net::address(&listener)).options(&options));
    let session = relay.session(&listener);
    relay.signal(Signal::QUIT);
    relay.log.wait_text("Drain signal received.");
    assert_eq!(metric(&page(status, "/metrics"), "tcprelay_draining"), "1");
    assert!(page(status, "/").contains("Draining"));
    drop(session);
    assert_eq!(relay.wait().code(), Some(0));
    assert!(TcpStream::connect(status).is_err());
}

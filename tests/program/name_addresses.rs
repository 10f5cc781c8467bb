//! The addresses of a name that sessions go to, and their order.

use rustix::process::Signal;

use crate::admission::own_network;
use crate::name_files::{Files, NAME};
use crate::name_server::{NameServer, Zone};
use crate::names::{LONG, expect_resolved, reached, target};
use crate::support::free_port;
use crate::support::net::{self, End};

#[test]
fn the_addresses_of_a_name_are_tried_in_turn() {
    let Some(server) = NameServer::start(Zone::of(&["127.41.9.1", "127.41.9.2"], LONG)) else { return };
    let Some(files) = Files::asking(&server) else { return };
    let port = free_port();
    // Nothing listens on the first one.
    target("127.41.9.2", port, b'b');
    let mut relay = files.start(port).start();
    assert_eq!(reached(&relay), b'b');
    relay.log.wait_text(&format!(
        "Session handler serial number 1 could not connect to 127.41.9.1:{port} (Connection refused). Connecting to \
         target 127.41.9.2:{port}."
    ));
    relay.log.wait(28, 1);
}

#[test]
fn an_address_that_leads_back_here_or_is_of_another_family_is_not_used() {
    let Some(server) = NameServer::start(Zone::of(&["127.0.0.1"], LONG)) else { return };
    let Some(files) = Files::asking(&server) else { return };
    let port = free_port();
    let mut relay = files
        .start(port)
        .options("--resolve --bind 127.0.0.1 --source 127.0.0.1")
        .connect_timeout(1)
        .start_on(port)
        .unwrap();
    assert_eq!(net::read_all(&mut relay.connect()), (Vec::new(), End::Reset));
    relay.log.wait_text(
        "could not be resolved: its addresses are this relay's own, or not of the family of --source",
    );
    server.set(Zone::of(&["::1", "127.41.11.1"], LONG));
    target("127.41.11.1", port, b'a');
    relay.signal(Signal::HUP);
    expect_resolved(&mut relay.log, "127.41.11.1");
    assert_eq!(reached(&relay), b'a');
    // The last usable address stays in use.
    server.set(Zone::of(&["127.0.0.1"], LONG));
    relay.signal(Signal::HUP);
    relay.log.wait_text("or not of the family of --source. Its last addresses stay: 127.41.11.1.");
    assert_eq!(reached(&relay), b'a');
}

#[test]
fn addresses_of_a_family_without_a_route_come_last() {
    let hosts = format!("2001:db8::1 {NAME}\n127.41.13.1 {NAME}\n127.41.13.2 {NAME}\n");
    // Without a route, then without IPv6 at all, as in many containers.
    for script in ["", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"] {
        if !own_network(script) {
            return;
        }
        let Some(files) = Files::new(&hosts, "") else { return };
        let port = free_port();
        target("127.41.13.1", port, b'a');
        let mut relay = files.start(port).start();
        assert_eq!(reached(&relay), b'a');
        expect_resolved(&mut relay.log, "127.41.13.1, 127.41.13.2, 2001:db8::1");
        relay.log.wait(28, 1);
        let went_on = |line: &&String| line.contains("could not connect to");
        assert_eq!(relay.log.seen().iter().find(went_on), None);
    }
}

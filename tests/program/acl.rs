//! Admission by `<ACL>`, `--allow` and `--deny`.

use std::net::Ipv4Addr;

use crate::support::Start;
use crate::support::catalogue::filled;
use crate::support::net::{self, End};

#[test]
fn the_acl_admits_its_network_and_no_other_requester() {
    const ONE: Ipv4Addr = Ipv4Addr::LOCALHOST;
    const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    const NEXT: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
    const FAR: Ipv4Addr = Ipv4Addr::new(127, 128, 0, 1);
    let all = &[ONE, TWO, NEXT, FAR][..];
    let cases = [
        ("ANY", all),
        ("any", all),
        ("Any", all),
        ("0.0.0.0/0", all),
        ("0.0.0.0/0.0.0.0", all),
        ("1.2.3.4/0", all),
        ("127.0.0.1/32", &[ONE]),
        ("127.0.0.2/255.255.255.255", &[TWO]),
        ("127.0.0.0/24", &[ONE, TWO]),
        ("127.0.0.77/24", &[ONE, TWO]),
        ("127.0.0.77/255.255.255.0", &[ONE, TWO]),
        ("127.0.0.2/31", &[TWO]),
        ("127.0.0.0/23", &[ONE, TWO, NEXT]),
        ("127.128.0.0/9", &[FAR]),
        ("128.0.0.0/1", &[]),
        ("fd00::/8", &[]),
        // An IPv6 network admits no IPv4 requester.
        ("::/0", &[]),
    ];
    for (acl, admitted) in cases {
        assert_admits(acl, "", all, admitted);
        // This listener sees IPv4 requesters at IPv4-mapped addresses.
        if net::has_ipv6() {
            assert_admits(acl, "--bind ::", all, admitted);
        }
    }
}

/// Asserts that a relay with this ACL admits the requesters of `all` that are in `admitted`, and rejects the others.
#[track_caller]
fn assert_admits(acl: &str, options: &str, all: &[Ipv4Addr], admitted: &[Ipv4Addr]) {
    let listener = net::listen();
    let mut relay = Start::to(net::address(&listener)).acl(acl).options(options).start();
    for ip in all {
        let mut requester = relay.connect_from(*ip);
        let from = ("<rqst IP addr>", &*ip.to_string());
        relay.log.expect_text(&filled(16, &[from]));
        if admitted.contains(ip) {
            relay.log.expect_text(&filled(18, &[from]));
            let mut target = net::accept(&listener);
            net::assert_passes(&mut requester, &mut target, b"let in");
            net::reset(requester);
            relay.log.wait_text("due to requester read closure.");
        } else {
            relay.log.expect_text(&filled(17, &[from]));
            assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
        }
    }
}

#[test]
fn a_deny_wins_and_then_the_acl_or_any_allow_admits() {
    let listener = net::listen();
    let options = "--allow 127.0.1.0/24 --allow 127.0.2.7/32 --deny 127.0.1.9/32 --deny 127.0.0.128/25";
    let mut relay = Start::to(net::address(&listener)).acl("127.0.0.0/24").options(options).start();
    let cases = [
        ([127, 0, 0, 1], true),
        ([127, 0, 0, 200], false),
        ([127, 0, 1, 1], true),
        ([127, 0, 1, 9], false),
        ([127, 0, 2, 7], true),
        ([127, 0, 2, 8], false),
    ];
    for (ip, admitted) in cases {
        let ip = Ipv4Addr::from(ip);
        let mut requester = relay.connect_from(ip);
        let from = ("<rqst IP addr>", &*ip.to_string());
        relay.log.wait_text(&filled(16, &[from]));
        relay.log.expect_text(&filled(if admitted { 18 } else { 17 }, &[from]));
        if admitted {
            net::assert_passes(&mut requester, &mut net::accept(&listener), b"hello");
        } else {
            assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset));
        }
    }
}

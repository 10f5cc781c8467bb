//! `--proxy-protocol`: a header before the first byte gives the target the requester's address.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader};

use crate::support::Start;
use crate::support::net::{self, End, has_ipv6};

/// Reads a header and no byte beyond it, because the requester may have sent nothing yet. Returns the addresses in
/// it; None if it has none.
#[track_caller]
fn read_header(target: &mut TcpStream) -> Option<ProxiedAddress> {
    let mut bytes = Vec::new();
    loop {
        match ProxyHeader::parse(&bytes, ParseConfig::default()) {
            Ok((header, length)) => {
                assert_eq!(length, bytes.len());
                return header.proxied_address().cloned();
            }
            Err(Error::BufferTooShort) => bytes.extend(net::read_exactly(target, 1)),
            Err(error) => panic!("{error:?} in {bytes:?}"),
        }
    }
}

#[test]
fn the_target_gets_the_requesters_address_before_the_first_byte() {
    if !has_ipv6() {
        return;
    }
    let listener = net::listen();
    // The smallest buffer, both versions, both families.
    for options in ["--bind :: --proxy-protocol v1", "--bind :: --proxy-protocol v2"] {
        let relay = Start::to(net::address(&listener)).buf(100).options(options).start();
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let mut requester = net::connect(SocketAddr::new(ip, relay.port));
            let mut target = net::accept(&listener);
            let header = read_header(&mut target).unwrap();
            assert_eq!(header.source, requester.local_addr().unwrap());
            assert_eq!(header.destination, requester.peer_addr().unwrap());

            let bytes = net::random(1, 10_000);
            net::assert_passes(&mut requester, &mut target, &bytes);
            // The requester gets no header, only the bytes of the target.
            net::assert_passes(&mut target, &mut requester, &bytes);
            drop(requester);
            assert_eq!(net::read_all(&mut target), (Vec::new(), End::Clean));
        }
    }
}

#[test]
fn the_header_comes_first_even_if_bytes_are_already_waiting() {
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).buf(100).options("--proxy-protocol v1").start();
    relay.freeze();
    let mut requester = relay.connect();
    let bytes = net::random(2, 5_000);
    requester.write_all(&bytes).unwrap();
    drop(requester);
    relay.thaw();
    let mut target = net::accept(&listener);
    read_header(&mut target).unwrap();
    let (got, end) = net::read_all(&mut target);
    net::assert_same(&got, &bytes);
    assert_eq!(end, End::Clean);
}

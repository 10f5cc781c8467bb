//! A target that is not available: the relay resets the requester, at once or after c t/o.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{BUSY, RELAYS};
use crate::support::Start;
use crate::support::catalogue::filled;
use crate::support::net::{self, End, Silent};
use crate::support::skip::skipped;

/// Asserts that each relay resets the requester in time, and logs message `number`.
fn resets_within(target: SocketAddr, number: u8, least: Duration) {
    thread::scope(|scope| {
        for (name, buf, options) in RELAYS {
            scope.spawn(move || {
                let start = Start::to(target).connect_timeout(1).buf(buf).options(options);
                let mut relay = start.start();
                let start = Instant::now();
                let mut requester = relay.connect();
                // The requester may send before the relay knows. A write that fails has already met the reset.
                if requester.write_all(b"hello?").is_ok() {
                    assert_eq!(net::read_all(&mut requester), (Vec::new(), End::Reset), "{name}");
                }
                let took = start.elapsed();
                assert!(took >= least && took < least + BUSY, "{name}: {took:?}");
                let target = target.ip().to_string();
                for number in [16, 18, 26, number] {
                    relay.log.expect_text(&filled(
                        number,
                        &[("<ser num>", "1"), ("<rqst IP addr>", "127.0.0.1"), ("<trg host>", &target)],
                    ));
                }
            });
        }
    });
}

#[test]
fn the_requester_of_a_target_that_refuses_is_reset_at_once() {
    let (_bound, address) = net::refusing();
    let error = TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    resets_within(address, 27, Duration::ZERO);
}

#[test]
fn the_requester_of_a_target_that_cannot_be_reached_is_reset_at_once() {
    // The kernel refuses connections to the broadcast address of the loopback network.
    let address = "127.255.255.255:9".parse().unwrap();
    match TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        Err(error) if error.kind() == ErrorKind::NetworkUnreachable => {
            resets_within(address, 27, Duration::ZERO);
        }
        other => skipped(format_args!("this machine has no unreachable address: {other:?}")),
    }
}

#[test]
fn the_requester_of_a_target_that_does_not_answer_is_reset_after_the_connect_timeout() {
    let silent = Silent::new();
    let error = TcpStream::connect_timeout(&silent.address(), Duration::from_millis(1200)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    resets_within(silent.address(), 25, Duration::from_secs(1));
}

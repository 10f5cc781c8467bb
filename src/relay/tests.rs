//! The loop: an absolute timeout that is far away, and a target that leads back to the relay.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::*;
use crate::cli::{Request, parse};
use crate::limits::TICK;

/// A relay on a port of the system's choice with these arguments behind it, its address, and its messages.
fn relay(arguments: &str) -> (Relay<impl Sink>, SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = listener.local_addr().unwrap();
    let line = format!("{} {arguments}", own.port());
    let Ok(Request::Run(config)) = parse(line.split(' ').map(Into::into)) else { panic!() };
    let (sender, lines) = channel();
    let sink = move |message: &Message| _ = sender.send(message.to_string());
    (Relay::with_listener(config, sink, listener).unwrap(), own, lines)
}

#[test]
fn an_absolute_timeout_beyond_the_reach_of_the_wheel_ends_the_relay_neither_early_nor_late() {
    let hour = Duration::from_secs(3600);
    let (mut relay, ..) = relay("127.0.0.1 80 ANY 1 30 4294967295 100");
    relay.start();
    let start = relay.now;
    let end = start + Duration::from_secs(4_294_967_295);
    while relay.now + 20 * hour < end {
        relay.now += 20 * hour;
        assert_eq!(relay.expire(false), None);
        assert!(matches!(relay.pool.wakes_at(), Wake::At(next) if next <= end + TICK));
    }
    relay.now = start + Duration::new(4_294_967_294, 999_999_999);
    assert_eq!(relay.expire(false), None);
    relay.now = end + TICK;
    assert_eq!(relay.expire(false), Some(Outcome::AbsoluteTimeout));
}

#[test]
fn a_target_that_leads_back_here_does_not_eat_the_pool() {
    let (mut relay, own, lines) = relay("127.0.0.1 80 ANY 1 30 0 100");
    // As address translation does it, where the start cannot see it.
    relay.choice = Choice::new([own]);
    let handle = relay.handle();
    let run = thread::spawn(move || relay.run());

    let _requester = std::net::TcpStream::connect(own).unwrap();
    let mut allocated = 0;
    for line in lines {
        allocated += usize::from(line.contains(" was allocated "));
        if line.contains("this relay's own") || line.contains("pool exhausted") {
            break;
        }
    }
    handle.stop();
    assert_eq!(run.join().unwrap().unwrap(), Outcome::Stopped);
    assert_eq!(allocated, crate::limits::SESSIONS / 2);
}

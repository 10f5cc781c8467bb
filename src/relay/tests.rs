//! The loop: a distant absolute timeout, a target that leads back to the relay, and a wait that fails.

use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::*;
use crate::limits::TICK;
use crate::pool::Wake;

/// Time for a message. Only a defect takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns a relay on a port of the system's choice, its address, and its messages.
fn relay(absolute_timeout: Duration) -> (Relay<impl Sink>, SocketAddr, Receiver<Message>) {
    let mut config = Config::new((Ipv4Addr::LOCALHOST, 0).into(), (Ipv4Addr::LOCALHOST, 80)).unwrap();
    config.set_absolute_timeout(absolute_timeout).unwrap();
    let (sender, messages) = channel();
    let relay = Relay::bind(config, move |message: &Message| _ = sender.send(message.clone())).unwrap();
    let own = relay.local_addr();
    (relay, own, messages)
}

#[test]
fn an_absolute_timeout_beyond_the_reach_of_the_wheel_ends_the_relay_neither_early_nor_late() {
    let hour = Duration::from_secs(3600);
    let (mut relay, ..) = relay(Duration::from_secs(4_294_967_295));
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
    let (mut relay, own, messages) = relay(Duration::ZERO);
    // Address translation can do this, and the start cannot see it.
    relay.choice = Choice::new([own.into()]);
    let handle = relay.handle();
    let run = thread::spawn(move || relay.run());

    let _requester = std::net::TcpStream::connect(own).unwrap();
    let mut allocated = 0;
    loop {
        match messages.recv_timeout(PATIENCE).unwrap() {
            Message::Allocated { .. } => allocated += 1,
            Message::OwnConnection { .. } | Message::PoolExhausted { .. } => break,
            _ => {}
        }
    }
    handle.stop();
    assert_eq!(run.join().unwrap().unwrap(), Outcome::Stopped);
    assert_eq!(allocated, crate::limits::SESSIONS / 2);
}

#[test]
fn a_turn_after_a_pause_of_its_caller_waits_only_for_the_rest_of_a_deadline() {
    let (mut relay, ..) = relay(Duration::ZERO);
    assert_eq!(relay.turn(Some(Duration::ZERO)).unwrap(), None);
    let due = relay.now;
    relay.ends_at = Some(due);
    relay.pool.arm(Timer::Absolute, due);
    relay.now = due.checked_sub(2 * PATIENCE).unwrap();
    let (sender, outcomes) = channel();
    thread::spawn(move || sender.send(relay.turn(None)));
    assert_eq!(outcomes.recv_timeout(PATIENCE).unwrap().unwrap(), Some(Outcome::AbsoluteTimeout));
}

#[test]
#[cfg(target_os = "linux")]
fn a_relay_whose_wait_has_failed_has_ended() {
    let (mut relay, _, messages) = relay(Duration::ZERO);
    assert_eq!(relay.turn(Some(Duration::ZERO)).unwrap(), None);
    // epoll_wait(2) fails without room for an event.
    relay.events = Events::with_capacity(0);
    let first = relay.turn(Some(Duration::ZERO)).unwrap_err().to_string();
    relay.events = Events::with_capacity(EVENTS_PER_TURN);
    relay.handle().stop();
    let second = relay.turn(Some(Duration::ZERO)).unwrap_err().to_string();
    assert_eq!(first, second);
    drop(relay);
    let last = messages.iter().map(|message| message.number()).skip_while(|&number| number != 110);
    assert_eq!(last.collect::<Vec<_>>(), [110]);
}

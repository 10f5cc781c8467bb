//! Several relays in one process, in threads and in one loop.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tcprelay::{Message, Outcome, Relay, Sink};

use crate::{config, net};

#[test]
fn two_relays_in_a_loop_of_the_hosts_do_not_disturb_each_other() {
    let target = net::listen();
    let (sender, connected) = mpsc::channel();
    let mut relays = [1, 2].map(|name| {
        let sender = sender.clone();
        Relay::bind(config(&target), move |message: &Message| {
            if matches!(message, Message::RelaysStarted { .. }) {
                sender.send(name).unwrap();
            }
        })
        .unwrap()
    });
    let _sessions = relays.each_ref().map(|relay| net::connect(relay.local_addr()));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let ready = poll_both(&relays);
        for (relay, ready) in relays.iter_mut().zip(ready) {
            if ready {
                assert_eq!(relay.turn(Some(Duration::ZERO)).unwrap(), None);
            }
        }
        seen.extend(connected.try_iter());
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);

    let [one, other] = &mut relays;
    one.handle().stop();
    assert_eq!(one.turn(None).unwrap(), Some(Outcome::Stopped));
    assert_eq!(one.turn(None).unwrap(), Some(Outcome::Stopped), "the end stays");
    assert_eq!((other.totals().accepted, other.sessions().len()), (1, 1));
    assert_eq!(other.turn(Some(Duration::ZERO)).unwrap(), None);
}

/// Waits until a relay has events or something due. Returns which are to have a turn.
fn poll_both<S: Sink>(relays: &[Relay<S>; 2]) -> [bool; 2] {
    let deadlines = relays.each_ref().map(Relay::next_deadline);
    let next = deadlines.iter().flatten().min();
    let wait = next.map(|at| at.saturating_duration_since(Instant::now()).try_into().unwrap());
    let mut polled = relays.each_ref().map(|relay| PollFd::new(relay, PollFlags::IN));
    poll(&mut polled, wait.as_ref()).unwrap();
    let now = Instant::now();
    [0, 1].map(|index| !polled[index].revents().is_empty() || deadlines[index].is_some_and(|at| at <= now))
}

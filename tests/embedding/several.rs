//! Several relays in one process, on threads and in one loop.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tcprelay::{Message, Outcome, Relay, Sink};

use crate::net::{self, End};
use crate::{Embedded, RELAYING, config};

#[test]
fn relays_on_threads_do_not_disturb_each_other() {
    let target = net::listen();
    let (stopped, drained) = (Embedded::start(&target), Embedded::start(&target));
    let (mut cut, _far) = (net::connect(stopped.address), net::accept(&target));
    stopped.wait(RELAYING);
    let (mut requester, mut far) = (net::connect(drained.address), net::accept(&target));
    drained.wait(RELAYING);
    assert_eq!(stopped.handle.totals().unwrap().accepted, 1);
    assert_eq!(drained.handle.totals().unwrap().accepted, 1);

    stopped.handle.stop();
    assert_eq!(stopped.outcome(), Outcome::Stopped);
    assert_eq!(net::read_all(&mut cut).1, End::Reset);
    net::assert_passes(&mut requester, &mut far, b"goes on");
    drained.handle.drain();
    drained.wait(101);
    net::assert_passes(&mut far, &mut requester, b"and on");
    drop((requester, far));
    assert_eq!(drained.outcome(), Outcome::Drained);
}

/// The test needs a process in which no other test asks a relay to handle signals.
#[test]
#[cfg(target_os = "linux")]
fn a_relay_handles_no_signal_unless_asked_to() {
    const HUP_INT_QUIT_USR1_TERM_XFSZ: [u64; 6] = [1, 2, 3, 10, 15, 25];
    let target = net::listen();
    let relay = Embedded::start(&target);
    relay.wait(15);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
    let caught = u64::from_str_radix(caught, 16).unwrap();
    let handled = HUP_INT_QUIT_USR1_TERM_XFSZ.map(|signal| caught >> (signal - 1) & 1);
    assert_eq!(handled, [0; 6]);
    relay.handle.stop();
    assert_eq!(relay.outcome(), Outcome::Stopped);
}

#[test]
fn a_relay_can_move_to_another_thread_and_all_threads_can_share_its_handle() {
    fn can_move(_: &impl Send) {}
    fn can_be_shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let target = net::listen();
    let relay = Relay::bind(config(&target), |_: &Message| {}).unwrap();
    can_move(&relay);
    can_be_shared(&relay.handle());
}

#[test]
fn two_relays_in_the_hosts_loop_do_not_disturb_each_other() {
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
    assert_eq!(one.turn(None).unwrap(), Some(Outcome::Stopped), "the outcome stays");
    assert_eq!((other.totals().accepted, other.sessions().len()), (1, 1));
    assert_eq!(other.turn(Some(Duration::ZERO)).unwrap(), None);
}

/// Waits until a relay has events or its deadline has come. Returns which relays need a turn.
fn poll_both<S: Sink>(relays: &[Relay<S>; 2]) -> [bool; 2] {
    let deadlines = relays.each_ref().map(Relay::next_deadline);
    let next = deadlines.iter().flatten().min();
    let wait = next.map(|at| at.saturating_duration_since(Instant::now()).try_into().unwrap());
    let mut polled = relays.each_ref().map(|relay| PollFd::new(relay, PollFlags::IN));
    poll(&mut polled, wait.as_ref()).unwrap();
    let now = Instant::now();
    [0, 1].map(|index| !polled[index].revents().is_empty() || deadlines[index].is_some_and(|at| at <= now))
}

//! Several relays in one process, in threads and in one loop.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tcprelay::{Message, Outcome, Relay, Sink};

use crate::net::{self, End};
use crate::{Embedded, config};

/// The target-to-requester channel is active: the session relays.
const RELAYING: u16 = 37;

#[test]
fn relays_in_threads_do_not_disturb_each_other() {
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

/// No test of this process asks for signals.
#[test]
#[cfg(target_os = "linux")]
fn a_relay_that_was_not_asked_to_takes_no_signal() {
    const HUP_INT_QUIT_USR1_TERM_XFSZ: [u64; 6] = [1, 2, 3, 10, 15, 25];
    let target = net::listen();
    let relay = Embedded::start(&target);
    relay.wait(15);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
    let caught = u64::from_str_radix(caught, 16).unwrap();
    let taken = HUP_INT_QUIT_USR1_TERM_XFSZ.map(|signal| caught >> (signal - 1) & 1);
    assert_eq!(taken, [0; 6]);
    relay.handle.stop();
    assert_eq!(relay.outcome(), Outcome::Stopped);
}

#[test]
fn a_relay_goes_to_another_thread_and_its_handle_to_all() {
    fn goes_to_another_thread(_: &impl Send) {}
    fn goes_to_all<T: Clone + Send + Sync + 'static>(_: &T) {}
    let target = net::listen();
    let relay = Relay::bind(config(&target), |_: &Message| {}).unwrap();
    goes_to_another_thread(&relay);
    goes_to_all(&relay.handle());
}

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

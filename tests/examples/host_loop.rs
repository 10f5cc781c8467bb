//! Two relays on one thread, run by the host's own loop beside the host's own timer.

use std::error::Error;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcprelay::{Config, Message, Relay, Sink};

const TICK: Duration = Duration::from_millis(20);

fn main() -> Result<(), Box<dyn Error>> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    server.set_nonblocking(true)?;
    let config = Config::new("127.0.0.1:0".parse()?, server.local_addr()?)?;
    let silent = |_: &Message| {};
    let mut relays = vec![Relay::bind(config.clone(), silent)?, Relay::bind(config, silent)?];
    let clients = relays.iter().map(|relay| TcpStream::connect(relay.local_addr()));
    let mut clients = clients.collect::<Result<Vec<_>, _>>()?;

    let mut next_tick = Instant::now() + TICK;
    while !relays.is_empty() {
        let ready = wait(&relays, next_tick)?;
        let mut ready = ready.iter();
        let mut ended = Vec::new();
        for relay in &mut relays {
            let is_ready = ready.next() == Some(&true);
            // A relay that has ended is dropped below, which frees its port.
            ended.push(is_ready && relay.turn(Some(Duration::ZERO))?.is_some());
        }
        let mut ended = ended.into_iter();
        relays.retain(|_| ended.next() != Some(true));

        if Instant::now() >= next_tick {
            next_tick += TICK;
            let sessions: Vec<_> = relays.iter().map(|relay| relay.sessions().len()).collect();
            writeln!(std::io::stdout(), "sessions: {sessions:?}")?;
            // At each tick, drain one relay that has accepted its client, and close that client.
            if let Some(relay) = relays.iter().find(|relay| relay.totals().accepted == 1) {
                relay.handle().drain();
                clients.retain(|client| client.peer_addr().ok() != Some(relay.local_addr()));
            }
        }
        // The server closes each connection at once. A real host would watch its listener in the loop as well.
        while server.accept().is_ok() {}
    }
    Ok(())
}

/// Waits until a relay has events, its deadline or `tick` has come. Returns which relays need a turn.
fn wait<S: Sink>(relays: &[Relay<S>], tick: Instant) -> Result<Vec<bool>, Box<dyn Error>> {
    let next = relays.iter().filter_map(Relay::next_deadline).fold(tick, Instant::min);
    let time = Timespec::try_from(next.saturating_duration_since(Instant::now()))?;
    let mut polled: Vec<_> = relays.iter().map(|relay| PollFd::new(relay, PollFlags::IN)).collect();
    poll(&mut polled, Some(&time))?;
    let events: Vec<_> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
    let now = Instant::now();
    let is_due = |relay: &Relay<S>| relay.next_deadline().is_some_and(|at| at <= now);
    Ok(relays.iter().zip(events).map(|(relay, has_events)| has_events || is_due(relay)).collect())
}

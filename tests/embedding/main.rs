//! The relay inside another program, built without features and with all of them.

// A test that cannot go on says so by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs, unreachable_pub)]

#[path = "../support/net.rs"]
#[allow(dead_code)] // Other tests use the rest.
mod net;
#[path = "../support/random.rs"]
#[allow(dead_code)]
mod random;
#[path = "../support/skip.rs"]
mod skip;

mod examples;
mod requests;
mod several;
#[cfg(target_os = "linux")]
mod size;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tcprelay::{Config, Handle, Message, Outcome, Relay, WaitError};

/// The longest time that an expected event may take. It allows for a busy machine; only a failing test waits for
/// all of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The message that the target-to-requester channel is active. From then on the session relays.
const RELAYING: u16 = 37;

/// A relay on a thread of this process.
struct Embedded {
    address: SocketAddr,
    handle: Handle,
    messages: Receiver<Message>,
    run: JoinHandle<Result<Outcome, WaitError>>,
}

impl Embedded {
    fn start(target: &TcpListener) -> Self {
        let (sender, messages) = mpsc::channel();
        // Sending fails once the test has dropped the receiver.
        let sink = move |message: &Message| _ = sender.send(message.clone());
        let relay = Relay::bind(config(target), sink).unwrap();
        let (address, handle) = (relay.local_addr(), relay.handle());
        Self { address, handle, messages, run: thread::spawn(move || relay.run()) }
    }

    /// Waits for the message with this number, and returns it.
    #[track_caller]
    fn wait(&self, number: u16) -> Message {
        loop {
            let message = self.messages.recv_timeout(PATIENCE);
            match message {
                Ok(message) if message.number() == number => return message,
                Ok(_) => {}
                Err(error) => panic!("no message {number}: {error}"),
            }
        }
    }

    /// Waits for the run to end, and returns how it ended.
    fn outcome(self) -> Outcome {
        self.run.join().unwrap().unwrap()
    }
}

/// Returns a configuration that listens on a free port of the loopback address.
fn config(target: &TcpListener) -> Config {
    Config::new((Ipv4Addr::LOCALHOST, 0).into(), net::address(target)).unwrap()
}

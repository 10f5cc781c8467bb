//! The program: parse, relay, exit status.

use std::io::Write as _;
use std::process::ExitCode;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tcprelay::cli::{self, Request};
use tcprelay::{Config, Log, Message, Relay};

/// The relay could not start, or not go on.
const FAILED: u8 = 1;
/// The command line was refused.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Request::Run(config)) => run(config),
        Ok(Request::Check(config)) => check(&config),
        Ok(Request::Print(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            print(&refusal.to_string());
            ExitCode::from(REFUSED)
        }
    }
}

fn check(config: &Config) -> ExitCode {
    match Relay::check_config(config) {
        Ok(()) => {
            print(&format!("{}\n", Message::WouldRelay(config.listener(), config.to_string())));
            ExitCode::SUCCESS
        }
        Err(message) => {
            print(&format!("{message}\n"));
            status(&message)
        }
    }
}

fn run(config: Config) -> ExitCode {
    let log = config.log();
    match start(config) {
        Ok(relay) => {
            // The service manager may be gone; the relay is there all the same.
            let _ = sd_notify::notify(&[NotifyState::Ready]);
            relay.run().map_or(ExitCode::from(FAILED), |_| ExitCode::SUCCESS)
        }
        Err(message) => {
            if let Ok(mut log) = Log::stdout(log) {
                log.say(&message);
                log.flush();
            }
            status(&message)
        }
    }
}

/// The exit status of a start that fails.
fn status(message: &Message) -> ExitCode {
    let refused = matches!(
        message,
        Message::OwnListener(_)
            | Message::PoolTooLarge(..)
            | Message::InvalidOption(..)
            | Message::InheritedOtherwise(..)
    );
    ExitCode::from(if refused { REFUSED } else { FAILED })
}

fn start(config: Config) -> Result<Relay, Message> {
    let unavailable = |error: std::io::Error| Message::PollUnavailable(error.raw_os_error().unwrap_or(0));
    let log = Log::stdout(config.log()).map_err(unavailable)?;
    let mut inherited = ListenFd::from_env();
    let relay = match inherited.len() {
        0 => Relay::bind(config, log)?,
        1 => {
            let listener = inherited.take_tcp_listener(0).ok().flatten();
            Relay::with_listener(config, log, listener.ok_or(Message::InheritedSocket)?)?
        }
        _ => return Err(Message::InheritedSocket),
    };
    relay.listen_to_signals().map_err(unavailable)?;
    Ok(relay)
}

/// Prints to STDOUT. That nobody may read it is no error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

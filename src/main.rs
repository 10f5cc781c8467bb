//! The program: parse, relay, exit status.

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tcprelay::cli::{self, Refusal, Request};
use tcprelay::{
    Config, ListenStep, Log, LogStyle, Message, Relay, Sink as _, StartError, give_up_privileges,
};

/// Exit status of a relay that cannot start, or cannot go on.
const FAILED: u8 = 1;
/// Exit status for a refused command line.
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
            match refusal {
                Refusal::Usage(text) => print(&text),
                Refusal::Value(error, style) => print_message(&error.into(), style),
            }
            ExitCode::from(REFUSED)
        }
    }
}

fn check(config: &Config) -> ExitCode {
    let style = config.log_style();
    let checked = inherited().and_then(|listener| {
        let checked = Relay::check_start(config, listener)?;
        Ok((checked, give_up_privileges(config)?))
    });
    match checked {
        Ok((checked, given_up)) => {
            let command_line = config.to_string();
            print_message(&Message::WouldRelay { address: checked.address, command_line }, style);
            for message in given_up.iter().chain(&checked.remarks) {
                print_message(message, style);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_message(&Message::from(&error), style);
            status(&error)
        }
    }
}

fn run(config: Config) -> ExitCode {
    let style = config.log_style();
    match start(config) {
        Ok(relay) => relay.run().map_or(ExitCode::from(FAILED), |_| ExitCode::SUCCESS),
        Err(error) => {
            if let Ok(mut log) = Log::stdout(style) {
                log.close(&Message::from(&error));
            }
            status(&error)
        }
    }
}

/// Returns the exit status for a failed start.
fn status(error: &StartError) -> ExitCode {
    ExitCode::from(if error.refuses_the_command_line() { REFUSED } else { FAILED })
}

fn start(config: Config) -> Result<Relay, StartError> {
    let unavailable = ListenStep::Poll.failed(config.listen());
    let log = Log::stdout(config.log_style()).map_err(&unavailable)?;
    let mut relay = match inherited()? {
        Some(listener) => Relay::with_listener(config, log, listener)?,
        None => Relay::bind(config, log)?,
    };
    relay.listen_to_signals().map_err(&unavailable)?;
    // The relay runs even if the service manager is gone. Notify before the root directory changes, because the
    // manager's socket could not be found from there.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    relay.give_up_privileges()?;
    Ok(relay)
}

/// Returns the listening socket that the service manager passed in; `None`: it passed in none.
fn inherited() -> Result<Option<TcpListener>, StartError> {
    let mut sockets = ListenFd::from_env();
    match sockets.len() {
        0 => Ok(None),
        1 => match sockets.take_tcp_listener(0) {
            Ok(Some(listener)) => Ok(Some(listener)),
            _ => Err(StartError::InheritedSocket),
        },
        _ => Err(StartError::InheritedSocket),
    }
}

/// Prints to STDOUT, and ignores a failure, because there is no other place to report it.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn print_message(message: &Message, style: LogStyle) {
    let _ = Log::print(message, style);
}

//! A relay whose messages go to the `log` crate, each at its level.

use std::error::Error;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use log::{LevelFilter, Metadata, Record};
use tcprelay::{Config, Level, Message, Outcome, Relay};

fn main() -> Result<(), Box<dyn Error>> {
    log::set_logger(&Stderr).map(|()| log::set_max_level(LevelFilter::Info))?;

    let server = TcpListener::bind("127.0.0.1:0")?;
    let config = Config::new("127.0.0.1:0".parse()?, server.local_addr()?)?;
    let relay = Relay::bind(config, |message: &Message| match message.level() {
        Level::Error => log::error!("{message}"),
        Level::Problem => log::warn!("{message}"),
        _ => log::info!("{message}"),
    })?;

    // A client that closes at once, and a server that does not answer.
    let client = TcpStream::connect(relay.local_addr())?;
    let serve = std::thread::spawn(move || server.accept().map(drop));
    drop(client);
    // The backlog is accepted before the drain begins, so the relay ends after this one session.
    relay.handle().drain();
    assert_eq!(relay.run()?, Outcome::Drained);
    serve.join().map_err(|_| "the server has panicked")??;
    Ok(())
}

/// Stands in for the host's logger.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let _ = writeln!(std::io::stderr(), "{} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

//! Counts the bytes of each session when it ends, then stops one of two relays and drains the other.

use std::error::Error;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use tcprelay::{Config, Message, Outcome, Relay};

fn main() -> Result<(), Box<dyn Error>> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let config = Config::new("127.0.0.1:0".parse()?, server.local_addr()?)?;
    let (sender, ends) = mpsc::channel();
    let sink = move |message: &Message| _ = message.session_end().map(|end| sender.send(end));
    let (one, other) = (Relay::bind(config.clone(), sink.clone())?, Relay::bind(config, sink)?);
    let (addresses, handles) = ([one.local_addr(), other.local_addr()], [one.handle(), other.handle()]);
    let runs = [thread::spawn(move || one.run()), thread::spawn(move || other.run())];

    for (address, text) in addresses.into_iter().zip(["hello", "goodbye"]) {
        TcpStream::connect(address)?.write_all(text.as_bytes())?;
        std::io::copy(&mut server.accept()?.0, &mut std::io::sink())?;
        let (session, summary) = ends.recv()?;
        writeln!(std::io::stdout(), "{}: {} bytes", session.serial, summary.to_target)?;
    }
    handles[0].stop();
    handles[1].drain();
    let outcomes = runs.map(|run| run.join().ok().and_then(Result::ok));
    assert_eq!(outcomes, [Some(Outcome::Stopped), Some(Outcome::Drained)]);
    Ok(())
}

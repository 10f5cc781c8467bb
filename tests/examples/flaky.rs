//! A test fixture: a flaky relay between a client and a server, to see how both cope.

use std::error::Error;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use tcprelay::{Config, Handle, Message, Outcome, Relay, WaitError};

fn main() -> Result<(), Box<dyn Error>> {
    let mut flaky = Flaky::before(echo()?)?;
    let mut first = TcpStream::connect(flaky.address())?;
    assert!(answers(&mut first)?);

    // After a drain, open connections go on, and new ones are refused.
    flaky.drain();
    assert!(answers(&mut first)?);
    assert_eq!(refusal(flaky.address()), Some(ErrorKind::ConnectionRefused));

    // Once mended, it accepts connections on the same port again.
    flaky.mend()?;
    let mut second = TcpStream::connect(flaky.address())?;
    assert!(answers(&mut second)?);

    // A cut resets every connection.
    flaky.cut()?;
    for client in [&mut first, &mut second] {
        assert_eq!(client.read(&mut [0]).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    }
    assert_eq!(refusal(flaky.address()), Some(ErrorKind::ConnectionRefused));
    writeln!(io::stdout(), "drained, mended and cut")?;
    Ok(())
}

/// A relay that can be taken away, and brought back on the same port.
struct Flaky {
    config: Config,
    /// The relays that may still have sessions.
    running: Vec<(Handle, JoinHandle<Result<Outcome, WaitError>>)>,
}

impl Flaky {
    fn before(server: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let config = Config::new("127.0.0.1:0".parse()?, server)?;
        let mut flaky = Self { config, running: Vec::new() };
        flaky.mend()?;
        Ok(flaky)
    }

    fn address(&self) -> SocketAddr {
        self.config.listen()
    }

    /// Accepts connections, at first and again after a drain or a cut.
    fn mend(&mut self) -> Result<(), Box<dyn Error>> {
        let relay = Relay::bind(self.config.clone(), |_: &Message| {})?;
        self.config.set_listen(relay.local_addr())?;
        self.running.push((relay.handle(), thread::spawn(move || relay.run())));
        Ok(())
    }

    /// Refuses new connections from now on. Open ones go on.
    fn drain(&self) {
        for (handle, _) in &self.running {
            handle.drain();
            // The answer means that the drain has begun. A relay without sessions may have ended already.
            let _ = handle.totals();
        }
    }

    /// Resets every connection, and refuses new ones.
    fn cut(&mut self) -> Result<(), Box<dyn Error>> {
        for (handle, run) in self.running.drain(..) {
            handle.stop();
            run.join().map_err(|_| "the relay has panicked")??;
        }
        Ok(())
    }
}

/// Starts a server that echoes everything, and returns its address.
fn echo() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    Ok(address)
}

/// Sends a ping, and returns whether the server has echoed it.
fn answers(client: &mut TcpStream) -> io::Result<bool> {
    client.write_all(b"ping")?;
    let mut answer = [0; 4];
    client.read_exact(&mut answer)?;
    Ok(&answer == b"ping")
}

/// Returns why a connection is refused, or `None` if it is not.
fn refusal(address: SocketAddr) -> Option<ErrorKind> {
    TcpStream::connect(address).err().map(|error| error.kind())
}

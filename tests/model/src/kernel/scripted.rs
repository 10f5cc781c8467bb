//! The owner's end of a connection: the relay's calls, and the events that may come just before each.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use tcprelay::internal::session::Side;
use tcprelay::internal::splice::Pipe;
use tcprelay::internal::stream::Stream;

use super::Connection;

/// The calls that an event may precede or disturb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Fill,
    Write,
    Drain,
    ShutdownWrite,
}

/// Both connections of a session, and the events that may disturb any call.
pub trait Sockets {
    fn connection_of(&mut self, side: Side) -> &mut Connection;

    /// Runs before a call on the socket of `side`. If it returns an error, the call fails with that.
    fn meddle(&mut self, side: Side, call: Call) -> io::Result<()>;

    /// Returns a greater number at each call, so that events have an order.
    fn tick(&mut self) -> u64;
}

/// The owner's end of one of the connections.
#[derive(Debug)]
pub struct Scripted<W: Sockets> {
    sockets: Rc<RefCell<W>>,
    side: Side,
}

impl<W: Sockets> Scripted<W> {
    pub fn new(sockets: &Rc<RefCell<W>>, side: Side) -> Self {
        Self { sockets: Rc::clone(sockets), side }
    }

    /// Returns both connections of the session.
    pub fn sockets(&self) -> &Rc<RefCell<W>> {
        &self.sockets
    }

    fn call<T>(
        &mut self,
        call: Call,
        act: impl FnOnce(&mut Connection, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut sockets = self.sockets.borrow_mut();
        sockets.meddle(self.side, call)?;
        let clock = sockets.tick();
        act(sockets.connection_of(self.side), clock)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Connection) -> T) -> T {
        act(self.sockets.borrow_mut().connection_of(self.side))
    }
}

impl<W: Sockets> Stream for Scripted<W> {
    fn read(&mut self, room: &mut Vec<u8>) -> io::Result<usize> {
        self.call(Call::Read, |connection, clock| connection.read(room, clock))
    }

    fn write(&mut self, bytes: &[u8], _: bool) -> io::Result<usize> {
        self.call(Call::Write, |connection, clock| connection.write(bytes, clock))
    }

    fn fill(&mut self, pipe: &Pipe, most: usize) -> io::Result<usize> {
        self.call(Call::Fill, |connection, clock| connection.fill(pipe, most, clock))
    }

    fn drain(&mut self, pipe: &Pipe, count: usize) -> io::Result<usize> {
        self.call(Call::Drain, |connection, clock| connection.drain(pipe, count, clock))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.call(Call::ShutdownWrite, Connection::shutdown_write)
    }

    fn has_peer(&self) -> bool {
        self.with(Connection::is_connected)
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        let clock = self.sockets.borrow_mut().tick();
        Ok(self.with(|connection| connection.take_error(clock)))
    }

    fn send_at_once(&mut self) {}

    fn limit_unsent(&mut self, _: bool) {}

    fn reset_on_close(&mut self) {
        self.with(|connection| connection.reset_on_close = true);
    }

    fn unacknowledged(&self) -> Option<u32> {
        self.with(|connection| {
            // As with SIOCOUTQ, a FIN counts as a byte, and a reset leaves the figure as it was.
            let end = u64::from(connection.write_shut && !connection.end_acknowledged);
            let queued = connection.written - connection.acknowledged + end;
            connection.tells_queue().then_some(queued as u32)
        })
    }

    fn certain_room(&self) -> usize {
        self.with(|connection| {
            let room = connection.room.saturating_sub(connection.unacknowledged());
            if connection.tells_queue() { room as usize / 2 } else { 0 }
        })
    }
}

impl<W: Sockets> Drop for Scripted<W> {
    fn drop(&mut self) {
        // While a failed test unwinds, the sockets may be borrowed.
        if let Ok(mut sockets) = self.sockets.try_borrow_mut() {
            sockets.connection_of(self.side).close();
        }
    }
}

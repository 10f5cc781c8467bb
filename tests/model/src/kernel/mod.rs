//! A connection as Linux shows it to the socket's owner, without sockets or time.
//!
//! The model has these rules of Linux, because a relay can get each of them wrong:
//!
//! - Reports are edge-triggered. Only news wakes the poller, and the report gives the state at the
//!   time of polling. Registering brings the first one.
//! - A read takes the bytes that have arrived. It stops short in front of an urgent byte, which stays
//!   in line. A splice never passes an urgent byte: it returns "would block", or 0 once the FIN has
//!   arrived.
//! - A write takes as many bytes as there is room for. When it takes fewer, or the poller saw no room,
//!   a report follows once a third of the room is free.
//! - The kernel reports an error once, to whichever call comes first. Later reads see a clean EOF. So a
//!   reset amid a splice to the socket is lost. Bytes that arrived before it can still be read.
//! - Closing with unread bytes, or with the linger option set, resets the connection. The reset drops
//!   the bytes that the peer had not acknowledged.

mod calls;
mod pattern;
mod scripted;

use rustix::io::Errno;
use tcprelay::internal::session::Side;
use tcprelay::internal::stream::Readiness;

pub use pattern::PREFACE;
pub use scripted::{Call, Scripted, Sockets};

/// How the owner's calls first saw a connection end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A read returned EOF.
    End,
    /// A read fell short after EOF was reported. That implies EOF, but the owner need not conclude it.
    Told,
    /// A read or a splice from the socket returned this error.
    ReadError(i32),
    /// A write, a splice to the socket or a shutdown returned this error.
    WriteError(i32),
    /// The error was lost, or no transfer returned it.
    Hidden(i32),
}

/// The owner's close, as the peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    Orderly,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Open,
    /// Reset, refused or timed out.
    Dead,
}

/// One connection, in the state that its owner's kernel keeps.
#[allow(clippy::struct_excessive_bools)] // Independent facts.
#[derive(Clone, Debug)]
pub struct Connection {
    side: Side,
    state: State,
    /// Bytes that have arrived from the peer.
    arrived: u64,
    /// Arrived bytes that the owner has taken.
    taken: u64,
    /// Size of the receive queue, in bytes.
    window: u64,
    /// Position of the last urgent byte in the stream; `None` once it is taken.
    urgent: Option<u64>,
    end_arrived: bool,
    /// A report has said that nothing but bytes stands before EOF.
    end_reported: bool,
    end_read: bool,
    /// A short read after that report, which implies EOF; `None` before it, and once a read returns EOF.
    end_told: Option<(Seen, u64)>,
    /// Bytes of preface that the owner must write before the other side's pattern.
    preface: u64,
    /// Bytes written by the owner.
    written: u64,
    /// Written bytes that the peer has received.
    acknowledged: u64,
    /// Size of the send queue, in bytes.
    room: u64,
    /// The kernel owes a report of room.
    no_space: bool,
    write_shut: bool,
    /// The peer has received the FIN.
    end_acknowledged: bool,
    /// The peer has closed its socket: its kernel answers bytes from now on with an RST.
    deaf: bool,
    error: Option<i32>,
    reset_on_close: bool,
    closed: Option<Closed>,
    woken: bool,
    /// `(n, errno)`: the next splice to the socket fails with `errno` after n bytes.
    cut_amid_drain: Option<(u64, i32)>,
    seen: Option<(Seen, u64)>,
    /// The kernel does not give the length of the send queue.
    queue_unknown: bool,
    /// Splices from the socket that moved bytes.
    fills: u64,
}

impl Connection {
    /// Returns a connection to the peer on `side`, with a receive queue of `window` bytes and a send queue of
    /// `room` bytes.
    pub fn new(side: Side, connecting: bool, window: u64, room: u64, preface: u64) -> Self {
        Self {
            side,
            state: if connecting { State::Connecting } else { State::Open },
            arrived: 0,
            taken: 0,
            window,
            urgent: None,
            end_arrived: false,
            end_reported: false,
            end_read: false,
            end_told: None,
            preface,
            written: 0,
            acknowledged: 0,
            room,
            no_space: false,
            write_shut: false,
            end_acknowledged: false,
            deaf: false,
            error: None,
            reset_on_close: false,
            closed: None,
            // Registering brings the first report.
            woken: true,
            cut_amid_drain: None,
            seen: None,
            queue_unknown: false,
            fills: 0,
        }
    }

    /// Returns a connection of the same sizes that still connects, to another peer on the same side.
    #[must_use]
    pub fn anew(&self) -> Self {
        let anew = Self::new(self.side, true, self.window, self.room, self.preface);
        Self { queue_unknown: self.queue_unknown, ..anew }
    }

    /// Hides the length of the send queue from the owner for good.
    pub fn hide_queue(&mut self) {
        self.queue_unknown = true;
    }

    /// Returns whether the kernel gives the length of the send queue.
    pub fn tells_queue(&self) -> bool {
        !self.queue_unknown
    }

    // ----- the peer and the network

    pub fn establish(&mut self) {
        if self.state == State::Connecting {
            self.state = State::Open;
            self.woken = true;
        }
    }

    /// Returns how many more bytes may arrive.
    pub fn window(&self) -> u64 {
        self.window - (self.arrived - self.taken)
    }

    /// Lets `count` bytes arrive. With `urgent`, the last of them is urgent.
    pub fn arrive(&mut self, count: u64, urgent: bool) {
        debug_assert!(count <= self.window() && !self.end_arrived);
        if self.state != State::Open || count == 0 {
            return;
        }
        if self.closed.is_some() {
            // The owner has closed its socket, so its kernel answers with an RST.
            self.closed = Some(Closed::Reset);
            return;
        }
        if urgent {
            self.urgent = Some(self.arrived + count - 1);
        }
        self.arrived += count;
        self.woken = true;
    }

    pub fn arrive_end(&mut self) {
        if self.state == State::Open {
            self.end_arrived = true;
            self.woken = true;
        }
    }

    /// Kills the connection with an error, which the kernel reports to the owner once. ECONNRESET stands for a
    /// received RST. The kernel reports that as EPIPE if the peer's FIN came before, and ours has not followed.
    pub fn fail(&mut self, errno: Errno) {
        if self.state == State::Dead || self.closed.is_some() {
            return;
        }
        let is_half_closed = self.end_arrived && !self.write_shut;
        let errno = if errno == Errno::CONNRESET && is_half_closed { Errno::PIPE } else { errno };
        self.error = Some(errno.raw_os_error());
        self.state = State::Dead;
        self.woken = true;
    }

    /// Makes the connection die amid the next splice to the socket, once that has moved `after` bytes.
    pub fn fail_amid_drain(&mut self, after: u64, errno: Errno) {
        self.cut_amid_drain = Some((after, errno.raw_os_error()));
    }

    /// Returns whether the connect was answered.
    pub fn is_established(&self) -> bool {
        self.state != State::Connecting
    }

    pub fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Returns the written bytes that the peer has not received yet.
    pub fn unacknowledged(&self) -> u64 {
        if self.state == State::Dead || self.closed == Some(Closed::Reset) {
            return 0;
        }
        self.written - self.acknowledged
    }

    pub fn acknowledge(&mut self, count: u64) {
        debug_assert!(count <= self.unacknowledged());
        self.acknowledged += count;
        if self.no_space && self.has_poll_room() {
            self.no_space = false;
            self.woken = true;
        }
    }

    /// Returns whether a FIN is on its way to the peer, behind the bytes, or has reached it.
    pub fn sends_end(&self) -> bool {
        self.write_shut || self.closed == Some(Closed::Orderly)
    }

    pub fn acknowledge_end(&mut self) {
        self.end_acknowledged = true;
    }

    pub fn become_deaf(&mut self) {
        self.deaf = true;
    }

    /// Returns whether bytes are on their way to a peer that has closed its socket.
    pub fn provokes_reset(&self) -> bool {
        self.deaf && self.state == State::Open && self.closed.is_none() && self.unacknowledged() > 0
    }

    pub fn closed(&self) -> Option<Closed> {
        self.closed
    }

    // ----- the poller

    pub fn is_woken(&self) -> bool {
        self.woken
    }

    /// Returns the report that epoll makes now, as the relay reads it through mio; `None` without news.
    pub fn report(&mut self) -> Option<Readiness> {
        if !std::mem::take(&mut self.woken) || self.state == State::Connecting {
            return None;
        }
        let dead = self.state == State::Dead;
        let hung_up = dead || (self.end_arrived && self.write_shut);
        let bytes = self.arrived > self.taken;
        let input = bytes || self.end_arrived || dead;
        let ended = self.end_arrived || dead;
        let urgent = self.urgent.is_some();
        let output = dead || self.write_shut || self.has_poll_room();
        self.no_space |= !output;
        let error = self.error.is_some();
        if !(input || urgent || output || error || hung_up) {
            return None;
        }
        let closed = hung_up || error || (input && ended);
        let only_bytes_before_end = input && closed && !error && !urgent;
        self.end_reported |= only_bytes_before_end;
        Some(Readiness {
            readable: input || urgent || closed,
            writable: output || hung_up || error,
            marked: closed || urgent,
            failed: error,
            eof: only_bytes_before_end,
        })
    }

    /// Returns whether the poller reports room, which it does while at most two thirds are in use.
    fn has_poll_room(&self) -> bool {
        3 * self.unacknowledged() <= 2 * self.room
    }

    // ----- queries of the tests

    /// Returns how the owner first saw the connection end, and when, by [`Sockets::tick`].
    pub fn seen(&self) -> Option<(Seen, u64)> {
        self.seen
    }

    /// Returns the short read that implied EOF and its time, unless a read has returned EOF since.
    pub fn told(&self) -> Option<(Seen, u64)> {
        self.end_told
    }

    /// Returns the number of splices from the socket that moved bytes.
    pub fn fills(&self) -> u64 {
        self.fills
    }

    /// Returns the bytes that have arrived from the peer.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Returns the bytes that the owner has taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns the bytes that the owner has written, the preface among them.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Returns the bytes that the peer has received, the preface among them.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub fn preface(&self) -> u64 {
        self.preface
    }

    pub fn end_arrived(&self) -> bool {
        self.end_arrived
    }

    /// Returns whether a call has shown the owner EOF, or implied it.
    pub fn end_is_known(&self) -> bool {
        self.end_read || self.end_told.is_some()
    }

    /// Returns whether the peer's socket is still open, so that bytes to it are not answered with an RST.
    pub fn is_heard(&self) -> bool {
        !self.deaf
    }

    pub fn has_unseen_error(&self) -> bool {
        self.error.is_some()
    }

    pub fn owes_report_of_room(&self) -> bool {
        self.no_space
    }

    pub fn is_write_shut(&self) -> bool {
        self.write_shut
    }
}

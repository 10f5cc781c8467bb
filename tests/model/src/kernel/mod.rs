//! Both connections of a session as Linux shows them to their owner, without sockets or time.
//!
//! What is modelled, because a relay can get each of it wrong:
//!
//! - Reports are edge-triggered. Only news wakes the poller, and the report tells the state at the
//!   time of polling. Registering brings the first one.
//! - A read takes what is there; it stops short in front of an urgent byte. An urgent byte that is
//!   not kept in line is skipped by the read that meets it, and also when the next one comes
//!   before it was read. A splice never passes an urgent byte: it says "would block", or 0 once
//!   the end has arrived.
//! - A write takes what there is room for. When it takes less, or the poller saw no room, a report
//!   follows once a third of the room is free.
//! - An error is told once, to whichever call comes first; later reads see a clean end. A reset
//!   that comes amid a splice to the socket is lost that way. What arrived before it can be read.
//! - Closing with unread bytes, or with the linger option set, resets the connection, which drops
//!   what the peer had not acknowledged.
//!
//! The streams of both sides are fixed patterns, so bytes are checked as soon as they are written, and only
//! counted.

mod calls;
mod pattern;
mod scripted;

use rustix::io::Errno;
use tcprelay::internal::session::Side;
use tcprelay::internal::stream::Readiness;

pub use pattern::PREFACE;
pub use scripted::{Call, Scripted, Sockets};

/// How a connection was first seen to end, by a call of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A read told the end of the stream.
    End,
    /// A short read behind a reported end told it, which the owner need not believe.
    Told,
    /// A read or a splice from the socket told this error.
    ReadError(i32),
    /// A write, a splice to the socket or a shutdown told this error.
    WriteError(i32),
    /// The error was lost, or told by no transfer.
    Hidden(i32),
}

/// How the owner closed a connection, as the peer sees it.
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

/// One connection, as its owner's kernel has it.
#[allow(clippy::struct_excessive_bools)] // Independent facts.
#[derive(Clone, Debug)]
pub struct Connection {
    side: Side,
    state: State,
    /// Bytes that the peer has sent, as far as they have arrived.
    arrived: u64,
    /// How many of them were taken, or skipped.
    taken: u64,
    /// Bytes that may wait to be taken.
    window: u64,
    /// Where the last urgent byte is, until it is taken.
    urgent: Option<u64>,
    end_arrived: bool,
    /// It was reported that nothing but bytes stands before the end.
    end_reported: bool,
    end_read: bool,
    /// A short read after that report has told the end.
    end_told: Option<(Seen, u64)>,
    /// So many bytes of preface must the owner write before the other side's pattern.
    preface: u64,
    /// Bytes written by the owner.
    written: u64,
    /// How many of them the peer has got.
    acknowledged: u64,
    /// Bytes that may wait to be acknowledged.
    room: u64,
    /// The kernel owes a report of room.
    no_space: bool,
    write_shut: bool,
    /// The peer has got the end of the stream.
    end_acknowledged: bool,
    /// The peer has closed for good: what it is sent from now on makes it reset.
    deaf: bool,
    error: Option<i32>,
    reset_on_close: bool,
    closed: Option<Closed>,
    woken: bool,
    /// This error cuts the next splice to the socket after so many bytes.
    cut_amid_drain: Option<(u64, i32)>,
    seen: Option<(Seen, u64)>,
    /// The kernel does not say how long the send queue is.
    queue_unknown: bool,
    /// Splices from the socket that brought bytes.
    fills: u64,
}

impl Connection {
    /// A connection to the peer on `side`, with room for so many bytes in each direction.
    pub fn new(side: Side, connecting: bool, window: u64, room: u64, preface: u64) -> Self {
        Self {
            side,
            state: if connecting { State::Connecting } else { State::Open },
            arrived: 0,
            taken: 0,
            window,
            urgent: None,
            // As the relay's listener has it; a socket that connects begins without.
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

    /// Another connection of the same sizes, to another peer on the same side. It connects.
    #[must_use]
    pub fn anew(&self) -> Self {
        let anew = Self::new(self.side, true, self.window, self.room, self.preface);
        Self { queue_unknown: self.queue_unknown, ..anew }
    }

    /// The kernel never says how long the send queue is.
    pub fn hide_queue(&mut self) {
        self.queue_unknown = true;
    }

    /// Whether the kernel says how long the send queue is.
    pub fn tells_queue(&self) -> bool {
        !self.queue_unknown
    }

    // ----- what the peer and the network do

    pub fn establish(&mut self) {
        if self.state == State::Connecting {
            self.state = State::Open;
            self.woken = true;
        }
    }

    /// How many more bytes may arrive.
    pub fn window(&self) -> u64 {
        self.window - (self.arrived - self.taken)
    }

    /// Bytes arrive, the last of them urgent if it says so.
    pub fn arrive(&mut self, count: u64, urgent: bool) {
        debug_assert!(count <= self.window() && !self.end_arrived);
        if self.state != State::Open || count == 0 {
            return;
        }
        if self.closed.is_some() {
            // Nobody is there to read: the kernel answers with a reset.
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

    /// The connection is dead.
    pub fn fail(&mut self, errno: Errno) {
        if self.state == State::Dead || self.closed.is_some() {
            return;
        }
        let errno = if self.end_arrived && !self.write_shut { Errno::PIPE } else { errno };
        self.error = Some(errno.raw_os_error());
        self.state = State::Dead;
        self.woken = true;
    }

    /// The connection dies amid the next splice to the socket, after it has moved so many bytes.
    pub fn fail_amid_drain(&mut self, after: u64, errno: Errno) {
        self.cut_amid_drain = Some((after, errno.raw_os_error()));
    }

    /// Whether the connect was answered.
    pub fn is_established(&self) -> bool {
        self.state != State::Connecting
    }

    pub fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Bytes on their way to the peer.
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

    /// The stream to the peer has ended in order, behind what is still on its way.
    pub fn sends_end(&self) -> bool {
        self.write_shut || self.closed == Some(Closed::Orderly)
    }

    pub fn acknowledge_end(&mut self) {
        self.end_acknowledged = true;
    }

    pub fn become_deaf(&mut self) {
        self.deaf = true;
    }

    /// Whether the peer has closed for good and something was sent to it since.
    pub fn provokes_reset(&self) -> bool {
        self.deaf && self.state == State::Open && self.closed.is_none() && self.unacknowledged() > 0
    }

    pub fn closed(&self) -> Option<Closed> {
        self.closed
    }

    // ----- what the poller does

    pub fn is_woken(&self) -> bool {
        self.woken
    }

    /// The report that epoll makes, through mio's reading of it.
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

    /// The kernel says that there is room while at most two thirds are taken.
    fn has_poll_room(&self) -> bool {
        3 * self.unacknowledged() <= 2 * self.room
    }

    // ----- what the tests ask

    /// How the owner first saw the connection end, and when, by [`Sockets::clock`].
    pub fn seen(&self) -> Option<(Seen, u64)> {
        self.seen
    }

    /// Whether and when the owner was told the end without having asked for it.
    pub fn told(&self) -> Option<(Seen, u64)> {
        self.end_told
    }

    /// Splices from the socket that have brought bytes.
    pub fn fills(&self) -> u64 {
        self.fills
    }

    /// Bytes that have arrived from the peer.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Bytes that the owner has taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes that the owner has written, the preface among them.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that the peer has got, the preface among them.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub fn preface(&self) -> u64 {
        self.preface
    }

    pub fn end_arrived(&self) -> bool {
        self.end_arrived
    }

    /// Whether the owner knows of the end.
    pub fn end_is_known(&self) -> bool {
        self.end_read || self.end_told.is_some()
    }

    /// Whether the peer still takes what is sent to it.
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

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
//! The streams of both sides are fixed [patterns](pattern), so bytes are checked as soon as they
//! are written, and only counted.

// The simulation and the fuzz target use a part each.
#![allow(dead_code, missing_docs)]
#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc, clippy::must_use_candidate)]

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::LazyLock;

use rustix::io::Errno;
use tcprelay::internal::session::Side;
use tcprelay::internal::splice::Pipe;
use tcprelay::internal::stream::{Readiness, Stream};

/// A small generator of pseudo-random numbers: `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }
}

/// What a preface consists of.
pub const PREFACE: u8 = b'P';

/// After this many bytes a pattern begins again. A prime: no buffer or pipe is a multiple of it.
const PATTERN: usize = 65_521;

/// What a side sends, over and over.
fn pattern(side: Side) -> &'static [u8] {
    static REQUESTER: LazyLock<Vec<u8>> = LazyLock::new(|| make(1));
    static TARGET: LazyLock<Vec<u8>> = LazyLock::new(|| make(2));
    fn make(seed: u64) -> Vec<u8> {
        let mut random = Random(seed);
        (0..PATTERN).map(|_| random.bits() as u8).collect()
    }
    match side {
        Side::Requester => &REQUESTER,
        Side::Target => &TARGET,
    }
}

/// Goes through a stretch of a pattern, piece by piece: where in the stretch, and the bytes.
fn for_pattern(side: Side, mut offset: u64, count: usize, mut piece: impl FnMut(usize, &[u8])) {
    let mut done = 0;
    while done < count {
        let start = (offset % PATTERN as u64) as usize;
        let length = (PATTERN - start).min(count - done);
        piece(done, &pattern(side)[start..start + length]);
        done += length;
        offset += length as u64;
    }
}

/// The calls that can meet something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Fill,
    Write,
    Drain,
    ShutdownWrite,
}

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
    /// The next splice to the socket is cut by this error after so many bytes.
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

    // ----- what the owner does

    fn read(&mut self, room: &mut [u8], clock: u64) -> io::Result<usize> {
        assert!(!room.is_empty(), "a read without room");
        let mut count = room.len().min((self.arrived - self.taken) as usize);
        if let Some(urgent) = self.urgent.filter(|&urgent| urgent > self.taken) {
            count = count.min((urgent - self.taken) as usize);
        }
        if count == 0 {
            return self.nothing_to_read(true, clock);
        }
        self.copy_out(&mut room[..count]);
        if self.end_reported && count < room.len() {
            assert_eq!(self.taken, self.arrived, "bytes are left before an end that was told");
            self.end_told = Some((self.end_as(Seen::Told), clock));
        }
        Ok(count)
    }

    fn fill(&mut self, pipe: &Pipe, most: usize, clock: u64) -> io::Result<usize> {
        let mut probe = [0];
        assert!(pipe.read(&mut probe).is_err(), "a pipe is filled that is not empty");
        let stop = self.urgent.unwrap_or(self.arrived);
        let count = (stop - self.taken).min(pipe.capacity().min(most) as u64) as usize;
        if count == 0 {
            return self.nothing_to_read(false, clock);
        }
        self.fills += 1;
        let mut bytes = vec![0; count];
        self.copy_out(&mut bytes);
        assert_eq!(pipe.write(&bytes).ok(), Some(count), "an empty pipe holds its capacity");
        Ok(count)
    }

    fn copy_out(&mut self, room: &mut [u8]) {
        for_pattern(self.side, self.taken, room.len(), |at, bytes| {
            room[at..at + bytes.len()].copy_from_slice(bytes);
        });
        self.taken += room.len() as u64;
        self.urgent = self.urgent.filter(|&urgent| urgent >= self.taken);
    }

    fn end_as(&self, seen: Seen) -> Seen {
        // An end that a reset has followed may be taken for either.
        if self.is_dead() { Seen::Hidden(0) } else { seen }
    }

    fn nothing_to_read(&mut self, is_read: bool, clock: u64) -> io::Result<usize> {
        if self.end_arrived {
            if is_read && self.taken == self.arrived {
                assert!(self.is_dead() || !self.end_read, "a read after the end");
                (self.end_read, self.end_told) = (true, None);
                self.see(self.end_as(Seen::End), clock);
            }
            return Ok(0);
        }
        if let Some(errno) = self.error.take() {
            self.see(Seen::ReadError(errno), clock);
            return Err(io::Error::from_raw_os_error(errno));
        }
        if self.state == State::Dead { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn write(&mut self, bytes: &[u8], clock: u64) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "a write of nothing");
        let count = self.reserve(bytes.len() as u64, clock)?;
        self.accept(&bytes[..count]);
        Ok(count)
    }

    fn drain(&mut self, pipe: &Pipe, offered: usize, clock: u64) -> io::Result<usize> {
        let mut count = self.reserve(offered as u64, clock)?;
        let cut = self.cut_amid_drain.take();
        if let Some((after, errno)) = cut {
            if after == 0 {
                self.fail(Errno::from_raw_os_error(errno));
                return self.reserve(offered as u64, clock);
            }
            count = count.min(after as usize);
        }
        let mut bytes = vec![0; count];
        assert_eq!(pipe.read(&mut bytes).ok(), Some(count), "more was to be spliced than there is");
        self.accept(&bytes);
        if let Some((_, errno)) = cut.filter(|_| count < offered) {
            self.fail(Errno::from_raw_os_error(errno));
            let errno = self.error.take().unwrap_or(errno);
            self.see(Seen::Hidden(errno), clock);
        }
        Ok(count)
    }

    /// How much of an offer can be taken.
    fn reserve(&mut self, offered: u64, clock: u64) -> io::Result<usize> {
        assert!(!self.write_shut, "a write after the end");
        assert!(self.state != State::Connecting, "a write before the connection");
        if self.state == State::Dead {
            let errno = self.error.take().unwrap_or(Errno::PIPE.raw_os_error());
            self.see(Seen::WriteError(errno), clock);
            return Err(io::Error::from_raw_os_error(errno));
        }
        let count = offered.min(self.room.saturating_sub(self.unacknowledged()));
        self.no_space |= count < offered;
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count as usize) }
    }

    /// Takes bytes in, if they are the next ones.
    fn accept(&mut self, bytes: &[u8]) {
        let first = (self.preface.saturating_sub(self.written) as usize).min(bytes.len());
        let (head, tail) = bytes.split_at(first);
        assert!(head.iter().all(|&byte| byte == PREFACE), "the {:?} is not sent the preface", self.side);
        let offset = (self.written + first as u64).saturating_sub(self.preface);
        for_pattern(!self.side, offset, tail.len(), |at, expected| {
            let right = tail[at..at + expected.len()] == *expected;
            assert!(right, "wrong bytes to the {:?} after byte {}", self.side, offset + at as u64);
        });
        self.written += bytes.len() as u64;
    }

    fn shutdown_write(&mut self, clock: u64) -> io::Result<()> {
        assert!(!self.write_shut, "the end is sent twice");
        if self.state == State::Dead {
            self.see(Seen::WriteError(Errno::NOTCONN.raw_os_error()), clock);
            return Err(Errno::NOTCONN.into());
        }
        self.write_shut = true;
        self.woken = true;
        Ok(())
    }

    fn is_connected(&mut self) -> bool {
        let over = self.end_arrived && self.write_shut && self.end_acknowledged;
        self.state == State::Open && !over
    }

    fn take_error(&mut self, clock: u64) -> Option<io::Error> {
        let errno = self.error.take()?;
        self.see(Seen::Hidden(errno), clock);
        Some(io::Error::from_raw_os_error(errno))
    }

    fn close(&mut self) {
        if self.state == State::Dead {
            return;
        }
        let reset = self.reset_on_close || self.taken < self.arrived || self.state == State::Connecting;
        self.closed = Some(if reset { Closed::Reset } else { Closed::Orderly });
    }

    fn see(&mut self, seen: Seen, clock: u64) {
        self.seen.get_or_insert((seen, clock));
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

/// Both connections of a session, and what may happen to them at any call.
pub trait Sockets {
    fn connection_of(&mut self, side: Side) -> &mut Connection;

    /// Called before a call on the socket of `side`; its error is what the call comes to.
    fn meddle(&mut self, side: Side, call: Call) -> io::Result<()>;

    /// Rises with every call, so that the first of two events can be told.
    fn clock(&self) -> u64;
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

    /// Both connections of the session.
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
        let clock = sockets.clock();
        act(sockets.connection_of(self.side), clock)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Connection) -> T) -> T {
        act(self.sockets.borrow_mut().connection_of(self.side))
    }
}

impl<W: Sockets> Stream for Scripted<W> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
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
        let clock = self.sockets.borrow().clock();
        Ok(self.with(|connection| connection.take_error(clock)))
    }

    fn send_at_once(&mut self) {}

    fn limit_unsent(&mut self, _: bool) {}

    fn reset_on_close(&mut self) {
        self.with(|connection| connection.reset_on_close = true);
    }

    fn unacknowledged(&self) -> Option<u32> {
        self.with(|connection| {
            // As SIOCOUTQ: a FIN counts as a byte, and a reset leaves the figure as it was.
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
        // While a failed test unwinds, the sockets may be in use.
        if let Ok(mut sockets) = self.sockets.try_borrow_mut() {
            sockets.connection_of(self.side).close();
        }
    }
}

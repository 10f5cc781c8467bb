//! Random scripts for both ends of a session.
//!
//! The author of a script knows which bytes are in flight when a step begins. It orders the steps so that the view of
//! each end is certain. Where the kernels decide, as when a reset overtakes bytes, a [`Judge`] asks for less.

use tcprelay::internal::session::Side;

use crate::support::random::Random;

/// The steps of both ends of a session. Each begins when the one before it is done.
#[derive(Clone, Debug)]
pub struct Script {
    /// Whether the requester has a small receive buffer.
    pub narrow: bool,
    /// The requester's steps before the target accepts.
    pub early: Vec<Step>,
    pub steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Both ends write and read at once. By [`Side::index`].
    Exchange([Share; 2]),
    /// Everything in flight arrives at the kernel of its reader: bytes, an EOF, a reset.
    Arrive,
    /// The other kernel acknowledges all that this side has written.
    Acknowledge(Side),
    /// A side sends as much as its kernel takes at once, up to this many bytes.
    Flood(Side, usize),
    End(Side, How),
    /// A side reads to the end of its stream.
    Hear(Side, Judge),
    /// A side whose peer has left writes until a write fails.
    Provoke(Side),
}

/// The part of one end in an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub write: usize,
    /// The most bytes of one write.
    pub chunk: usize,
    /// Whether the last byte is urgent.
    pub urgent: bool,
    pub read: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A shutdown for writing.
    HalfClose,
    /// A close. Over unread bytes, the kernel makes it a reset.
    Close,
    /// A close with a linger time of 0.
    Reset,
}

/// The part of a reader's view that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// All bytes that were sent, and then the end.
    All,
    /// At least the bytes that were acknowledged when the sender cut its stream, and then the end.
    Acknowledged,
    /// All bytes that were sent. The end is left open, because a write has taken the error, which the kernel reports
    /// only once.
    Bytes,
}

const SIZES: [usize; 12] = [0, 0, 1, 1, 100, 101, 700, 700, 4_000, 4_001, 20_000, 100_000];
const HUGE: usize = 1_000_000;
/// The most bytes that a reader leaves unread between two steps. So few always arrive, whatever the packet size.
/// A kernel may close the window once half of the receive buffer is in use, and a packet that is read in part uses as
/// much of it as before.
const UNREAD: usize = 2_000;
/// The most bytes that are written to a small receive buffer at a time. More would take too many small windows.
const WRITE_NARROW: usize = 8_000;
/// The most bytes that the requester writes before the target has accepted.
const WRITE_EARLY: usize = 300;

impl Script {
    /// Returns a random script. `narrow` gives the target a small receive buffer.
    pub fn random(random: Random, narrow: bool) -> Self {
        let mut author = Author::new(random, narrow);
        author.begin();
        let early = std::mem::take(&mut author.steps);
        for _ in 0..author.random.below(8) {
            author.go_on();
        }
        author.finish();
        Self { narrow: author.narrow[0], early, steps: author.steps }
    }
}

/// The author of a script, and its knowledge after the steps so far. Arrays are by [`Side::index`].
struct Author {
    random: Random,
    steps: Vec<Step>,
    narrow: [bool; 2],
    /// Whether the side still has its socket.
    here: [bool; 2],
    /// Whether the side has sent its EOF.
    eof: [bool; 2],
    /// Whether the side has heard the end of its stream.
    heard: [bool; 2],
    /// Bytes that the side has sent and the other one has not read.
    unread: [usize; 2],
    /// Whether everything that was sent has arrived.
    arrived: bool,
}

impl Author {
    fn new(mut random: Random, narrow: bool) -> Self {
        let narrow = [random.once_in(4), narrow];
        let (steps, arrived) = (Vec::new(), true);
        Self {
            random,
            steps,
            narrow,
            here: [true; 2],
            eof: [false; 2],
            heard: [false; 2],
            unread: [0; 2],
            arrived,
        }
    }

    fn any_side(&mut self) -> Side {
        self.random.pick(&Side::BOTH)
    }

    /// Returns whether both streams have ended in order.
    fn is_complete(&self) -> bool {
        self.eof == [true; 2]
    }

    /// Adds the steps before the target accepts: the requester may send, and it may end.
    fn begin(&mut self) {
        if self.random.once_in(3) {
            let write = self.random.pick(&[1, 100, WRITE_EARLY]);
            let nothing = Share { write: 0, chunk: 1, urgent: false, read: 0 };
            self.steps.push(Step::Exchange([Share { write, chunk: write, urgent: false, read: 0 }, nothing]));
            (self.unread[0], self.arrived) = (write, false);
        }
        if self.random.once_in(6) {
            let how = self.random.pick(&[How::HalfClose, How::Close]);
            self.steps.push(Step::End(Side::Requester, how));
            (self.eof[0], self.here[0], self.arrived) = (true, how == How::HalfClose, false);
        }
    }

    fn go_on(&mut self) {
        if self.here != [true; 2] {
            return;
        }
        let side = self.any_side();
        match self.random.below(10) {
            0..=5 => self.exchange(),
            6 => self.arrive(),
            7 => self.half_close(side),
            _ if self.eof[(!side).index()] => self.hear(side, Judge::All),
            _ => {}
        }
    }

    fn exchange(&mut self) {
        let writes = Side::BOTH.map(|side| self.size(side));
        let left = Side::BOTH.map(|side| self.left(side, writes[side.index()]));
        let shares = Side::BOTH.map(|side| {
            let (here, there) = (side.index(), (!side).index());
            Share {
                write: writes[here],
                chunk: self.chunk(side, writes[here]),
                urgent: self.random.once_in(10),
                read: self.unread[there] + writes[there] - left[there],
            }
        });
        self.unread = left;
        self.arrived &= writes == [0; 2];
        self.steps.push(Step::Exchange(shares));
    }

    /// Returns the number of bytes that this side writes in an exchange.
    fn size(&mut self, side: Side) -> usize {
        if self.eof[side.index()] {
            return 0;
        }
        let any = if self.random.once_in(100) { HUGE } else { self.random.pick(&SIZES) };
        any.min(if self.narrow[(!side).index()] { WRITE_NARROW } else { HUGE })
    }

    fn chunk(&mut self, side: Side, write: usize) -> usize {
        let tiny = write <= 101 && !self.narrow[(!side).index()];
        self.random.pick(&[if tiny { 1 } else { 100 }, 1_448, HUGE])
    }

    /// Returns the number of bytes from this side that the other one leaves unread.
    fn left(&mut self, side: Side, write: usize) -> usize {
        let all = self.unread[side.index()] + write;
        let may_stay = all <= UNREAD && !self.narrow[(!side).index()];
        if may_stay && self.random.once_in(2) { self.random.index(all + 1) } else { 0 }
    }

    fn arrive(&mut self) {
        if !self.arrived {
            self.steps.push(Step::Arrive);
            self.arrived = true;
        }
    }

    fn hear(&mut self, side: Side, judge: Judge) {
        if !self.heard[side.index()] {
            self.steps.push(Step::Hear(side, judge));
            (self.heard[side.index()], self.unread[(!side).index()]) = (true, 0);
        }
    }

    /// Lets a side send many bytes at once, or none. Returns whether it sends any.
    fn flood(&mut self, side: Side) -> bool {
        let most = if self.narrow[(!side).index()] { WRITE_NARROW } else { HUGE };
        let count =
            if self.eof[side.index()] { 0 } else { self.random.pick(&[0, 0, 0, 5_000, 300_000]).min(most) };
        if count > 0 {
            self.steps.push(Step::Flood(side, count));
        }
        count > 0
    }

    fn half_close(&mut self, side: Side) {
        if self.eof[side.index()] {
            return;
        }
        let flood = self.flood(side);
        self.steps.push(Step::End(side, How::HalfClose));
        (self.eof[side.index()], self.arrived) = (true, false);
        if flood {
            // The number of bytes sent is known only once they are read.
            self.hear(!side, Judge::All);
        }
    }

    fn finish(&mut self) {
        if self.here != [true; 2] {
            return self.survive(Side::Target, Judge::All);
        }
        let side = self.any_side();
        match self.random.below(6) {
            // Both sides stay, and their connection still works.
            0 => self.exchange(),
            1 => {
                self.half_close(side);
                self.half_close(!side);
                self.hear(side, Judge::All);
                self.hear(!side, Judge::All);
            }
            2 | 3 => self.leave(side, How::Close),
            _ => self.leave(side, How::Reset),
        }
    }

    /// Closes the socket of a side, and lets the other one see it.
    fn leave(&mut self, side: Side, how: How) {
        let (here, there) = (side.index(), (!side).index());
        // The kernel of the side sends a reset or a FIN, depending on the bytes that have arrived there. And a reset
        // right behind an EOF may overtake it.
        if self.unread[there] > 0 || self.eof[there] || self.eof[here] {
            self.arrive();
        }
        let aborts = !self.is_complete() && (how == How::Reset || self.unread[there] > 0);
        let flood = self.flood(side);
        let mut judge = Judge::All;
        if aborts && (flood || !self.arrived && self.unread[here] > 0) {
            if !flood && self.random.once_in(2) {
                self.steps.push(Step::Acknowledge(side));
            } else {
                judge = Judge::Acknowledged;
            }
        }
        if how == How::Reset {
            // The reset may come in the middle of bytes for this side.
            self.flood(!side);
        }
        self.steps.push(Step::End(side, how));
        (self.here[here], self.arrived) = (false, false);
        if flood {
            self.hear(!side, judge);
        }
        self.survive(!side, judge);
    }

    /// Adds the last steps of a side whose peer has closed its socket.
    fn survive(&mut self, side: Side, judge: Judge) {
        let may_write = !self.eof[side.index()];
        if may_write && judge == Judge::All && self.random.once_in(3) {
            self.arrive();
            self.steps.push(Step::Provoke(side));
            self.hear(side, Judge::Bytes);
            return;
        }
        self.hear(side, judge);
        if may_write && self.random.once_in(2) {
            self.steps.push(Step::Provoke(side));
        }
    }
}

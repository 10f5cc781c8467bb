//! Random scripts for both ends of a session.
//!
//! The author of a script knows what is on its way when a step begins. It orders the steps so that the view of each
//! end is certain. Where kernels decide, as when a reset overtakes bytes, a [`Judge`] asks for less.

use tcprelay::internal::session::Side;

use crate::support::random::Random;

/// What both ends of a session do. A step begins when the one before it is done.
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
    /// All that is on its way arrives at the kernel of its reader: bytes, an EOF, a reset.
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

/// What one end does in an exchange.
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
    /// It shuts its socket down for writing.
    HalfClose,
    /// It closes its socket. Over unread bytes, the kernel makes that a reset.
    Close,
    /// It closes its socket with a linger time of 0.
    Reset,
}

/// The certain part of what a reader hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// All bytes that were sent, and then the end.
    All,
    /// At least the bytes that were acknowledged when the sender cut its stream, and then the end.
    Acknowledged,
    /// All bytes that were sent. The end is open, because a write has met the error, and the kernel reports it once.
    Bytes,
}

const SIZES: [usize; 12] = [0, 0, 1, 1, 100, 101, 700, 700, 4_000, 4_001, 20_000, 100_000];
const HUGE: usize = 1_000_000;
/// The most bytes that a reader leaves unread between two steps. In packets of any size they arrive for certain: a
/// kernel may close the window when half of the receive buffer is taken, and a packet that is read in part takes as
/// much of it as before.
const UNREAD: usize = 2_000;
/// The most bytes that are written to a small receive buffer at a time: many small windows take long.
const WRITE_NARROW: usize = 8_000;
/// The same before the target has accepted.
const WRITE_EARLY: usize = 300;

impl Script {
    /// Any script. `narrow`: the target has a small receive buffer.
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

/// The author of a script, and what it knows at the point that it has come to. By [`Side::index`].
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

    /// Whether both streams have ended in order.
    fn is_complete(&self) -> bool {
        self.eof == [true; 2]
    }

    /// The requester may send, and end, before the target accepts.
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

    /// The bytes that this side writes in an exchange.
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

    /// The bytes from this side that the other one leaves unread.
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

    /// A side may send many bytes, read or not. Returns whether it does.
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
            // How many bytes that were is known only when they are heard.
            self.hear(!side, Judge::All);
        }
    }

    fn finish(&mut self) {
        if self.here != [true; 2] {
            return self.survive(Side::Target, Judge::All);
        }
        let side = self.any_side();
        match self.random.below(6) {
            // Both stay, and their connection is still in order.
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

    /// A side closes its socket, and the other one finds out.
    fn leave(&mut self, side: Side, how: How) {
        let (here, there) = (side.index(), (!side).index());
        // Whether its kernel sends a reset or a FIN depends on what has arrived there. And a reset that comes
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
            // It may come amid bytes for this side.
            self.flood(!side);
        }
        self.steps.push(Step::End(side, how));
        (self.here[here], self.arrived) = (false, false);
        if flood {
            self.hear(!side, judge);
        }
        self.survive(!side, judge);
    }

    /// What is left to do for a side whose peer has closed its socket.
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

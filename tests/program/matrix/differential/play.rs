//! Plays a script on two sockets, and records what either end sees.

use std::net::{Shutdown, TcpStream};
use std::sync::LazyLock;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tcprelay::internal::session::Side;

use super::script::{How, Judge, Share, Step};
use crate::matrix::unacknowledged;
use crate::support::net::{self, End};
use crate::support::{PATIENCE, eventually};

/// One thing that an end sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Bytes written and read in an exchange, by [`Side::index`].
    Exchanged([(usize, usize); 2]),
    /// The bytes that are missing before the end of the stream, and the end; None if the [`Judge`] leaves it open.
    Heard(Side, usize, Option<End>),
    /// The stream has ended in the middle of an exchange.
    Ended(Side, End),
    WriteFailed(Side),
    /// The byte at this place of the stream is not the one that was sent there, or none was sent.
    Wrong(Side, usize),
    /// No progress within [`PATIENCE`].
    Stuck(Side),
    Error(Side, Errno),
}

/// A sequence without a pattern, whose length is a prime. The bytes of either side begin at a place of their own.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| net::random(1, 1_000_003));

/// The most bytes of one read or write.
const ROOM: usize = 16_384;

/// One end of the session, and its progress.
struct Peer {
    /// None while it is not accepted yet, and once it is closed.
    stream: Option<TcpStream>,
    /// The place in [`BYTES`] where the bytes that it sends begin.
    first: usize,
    written: usize,
    /// The bytes that were acknowledged when it ended.
    acknowledged: usize,
    read: usize,
    /// How it has ended; None while it has not.
    ended: Option<How>,
}

/// Both ends of a session.
pub struct Play {
    peers: [Peer; 2],
    seen: Vec<Seen>,
}

type Outcome<T> = Result<T, Seen>;

impl Play {
    /// Returns a play that has only the requester so far. Each `seed` has bytes of its own.
    pub fn new(seed: u64, requester: TcpStream) -> Self {
        in_line(&requester);
        let seed = usize::try_from(seed).unwrap();
        let peer = |stream, first| Peer { stream, first, written: 0, acknowledged: 0, read: 0, ended: None };
        let peers = [peer(Some(requester), seed * 7_919), peer(None, seed * 7_919 + BYTES.len() / 2)];
        Self { peers, seen: Vec::new() }
    }

    pub fn accept(&mut self, target: TcpStream) {
        in_line(&target);
        self.peers[Side::Target.index()].stream = Some(target);
    }

    /// Plays these steps, up to the first that fails.
    pub fn play(&mut self, steps: &[Step], traced: bool) {
        for step in steps {
            let before = self.seen.len();
            let outcome = self.step(step);
            let failed = outcome.is_err();
            self.seen.extend(outcome.err());
            if traced {
                eprintln!("    {step:?}: {:?}", &self.seen[before..]);
            }
            if failed {
                break;
            }
        }
    }

    /// Closes what is still open, and returns what both ends have seen.
    pub fn close(self) -> Vec<Seen> {
        self.seen
    }

    fn step(&mut self, step: &Step) -> Outcome<()> {
        match *step {
            Step::Exchange(shares) => self.exchange(shares),
            Step::Arrive => Side::BOTH.into_iter().try_for_each(|side| self.arrive(side)),
            Step::Acknowledge(side) => {
                eventually("acknowledged", || unacknowledged(self.stream(side)) == 0);
                Ok(())
            }
            Step::Flood(side, count) => self.flood(side, count),
            Step::End(side, how) => {
                self.end(side, how);
                Ok(())
            }
            Step::Hear(side, judge) => self.hear(side, judge),
            Step::Provoke(side) => self.provoke(side),
        }
    }

    fn stream(&self, side: Side) -> &TcpStream {
        self.peers[side.index()].stream.as_ref().unwrap()
    }

    /// Returns the number of bytes that the other side has sent to this one, and that this one has not read.
    fn unread(&self, side: Side) -> usize {
        self.peers[(!side).index()].written - self.peers[side.index()].read
    }

    fn exchange(&mut self, shares: [Share; 2]) -> Outcome<()> {
        let before = Side::BOTH.map(|side| (self.peers[side.index()].written, self.peers[side.index()].read));
        let mut todo = shares;
        let result = self.move_all(&mut todo);
        self.seen.push(Seen::Exchanged(Side::BOTH.map(|side| {
            let (peer, (written, read)) = (&self.peers[side.index()], before[side.index()]);
            (peer.written - written, peer.read - read)
        })));
        result
    }

    fn move_all(&mut self, todo: &mut [Share; 2]) -> Outcome<()> {
        loop {
            let mut moved = false;
            for side in Side::BOTH {
                let share = &mut todo[side.index()];
                if share.write > 0 {
                    let count = self.send(side, share)?;
                    share.write -= count;
                    moved |= count > 0;
                }
                if share.read > 0 {
                    match self.read(side, share.read)? {
                        Read::Bytes(count) => {
                            share.read -= count;
                            moved = true;
                        }
                        Read::Later => {}
                        Read::End(end) => return Err(Seen::Ended(side, end)),
                    }
                }
            }
            if todo.iter().all(|share| share.write + share.read == 0) {
                return Ok(());
            }
            if !moved {
                self.wait(todo)?;
            }
        }
    }

    /// Waits until one of the ends can go on.
    fn wait(&self, todo: &[Share; 2]) -> Outcome<()> {
        let waiting = Side::BOTH.map(|side| {
            let share = &todo[side.index()];
            let mut what = PollFlags::empty();
            what.set(PollFlags::OUT, share.write > 0);
            what.set(PollFlags::IN, share.read > 0);
            (side, what)
        });
        let waiting: Vec<_> = waiting.into_iter().filter(|(_, what)| !what.is_empty()).collect();
        let files: Vec<_> = waiting.iter().map(|&(side, what)| (self.stream(side), what)).collect();
        if net::any_ready_within(&files, PATIENCE) { Ok(()) } else { Err(Seen::Stuck(waiting[0].0)) }
    }

    /// Sends the next bytes of a share, as far as the kernel takes them now.
    fn send(&mut self, side: Side, share: &Share) -> Outcome<usize> {
        let most = share.write.min(share.chunk);
        let count = match share.urgent {
            true if share.write == 1 => self.write(side, 1, SendFlags::OOB),
            true => self.write(side, most.min(share.write - 1), SendFlags::empty()),
            false => self.write(side, most, SendFlags::empty()),
        };
        count.map_err(|errno| Seen::Error(side, errno))
    }

    /// Writes up to this many bytes, as far as the kernel takes them now.
    fn write(&mut self, side: Side, most: usize, flags: SendFlags) -> Result<usize, Errno> {
        let peer = &mut self.peers[side.index()];
        let first = (peer.first + peer.written) % BYTES.len();
        let bytes = &BYTES[first..BYTES.len().min(first + most.min(ROOM))];
        let stream = peer.stream.as_ref().unwrap();
        match send(stream, bytes, flags | SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => {
                peer.written += count;
                Ok(count)
            }
            Err(Errno::AGAIN) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    /// Reads up to this many of the bytes that are there, and compares them with those that were sent.
    fn read(&mut self, side: Side, most: usize) -> Outcome<Read> {
        let mut room = [0; ROOM];
        let room = &mut room[..most.min(ROOM)];
        let count = match recv(self.stream(side), &mut *room, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Ok(Read::End(End::Clean)),
            Ok((_, count)) => count,
            Err(Errno::AGAIN) => return Ok(Read::Later),
            Err(Errno::CONNRESET) => return Ok(Read::End(End::Reset)),
            Err(errno) => return Err(Seen::Error(side, errno)),
        };
        let sender = &self.peers[(!side).index()];
        let read = self.peers[side.index()].read;
        let expected = |place: usize| BYTES[(sender.first + place) % BYTES.len()];
        for (place, byte) in (read..).zip(&room[..count]) {
            if place >= sender.written || expected(place) != *byte {
                return Err(Seen::Wrong(side, place));
            }
        }
        self.peers[side.index()].read += count;
        Ok(Read::Bytes(count))
    }

    /// Waits until the side's kernel has all that its peer has sent.
    fn arrive(&self, side: Side) -> Outcome<()> {
        let Some(stream) = &self.peers[side.index()].stream else { return Ok(()) };
        let unread = u64::try_from(self.unread(side)).unwrap();
        eventually("arrived", || rustix::io::ioctl_fionread(stream).unwrap() == unread);
        let event = match self.peers[(!side).index()].ended {
            None => return Ok(()),
            Some(How::HalfClose) => PollFlags::RDHUP,
            Some(How::Close) if self.unread(!side) == 0 => PollFlags::RDHUP,
            // poll reports an error whether or not it is asked for.
            Some(How::Close | How::Reset) => PollFlags::empty(),
        };
        if net::ready_within(stream, event, PATIENCE) { Ok(()) } else { Err(Seen::Stuck(side)) }
    }

    fn flood(&mut self, side: Side, mut left: usize) -> Outcome<()> {
        while left > 0 {
            match self.write(side, left, SendFlags::empty()).map_err(|errno| Seen::Error(side, errno))? {
                0 => break,
                count => left -= count,
            }
        }
        Ok(())
    }

    fn end(&mut self, side: Side, how: How) {
        // An unacknowledged FIN counts as a byte, so the count may exceed the bytes written.
        let unacknowledged = unacknowledged(self.stream(side));
        let peer = &mut self.peers[side.index()];
        (peer.acknowledged, peer.ended) = (peer.written.saturating_sub(unacknowledged), Some(how));
        match how {
            How::HalfClose => self.stream(side).shutdown(Shutdown::Write).unwrap(),
            How::Close => drop(peer.stream.take()),
            How::Reset => net::reset(peer.stream.take().unwrap()),
        }
    }

    fn hear(&mut self, side: Side, judge: Judge) -> Outcome<()> {
        let end = loop {
            match self.read(side, ROOM)? {
                Read::Bytes(_) => {}
                Read::Later if net::readable_within(self.stream(side), PATIENCE) => {}
                Read::Later => return Err(Seen::Stuck(side)),
                Read::End(end) => break end,
            }
        };
        let missing = match judge {
            Judge::All | Judge::Bytes => self.unread(side),
            Judge::Acknowledged => {
                self.peers[(!side).index()].acknowledged.saturating_sub(self.peers[side.index()].read)
            }
        };
        let end = (judge != Judge::Bytes).then_some(end);
        self.seen.push(Seen::Heard(side, missing, end));
        Ok(())
    }

    fn provoke(&mut self, side: Side) -> Outcome<()> {
        loop {
            match self.write(side, ROOM, SendFlags::empty()) {
                Ok(0) if !net::ready_within(self.stream(side), PollFlags::OUT, PATIENCE) => {
                    return Err(Seen::Stuck(side));
                }
                Ok(_) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => break,
                Err(errno) => return Err(Seen::Error(side, errno)),
            }
        }
        self.seen.push(Seen::WriteFailed(side));
        Ok(())
    }
}

/// Keeps urgent bytes in their place in the stream (`SO_OOBINLINE`), as the relay does.
fn in_line(stream: &TcpStream) {
    SockRef::from(stream).set_out_of_band_inline(true).unwrap();
}

enum Read {
    Bytes(usize),
    /// No bytes are there yet.
    Later,
    End(End),
}

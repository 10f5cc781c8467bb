//! The peers of a session: how much they send and read, at what pace, and how they end their streams.

use rustix::io::Errno;
use tcprelay::internal::session::Side;

use crate::kernel::Closed;
use crate::random::Random;

/// The kind of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Traffic of any kind.
    Any,
    /// Megabytes.
    Bulk,
    /// Megabytes, sent at once through connections with large queues.
    Flood,
    /// Small messages, with pauses.
    Interactive,
    /// A few small messages, and then the end.
    Light,
}

/// A peer's last act, once it has sent all its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It sends a FIN and goes on reading.
    HalfClose,
    /// It closes its socket: its kernel sends a FIN, and answers later bytes with an RST.
    Close,
    /// Its connection dies with this error.
    Fail(i32),
    /// It does nothing, and its connection stays open.
    Silence,
}

/// The peer at the other end of one of the relay's connections.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Bytes still to be sent.
    pub(super) to_send: u64,
    /// Most bytes sent at once.
    pub(super) send_chunk: u64,
    /// `n`: one chunk in n ends in an urgent byte; 0: none does.
    pub(super) urgent: u64,
    pub(super) pace: Pace,
    pub(super) ending: Ending,
    pub(super) has_ended: bool,
    /// Most bytes read at once.
    pub(super) receive_chunk: u64,
    /// Bytes after which it stops reading for good; `None`: it reads on.
    pub(super) stops_at: Option<u64>,
    /// The end of its connection as it saw it; `None` before that.
    pub(super) saw: Option<Closed>,
}

/// The pauses of a peer between two acts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    Fast,
    Slow,
    /// Fast, with long pauses.
    Moody,
}

/// The sizes of a session's traffic.
pub(super) struct Sizes {
    pub(super) windows: [u64; 2],
    pub(super) rooms: [u64; 2],
    send_chunks: [u64; 2],
    receive_chunks: [u64; 2],
    most: u64,
}

impl Sizes {
    pub(super) fn random(random: &mut Random, load: Load) -> Self {
        let bulk = matches!(load, Load::Bulk | Load::Flood) || load == Load::Any && random.once_in(60);
        let choices: &[u64] = match load {
            Load::Flood => &[5_000_000],
            _ if bulk => &[300_000, 5_000_000],
            Load::Interactive | Load::Light => &[5_000, 70_000],
            _ => &[1, 40, 700, 5_000, 70_000, 300_000],
        };
        let chunks: &[u64] = match load {
            Load::Interactive | Load::Light => &[1, 40, 700],
            _ => choices,
        };
        let mut pair = |choices: &[u64]| [random.pick(choices), random.pick(choices)];
        Self {
            windows: pair(choices),
            rooms: pair(choices),
            send_chunks: pair(chunks),
            receive_chunks: pair(if load == Load::Light { choices } else { chunks }),
            most: match load {
                _ if bulk => 12_000_000,
                Load::Light => 1_500,
                _ => 600_000,
            },
        }
    }

    /// Returns the most bytes that a peer sends: few enough for about 60 acts on either side.
    fn most(&self, side: Side) -> u64 {
        let (here, there) = (side.index(), (!side).index());
        let sent = self.windows[here].min(self.send_chunks[here]);
        let received = self.rooms[there].min(self.receive_chunks[there]);
        (sent.min(received) * 60).min(self.most)
    }
}

impl Peer {
    pub(super) fn random(random: &mut Random, load: Load, sizes: &Sizes, side: Side, calm: bool) -> Self {
        let most = sizes.most(side);
        let ending = match random.below(if calm { 1 } else { 8 }) {
            0..=3 => Ending::HalfClose,
            4 => Ending::Close,
            5 | 6 => Ending::Fail(
                random.pick(&[Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH]).raw_os_error(),
            ),
            _ => Ending::Silence,
        };
        let paces: &[Pace] = match load {
            Load::Interactive => &[Pace::Slow, Pace::Moody],
            Load::Light => &[Pace::Fast, Pace::Slow],
            Load::Flood => &[Pace::Fast],
            _ => &[Pace::Fast, Pace::Fast, Pace::Slow, Pace::Moody],
        };
        Self {
            to_send: if random.once_in(6) { 0 } else { random.below(most + 1) },
            send_chunk: sizes.send_chunks[side.index()],
            urgent: if random.once_in(3) { 1 + random.below(6) } else { 0 },
            pace: random.pick(paces),
            ending,
            has_ended: false,
            receive_chunk: sizes.receive_chunks[side.index()],
            stops_at: (!calm && random.once_in(8)).then(|| random.below(most + 1)),
            saw: None,
        }
    }
}

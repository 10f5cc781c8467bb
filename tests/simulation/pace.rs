//! The choice of a channel between copying and splicing, and the bulk and movement that it reports.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use rustix::io::Errno;
use tcprelay::internal::buffer::Buffer;
use tcprelay::internal::channel::{Channel, Ends, Step};
use tcprelay::internal::limits::{
    FULL_READS_BEFORE_SPLICING, PIPES_BYTES_MAX, SHARE, THIN_SPLICES_BEFORE_COPYING,
};
use tcprelay::internal::session::Side;
use tcprelay::internal::splice::Pipes;
use tcprelay::internal::stream::Socket;

use tcprelay_model::kernel::{Call, Connection, Scripted, Sockets};

const BUF: u64 = 100;
const PLENTY: u64 = 1_000_000;

/// The connection that the channel reads from, and the one that it writes to.
struct Bench {
    from: Connection,
    to: Connection,
    calls: Vec<Call>,
    /// The error of every splice from the socket; `None`: it succeeds.
    fill_error: Option<Errno>,
}

impl Sockets for Bench {
    fn connection_of(&mut self, side: Side) -> &mut Connection {
        match side {
            Side::Requester => &mut self.from,
            Side::Target => &mut self.to,
        }
    }

    fn meddle(&mut self, _: Side, call: Call) -> io::Result<()> {
        self.calls.push(call);
        match self.fill_error {
            Some(errno) if call == Call::Fill => Err(errno.into()),
            _ => Ok(()),
        }
    }

    fn tick(&mut self) -> u64 {
        self.calls.len() as u64
    }
}

struct Run {
    bench: Rc<RefCell<Bench>>,
    from: Socket<Scripted<Bench>>,
    to: Socket<Scripted<Bench>>,
    channel: Channel,
    pipes: Pipes,
}

impl Run {
    /// Returns a channel to a connection with room for `room` bytes.
    fn new(pipes: Pipes, room: u64) -> Self {
        let bench = Rc::new(RefCell::new(Bench {
            from: Connection::new(Side::Requester, false, PLENTY, PLENTY, 0),
            to: Connection::new(Side::Target, false, PLENTY, room, 0),
            calls: Vec::new(),
            fill_error: None,
        }));
        Self {
            from: Socket::accepted(Scripted::new(&bench, Side::Requester)),
            to: Socket::accepted(Scripted::new(&bench, Side::Target)),
            bench,
            channel: Channel::new(Buffer::new(BUF as usize, b"").unwrap()),
            pipes,
        }
    }

    /// Returns a channel that has gone over to splicing.
    fn splicing() -> Self {
        let mut run = Self::new(Pipes::new(PIPES_BYTES_MAX), PLENTY);
        for _ in 0..FULL_READS_BEFORE_SPLICING {
            run.carries(BUF);
        }
        run
    }

    fn pump(&mut self) -> Step {
        let (from, to) = {
            let mut bench = self.bench.borrow_mut();
            (bench.from.report(), bench.to.report())
        };
        self.from.note(from.unwrap_or_default());
        self.to.note(to.unwrap_or_default());
        self.channel.pump(Ends {
            from: &mut self.from,
            to: &mut self.to,
            pipes: &mut self.pipes,
            share: SHARE,
            last: false,
        })
    }

    /// Makes `count` bytes arrive, and has the channel deliver them. Returns whether it spliced them.
    fn carries(&mut self, count: u64) -> bool {
        let delivered = self.channel.delivered();
        {
            let mut bench = self.bench.borrow_mut();
            bench.calls.clear();
            bench.from.arrive(count, false);
        }
        assert_eq!(self.pump(), Step::Waiting);
        assert_eq!(self.channel.delivered(), delivered + count);
        let mut bench = self.bench.borrow_mut();
        let unacknowledged = bench.to.unacknowledged();
        bench.to.acknowledge(unacknowledged);
        bench.calls.contains(&Call::Drain)
    }
}

#[test]
fn only_reads_in_a_row_that_fill_the_buffer_lead_to_splicing() {
    let mut run = Run::new(Pipes::new(PIPES_BYTES_MAX), PLENTY);
    for _ in 1..FULL_READS_BEFORE_SPLICING {
        assert!(!run.carries(BUF));
    }
    assert!(!run.carries(BUF - 1));
    for _ in 0..FULL_READS_BEFORE_SPLICING {
        assert!(!run.carries(BUF));
    }
    assert!(run.carries(BUF));
}

#[test]
fn only_thin_splices_in_a_row_lead_back_to_copying() {
    let mut run = Run::splicing();
    for _ in 1..THIN_SPLICES_BEFORE_COPYING {
        assert!(run.carries(BUF));
    }
    assert!(run.carries(BUF + 1));
    for _ in 0..THIN_SPLICES_BEFORE_COPYING {
        assert!(run.carries(BUF));
    }
    assert!(!run.carries(BUF));
}

#[test]
fn a_channel_is_bulk_from_the_last_full_read_before_splicing_until_it_thins_out() {
    let mut run = Run::new(Pipes::new(PIPES_BYTES_MAX), PLENTY);
    for _ in 1..FULL_READS_BEFORE_SPLICING {
        assert!(!run.channel.is_bulk());
        run.carries(BUF);
    }
    assert!(run.channel.is_bulk());
    run.carries(BUF);
    for _ in 0..THIN_SPLICES_BEFORE_COPYING {
        assert!(run.channel.is_bulk());
        assert!(run.carries(1));
    }
    assert!(!run.channel.is_bulk());
}

#[test]
fn without_pipes_bulk_is_copied_and_still_counts_as_bulk() {
    let mut run = Run::new(Pipes::new(0), PLENTY);
    for _ in 0..=u8::MAX {
        assert!(!run.carries(BUF));
    }
    assert!(run.channel.is_bulk());
    run.carries(BUF - 1);
    assert!(!run.channel.is_bulk());
}

#[test]
fn after_a_refused_splice_every_channel_copies_for_a_while() {
    let mut run = Run::splicing();
    run.bench.borrow_mut().fill_error = Some(Errno::INVAL);
    assert!(!run.carries(BUF));
    assert!(!run.channel.is_bulk());
    assert!(run.pipes.take().is_none());
}

#[test]
fn a_failed_splice_is_reported_at_once_and_the_bytes_left_behind_come_after_the_cut() {
    let mut run = Run::splicing();
    let before = run.channel.delivered();
    {
        let mut bench = run.bench.borrow_mut();
        bench.from.arrive(BUF, false);
        bench.fill_error = Some(Errno::TIMEDOUT);
    }
    assert_eq!(run.pump(), Step::ReadFailed(Errno::TIMEDOUT.raw_os_error()));
    assert_eq!(run.channel.delivered(), before);
    run.channel.cut();
    assert_eq!(run.pump(), Step::Closed);
    assert_eq!(run.channel.delivered(), before + BUF);
    assert_eq!(run.pipes.held(), 0);
}

#[test]
fn every_byte_that_comes_in_and_every_byte_that_goes_out_is_movement() {
    let mut run = Run::new(Pipes::new(PIPES_BYTES_MAX), 60);
    run.bench.borrow_mut().from.arrive(BUF, false);
    assert_eq!(run.pump(), Step::Waiting);
    assert_eq!(run.channel.movement(), BUF + 60);
    run.bench.borrow_mut().to.acknowledge(60);
    assert_eq!(run.pump(), Step::Waiting);
    assert_eq!(run.channel.movement(), 2 * BUF);
}

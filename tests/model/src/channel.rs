//! Operations on one channel between two simulated connections, and checks of its invariants.
//!
//! An input is three bytes that choose the channel and the connections, and then operations of two
//! bytes each: the event, and an amount.

use std::cell::RefCell;
use std::rc::Rc;

use rustix::io::Errno;
use tcprelay::internal::buffer::Buffer;
use tcprelay::internal::channel::{Channel, Ends, Step};
use tcprelay::internal::limits::{PIPE_BYTES_MAX, PIPES_BYTES_MAX, SHARE};
use tcprelay::internal::session::Side;
use tcprelay::internal::splice::{Pipe, Pipes};
use tcprelay::internal::stream::{Readiness, Socket};

use super::kernel::{Connection, PREFACE, Scripted, Seen};
use super::pair::{Pair, bytes_in};

/// Sizes of the kernel's queues, in bytes.
const SIZES: [u64; 6] = [1, 90, 700, 5_000, 70_000, 5_000_000];
const BUFS: [usize; 4] = [100, 101, 1_000, 4_000];

/// A channel with its sockets.
struct Run {
    /// The channel reads from the requester's connection.
    pair: Rc<RefCell<Pair>>,
    from: Socket<Scripted<Pair>>,
    to: Socket<Scripted<Pair>>,
    channel: Channel,
    last: bool,
    cut: bool,
}

thread_local! {
    /// The pool holds one pipe, and the vector all others, so that a lost pipe is noticed at once.
    static PIPES: RefCell<(Pipes, Vec<Pipe>)> = RefCell::new(one_pipe());
}

fn one_pipe() -> (Pipes, Vec<Pipe>) {
    let mut pipes = Pipes::new(PIPES_BYTES_MAX);
    let mut others: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
    if let Some(pipe) = others.pop() {
        pipes.put_back(pipe);
    }
    (pipes, others)
}

/// Checks one input.
///
/// # Panics
/// The channel breaks an invariant.
pub fn check(input: &[u8]) {
    let Some((&[shape, sizes, preface], operations)) = input.split_first_chunk() else { return };
    PIPES.with_borrow_mut(|pipes| {
        let splicing = shape & 0x80 == 0;
        let mut none = Pipes::new(0);
        let (pool, others) = &mut *pipes;
        let pool = if splicing { pool } else { &mut none };
        run(usize::from(shape) % BUFS.len(), usize::from(sizes), usize::from(preface), operations, pool);
        if !splicing {
            return;
        }
        // All pipes but one are in `others`.
        assert_eq!(pool.held(), others.len(), "the channel has kept the pipe");
        match pool.take() {
            Some(pipe) => {
                assert!(
                    pipe.read(&mut Vec::with_capacity(1)).is_err(),
                    "a pipe with bytes in it is in the pool"
                );
                pool.put_back(pipe);
            }
            // After a refusal the pool gives out no pipe for a while.
            None => *pipes = one_pipe(),
        }
    });
}

fn run(buf: usize, sizes: usize, preface: usize, operations: &[u8], pipes: &mut Pipes) {
    let preface = vec![PREFACE; if preface < 128 { 0 } else { preface - 127 }];
    let (window, room) = (SIZES[sizes % SIZES.len()], SIZES[sizes / SIZES.len() % SIZES.len()]);
    let pair = Rc::new(RefCell::new(Pair::new([
        Connection::new(Side::Requester, false, window, room, 0),
        Connection::new(Side::Target, false, window, room, preface.len() as u64),
    ])));
    let buffer = Buffer::new(BUFS[buf], &preface).expect("there is memory");
    let mut run = Run {
        from: Socket::accepted(Scripted::new(&pair, Side::Requester)),
        to: Socket::accepted(Scripted::new(&pair, Side::Target)),
        pair,
        channel: Channel::new(buffer),
        last: false,
        cut: false,
    };
    for operation in operations.chunks_exact(2) {
        if run.operate(operation[0], operation[1], pipes) {
            break;
        }
    }
    run.channel.discard(pipes);
    assert!(run.channel.is_closed() && !run.channel.holds_bytes());
}

impl Run {
    /// Runs an operation; returns whether it has ended the channel.
    fn operate(&mut self, what: u8, amount: u8, pipes: &mut Pipes) -> bool {
        if what % 12 == 11 {
            return self.pump(pipes);
        }
        let pair = &mut *self.pair.borrow_mut();
        let count = bytes_in(amount);
        let [from, to] = &mut pair.connections;
        let sends = !from.end_arrived() && !from.is_dead();
        match what % 12 {
            0 | 1 if sends => from.arrive(count.min(from.window()), false),
            2 if sends => from.arrive(count.min(from.window()), true),
            3 if sends => from.arrive_end(),
            4 => from.fail(Errno::CONNRESET),
            5 => to.fail(Errno::TIMEDOUT),
            6 => to.acknowledge(count.min(to.unacknowledged())),
            7 => self.last = !to.is_write_shut(),
            8 => to.fail_amid_drain(count, Errno::CONNRESET),
            9 => pair.refuse_splices(amount),
            10 => pair.interrupt(amount),
            _ => {}
        }
        false
    }

    /// Gives the channel all reports of the kernel and pumps it until it waits; returns whether it has
    /// ended.
    fn pump(&mut self, pipes: &mut Pipes) -> bool {
        let (from, to) = {
            let [from, to] = &mut self.pair.borrow_mut().connections;
            (from.report(), to.report())
        };
        self.from.note(from.unwrap_or_default());
        self.to.note(to.unwrap_or_default());
        loop {
            let taken = self.taken();
            let step = self.channel.pump(Ends {
                from: &mut self.from,
                to: &mut self.to,
                pipes,
                share: SHARE,
                last: self.last,
            });
            let moved = self.taken() - taken;
            assert!(moved < (SHARE + PIPE_BYTES_MAX) as u64, "{moved} bytes are more than a share");
            self.check(step, moved);
            match step {
                Step::Again => {}
                Step::Waiting => return false,
                Step::Closed | Step::WriteFailed(_) => return true,
                Step::ReadFailed(_) => {
                    // Like a session, looks for the bytes that the dead connection left behind.
                    assert!(!self.cut, "the read side fails twice");
                    self.cut = true;
                    self.channel.cut();
                    self.from.note(Readiness { readable: true, marked: true, ..Readiness::default() });
                }
            }
        }
    }

    fn taken(&self) -> u64 {
        self.pair.borrow().connections[Side::Requester.index()].taken()
    }

    fn check(&self, step: Step, moved: u64) {
        let [from, to] = &self.pair.borrow().connections;
        let held = to.preface() + from.taken() - to.written();
        let unread = from.arrived() - from.taken();
        assert_eq!(self.channel.delivered(), to.written(), "the delivered bytes are miscounted");
        assert_eq!(self.channel.holds_bytes(), held > 0, "the held bytes are miscounted");
        assert_eq!(self.channel.has_read_eof(), from.end_is_known() || self.channel.is_closed());
        let news = from.is_woken() || to.is_woken();
        match step {
            Step::Again => assert!(moved >= SHARE as u64, "the channel stops before its share is used"),
            Step::Waiting if news => {}
            Step::Waiting if held > 0 => {
                assert!(to.owes_report_of_room(), "{held} bytes are held, although there is room");
            }
            Step::Waiting => {
                assert!(unread == 0 && !from.end_arrived() && !from.is_dead(), "there is more to read");
            }
            Step::Closed => {
                assert_eq!(held, 0, "the channel has closed, but holds bytes");
                assert_eq!(unread, 0, "the channel has closed, but there is more to read");
                if self.cut {
                    assert!(!to.is_write_shut(), "a cut stream ends with a FIN");
                } else {
                    assert!(from.end_is_known() && (self.last || to.is_write_shut()), "EOF is not passed on");
                }
            }
            Step::ReadFailed(errno) => {
                assert!(from.is_dead(), "the socket that the channel reads from has not failed");
                assert_eq!(from.seen().map(|(seen, _)| seen), Some(Seen::ReadError(errno)));
            }
            Step::WriteFailed(errno) => {
                assert!(to.is_dead(), "the socket that the channel writes to has not failed");
                let seen = to.seen().map(|(seen, _)| seen);
                assert!(matches!(seen, Some(Seen::Hidden(_))) || seen == Some(Seen::WriteError(errno)));
            }
        }
    }
}

//! Requests at a fixed rate, whether or not earlier ones were answered.
//!
//! A reply's time runs from the moment at which its request was due. So a relay that stalls is charged
//! with every request that became due meanwhile, not only with those that were sent. A request that stays
//! unanswered counts with the time until the end of the wait for it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::client::{self, Tally};
use crate::stop;
use crate::target::{ASK, REPLY_BYTES, REQUEST_BYTES};
use crate::turns::Turns;

const TIMER: usize = usize::MAX;
/// Longest wait for the last replies of a run.
const PATIENCE: Duration = Duration::from_millis(500);

/// Connections over which requests are sent at a rate.
pub struct Paced {
    turns: Turns,
    /// Time between two requests.
    interval: Duration,
    connections: Vec<Connection>,
    /// Connections on which nothing is under way.
    free: Vec<usize>,
    /// Times at which the requests were due that still wait for a free connection, oldest first.
    overdue: VecDeque<Instant>,
    /// Time that each reply took in this run.
    replies: Vec<Duration>,
    /// Wakes the loop when the next request is due, more precisely than epoll does.
    timer: OwnedFd,
}

struct Connection {
    stream: TcpStream,
    /// A request is under way.
    asked: bool,
    /// Time at which that request was due; `None` if there is none, or an earlier run has counted it.
    due: Option<Instant>,
    /// Bytes of the reply that have come.
    got: usize,
}

impl Paced {
    /// Opens `count` connections, for `rate` requests a second over all of them.
    pub fn connect(address: SocketAddr, count: usize, rate: u32) -> io::Result<Self> {
        let (turns, interval) = (Turns::new()?, Duration::from_secs(1) / rate);
        let mut connections = Vec::new();
        for number in 0..count {
            let mut stream = TcpStream::from_std(client::connect(address)?);
            turns.register(&mut stream, number)?;
            connections.push(Connection { stream, asked: false, due: None, got: 0 });
        }
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        turns.register(&mut SourceFd(&timer.as_raw_fd()), TIMER)?;
        let (free, overdue) = ((0..count).collect(), VecDeque::new());
        Ok(Self { turns, interval, connections, free, overdue, replies: Vec::new(), timer })
    }

    /// Sends the requests that are due within `time`, and waits a little longer for late replies. A connection
    /// that fails is an error.
    pub fn run(&mut self, time: Duration) -> io::Result<Tally> {
        self.wake_every(self.interval)?;
        let start = Instant::now();
        let mut due = start;
        while start.elapsed() < time && !stop::requested() {
            self.serve(time.saturating_sub(start.elapsed()))?;
            while due <= Instant::now() {
                self.ask_or_queue(due)?;
                due += self.interval;
            }
        }
        self.wake_every(Duration::ZERO)?;
        let (took, end) = (start.elapsed(), Instant::now());
        while self.connections.iter().any(|connection| connection.due.is_some()) && end.elapsed() < PATIENCE {
            self.serve(PATIENCE.saturating_sub(end.elapsed()))?;
        }
        // A request that was never sent or answered has waited until now at least.
        let unanswered = self.connections.iter_mut().filter_map(|connection| connection.due.take());
        self.replies.extend(unanswered.chain(self.overdue.drain(..)).map(|due| due.elapsed()));
        Ok(Tally { took, replies: std::mem::take(&mut self.replies), failures: 0 })
    }

    /// Sets the timer to fire at this interval; 0 stops it.
    fn wake_every(&self, interval: Duration) -> io::Result<()> {
        let interval = interval.try_into().map_err(io::Error::other)?;
        let times = Itimerspec { it_interval: interval, it_value: interval };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &times)?;
        Ok(())
    }

    fn serve(&mut self, at_most: Duration) -> io::Result<()> {
        for number in self.turns.next(at_most)? {
            if number == TIMER {
                // The timer does not go on before it is read.
                rustix::io::read(&self.timer, &mut [0; 8])?;
            } else if self.connections[number].asked {
                self.receive(number)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, number: usize) -> io::Result<()> {
        let connection = &mut self.connections[number];
        let mut room = [0; REPLY_BYTES];
        match connection.stream.read(&mut room[connection.got..]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                connection.got += count;
                if connection.got < REPLY_BYTES {
                    self.turns.again(number);
                    return Ok(());
                }
                (connection.asked, connection.got) = (false, 0);
                self.replies.extend(connection.due.take().map(|due| due.elapsed()));
                self.free.push(number);
                match self.overdue.pop_front() {
                    Some(due) => self.ask_or_queue(due),
                    None => Ok(()),
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn ask_or_queue(&mut self, due: Instant) -> io::Result<()> {
        let Some(number) = self.free.pop() else {
            self.overdue.push_back(due);
            return Ok(());
        };
        let connection = &mut self.connections[number];
        (connection.asked, connection.due) = (true, Some(due));
        // The reply to the request before has come, so the send queue is empty and takes all of this one.
        connection.stream.write_all(&[ASK; REQUEST_BYTES])
    }
}

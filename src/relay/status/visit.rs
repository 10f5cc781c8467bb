//! One connection to the status: its request, its answer, its end.

use std::io::{self, ErrorKind, Read as _};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::limits::{STATUS_DISCARDED_BYTES, STATUS_REQUEST_BYTES, STATUS_TIME};
use crate::relay::status::http::{self, Page, Refusal, Request};
use crate::relay::status::ranking::Ranking;
use crate::relay::status::view::View;
use crate::relay::status::{json, metrics, page};
use crate::sys::status::send;
use crate::sys::uninterrupted;

/// A connection to the status.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) socket: Socket,
    pub(super) deadline: Instant,
    /// Whether it may go on: no call has blocked since the kernel's last report.
    pub(super) is_ready: bool,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The request, as far as it has arrived.
    Reading(Vec<u8>),
    /// The request, and the search for the sessions of its answer.
    Ranking(Request, Ranking),
    /// The answer, and the number of its bytes that are sent.
    Writing(Vec<u8>, usize),
    /// The answer and a FIN are sent. A close with bytes unread would reset the connection, and the answer might
    /// be lost. So the visit reads and drops up to this number of bytes.
    Closing(usize),
}

/// The next step of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Again,
    Wait,
    Done,
}

impl Visit {
    pub(super) fn new(socket: Socket, now: Instant) -> Self {
        let phase = Phase::Reading(Vec::with_capacity(STATUS_REQUEST_BYTES));
        Self { socket, deadline: now + STATUS_TIME, is_ready: true, phase }
    }

    /// Does a bounded part of the work. Returns whether the visit is over. It ranks sessions and composes an
    /// answer only if `may_answer`, which then becomes false, because a turn has time for one visit's.
    pub(super) fn go_on(&mut self, view: &View<'_>, may_answer: &mut bool) -> bool {
        let step = match &mut self.phase {
            Phase::Reading(bytes) => match read(&mut self.socket, bytes) {
                Ok(Some(request)) => {
                    self.phase = begin(request, bytes.starts_with(b"HEAD "));
                    Step::Again
                }
                Ok(None) => Step::Again,
                Err(error) => stop(&error),
            },
            Phase::Ranking(..) if !*may_answer => Step::Again,
            Phase::Ranking(request, ranking) => {
                *may_answer = false;
                if request.page == Page::Metrics || ranking.look(view.pool, view.config.sessions(), view.now)
                {
                    self.phase = Phase::Writing(answer(*request, ranking, view), 0);
                }
                Step::Again
            }
            Phase::Writing(answer, sent) => match uninterrupted(|| send(&self.socket, &answer[*sent..])) {
                Ok(count) => {
                    *sent += count;
                    if *sent == answer.len() {
                        let _ = self.socket.shutdown(std::net::Shutdown::Write);
                        self.phase = Phase::Closing(STATUS_DISCARDED_BYTES);
                    }
                    Step::Again
                }
                Err(error) => stop(&error),
            },
            Phase::Closing(most) => {
                match uninterrupted(|| self.socket.read(&mut [0; STATUS_REQUEST_BYTES])) {
                    Ok(count) if count > 0 && count < *most => {
                        *most -= count;
                        Step::Again
                    }
                    Ok(_) => Step::Done,
                    Err(error) => stop(&error),
                }
            }
        };
        self.is_ready = step == Step::Again;
        step == Step::Done
    }

    /// Makes the close a reset, because the visit is cut short.
    pub(super) fn give_up(&self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }
}

fn stop(error: &io::Error) -> Step {
    if error.kind() == ErrorKind::WouldBlock { Step::Wait } else { Step::Done }
}

/// Reads more of a request, and returns it or its refusal once it is complete.
fn read(socket: &mut Socket, request: &mut Vec<u8>) -> io::Result<Option<Result<Request, Refusal>>> {
    let mut bytes = [0; STATUS_REQUEST_BYTES];
    let room = STATUS_REQUEST_BYTES - request.len();
    match uninterrupted(|| socket.read(&mut bytes[..room]))? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        count => {
            request.extend_from_slice(&bytes[..count]);
            Ok(http::read(request))
        }
    }
}

fn begin(request: Result<Request, Refusal>, is_head: bool) -> Phase {
    match request {
        Ok(request) => Phase::Ranking(request, Ranking::new(request.order)),
        Err(refusal) => {
            let (status, reason) = refusal.words();
            Phase::Writing(http::answer(status, "text/plain", &format!("{reason}\n"), is_head), 0)
        }
    }
}

#[cold]
fn answer(request: Request, ranking: &Ranking, view: &View<'_>) -> Vec<u8> {
    let (kind, body) = match request.page {
        Page::Metrics => ("text/plain; version=0.0.4", metrics::write(view)),
        Page::Overview => {
            ("text/html", page::write(view, &ranking.sessions(view.pool, view.now), request.order))
        }
        Page::Json => ("application/json", json::write(view, &ranking.sessions(view.pool, view.now))),
    };
    http::answer("200 OK", kind, &body, request.is_head)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::time::SystemTime;

    use super::*;
    use crate::config::Config;
    use crate::pool::{Pool, Settings};
    use crate::relay::status::rates::Rates;
    use crate::relay::status::view::Facts;
    use crate::session::turn::Timeouts;
    use crate::sys::status::Process;

    /// Calls `call` with a view of a relay that has no session.
    fn with_view(call: impl FnOnce(&View<'_>)) {
        let now = Instant::now();
        let listen = "127.0.0.1:8080".parse().unwrap();
        let config = Config::new(listen, ([192, 0, 2, 7], 80)).unwrap();
        let timeouts = Timeouts { connect: STATUS_TIME, idle: STATUS_TIME };
        let settings = Settings { sessions: 1, buf: 100, timeouts, max_per_source: None, pipe_bytes: 0 };
        let pool = Pool::new(settings, now);
        let (started, rates, process) = (SystemTime::UNIX_EPOCH, Rates::new(), Process::open());
        let facts = Facts { started, started_at: now, rates, process };
        let (config, pool, facts) = (&config, &pool, &facts);
        call(&View {
            config,
            listen,
            pool,
            targets: &[],
            lookups: None,
            now,
            lines_dropped: 0,
            is_draining: false,
            facts,
        });
    }

    #[test]
    fn an_answer_goes_in_as_many_writes_as_the_socket_takes() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        reader.set_nonblocking(true).unwrap();
        let socket = Socket::from(std::os::fd::OwnedFd::from(writer));
        socket.set_send_buffer_size(4096).unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        with_view(|view| {
            let mut visit = Visit::new(socket, view.now);
            visit.phase = Phase::Writing(bytes.clone(), 0);
            let (mut read, mut waits) = (Vec::new(), 0);
            while matches!(visit.phase, Phase::Writing(..)) {
                assert!(!visit.go_on(view, &mut true));
                if !visit.is_ready {
                    waits += 1;
                    let _ = reader.read_to_end(&mut read);
                }
            }
            reader.read_to_end(&mut read).unwrap();
            assert!(read == bytes && waits > 1, "{} bytes, {waits} waits", read.len());
            // The visit lasts until the scraper closes, and drops the bytes that still arrive. A close with
            // bytes unread would be a reset, which could overtake the answer.
            reader.write_all(&[0; 3 * STATUS_REQUEST_BYTES]).unwrap();
            for _ in 0..3 {
                assert!(!visit.go_on(view, &mut true) && visit.is_ready);
            }
            assert!(!visit.go_on(view, &mut true) && !visit.is_ready);
            drop(reader);
            assert!(visit.go_on(view, &mut true));
        });
    }

    #[test]
    fn a_turn_composes_one_answer() {
        let (mut scraper, socket) = UnixStream::pair().unwrap();
        scraper.write_all(b"GET /metrics HTTP/1.0\n\n").unwrap();
        with_view(|view| {
            let mut visit = Visit::new(Socket::from(std::os::fd::OwnedFd::from(socket)), view.now);
            let mut may_answer = false;
            for _ in 0..3 {
                assert!(!visit.go_on(view, &mut may_answer) && visit.is_ready);
            }
            assert!(matches!(visit.phase, Phase::Ranking(..)));
            may_answer = true;
            assert!(!visit.go_on(view, &mut may_answer) && !may_answer);
            assert!(matches!(visit.phase, Phase::Writing(..)));
        });
    }
}

//! One connection that asks for the status: its request, its answer, its end.

use std::io::{self, ErrorKind, Read as _};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::limits::{STATUS_DISCARDED_BYTES, STATUS_REQUEST_BYTES, STATUS_TIME};
use crate::relay::status::http::{self, Page, Refusal, Request};
use crate::relay::status::ranking::Ranking;
use crate::relay::status::view::View;
use crate::relay::status::{json, metrics, page};
use crate::sys::net::send;
use crate::sys::uninterrupted;

/// A connection that asks for the status.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) socket: Socket,
    pub(super) deadline: Instant,
    /// It may be able to go on: the kernel has reported something that it has not met yet.
    pub(super) is_ready: bool,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The request comes.
    Reading(Vec<u8>),
    /// The sessions of the answer are looked for.
    Ranking(Request, Ranking),
    /// The answer goes, from this byte on.
    Writing(Vec<u8>, usize),
    /// The answer is out, and our FIN. Closing with bytes unread would reset the connection, and the answer
    /// might be lost: so many more bytes are read and dropped.
    Closing(usize),
}

/// How a step has left a visit.
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

    /// Does a bounded part of the work. Returns whether the connection is to be closed. An answer is written
    /// only if `may_answer`, which then becomes false: a turn has time for one.
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

    /// Resets the connection when it closes: its answer is cut.
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

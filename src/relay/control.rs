//! Requests from outside the loop: stop, drain, report, look up, and questions.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Instant;
use std::{fmt, mem};

use mio::net::{TcpStream, UnixStream};

use crate::pool::Pool;
use crate::pool::totals::Totals;
use crate::session::ended::Live;

/// A question, which the relay answers in its next turn.
pub(crate) type Question = Box<dyn FnOnce(&Pool<TcpStream>, Instant) + Send>;

/// The requests to a running relay. Requests of one kind count as one until the relay takes them.
#[derive(Clone, Default)]
pub(super) struct Requests {
    pub(super) stop: Arc<AtomicBool>,
    pub(super) drain: Arc<AtomicBool>,
    pub(super) report: Arc<AtomicBool>,
    pub(super) look_up: Arc<AtomicBool>,
    ask: Arc<AtomicBool>,
    /// The questions that wait for an answer; `None`: the relay has ended.
    questions: Arc<Mutex<Option<Vec<Question>>>>,
    /// The totals of a relay that has ended.
    final_totals: Arc<OnceLock<Totals>>,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl Requests {
    // Under the lock, questions are only moved. So a panic leaves them whole, and the poison is ignored.
    fn questions(&self) -> MutexGuard<'_, Option<Vec<Question>>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn swap_questions(&self, others: Option<Vec<Question>>) -> Option<Vec<Question>> {
        mem::replace(&mut *self.questions(), others)
    }
}

/// Makes requests of a running relay, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: Requests,
    wake: Arc<StdUnixStream>,
}

impl Handle {
    /// Ends the relay at once. Its sessions are cut without a message for each; their bytes are in the totals.
    pub fn stop(&self) {
        self.ask(&self.requests.stop);
    }

    /// Drains the relay: it accepts no more, and ends after its last session. A drain during a drain stops it.
    pub fn drain(&self) {
        self.ask(&self.requests.drain);
    }

    /// Reports to the sink: the totals (message 108), each target if there are several addresses (135), and each
    /// live session (109).
    pub fn report(&self) {
        self.ask(&self.requests.report);
    }

    /// Looks up the names of the targets at once. Does nothing if no target is a name.
    pub fn look_up(&self) {
        self.ask(&self.requests.look_up);
    }

    /// Returns the counts since the start. Those of a relay that has ended are final. `None`: the relay was
    /// dropped before its end.
    ///
    /// Blocks until the relay's next turn, even if that is the first one. In the thread that runs the relay it
    /// would block for ever; call [`Relay::totals`](crate::Relay::totals) there.
    #[must_use]
    pub fn totals(&self) -> Option<Totals> {
        let answer = self.answer(|pool, _| pool.counts.totals());
        answer.or_else(|| self.requests.final_totals.get().copied())
    }

    /// Returns the live sessions; `None`: the relay has ended. Blocks as [`totals`](Self::totals) does.
    #[must_use]
    pub fn sessions(&self) -> Option<Vec<Live>> {
        self.answer(live_sessions)
    }

    fn answer<A: Send + 'static>(
        &self,
        question: impl FnOnce(&Pool<TcpStream>, Instant) -> A + Send + 'static,
    ) -> Option<A> {
        let (sender, answer) = mpsc::sync_channel(1);
        let question: Question = Box::new(move |pool, now| {
            let _ = sender.send(question(pool, now));
        });
        self.requests.questions().as_mut()?.push(question);
        self.ask(&self.requests.ask);
        // A relay that ends drops the question, and the sender with it.
        answer.recv().ok()
    }

    fn ask(&self, request: &AtomicBool) {
        request.store(true, Ordering::SeqCst);
        // A full socket wakes the relay as well as one more byte would.
        let _ = (&*self.wake).write(&[0]);
    }
}

/// The relay's end of its handles: the requests, and a socket that becomes readable with each of them.
#[derive(Debug)]
pub(crate) struct Control {
    pub(super) requests: Requests,
    woken: UnixStream,
    pub(super) wake: Arc<StdUnixStream>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.close();
    }
}

impl Control {
    pub(crate) fn new() -> io::Result<Self> {
        let (wake, woken) = StdUnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let requests = Requests { questions: Arc::new(Mutex::new(Some(Vec::new()))), ..Requests::default() };
        Ok(Self { requests, woken: UnixStream::from_std(woken), wake: Arc::new(wake) })
    }

    /// Publishes the final totals, and answers no more questions.
    pub(crate) fn end(&self, totals: Totals) {
        // First, so that a handle whose question is dropped finds them.
        let _ = self.requests.final_totals.set(totals);
        self.close();
    }

    /// Answers no more questions. The handles that wait for an answer return without one.
    fn close(&self) {
        self.requests.swap_questions(None);
    }

    /// Returns the socket to register with the poll instance.
    pub(crate) fn socket(&mut self) -> &mut UnixStream {
        &mut self.woken
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle { requests: self.requests.clone(), wake: Arc::clone(&self.wake) }
    }

    /// Empties the socket, so that the next request wakes the loop again.
    pub(crate) fn acknowledge(&mut self) {
        let mut bytes = [0; 64];
        while matches!(self.woken.read(&mut bytes), Ok(count) if count > 0) {}
    }

    pub(crate) fn take_stop(&self) -> bool {
        take(&self.requests.stop)
    }

    pub(crate) fn take_drain(&self) -> bool {
        take(&self.requests.drain)
    }

    pub(crate) fn take_report(&self) -> bool {
        take(&self.requests.report)
    }

    pub(crate) fn take_look_up(&self) -> bool {
        take(&self.requests.look_up)
    }

    /// Takes the request to answer questions. Returns whether there was one.
    pub(crate) fn take_ask(&self) -> bool {
        take(&self.requests.ask)
    }

    /// Answers the questions that wait.
    #[cold]
    pub(crate) fn answer(&self, pool: &Pool<TcpStream>, now: Instant) {
        for question in self.requests.swap_questions(Some(Vec::new())).into_iter().flatten() {
            question(pool, now);
        }
    }
}

/// Takes a request. Returns whether there was one. Most turns find none, and a load costs less than a swap.
fn take(request: &AtomicBool) -> bool {
    request.load(Ordering::Acquire) && request.swap(false, Ordering::SeqCst)
}

/// Returns the live sessions of a pool.
pub(crate) fn live_sessions(pool: &Pool<TcpStream>, now: Instant) -> Vec<Live> {
    pool.slots().iter_from(0).map(|(_, session)| session.live(now)).collect()
}

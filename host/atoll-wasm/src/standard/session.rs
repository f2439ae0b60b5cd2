//! Several requests of `wasi:http` 0.3 in one instance at a time.
//!
//! A session begins with a request in an instance that had none, is joined by others while the guest waits
//! for something, and ends when the instance has none again. Nobody joins one that computes, that has as many
//! as it may, or in which anything went wrong. Its task runs the instance's event loop, and looks at each
//! request's time from outside of it: while a guest computes, the loop looks at nothing.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::component::GuestTaskId;
use wasmtime_wasi_http::WasiBody;

use super::body::RequestBody;
use super::exchange::{self, Answer};
use super::progress::Progress;
use crate::error::CallError;
use crate::host::Host;
use crate::limits::Limits;
use crate::ticker::CallGuard;

mod drive;

pub(crate) use drive::Start;

/// An instance that works on requests.
pub(crate) struct Session<H: Host> {
    state: Mutex<State<H>>,
    /// Of the event loop.
    waker: AtomicWaker,
    /// Whether the guest waits for something: no code of it has run since its loop looked last.
    is_quiet: Arc<AtomicBool>,
}

struct State<H: Host> {
    /// Those that the guest was not told of yet.
    queue: VecDeque<Box<Job<H>>>,
    running: Vec<Running<H>>,
    at_once_max: u32,
    /// Requests that it may still take in.
    left: u32,
    /// Requests that its guest was told of.
    begun: u32,
    is_open: bool,
    has_failed: bool,
    /// Whether the guest waits, and nobody has joined since.
    has_room: bool,
}

/// A request that the guest was told of, and that is not over.
struct Running<H: Host> {
    exchange: Arc<Exchange<H>>,
    /// None until its instance was made.
    task: Option<GuestTaskId>,
    /// Completes when nothing of it moves.
    stalled: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A request on its way to a session.
pub(crate) struct Job<H: Host> {
    request: Request<WasiBody>,
    host: H,
    exchange: Arc<Exchange<H>>,
}

/// What becomes of a job.
pub(crate) enum Reply<H: Host> {
    Answer(Answer),
    /// The guest was not told of it, and its session takes nobody in any more.
    Back(Box<Job<H>>),
}

/// One request: what whoever sent it, its session and its guest share.
pub(crate) struct Exchange<H: Host> {
    progress: Arc<Progress>,
    limits: Limits,
    reply: Mutex<Option<oneshot::Sender<Reply<H>>>>,
    end: Mutex<Option<End>>,
    /// Why it has failed, if it has.
    failure: Mutex<Option<CallError>>,
    /// Other requests that its instance was told of, until it failed.
    company: AtomicU32,
}

/// Who is told how a request went.
type Ended = Box<dyn FnOnce(Result<(), &CallError>) + Send>;

/// What is done when it is over.
struct End {
    ended: Ended,
    /// Takes the request's body back.
    take_back: Box<dyn FnOnce() + Send>,
    running: Arc<CallGuard>,
}

impl<H: Host> Job<H> {
    /// `ended` is told once how it went, unless whoever waits for the answer gives up before.
    pub(crate) fn new<B>(
        request: Request<B>,
        host: H,
        (limits, running): (Limits, CallGuard),
        ended: impl FnOnce(Result<(), &CallError>) + Send + 'static,
    ) -> Box<Job<H>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let progress = Arc::new(Progress::new(request.method()));
        let (head, body) = request.into_parts();
        let (body, lent) = RequestBody::new(body, Arc::clone(&progress));
        let end = End {
            ended: Box::new(ended),
            take_back: Box::new(move || lent.take_back()),
            running: Arc::new(running),
        };
        let exchange = Arc::new(Exchange {
            progress,
            limits,
            reply: Mutex::default(),
            end: Mutex::new(Some(end)),
            failure: Mutex::default(),
            company: AtomicU32::new(0),
        });
        Box::new(Job { request: Request::from_parts(head, body.boxed_unsync()), host, exchange })
    }

    /// Whom to ask about it afterwards.
    pub(crate) fn exchange(&self) -> Arc<Exchange<H>> {
        Arc::clone(&self.exchange)
    }

    /// Where the next reply comes.
    pub(crate) fn replies(&self) -> oneshot::Receiver<Reply<H>> {
        let (sender, receiver) = oneshot::channel();
        *lock(&self.exchange.reply) = Some(sender);
        receiver
    }

    /// Gives a new instance its host.
    pub(crate) fn host(&self) -> H {
        self.host.clone()
    }

    fn give_back(self: Box<Self>) {
        let exchange = Arc::clone(&self.exchange);
        exchange.tell(Reply::Back(self));
    }
}

impl<H: Host> Exchange<H> {
    /// Returns how many other requests its instance was told of, where it failed.
    pub(crate) fn company(&self) -> u32 {
        self.company.load(Ordering::Relaxed)
    }

    fn failure(&self) -> Option<CallError> {
        lock(&self.failure).clone()
    }

    /// Passes the answer on if it can go out. Returns whether it did.
    fn answer(&self, answer: Result<Response<WasiBody>, impl fmt::Debug>) -> bool {
        let answer = exchange::checked(answer, &self.limits, &self.progress);
        let Ok(answer) = answer else { return false };
        self.tell(Reply::Answer(Ok(answer)));
        true
    }

    /// Tells whoever waits for the answer, once. One that has gone needs nothing.
    fn tell(&self, reply: Reply<H>) {
        if let Some(sender) = lock(&self.reply).take() {
            drop(sender.send(reply));
        }
    }

    /// It is over. Returns how it ended, unless it was over before.
    fn settle(&self, outcome: Result<(), CallError>) -> Option<Result<(), CallError>> {
        let End { ended, take_back, running } = lock(&self.end).take()?;
        let outcome = self.progress.refusal().map_or(outcome, Err);
        if outcome.is_err() {
            self.progress.fail();
        }
        take_back();
        drop(running);
        ended(outcome.as_ref().copied());
        if let Err(error) = &outcome {
            *lock(&self.failure) = Some(error.clone());
            self.tell(Reply::Answer(Err(error.clone())));
        }
        Some(outcome)
    }

    /// Whoever waited for the answer has gone. Returns whether that is so.
    fn is_given_up(&self, context: &mut Context<'_>) -> bool {
        let mut reply = lock(&self.reply);
        reply.as_mut().is_some_and(|reply| reply.poll_closed(context).is_ready())
    }

    fn give_up(&self) {
        if let Some(End { take_back, .. }) = lock(&self.end).take() {
            take_back();
        }
        self.progress.fail();
    }

    fn is_over(&self) -> bool {
        lock(&self.end).is_none()
    }
}

impl<H: Host> Session<H> {
    /// One that nobody can join yet.
    fn new(at_once_max: u32, left: u32) -> Arc<Session<H>> {
        let state = State {
            queue: VecDeque::new(),
            running: Vec::new(),
            at_once_max,
            left,
            begun: 0,
            is_open: true,
            has_failed: false,
            has_room: false,
        };
        Arc::new(Session {
            state: Mutex::new(state),
            waker: AtomicWaker::new(),
            is_quiet: Arc::default(),
        })
    }

    /// Takes the job if there is room for it. Returns whether it did.
    pub(crate) fn join(&self, job: &mut Option<Box<Job<H>>>) -> bool {
        let mut state = self.state();
        let count = state.running.len() + state.queue.len();
        let is_full = count >= state.at_once_max as usize || state.left == 0;
        if !state.is_open || !state.has_room || is_full {
            return false;
        }
        let Some(job) = job.take() else { return false };
        state.left -= 1;
        // It computes first, most likely: the next one does not wait for that.
        state.has_room = false;
        state.queue.push_back(job);
        drop(state);
        self.waker.wake();
        true
    }

    /// Something went wrong in it: nobody may join any more, and those who wait go elsewhere.
    fn fail(&self) {
        self.state().has_failed = true;
        self.close();
    }

    fn close(&self) {
        self.state().is_open = false;
        self.give_back_queue();
    }

    /// Those who wait go elsewhere: the guest computes, or wants nobody now.
    fn give_back_queue(&self) {
        let waiting = std::mem::take(&mut self.state().queue);
        if waiting.is_empty() {
            return;
        }
        self.state().left += u32::try_from(waiting.len()).unwrap_or_default();
        waiting.into_iter().for_each(Job::give_back);
    }

    /// Nobody may join any more, if it has no request. Returns whether that is so.
    fn close_if_idle(&self) -> bool {
        let mut state = self.state();
        let is_idle = state.queue.is_empty() && state.running.is_empty();
        state.is_open &= !is_idle;
        is_idle
    }

    fn next_job(&self) -> Option<Box<Job<H>>> {
        self.state().queue.pop_front()
    }

    /// The guest is about to be told of a request.
    fn begin(&self, exchange: &Arc<Exchange<H>>) {
        let (progress, wall_ms) = (Arc::clone(&exchange.progress), exchange.limits.wall_ms);
        let wall = Duration::from_millis(wall_ms.into());
        let stalled = Box::pin(async move { progress.stalled(wall).await });
        let mut state = self.state();
        state.begun += 1;
        state.running.push(Running { exchange: Arc::clone(exchange), task: None, stalled });
    }

    /// The guest was told, and works on it in this task.
    fn note_task(&self, exchange: &Arc<Exchange<H>>, task: GuestTaskId) {
        let mut state = self.state();
        let same = |running: &&mut Running<H>| Arc::ptr_eq(&running.exchange, exchange);
        if let Some(running) = state.running.iter_mut().find(same) {
            running.task = Some(task);
        }
    }

    /// Forgets requests that are over. Returns whether there are others.
    fn has_running(&self) -> bool {
        let mut state = self.state();
        state.running.retain(|running| !running.exchange.is_over());
        !state.running.is_empty()
    }

    /// The guest has ended all that it has begun.
    fn note_returns(&self) {
        for Running { exchange, .. } in &self.state().running {
            if exchange.progress.is_answered() {
                exchange.progress.note_return();
            }
        }
    }

    /// Looks which requests are over, and which stand still or have lost whoever sent them.
    ///
    /// Returns the latter two, to be ended outside of the lock.
    fn look(&self, context: &mut Context<'_>) -> Vec<(Arc<Exchange<H>>, Lapse)> {
        let mut lapsed = Vec::new();
        let mut state = self.state();
        state.running.retain_mut(|running| {
            let Running { exchange, stalled, .. } = running;
            if exchange.is_over() {
                return false;
            }
            let lapse = if exchange.is_given_up(context) {
                Lapse::GivenUp
            } else if stalled.as_mut().poll(context).is_ready() {
                Lapse::Stalled
            } else {
                return true;
            };
            lapsed.push((Arc::clone(exchange), lapse));
            false
        });
        lapsed
    }

    fn state(&self) -> MutexGuard<'_, State<H>> {
        lock(&self.state)
    }
}

/// Why a request is over that the guest goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lapse {
    Stalled,
    GivenUp,
}

/// Lists and handles are in there: whoever panicked has left whole ones.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

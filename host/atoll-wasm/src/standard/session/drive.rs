//! The task of a session: its instance's event loop, and what is looked at from outside of that.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Sleep, sleep};
use tokio_util::task::TaskTracker;
use wasmtime::component::{Accessor, GuestTaskId, Resource, TypedFuncCallConcurrent};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{Request, Response};

use super::{Exchange, Job, Lapse, Reply, Running, Session, lock};
use crate::error::CallError;
use crate::host::Host;
use crate::instance::{self, Exports, Guest, Instance};
use crate::reuse::Pool;
use crate::standard::service::Sent;
use crate::standard::{Callee, exchange};

/// What a session begins with.
pub(crate) struct Start<H: Host> {
    /// Where its task is counted.
    pub(crate) calls: TaskTracker,
    pub(crate) callee: Callee<H>,
    /// Its host is that of the first request.
    pub(crate) instance: Instance<H>,
    /// Where others find it, and where the instance goes afterwards.
    pub(crate) pool: Arc<Pool<H>>,
}

/// How a session ended.
enum Ended {
    /// The guest has done all that it was told of.
    Idle,
    /// The guest has failed, and its instance with it.
    Failed(wasmtime::Error),
    /// Nobody waits for it any more, and it does not end by itself.
    GivenUp,
}

/// How the guest has worked on one request.
struct Done<H: Host> {
    exchange: Arc<Exchange<H>>,
    task: Option<GuestTaskId>,
    end: wasmtime::Result<()>,
}

/// A session at work.
struct Work<H: Host> {
    session: Arc<Session<H>>,
    pool: Arc<Pool<H>>,
    /// Requests that the instance had answered before.
    served: u32,
}

impl<H: Host> Start<H> {
    /// Begins a session with its first request, and waits for what becomes of that. It runs where its
    /// caller waits until its guest waits for something, and goes on in a task of its own if it is not
    /// over by then.
    ///
    /// Returns nothing if its task has ended without a reply.
    pub(crate) async fn with(self, first: Box<Job<H>>) -> Option<Reply<H>> {
        let Start { calls, callee, instance, pool } = self;
        let (exchange, mut replies) = (first.exchange(), first.replies());
        let served = instance.served;
        let left = pool.requests_left(served).saturating_sub(1);
        let session = Session::new(pool.at_once(), left);
        let _counted = calls.token();
        let mut work: Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(Work { session, pool, served }.run(callee, instance, first));
        let mut ended = poll_fn(|context| Poll::Ready(ready(work.as_mut().poll(context)))).await;
        let mut reply = replies.try_recv();
        if let Ok(Reply::Answer(Ok(answer))) = &mut reply {
            exchange::gather(answer.body_mut(), &mut work, &mut ended).await;
        }
        if ended.is_none() {
            drop(calls.spawn(work));
        }
        match reply {
            // It has failed before anything of its answer was sent.
            Ok(Reply::Answer(Ok(answer))) => {
                let failure = exchange.failure().filter(|_| ended.is_some());
                Some(Reply::Answer(failure.map_or(Ok(answer), Err)))
            }
            Ok(reply) => Some(reply),
            Err(_) => replies.await.ok(),
        }
    }
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl<H: Host> Work<H> {
    async fn run(self, callee: Callee<H>, mut instance: Instance<H>, first: Box<Job<H>>) {
        // For as long as the instance lives, whatever becomes of its first request.
        let place = lock(&first.exchange.end).as_ref().map(|end| Arc::clone(&end.running));
        let limits = first.exchange.limits;
        let wall = Duration::from_millis(limits.wall_ms.into());
        instance.store.call_hook(instance::hook);
        let guest = instance.store.data_mut();
        guest.begin_sharing(&limits, Arc::clone(&self.session.is_quiet));
        let meter = guest.meter.clone();
        self.session.begin(&first.exchange);
        self.pool.open(&self.session);
        let ended = {
            let mut inside = meter.turns(self.inside(&callee, &mut instance, first));
            let mut after = None;
            poll_fn(|context| self.poll_outside(Pin::new(&mut inside), wall, &mut after, context))
                .await
        };
        self.close();
        match ended {
            Ended::Failed(error) => self.end_all(instance, &error),
            Ended::Idle if !self.session.state().has_failed => {
                instance.store.data_mut().end_sharing();
                // The pool counts the last one.
                instance.served += self.session.state().begun - 1;
                self.pool.put(instance);
            }
            Ended::Idle | Ended::GivenUp => drop(instance),
        }
        drop(place);
    }

    fn close(&self) {
        self.pool.close(&self.session);
        self.session.close();
    }

    /// Lets the guest run, then looks whose time is over.
    fn poll_outside(
        &self,
        inside: Pin<&mut impl Future<Output = wasmtime::Result<()>>>,
        wall: Duration,
        after: &mut Option<Pin<Box<Sleep>>>,
        context: &mut Context<'_>,
    ) -> Poll<Ended> {
        let session = &self.session;
        session.state().has_room = false;
        match inside.poll(context) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ended::Idle),
            Poll::Ready(Err(error)) => return Poll::Ready(Ended::Failed(error)),
            Poll::Pending => {}
        }
        if session.is_quiet.load(Ordering::Relaxed) {
            session.state().has_room = true;
        } else {
            session.give_back_queue();
        }
        for (exchange, lapse) in session.look(context) {
            session.fail();
            self.end_lapsed(&exchange, lapse);
        }
        let (is_without, has_failed) = {
            let state = session.state();
            (state.running.is_empty() && state.queue.is_empty(), state.has_failed)
        };
        if !is_without {
            *after = None;
            return Poll::Pending;
        }
        // What it still does was asked for by nobody who waits.
        let after = after.get_or_insert_with(|| Box::pin(sleep(wall)));
        if has_failed || after.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ended::GivenUp);
        }
        Poll::Pending
    }

    /// The guest goes on with a request that is over.
    fn end_lapsed(&self, exchange: &Arc<Exchange<H>>, lapse: Lapse) {
        let wall_ms = exchange.limits.wall_ms;
        let progress = &exchange.progress;
        match lapse {
            Lapse::GivenUp => exchange.give_up(),
            // Its client is slow, or the guest has kept its end of the body.
            Lapse::Stalled if progress.has_returned() => {
                progress.fail();
                exchange.settle(Ok(()));
            }
            // While others are under way nobody knows whether the guest or the client is slow.
            Lapse::Stalled if progress.is_answered() => {
                exchange.settle(Err(CallError::WallLimit { wall_ms }));
            }
            Lapse::Stalled => self.settle(exchange, Err(CallError::WallLimit { wall_ms })),
        }
    }

    /// The instance has failed: one request is why, and all are over.
    fn end_all(&self, mut instance: Instance<H>, error: &wasmtime::Error) {
        let running = std::mem::take(&mut self.session.state().running);
        let guest = instance.store.data_mut();
        let culprit = guest.current();
        let outcome = |Running { exchange, task, .. }: Running<H>| {
            task.into_iter().for_each(|task| guest.end_call(task));
            let error = match task == culprit {
                true => instance::explain(error, guest, &exchange.limits),
                false => CallError::InstanceLost,
            };
            // Before the guest goes, whose end would look like that of the answer.
            exchange.progress.fail();
            (exchange, error)
        };
        let outcomes: Vec<_> = running.into_iter().map(outcome).collect();
        drop(instance);
        for (exchange, error) in outcomes {
            self.settle(&exchange, Err(error));
        }
    }

    /// A request is over.
    fn settle(&self, exchange: &Arc<Exchange<H>>, outcome: Result<(), CallError>) {
        let company = self.served + self.session.state().begun.saturating_sub(1);
        exchange.company.store(company, Ordering::Relaxed);
        let Some(outcome) = exchange.settle(outcome) else { return };
        self.pool.note(company, outcome.as_ref().copied());
        if outcome.is_err() || exchange.progress.has_failed() {
            self.session.fail();
        }
    }

    /// Makes the instance unless it is there, and works on requests until there is none.
    async fn inside(
        &self,
        callee: &Callee<H>,
        instance: &mut Instance<H>,
        first: Box<Job<H>>,
    ) -> wasmtime::Result<()> {
        let Instance { store, exports, .. } = instance;
        let exports = match exports {
            Some(exports) => exports,
            missing => missing.insert(callee.instantiate(store).await?),
        };
        let Exports::Service(service) = exports else {
            return Err(wasmtime::Error::msg("an instance of another world"));
        };
        let work = async |accessor: &Accessor<Guest<H>>| {
            let mut running = FuturesUnordered::new();
            running.push(self.start(accessor, service, *first));
            poll_fn(|context| {
                while let Poll::Ready(Some(done)) = running.poll_next_unpin(context) {
                    self.finish(accessor, done);
                }
                while let Some(job) = self.next_job(accessor, service, context) {
                    self.session.begin(&job.exchange);
                    running.push(self.start(accessor, service, *job));
                    // Wakes this future when it has to go on.
                    while let Poll::Ready(Some(done)) = running.poll_next_unpin(context) {
                        self.finish(accessor, done);
                    }
                }
                let has_ended = accessor.poll_no_interesting_tasks(context).is_ready();
                if self.session.has_running() {
                    if has_ended {
                        self.session.note_returns();
                    }
                    return Poll::Pending;
                }
                match has_ended && self.session.close_if_idle() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        };
        store.run_concurrent(work).await
    }

    /// The next request that has joined, if the guest takes one.
    fn next_job(
        &self,
        accessor: &Accessor<Guest<H>>,
        service: &Service,
        context: &mut Context<'_>,
    ) -> Option<Box<Job<H>>> {
        self.session.waker.register(context.waker());
        let handle = *service.wasi_http_handler().func_handle().func();
        if accessor.poll_ready_for_concurrent_call(handle, context).is_pending() {
            self.session.is_quiet.store(false, Ordering::Relaxed);
            self.session.give_back_queue();
            return None;
        }
        self.session.is_quiet.store(true, Ordering::Relaxed);
        self.session.next_job()
    }

    /// Tells the guest of a request; what is returned completes when its answer has come to its end.
    fn start<'a>(
        &'a self,
        accessor: &'a Accessor<Guest<H>>,
        service: &'a Service,
        job: Job<H>,
    ) -> Pin<Box<dyn Future<Output = Done<H>> + Send + 'a>> {
        let Job { request, host, exchange } = job;
        let started = accessor.with(|mut store| {
            let http = store.get().http();
            let (request, sent) = Request::from_http(http.hooks, request);
            let request = http.table.push(request)?;
            let handle = service.wasi_http_handler().func_handle();
            let call = handle.start_call_concurrent(&mut store, (request,))?;
            store.get().add_call(call.task(), host, &exchange.limits);
            self.session.note_task(&exchange, call.task());
            wasmtime::error::Ok((call, Box::pin(sent) as Sent))
        });
        Box::pin(async move {
            let task = started.as_ref().ok().map(|(call, _)| call.task());
            let end = match started {
                Ok((call, sent)) => work_on(accessor, service, (call, sent), &exchange).await,
                Err(error) => Err(error),
            };
            Done { exchange, task, end }
        })
    }

    /// The guest has answered a request, and all of it was taken.
    fn finish(&self, accessor: &Accessor<Guest<H>>, Done { exchange, task, end }: Done<H>) {
        let outcome = accessor.with(|mut store| {
            let guest = store.get();
            task.into_iter().for_each(|task| guest.end_call(task));
            end.map_err(|error| instance::explain(&error, guest, &exchange.limits))
        });
        self.settle(&exchange, outcome);
    }
}

impl<H: Host> Drop for Work<H> {
    /// Nobody is left waiting, even where the task was dropped in the middle.
    fn drop(&mut self) {
        self.close();
        let running = std::mem::take(&mut self.session.state().running);
        for Running { exchange, .. } in running {
            exchange.progress.fail();
            exchange.settle(Err(CallError::InstanceLost));
        }
    }
}

/// A call of a handler's function that has begun.
type Begun<H> = TypedFuncCallConcurrent<
    Guest<H>,
    (Resource<Request>,),
    (Result<Resource<Response>, ErrorCode>,),
>;

/// Passes the guest's answer on, and waits until all of it was taken.
async fn work_on<H: Host>(
    accessor: &Accessor<Guest<H>>,
    service: &Service,
    (call, sent): (Begun<H>, Sent),
    exchange: &Exchange<H>,
) -> wasmtime::Result<()> {
    let handle = service.wasi_http_handler().func_handle();
    let (answer,) = handle.finish_call_concurrent(accessor, call).await?;
    let answer = match answer {
        Ok(response) => Ok(accessor.with(|mut store| {
            let response = store.get().http().table.delete(response)?;
            response.into_http(&mut store, sent)
        })?),
        Err(code) => Err(code),
    };
    if exchange.answer(answer) {
        exchange.progress.sent().await;
    }
    Ok(())
}

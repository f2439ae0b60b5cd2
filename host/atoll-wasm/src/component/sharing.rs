//! Requests that share instances, where a handler of `wasi:http` 0.3 asks for that.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Request;

use super::retry::{self, Ending};
use super::{AnswerBody, Proxy};
use crate::error::CallError;
use crate::host::Host;
use crate::limits::Limits;
use crate::reuse::Pool;
use crate::standard::{Job, Reply, Start};
use crate::ticker::CallGuard;

type Answer = Result<http::Response<AnswerBody>, CallError>;

impl<H: Host> Proxy<H> {
    /// As [`serve`](Proxy::serve), in an instance that may work on other requests at the same time.
    ///
    /// One that waits in the pool is taken before one is shared, and one is shared before another is made.
    /// Where one fails that has had other requests, this one is given a fresh one to itself, if it may be
    /// made twice, has no body, and nothing of it was answered.
    pub(super) async fn serve_sharing<B>(
        &self,
        host: H,
        request: Request<B>,
        (limits, running): (Limits, CallGuard),
        pool: &Arc<Pool<H>>,
        ended: impl FnOnce(Result<(), &CallError>) + Send + 'static,
    ) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let is_repeatable =
            retry::is_idempotent(request.method().as_str()) && request.body().is_end_stream();
        if !is_repeatable {
            let job = Job::new(request, host, (limits, running), ended);
            return self.dispatch(job, pool, &limits).await;
        }
        let (began, again) = (Instant::now(), retry::without_body(&request));
        let (spare, ending) = (host.clone(), Ending::new(ended));
        let told = ending.share();
        let ended = move |end: Result<(), &CallError>| told.call_has_ended(end);
        let job = Job::new(request, host, (limits, running), ended);
        let exchange = job.exchange();
        let error = match self.dispatch(job, pool, &limits).await {
            Ok(answer) => {
                ending.note_answer();
                return Ok(answer);
            }
            Err(error) => error,
        };
        let Some(ended) = ending.take_failed() else { return Err(error) };
        let company = exchange.company();
        if company == 0 {
            ended(Err(&error));
            return Err(error);
        }
        let limits = retry::limits_after(limits, began.elapsed());
        self.try_again((spare, again), pool, limits, (company, error), ended).await
    }

    /// Gives a request to an instance, until one takes it, and waits for its answer.
    async fn dispatch(&self, job: Box<Job<H>>, pool: &Arc<Pool<H>>, limits: &Limits) -> Answer {
        let mut job = job;
        loop {
            match self.give(job, pool, limits).await {
                Some(Reply::Answer(answer)) => return answer,
                Some(Reply::Back(back)) => job = back,
                None => {
                    return Err(CallError::Trap { reason: "its task has ended".to_owned() });
                }
            }
        }
    }

    /// Gives it to one that waits, to one that works on others, or to a new one.
    async fn give(
        &self,
        job: Box<Job<H>>,
        pool: &Arc<Pool<H>>,
        limits: &Limits,
    ) -> Option<Reply<H>> {
        let (job, instance) = match pool.take_idle() {
            Some(mut instance) => {
                instance.begin(job.host(), limits);
                (job, instance)
            }
            None => {
                let replies = job.replies();
                let Some(job) = pool.join(job) else { return replies.await.ok() };
                pool.note_start();
                let instance = self.base.instance(job.host(), limits);
                (job, instance)
            }
        };
        instance.store.data().meter.end_turn();
        let calls = self.base.shared.calls.clone();
        let start = Start { calls, callee: self.callee.clone(), instance, pool: Arc::clone(pool) };
        start.with(job).await
    }
}

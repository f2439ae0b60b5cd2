//! One request of a standard handler: a task that owns the instance, and an answer that leaves while
//! the guest still runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::task::TaskTracker;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use super::answer;
use super::body::{AnswerBody, RequestBody};
use super::progress::Progress;
use crate::error::CallError;
use crate::host::Host;
use crate::instance::{self, Exports, Guest, Instance};
use crate::limits::Limits;
use crate::reuse::Pool;
use crate::ticker::CallGuard;

type Answer = Result<Response<AnswerBody>, CallError>;

/// What one call is made of.
pub(crate) struct Call<H: Host, E> {
    /// Where its task is counted.
    pub(crate) calls: TaskTracker,
    pub(crate) pre: ProxyPre<Guest<H>>,
    pub(crate) instance: Instance<H>,
    /// Where the instance goes afterwards.
    pub(crate) pool: Option<Arc<Pool<H>>>,
    pub(crate) limits: Limits,
    /// Told how the call has ended, once.
    pub(crate) ended: E,
    pub(crate) running: CallGuard,
}

/// Ends the guest when nobody waits for its answer any more.
struct EndsWithCaller(Option<AbortHandle>);

impl Drop for EndsWithCaller {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Runs the call in a task of its own; returns when the guest has said how it answers.
pub(crate) async fn serve<H, E, B>(call: Call<H, E>, request: Request<B>) -> Answer
where
    H: Host,
    E: FnOnce(Result<(), &CallError>) + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Display,
{
    let (sender, answered) = oneshot::channel();
    let tasks = call.calls.clone();
    let task = tasks.spawn(call.run(request, sender));
    let mut caller = EndsWithCaller(Some(task.abort_handle()));
    let answer = match answered.await {
        Ok(answer) => answer,
        Err(_) => Err(no_answer(task).await),
    };
    caller.0 = None;
    answer
}

/// The guest has ended without an answer, for a reason that its task knows.
async fn no_answer(task: JoinHandle<Result<(), CallError>>) -> CallError {
    match task.await {
        Ok(Err(error)) => error,
        Ok(Ok(())) => CallError::NoAnswer,
        Err(_) => CallError::Trap { reason: "its task has ended".to_owned() },
    }
}

impl<H: Host, E: FnOnce(Result<(), &CallError>) + Send + 'static> Call<H, E> {
    async fn run<B>(
        self,
        request: Request<B>,
        answered: oneshot::Sender<Answer>,
    ) -> Result<(), CallError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::fmt::Display,
    {
        let Call { calls: _, pre, mut instance, pool, limits, ended, running } = self;
        let (progress, served) = (Arc::new(Progress::new()), instance.served);
        let meter = instance.store.data().meter.clone();
        let (body, lent) = {
            let (head, body) = request.into_parts();
            let (body, lent) = RequestBody::new(body, Arc::clone(&progress));
            (Request::from_parts(head, body), lent)
        };
        let arguments = arguments(&mut instance.store, body, &limits, &progress, answered);
        let wall = Duration::from_millis(limits.wall_ms.into());
        let outcome = {
            let guest = meter.turns(handle(&pre, &mut instance, arguments));
            tokio::select! {
                biased;
                ended = guest => Some(ended),
                () = progress.stalled(wall) => None,
            }
        };
        let outcome = match outcome {
            Some(Ok(())) if progress.is_answered() => Ok(()),
            Some(Ok(())) => Err(CallError::NoAnswer),
            Some(Err(error)) => Err(instance::explain(&error, instance.store.data(), &limits)),
            None => Err(CallError::WallLimit { wall_ms: limits.wall_ms }),
        };
        let outcome = progress.refusal().map_or(outcome, Err);
        instance.store.data_mut().tell_usage();
        lent.take_back();
        if let Some(pool) = &pool {
            pool.note(served, outcome.as_ref().copied());
        }
        let Some(pool) = pool.filter(|_| outcome.is_ok()) else {
            if outcome.is_err() {
                progress.fail();
            }
            drop(instance);
            drop(running);
            ended(outcome.as_ref().copied());
            return outcome;
        };
        drop(running);
        ended(Ok(()));
        // A guest may have kept its handle on the answer's body and never end it: then it is not used
        // again, and the body breaks off with its instance.
        tokio::select! {
            () = progress.sent() => pool.put(instance),
            () = progress.stalled(wall) => progress.fail(),
        }
        outcome
    }
}

type Arguments = wasmtime::Result<(Resource<HostIncomingRequest>, Resource<HostResponseOutparam>)>;

/// What the guest is called with: the request, and the place where it puts its answer.
fn arguments<H: Host, B>(
    store: &mut Store<Guest<H>>,
    request: Request<RequestBody<B>>,
    limits: &Limits,
    progress: &Arc<Progress>,
    answered: oneshot::Sender<Answer>,
) -> Arguments
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Display,
{
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(scheme, request)?;
    let (limits, progress) = (*limits, Arc::clone(progress));
    let place = http.new_response_outparam_from_callback(move |answer| {
        let answer = answer::check(answer, &limits, &progress);
        match &answer {
            Ok(_) => progress.note_answer(),
            Err(error) => progress.refuse(error.clone()),
        }
        // A caller that has gone needs no answer.
        drop(answered.send(answer));
    })?;
    Ok((request, place))
}

async fn handle<H: Host>(
    pre: &ProxyPre<Guest<H>>,
    instance: &mut Instance<H>,
    arguments: Arguments,
) -> wasmtime::Result<()> {
    let (request, place) = arguments?;
    let Instance { store, exports, .. } = instance;
    if exports.is_none() {
        *exports = Some(Exports::Proxy(pre.instantiate_async(&mut *store).await?));
    }
    let Some(Exports::Proxy(proxy)) = exports else {
        return Err(wasmtime::Error::msg("an instance of another world"));
    };
    proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, place).await
}

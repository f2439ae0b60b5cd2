//! One request of a standard handler: a task that owns the instance, and an answer that leaves while
//! the guest still runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use super::answer;
use super::body::{AnswerBody, RequestBody};
use super::progress::Progress;
use crate::engine::Shared;
use crate::error::CallError;
use crate::host::Host;
use crate::instance::{self, Guest};
use crate::limits::Limits;
use crate::ticker::CallGuard;

type Answer = Result<Response<AnswerBody>, CallError>;

/// What one call is made of.
pub(crate) struct Call<H: Host, E> {
    pub(crate) shared: Arc<Shared<H>>,
    pub(crate) pre: ProxyPre<Guest<H>>,
    pub(crate) host: H,
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
    let tasks = call.shared.calls.clone();
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
        let Call { shared, pre, host, limits, ended, running } = self;
        let progress = Arc::new(Progress::new());
        let mut store = instance::store(&shared.engine, host, &shared.budget, &limits);
        let meter = store.data().meter.clone();
        let arguments = arguments(&mut store, request, &limits, &progress, answered);
        let outcome = {
            let guest = meter.turns(handle(&pre, &mut store, arguments));
            let wall = Duration::from_millis(limits.wall_ms.into());
            tokio::select! {
                biased;
                ended = guest => Some(ended),
                () = progress.stalled(wall) => None,
            }
        };
        let outcome = match outcome {
            Some(Ok(())) if progress.is_answered() => Ok(()),
            Some(Ok(())) => Err(CallError::NoAnswer),
            Some(Err(error)) => Err(instance::explain(&error, store.data(), &limits)),
            None => Err(CallError::WallLimit { wall_ms: limits.wall_ms }),
        };
        let outcome = progress.refusal().map_or(outcome, Err);
        if outcome.is_err() {
            progress.fail();
        }
        drop(store);
        drop(running);
        ended(outcome.as_ref().copied());
        outcome
    }
}

type Arguments = wasmtime::Result<(Resource<HostIncomingRequest>, Resource<HostResponseOutparam>)>;

/// What the guest is called with: the request, and the place where it puts its answer.
fn arguments<H: Host, B>(
    store: &mut Store<Guest<H>>,
    request: Request<B>,
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
    let request = request.map(|body| RequestBody::new(body, Arc::clone(progress)));
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
    store: &mut Store<Guest<H>>,
    arguments: Arguments,
) -> wasmtime::Result<()> {
    let (request, place) = arguments?;
    let proxy = pre.instantiate_async(&mut *store).await?;
    proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, place).await
}

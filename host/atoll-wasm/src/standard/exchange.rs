//! One request of a standard handler: it runs where its caller waits, and goes on in a task of its own
//! where its answer leaves while the guest still writes it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use super::body::{AnswerBody, RequestBody};
use super::progress::Progress;
use super::{answer, service};
use crate::component::World;
use crate::error::CallError;
use crate::host::Host;
use crate::instance::{self, Exports, Guest, Instance};
use crate::limits::{Limits, TASKS_MAX};
use crate::reuse::Pool;
use crate::ticker::CallGuard;

pub(crate) type Answer = Result<Response<AnswerBody>, CallError>;

/// What is called, in either version of the standard.
pub(crate) enum Callee<H: Host> {
    Proxy(ProxyPre<Guest<H>>),
    Service(ServicePre<Guest<H>>),
}

/// What one call is made of.
pub(crate) struct Call<H: Host, E> {
    /// Where its task is counted.
    pub(crate) calls: TaskTracker,
    pub(crate) callee: Callee<H>,
    pub(crate) instance: Instance<H>,
    /// Where the instance goes afterwards.
    pub(crate) pool: Option<Arc<Pool<H>>>,
    pub(crate) limits: Limits,
    /// Told how the call has ended, once.
    pub(crate) ended: E,
    pub(crate) running: CallGuard,
}

/// What a guest is asked, and where its answer goes.
pub(super) struct Asked<B> {
    pub(super) request: Request<RequestBody<B>>,
    pub(super) place: Place,
}

/// How a call has ended, and what is left to do once its answer's body has been sent.
struct Ended<H: Host> {
    outcome: Result<(), CallError>,
    rest: Option<Rest<H>>,
}

/// An instance that can be used again as soon as nobody reads what it wrote.
struct Rest<H: Host> {
    instance: Instance<H>,
    pool: Arc<Pool<H>>,
    progress: Arc<Progress>,
    wall: Duration,
}

/// A call under way. Dropping it ends the guest.
type Running<H> = Pin<Box<dyn Future<Output = Ended<H>> + Send>>;

/// Runs the call; returns when the guest has said how it answers. What it does then goes on in a task,
/// unless it is done by itself at once.
pub(crate) async fn serve<H, E, B>(call: Call<H, E>, request: Request<B>) -> Answer
where
    H: Host,
    E: FnOnce(Result<(), &CallError>) + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: fmt::Display,
{
    let (sender, mut answered) = oneshot::channel();
    let tasks = call.calls.clone();
    let _counted = tasks.token();
    let mut running: Running<H> = Box::pin(call.run(request, sender));
    let mut ended = None;
    let answer = poll_fn(|context| {
        if let Poll::Ready(end) = running.as_mut().poll(context) {
            ended = Some(end);
        }
        match answered.try_recv() {
            Ok(answer) => Poll::Ready(Some(answer)),
            Err(_) if ended.is_some() => Poll::Ready(None),
            Err(_) => Poll::Pending,
        }
    });
    let Some(answer) = answer.await else {
        let outcome = ended.map_or(Ok(()), |ended| ended.outcome);
        return Err(outcome.err().unwrap_or(CallError::NoAnswer));
    };
    let mut answer = answer?;
    gather(answer.body_mut(), &mut running, &mut ended).await;
    match ended {
        Some(Ended { outcome: Err(error), .. }) => return Err(error),
        Some(Ended { rest: Some(rest), .. }) if answer.body().is_whole() => rest.settle_now(),
        Some(Ended { rest: Some(rest), .. }) => drop(tasks.spawn(rest.settle())),
        Some(_) => {}
        None => drop(tasks.spawn(go_on(running))),
    }
    Ok(answer)
}

/// Runs what is left of a call whose answer is on its way.
async fn go_on<H: Host>(running: Running<H>) {
    if let Some(rest) = running.await.rest {
        rest.settle().await;
    }
}

/// Takes what of the answer's body is there already, as long as the guest writes it without waiting
/// for anything: then it needs no task, and the body goes out with its head.
pub(super) async fn gather<E>(
    body: &mut AnswerBody,
    running: &mut Pin<Box<dyn Future<Output = E> + Send>>,
    ended: &mut Option<E>,
) {
    let take = |context: &mut Context<'_>| {
        while body.hold(context) && ended.is_none() {
            if let Poll::Ready(end) = running.as_mut().poll(context) {
                *ended = Some(end);
            }
        }
        Poll::Ready(())
    };
    poll_fn(take).await;
}

impl<H: Host, E: FnOnce(Result<(), &CallError>) + Send + 'static> Call<H, E> {
    async fn run<B>(self, request: Request<B>, answered: oneshot::Sender<Answer>) -> Ended<H>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let Call { calls: _, callee, mut instance, pool, limits, ended, running } = self;
        let (progress, served) = (Arc::new(Progress::new(request.method())), instance.served);
        let meter = instance.store.data().meter.clone();
        let (request, lent) = {
            let (head, body) = request.into_parts();
            let (body, lent) = RequestBody::new(body, Arc::clone(&progress));
            (Request::from_parts(head, body), lent)
        };
        let place = Place { limits, progress: Arc::clone(&progress), answered };
        let asked = Asked { request, place };
        let wall = Duration::from_millis(limits.wall_ms.into());
        let outcome = {
            let guest = meter.turns(callee.handle(&mut instance, asked));
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
            // Its client is slow, or it has kept its end of the body, which ends with the instance.
            None if progress.has_returned() => {
                progress.fail();
                Ok(())
            }
            None => Err(CallError::WallLimit { wall_ms: limits.wall_ms }),
        };
        let mut outcome = progress.refusal().map_or(outcome, Err);
        instance.store.data_mut().tell_usage();
        lent.take_back();
        // Nobody else has one that is not to be used again: what it has kept of its body ends as well.
        let instance = Some(instance).filter(|_| pool.is_some() || outcome.is_err());
        if outcome.is_ok() && progress.is_owed() {
            progress.owed(wall).await;
            outcome = progress.refusal().map_or(outcome, Err);
        }
        if let Some(pool) = &pool {
            pool.note(served, outcome.as_ref().copied());
        }
        if outcome.is_err() {
            progress.fail();
        }
        let pool = pool.filter(|_| !progress.has_failed());
        let Some((pool, instance)) = pool.zip(instance) else {
            drop(running);
            ended(outcome.as_ref().copied());
            return Ended { outcome, rest: None };
        };
        drop(running);
        ended(Ok(()));
        Ended { outcome, rest: Some(Rest { instance, pool, progress, wall }) }
    }
}

impl<H: Host> Rest<H> {
    /// The answer's body has come to its end.
    fn settle_now(self) {
        self.pool.put(self.instance);
    }

    /// Waits until the answer's body has been sent. A guest may have kept its handle on it and never
    /// end it: then it is not used again, and the body breaks off with its instance.
    async fn settle(self) {
        let Rest { instance, pool, progress, wall } = self;
        tokio::select! {
            () = progress.sent() => pool.put(instance),
            () = progress.stalled(wall) => progress.fail(),
        }
    }
}

impl<H: Host> Callee<H> {
    /// Returns the world that it is of.
    pub(crate) fn world(&self) -> World {
        match self {
            Callee::Proxy(_) => World::Proxy,
            Callee::Service(_) => World::Service,
        }
    }

    /// Makes an instance.
    pub(crate) async fn instantiate(
        &self,
        store: &mut Store<Guest<H>>,
    ) -> wasmtime::Result<Exports> {
        Ok(match self {
            Callee::Proxy(pre) => Exports::Proxy(pre.instantiate_async(store).await?),
            Callee::Service(pre) => {
                if let Some(tasks) = store.concurrent_resource_table() {
                    tasks.set_max_capacity(TASKS_MAX);
                }
                Exports::Service(pre.instantiate_async(store).await?)
            }
        })
    }

    /// Makes the instance unless it is there, and calls it.
    async fn handle<B>(&self, instance: &mut Instance<H>, asked: Asked<B>) -> wasmtime::Result<()>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let Instance { store, exports, .. } = instance;
        let exports = match exports {
            Some(exports) => exports,
            missing => missing.insert(self.instantiate(store).await?),
        };
        match exports {
            Exports::Proxy(proxy) => {
                let (request, place) = arguments(store, asked)?;
                proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, place).await
            }
            // Apart, so that the other's future is as small as it was.
            Exports::Service(service) => Box::pin(service::handle(service, store, asked)).await,
            Exports::Edge(_) => Err(wasmtime::Error::msg("an instance of another world")),
        }
    }
}

impl<H: Host> Clone for Callee<H> {
    fn clone(&self) -> Callee<H> {
        match self {
            Callee::Proxy(pre) => Callee::Proxy(pre.clone()),
            Callee::Service(pre) => Callee::Service(pre.clone()),
        }
    }
}

/// Where the guest's answer goes.
pub(super) struct Place {
    pub(super) limits: Limits,
    pub(super) progress: Arc<Progress>,
    pub(super) answered: oneshot::Sender<Answer>,
}

impl Place {
    /// Passes the answer on if it can go out, else why it cannot. Returns whether it did.
    pub(super) fn put(self, answer: Result<Response<WasiBody>, impl fmt::Debug>) -> bool {
        let answer = checked(answer, &self.limits, &self.progress);
        let can_go_out = answer.is_ok();
        // A caller that has gone needs no answer.
        drop(self.answered.send(answer));
        can_go_out
    }
}

/// The answer if it can go out, else why it cannot; either is noted.
pub(super) fn checked(
    answer: Result<Response<WasiBody>, impl fmt::Debug>,
    limits: &Limits,
    progress: &Arc<Progress>,
) -> Answer {
    let answer = answer::check(answer, limits, progress);
    match &answer {
        Ok(_) => progress.note_answer(),
        Err(error) => progress.refuse(error.clone()),
    }
    answer
}

type Arguments = (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>);

/// What a guest of 0.2 is called with: the request, and the place where it puts its answer.
fn arguments<H: Host, B>(
    store: &mut Store<Guest<H>>,
    asked: Asked<B>,
) -> wasmtime::Result<Arguments>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: fmt::Display,
{
    let Asked { request, place } = asked;
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(scheme, request)?;
    let place = http.new_response_outparam_from_callback(move |answer| {
        place.put(answer);
    })?;
    Ok((request, place))
}

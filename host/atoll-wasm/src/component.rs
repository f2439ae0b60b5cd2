//! A component that was taken in: checked, compiled, ready to be called.

pub mod filter;
mod retry;
mod shape;
mod sharing;
mod watcher;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::Component as Compiled;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::bindings::HandlerPre;
use crate::bindings::filter::FilterPre;
use crate::engine::Shared;
use crate::error::{CallError, CompileError, PLACES_TAKEN, quote};
use crate::fills::Fills;
use crate::host::{Host, Request, Response};
use crate::instance::{self, Guest, Instance};
use crate::limits::Limits;
use crate::reuse::{Pool, Reuse};
use crate::standard::{self, Callee};
use crate::ticker::CallGuard;
use watcher::Watch;

use filter::Filter;
use retry::Ending;

pub use crate::standard::{AnswerBody, BrokenOff};
pub use shape::World;
pub(crate) use shape::is_concurrent;
pub use watcher::Change;

/// A compiled component, by the world that it was made for. Cheap to call, shared by reference
/// between requests.
pub enum Component<H: Host> {
    /// Of our own world.
    Edge(Handler<H>),
    /// Of a standard world that answers requests, `wasi:http/proxy` or `wasi:http/service`.
    Proxy(Proxy<H>),
    /// Of our own world for what stands around a cache.
    Filter(Filter<H>),
    /// Of no world that answers requests: it is only told of changes.
    Watcher(Watcher<H>),
}

/// A component that exports `wasi:keyvalue/watcher` and nothing else that is called.
pub struct Watcher<H: Host> {
    base: Base<H>,
}

/// A handler of the world `atoll:edge/handler`: it takes and gives whole messages.
pub struct Handler<H: Host> {
    base: Base<H>,
    pre: HandlerPre<Guest<H>>,
}

/// A handler of the world `wasi:http/proxy` or `wasi:http/service`: its messages are streams.
pub struct Proxy<H: Host> {
    base: Base<H>,
    callee: Callee<H>,
}

/// What both have.
struct Base<H: Host> {
    shared: Arc<Shared<H>>,
    imports: Vec<String>,
    /// The import, if there is one, that is of no use without a grant for a bucket.
    store_import: Option<String>,
    /// Whether it was written to purge.
    purges: bool,
    /// What is told of changes in the store, in a component of any world.
    watch: Option<Watch<H>>,
    /// Whether it may wait in host calls.
    waits: bool,
    /// Whether it may hold up its whole instance while it does.
    holds_up: bool,
    /// The values that its instances are making.
    fills: Arc<Fills>,
    /// Which one it is: an instance of another is never taken for one of its own.
    id: Arc<()>,
}

impl<H: Host> Component<H> {
    /// Checks what can be checked before anything is compiled.
    pub(crate) fn check(shared: &Shared<H>, wasm: &[u8]) -> Result<(), CompileError> {
        let bytes_max = shared.config.component_bytes_max;
        if wasm.len() > bytes_max {
            return Err(CompileError::TooLarge { len: wasm.len(), bytes_max });
        }
        shape::check_preamble(wasm)
    }

    /// Checks that compiling takes a time that is bounded by the component's size.
    pub(crate) fn check_code(wasm: &[u8]) -> Result<(), CompileError> {
        shape::check_functions(wasm)
    }

    /// Makes what can be called of what was compiled or loaded.
    pub(crate) fn new(
        shared: Arc<Shared<H>>,
        component: &Compiled,
    ) -> Result<Component<H>, CompileError> {
        let world = shape::world(component)?;
        let imports = shape::imports(component, world)?;
        // Names fit; what is left to go wrong are the types behind them.
        let mismatch =
            |error: wasmtime::Error| CompileError::Mismatch(quote(&format!("{error:#}")));
        let pre = shared.linker.instantiate_pre(component).map_err(mismatch)?;
        let watch = Watch::of(component, &pre);
        let waits = imports.iter().any(|import| shape::waits(import));
        let holds_up = imports.iter().any(|import| shape::holds_up(import));
        let store_import = imports.iter().find(|import| shape::reaches_store(component, import));
        let store_import = store_import.cloned();
        let purges = imports.iter().any(|import| shape::purges(component, import));
        let (fills, id) = (Arc::default(), Arc::new(()));
        let base =
            Base { shared, imports, store_import, purges, watch, waits, holds_up, fills, id };
        Ok(match world {
            World::Edge => {
                Component::Edge(Handler { base, pre: HandlerPre::new(pre).map_err(mismatch)? })
            }
            World::Proxy => {
                let callee = Callee::Proxy(ProxyPre::new(pre).map_err(mismatch)?);
                Component::Proxy(Proxy { base, callee })
            }
            World::Service => {
                let callee = Callee::Service(ServicePre::new(pre).map_err(mismatch)?);
                Component::Proxy(Proxy { base, callee })
            }
            World::Watcher => Component::Watcher(Watcher { base }),
            World::Filter => {
                Component::Filter(Filter { base, pre: FilterPre::new(pre).map_err(mismatch)? })
            }
        })
    }

    /// Returns the world that it was made for.
    pub fn world(&self) -> World {
        match self {
            Component::Edge(_) => World::Edge,
            Component::Proxy(proxy) => proxy.callee.world(),
            Component::Watcher(_) => World::Watcher,
            Component::Filter(_) => World::Filter,
        }
    }

    /// Returns the full names of the interfaces that it imports.
    pub fn imports(&self) -> &[String] {
        &self.base().imports
    }

    /// Returns the import, if there is one, that is of no use without a grant for a bucket, so that
    /// a deploy without one can be refused.
    pub fn store_import(&self) -> Option<&str> {
        self.base().store_import.as_deref()
    }

    /// Returns whether it was written to take back what HTTP caches hold, which is of no use without a
    /// grant, so that a deploy without one can be refused. `false` where that cannot be told.
    pub fn purges(&self) -> bool {
        self.base().purges
    }

    /// Makes an instance and drops it: what a deploy does before it sends requests.
    ///
    /// Fails as a call would, for a component that needs more memory than `limits` at its start, or
    /// whose start code traps.
    pub async fn try_instance(&self, host: H, limits: &Limits) -> Result<(), CallError> {
        let base = self.base();
        let (limits, _running) = base.enter(limits)?;
        let mut instance = base.instance(host, &limits);
        let store = &mut instance.store;
        if let Some(watch) = &base.watch {
            return instance::start(store, &limits, async |store| watch.try_types(store).await)
                .await;
        }
        match self {
            Component::Edge(handler) => {
                instance::start(store, &limits, async |store| {
                    handler.pre.instantiate_async(store).await.map(drop)
                })
                .await
            }
            Component::Proxy(proxy) => {
                instance::start(store, &limits, async |store| {
                    proxy.callee.instantiate(store).await.map(drop)
                })
                .await
            }
            Component::Watcher(_) => {
                Err(CallError::Trap { reason: "its watcher lacks a function".to_owned() })
            }
            Component::Filter(filter) => {
                instance::start(store, &limits, async |store| {
                    filter.pre.instantiate_async(store).await.map(drop)
                })
                .await
            }
        }
    }

    /// Returns whether an instance can work on several requests at once.
    ///
    /// Those of `wasi:http` 0.3 can. One that imports what holds up its whole instance while it waits
    /// (`atoll:edge/cache` and `atoll:edge/fetch`, the outgoing handler of `wasi:http` 0.2) cannot: one of
    /// its requests may wait for another that it holds up.
    pub fn can_share(&self) -> bool {
        matches!(self, Component::Proxy(proxy) if proxy.can_share())
    }

    /// Returns a pool for instances of this component that may be used again. One for each version
    /// of each handler: they share what instances keep.
    pub fn pool(&self, reuse: Reuse) -> Arc<Pool<H>> {
        Pool::new(reuse, &self.base().id, &self.base().shared.parking)
    }

    /// Returns whether it can be [told](Component::tell) of changes.
    pub fn watches(&self) -> bool {
        self.base().watch.is_some()
    }

    /// Tells a fresh instance of a change in the store, in its function `on-set` or `on-delete`.
    ///
    /// Fails as a call would. Never blocks; dropping the future ends the guest. One that watches
    /// nothing is not called.
    pub async fn tell(
        &self,
        host: H,
        change: Change<'_>,
        limits: &Limits,
    ) -> Result<(), CallError> {
        let base = self.base();
        let Some(watch) = &base.watch else { return Ok(()) };
        let (limits, _running) = base.enter(limits)?;
        let mut instance = base.instance(host, &limits);
        watch.tell(&mut instance.store, change, &limits).await
    }

    fn base(&self) -> &Base<H> {
        match self {
            Component::Edge(handler) => &handler.base,
            Component::Proxy(proxy) => &proxy.base,
            Component::Watcher(watcher) => &watcher.base,
            Component::Filter(filter) => &filter.base,
        }
    }
}

impl<H: Host> Handler<H> {
    /// Answers one request in an instance of its own, which is gone afterwards with all that it
    /// held.
    ///
    /// Never blocks: a guest that computes yields every `TICK_MS`. Needs a tokio runtime with time.
    /// Dropping the future ends the guest.
    pub async fn call(
        &self,
        host: H,
        request: Request<'_>,
        limits: &Limits,
    ) -> Result<Response, CallError> {
        let (limits, _running) = self.base.enter(limits)?;
        let mut instance = self.base.instance(host, &limits);
        self.run(&mut instance, request, &limits).await
    }

    /// The same, in an instance of `pool` if one waits there. It waits there again afterwards, unless
    /// the call has failed. Where one that was used again fails at a request that may be made twice, a
    /// fresh one is given it, in what is left of the time.
    pub async fn call_reusing(
        &self,
        pool: &Pool<H>,
        host: H,
        request: Request<'_>,
        limits: &Limits,
    ) -> Result<Response, CallError> {
        let may_try_again = retry::is_idempotent(request.method);
        let (began, spare) = (Instant::now(), may_try_again.then(|| host.clone()));
        let (limits, _running) = self.base.enter(limits)?;
        let mut instance = self.base.instance_of(pool, host, &limits);
        let served = instance.served;
        let answer = self.run(&mut instance, request, &limits).await;
        pool.note(served, answer.as_ref().map(drop));
        let error = match answer {
            Ok(answer) => {
                pool.put(instance);
                return Ok(answer);
            }
            Err(error) => error,
        };
        let spare = spare.filter(|_| served > 0 && retry::may_be_of_the_instance(&error));
        let Some(spare) = spare else { return Err(error) };
        // What it held is given back before another is made.
        drop(instance);
        let limits = retry::limits_after(limits, began.elapsed());
        let mut fresh = self.base.instance(spare, &limits);
        pool.note_retry();
        let answer = self.run(&mut fresh, request, &limits).await;
        if answer.is_ok() {
            pool.note_doubt(served, &error);
            pool.put(fresh);
        }
        answer
    }

    async fn run(
        &self,
        instance: &mut Instance<H>,
        request: Request<'_>,
        limits: &Limits,
    ) -> Result<Response, CallError> {
        let ran = if self.base.waits {
            let meter = instance.store.data().meter.clone();
            meter.turns(instance::run(&self.pre, instance, request, limits)).await
        } else {
            // Its only turns are those that ticks end: spares a box and looks at the clock.
            instance::run(&self.pre, instance, request, limits).await
        };
        instance.store.data_mut().tell_usage();
        ran
    }
}

impl<H: Host> Proxy<H> {
    fn can_share(&self) -> bool {
        matches!(self.callee, Callee::Service(_)) && !self.base.holds_up
    }

    /// Answers one request in an instance of its own, or in one of `pool`. Returns when the guest has said how it
    /// answers; what it then has to wait for goes on in a task of the engine's, until it has written the body and
    /// returned. `ended` is told once how that went, unless the caller gave up before the answer.
    ///
    /// The wall limit is for the time in which nothing moves: neither body, nor the answer comes.
    /// Where an instance of `pool` that was used again fails before it has said anything, at a request
    /// that has no body and may be made twice, a fresh one is given it.
    /// The whole takes at most `WALL_MS_MAX`. Dropping the future ends the guest; dropping the
    /// answer's body does not, but its writes fail from then on.
    ///
    /// The request names an authority, in its target or its `host` field. Needs a tokio runtime with
    /// time.
    pub async fn serve<B>(
        &self,
        host: H,
        request: http::Request<B>,
        limits: &Limits,
        pool: Option<&Arc<Pool<H>>>,
        ended: impl FnOnce(Result<(), &CallError>) + Send + 'static,
    ) -> Result<http::Response<AnswerBody>, CallError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let (limits, running) = match self.base.enter(limits) {
            Ok(entered) => entered,
            Err(error) => {
                ended(Err(&error));
                return Err(error);
            }
        };
        let Some(pool) = pool else {
            let call = (self.base.instance(host, &limits), None, limits);
            return self.begin(call, running, request, ended).await;
        };
        if pool.at_once() > 1 && self.can_share() {
            let entered = (limits, running);
            return self.serve_sharing(host, request, entered, pool, ended).await;
        }
        let may_try_again =
            retry::is_idempotent(request.method().as_str()) && request.body().is_end_stream();
        let (began, spare) = (Instant::now(), may_try_again.then(|| host.clone()));
        let instance = self.base.instance_of(pool, host, &limits);
        let served = instance.served;
        let spare = spare.filter(|_| served > 0);
        let call = (instance, Some(pool), limits);
        let Some(spare) = spare else { return self.begin(call, running, request, ended).await };
        let (again, ending) = (retry::without_body(&request), Ending::new(ended));
        let told = ending.share();
        let answer = self.begin(call, running, request, |end| told.call_has_ended(end)).await;
        let error = match answer {
            Ok(answer) => {
                ending.note_answer();
                return Ok(answer);
            }
            Err(error) => error,
        };
        let Some(ended) = ending.take_failed() else { return Err(error) };
        let limits = retry::limits_after(limits, began.elapsed());
        self.try_again((spare, again), pool, limits, (served, error), ended).await
    }

    /// Gives a request to a fresh instance that it has to itself, after one that was told of so many others
    /// has failed at it.
    async fn try_again(
        &self,
        (spare, again): (H, http::Request<http_body_util::Empty<Bytes>>),
        pool: &Arc<Pool<H>>,
        limits: Limits,
        (others, error): (u32, CallError),
        ended: impl FnOnce(Result<(), &CallError>) + Send + 'static,
    ) -> Result<http::Response<AnswerBody>, CallError> {
        let (limits, running) = match self.base.enter(&limits) {
            Ok(entered) => entered,
            Err(_) => {
                ended(Err(&error));
                return Err(error);
            }
        };
        let call = (self.base.instance(spare, &limits), Some(pool), limits);
        pool.note_retry();
        let doubting = Arc::clone(pool);
        let ended = move |end: Result<(), &CallError>| {
            // That another request has ended the instance says nothing about using it again.
            match end {
                _ if error == CallError::InstanceLost => {}
                Ok(()) => doubting.note_doubt(others, &error),
                Err(_) => doubting.forgive(),
            }
            ended(end);
        };
        self.begin(call, running, again, ended).await
    }

    /// Calls one instance.
    async fn begin<B>(
        &self,
        (instance, pool, limits): (Instance<H>, Option<&Arc<Pool<H>>>, Limits),
        running: CallGuard,
        request: http::Request<B>,
        ended: impl FnOnce(Result<(), &CallError>) + Send + 'static,
    ) -> Result<http::Response<AnswerBody>, CallError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        instance.store.data().meter.end_turn();
        let calls = self.base.shared.calls.clone();
        let (callee, pool) = (self.callee.clone(), pool.cloned());
        let call = standard::Call { calls, callee, instance, pool, limits, ended, running };
        standard::serve(call, request).await
    }
}

impl<H: Host> Base<H> {
    /// Takes a place for a call with these limits.
    fn enter(&self, limits: &Limits) -> Result<(Limits, CallGuard), CallError> {
        let running = self.shared.ticker.enter().ok_or(CallError::Busy(PLACES_TAKEN))?;
        Ok((limits.bounded(self.shared.config.memory_bytes_max), running))
    }

    fn instance(&self, host: H, limits: &Limits) -> Instance<H> {
        let mut instance = Instance::new(&self.shared.engine, host, &self.shared.budget, limits);
        if self.waits {
            instance.store.data_mut().fills = Some(Arc::clone(&self.fills));
        }
        instance
    }

    /// One that waits in the pool, or a new one.
    fn instance_of(&self, pool: &Pool<H>, host: H, limits: &Limits) -> Instance<H> {
        assert!(pool.is_of(&self.id), "a pool holds the instances of one component");
        match pool.take() {
            Some(mut instance) => {
                instance.begin(host, limits);
                instance
            }
            None => self.instance(host, limits),
        }
    }
}

impl<H: Host> fmt::Debug for Component<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Component::Edge(handler) => handler.fmt(formatter),
            Component::Proxy(proxy) => proxy.fmt(formatter),
            Component::Watcher(watcher) => watcher.fmt(formatter),
            Component::Filter(filter) => filter.fmt(formatter),
        }
    }
}

impl<H: Host> fmt::Debug for Handler<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut handler = formatter.debug_struct("Handler");
        handler.field("imports", &self.base.imports).finish_non_exhaustive()
    }
}

impl<H: Host> fmt::Debug for Watcher<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut watcher = formatter.debug_struct("Watcher");
        watcher.field("imports", &self.base.imports).finish_non_exhaustive()
    }
}

impl<H: Host> fmt::Debug for Proxy<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut proxy = formatter.debug_struct("Proxy");
        proxy.field("imports", &self.base.imports).finish_non_exhaustive()
    }
}

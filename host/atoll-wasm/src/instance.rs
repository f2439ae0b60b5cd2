//! One instance of a handler and its calls: what it holds, and how its end is told.

mod sharing;

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p3::bindings::Service;

use crate::bindings::atoll::edge::types as raw;
use crate::bindings::{Handler, HandlerPre};
use crate::error::{CallError, MEMORY_TAKEN, PLACES_TAKEN, quote};
use crate::fills::{Filling, Fills};
use crate::host::{Host, Request, Response, Usage};
use crate::limits::{COMPONENT_HANDLES_MAX, HOSTCALL_BYTES_MAX, Limits, PURGES_MAX};
use crate::log::Log;
use crate::memory::{Budget, Limiter, Refusal};
use crate::places::Places;
use crate::processor::Meter;
use crate::response;
use crate::standard::{KeyValue, Outbound, Standard};

use sharing::Sharing;
pub(crate) use sharing::hook;

/// What the host keeps for one instance: the data of its `Store`.
#[derive(Debug)]
pub(crate) struct Guest<H: Host> {
    pub(crate) host: H,
    pub(crate) buckets: Places<H::Bucket>,
    pub(crate) fillings: Places<Filling>,
    /// Who fills what, among the instances of this component; none where it cannot ask.
    pub(crate) fills: Option<Arc<Fills>>,
    /// What the present call may still purge.
    pub(crate) purges_left: u32,
    pub(crate) keyvalue: KeyValue<H::Bucket>,
    pub(crate) standard: Option<Box<Standard>>,
    /// What sends the present call's requests.
    pub(crate) outbound: Option<Outbound>,
    log: Option<Arc<Log>>,
    memory: Limiter,
    pub(crate) meter: Meter,
    /// Whether a call is under way that its host was not told the end of.
    is_called: bool,
    /// Whether there was one before it.
    is_reused: bool,
    /// Whose turn it is, where several calls share the instance. What is above is that one's.
    sharing: Option<Box<Sharing<H>>>,
}

/// An instance, or a store that is ready for one: until its first call begins.
pub(crate) struct Instance<H: Host> {
    pub(crate) store: Store<Guest<H>>,
    pub(crate) exports: Option<Exports>,
    /// Requests that it has answered.
    pub(crate) served: u32,
}

/// What is called, by the world that the component was made for.
pub(crate) enum Exports {
    Edge(Handler),
    Proxy(Proxy),
    Service(Service),
}

impl<H: Host> Instance<H> {
    pub(crate) fn new(
        engine: &wasmtime::Engine,
        host: H,
        budget: &Arc<Budget>,
        limits: &Limits,
    ) -> Instance<H> {
        Instance { store: store(engine, host, budget, limits), exports: None, served: 0 }
    }

    /// Another request begins now, with limits of its own; only the memory is what it was.
    pub(crate) fn begin(&mut self, host: H, limits: &Limits) {
        self.store.set_epoch_deadline(1);
        let guest = self.store.data_mut();
        guest.host = host;
        (guest.is_called, guest.is_reused) = (true, true);
        // What the request before has kept is nobody's turn any more.
        guest.fillings = Places::new();
        guest.purges_left = PURGES_MAX;
        guest.outbound = None;
        guest.keyvalue.begin();
        guest.memory.begin();
        guest.meter = Meter::start(limits.cpu_ms);
        if let Some(log) = &guest.log {
            log.begin();
        }
    }

    /// A request is over, and another may come.
    pub(crate) fn rest(&mut self) {
        let guest = self.store.data_mut();
        guest.fillings = Places::new();
        guest.tell_usage();
        if let Some(standard) = &self.store.data().standard {
            standard.rest();
        }
    }
}

impl<H: Host> Guest<H> {
    /// The log of this call, made when it is first needed.
    pub(crate) fn log(&mut self) -> &Arc<Log> {
        self.log.get_or_insert_with(|| Arc::new(Log::new(self.host.logger())))
    }

    /// Tells the host what the call has used, once.
    pub(crate) fn tell_usage(&mut self) {
        if std::mem::take(&mut self.is_called) {
            let (cpu, memory_bytes) = (self.spent(), self.memory.held_bytes());
            self.host.used(Usage { cpu, memory_bytes, is_reused: self.is_reused });
        }
    }
}

impl<H: Host> Guest<H> {
    /// Between two steps of what the host computes for the guest: lets others run, as a guest that
    /// computes does, or ends one that has had its time.
    pub(crate) async fn pause(&mut self) -> wasmtime::Result<()> {
        match self.tick() {
            UpdateDeadline::Interrupt => Err(Trap::Interrupt.into()),
            UpdateDeadline::YieldCustom(_, others) => {
                others.await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl<H: Host> Drop for Guest<H> {
    fn drop(&mut self) {
        self.tell_all_usage();
    }
}

/// A store that is ready for one instance, which is to run at once: its time has begun.
pub(crate) fn store<H: Host>(
    engine: &wasmtime::Engine,
    host: H,
    budget: &Arc<Budget>,
    limits: &Limits,
) -> Store<Guest<H>> {
    let guest = Guest {
        host,
        buckets: Places::new(),
        fillings: Places::new(),
        fills: None,
        purges_left: PURGES_MAX,
        keyvalue: KeyValue::new(),
        standard: None,
        outbound: None,
        log: None,
        memory: Limiter::new(Arc::clone(budget), limits.memory_bytes),
        meter: Meter::start(limits.cpu_ms),
        is_called: true,
        is_reused: false,
        sharing: None,
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.memory);
    store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
    store.set_max_component_handles(COMPONENT_HANDLES_MAX);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| Ok(context.data_mut().tick()));
    store
}

/// Makes the instance unless it is there, and runs one call. After an error it is of no use.
pub(crate) async fn run<H: Host>(
    pre: &HandlerPre<Guest<H>>,
    instance: &mut Instance<H>,
    request: Request<'_>,
    limits: &Limits,
) -> Result<Response, CallError> {
    let Instance { store, exports, .. } = instance;
    let call = async {
        if exports.is_none() {
            *exports = Some(Exports::Edge(pre.instantiate_async(&mut *store).await?));
        }
        let Some(Exports::Edge(handler)) = exports else {
            return Err(wasmtime::Error::msg("an instance of another world"));
        };
        let handler = handler.atoll_edge_incoming_handler();
        handler.call_handle(&mut *store, lend(&request)).await
    };
    let answer = within(limits, call).await?;
    match answer {
        Ok(raw::Response { status, headers, body }) => {
            response::check(status, headers, body.into(), limits)
        }
        Err(error) => Err(explain(&error, store.data(), limits)),
    }
}

/// Makes the instance and calls nothing, which runs its start code.
pub(crate) async fn start<H: Host>(
    store: &mut Store<Guest<H>>,
    limits: &Limits,
    instantiate: impl AsyncFnOnce(&mut Store<Guest<H>>) -> wasmtime::Result<()>,
) -> Result<(), CallError> {
    let started = within(limits, instantiate(store)).await?;
    started.map_err(|error| explain(&error, store.data(), limits))
}

/// Waits no longer than the wall limit. The epoch's yields see to it that the timer is looked at
/// while the guest computes.
pub(crate) async fn within<T>(
    limits: &Limits,
    work: impl Future<Output = T>,
) -> Result<T, CallError> {
    tokio::time::timeout(Duration::from_millis(limits.wall_ms.into()), work)
        .await
        .map_err(|_| CallError::WallLimit { wall_ms: limits.wall_ms })
}

fn lend<'a>(request: &'a Request<'a>) -> raw::Request<'a> {
    raw::Request {
        method: request.method,
        scheme: request.scheme,
        path: request.path,
        query: request.query,
        authority: request.authority,
        headers: request.headers,
        body: request.body,
        client_address: request.client_address,
    }
}

/// Says why the guest ended: the limit that it met rather than the trap that this became.
pub(crate) fn explain<H: Host>(
    error: &wasmtime::Error,
    guest: &Guest<H>,
    limits: &Limits,
) -> CallError {
    if error.is::<PoolConcurrencyLimitError>() {
        return CallError::Busy(PLACES_TAKEN);
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) && guest.is_spent() {
        return CallError::CpuLimit { cpu_ms: limits.cpu_ms };
    }
    if trap == Some(&Trap::NoAsyncResult) {
        return CallError::NoAnswer;
    }
    match guest.memory.refusal() {
        Some(Refusal::Limit) => CallError::MemoryLimit { memory_bytes: limits.memory_bytes },
        Some(Refusal::Budget) => CallError::Busy(MEMORY_TAKEN),
        None => CallError::Trap { reason: reason(error) },
    }
}

fn reason(error: &wasmtime::Error) -> String {
    if let Some(wasmtime_wasi::I32Exit(status)) = error.downcast_ref() {
        return format!("it left its program with status {status} in place of answering");
    }
    error.downcast_ref::<Trap>().map_or_else(|| host_refusal(error), trap_reason)
}

/// The reasons that a developer meets, in words; the rest as wasmtime says it.
fn trap_reason(trap: &Trap) -> String {
    let words = match trap {
        Trap::UnreachableCodeReached => "it panicked (its log may say where) or aborted",
        Trap::StackOverflow => "its call stack overflowed: endless recursion?",
        Trap::MemoryOutOfBounds => "it read or wrote outside of its memory",
        Trap::IntegerDivisionByZero => "it divided by zero",
        other => return other.to_string().trim_start_matches("wasm trap: ").to_owned(),
    };
    words.to_owned()
}

/// Not a trap of the guest's code, but something that the host or the component model refused it.
fn host_refusal(error: &wasmtime::Error) -> String {
    quote(&error.root_cause().to_string())
}

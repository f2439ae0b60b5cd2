//! The Wasm engine: how guests are compiled, where they run, how many at once.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;
use wasmtime::component::{Component as Compiled, HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::bindings;
use crate::code_cache::{CodeCache, Origin, Refused, Subject};
use crate::component::{self, Component};
use crate::error::{CompileError, EngineError, quote};
use crate::host::Host;
use crate::instance::Guest;
use crate::limits::{
    CORE_INSTANCES_MAX, IDLE_SHARE, KEEP_RESIDENT_BYTES, MEMORIES_MAX, TABLE_ELEMENTS_MAX,
    TABLES_MAX,
};
use crate::memory::Budget;
use crate::parking::Parking;
use crate::standard;
use crate::ticker::Ticker;

/// How large an engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Calls that run at once, default 1,000, and as many of components of `wasi:http` 0.3; one more is
    /// [`CallError::Busy`](crate::error::CallError::Busy). Each reserves about 4 GiB of address
    /// space, not of memory, so that guests need no bounds checks.
    pub instances_max: u32,
    /// Upper bound of the memory of one instance, in bytes, default 128 MiB: interpreters need tens
    /// of MiB.
    pub memory_bytes_max: usize,
    /// Upper bound of the memory of all instances together, in bytes, default 1 GiB. A guest that
    /// would exceed it is refused.
    pub memory_bytes_total: usize,
    /// Largest component that is compiled, in bytes, default 64 MiB.
    pub component_bytes_max: usize,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            instances_max: 1_000,
            memory_bytes_max: 128 << 20,
            memory_bytes_total: 1 << 30,
            component_bytes_max: 64 << 20,
        }
    }
}

/// Compiles guests and holds what they run in. One for a process; a clone is another handle on the
/// same.
///
/// Owns a thread, the epoch clock, which sleeps while nothing runs. It ends when the last handle
/// and the last [`Component`] are gone.
///
/// The first component of `wasi:http` 0.3 brings a second of wasmtime's engines, with a thread and
/// places of its own and the same memory: what asynchronous components need would cost all others.
pub struct Engine<H: Host> {
    shared: Arc<Shared<H>>,
    concurrent: Arc<Mutex<Option<Arc<Shared<H>>>>>,
}

/// Whether an engine runs asynchronous components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concurrency {
    /// Their machinery costs every call twice what the call itself does.
    Off,
    On,
}

/// What both of wasmtime's engines share.
#[derive(Clone)]
struct Common {
    budget: Arc<Budget>,
    parking: Arc<Parking>,
    calls: TaskTracker,
    compiling: Arc<Mutex<()>>,
}

/// What an engine and its handlers share.
pub(crate) struct Shared<H: Host> {
    // Before `engine`, so that the thread has ended when the engine goes.
    pub(crate) ticker: Ticker,
    pub(crate) budget: Arc<Budget>,
    /// Instances that wait to be used again.
    pub(crate) parking: Arc<Parking>,
    pub(crate) linker: Linker<Guest<H>>,
    pub(crate) config: EngineConfig,
    pub(crate) engine: wasmtime::Engine,
    /// Calls that go on after they were answered.
    pub(crate) calls: TaskTracker,
    /// Held while compiling: one compilation uses every processor already.
    compiling: Arc<Mutex<()>>,
}

impl<H: Host> Engine<H> {
    /// Makes an engine: reserves address space, starts the epoch thread.
    ///
    /// Fails if the machine does not grant the address space: a smaller `instances_max` needs less.
    pub fn new(config: EngineConfig) -> Result<Engine<H>, EngineError> {
        let parking = Arc::new(Parking::new(idle_max(&config)));
        let budget = Arc::new(Budget::new(config.memory_bytes_total, Arc::clone(&parking)));
        let common =
            Common { budget, parking, calls: TaskTracker::new(), compiling: Arc::default() };
        let shared = Arc::new(Shared::new(config, Concurrency::Off, common)?);
        Ok(Engine { shared, concurrent: Arc::default() })
    }

    /// What a component runs in. Makes the second engine if it is the first that needs it.
    fn home(&self, wasm: &[u8]) -> Result<Arc<Shared<H>>, CompileError> {
        if !component::is_concurrent(wasm) {
            return Ok(Arc::clone(&self.shared));
        }
        // It is there or it is not: whoever panicked has left nothing half done.
        let mut concurrent = self.concurrent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = &*concurrent {
            return Ok(Arc::clone(shared));
        }
        let first = &self.shared;
        let common = Common {
            budget: Arc::clone(&first.budget),
            parking: Arc::clone(&first.parking),
            calls: first.calls.clone(),
            compiling: Arc::clone(&first.compiling),
        };
        let shared = Arc::new(Shared::new(first.config, Concurrency::On, common)?);
        Ok(Arc::clone(concurrent.insert(shared)))
    }

    /// Checks and compiles a component. A call of it costs microseconds afterwards.
    ///
    /// **Blocks** for as long as compiling takes, on every processor: some 30 ms for a small Rust
    /// handler, tens of seconds for an interpreter. Call it from `spawn_blocking`, never on a
    /// request's way. Calls take turns. Nothing is kept on disk: the same bytes are compiled again
    /// by the next process.
    pub fn compile(&self, wasm: &[u8]) -> Result<Component<H>, CompileError> {
        Component::check(&self.shared, wasm)?;
        let home = self.home(wasm)?;
        let code = home.compile_code(wasm)?;
        Component::new(home, &code)
    }

    /// The same, with the code that `cache` holds, if it does: that takes milliseconds. Otherwise
    /// the cache holds it afterwards.
    pub fn load_or_compile(
        &self,
        wasm: &[u8],
        cache: &CodeCache,
    ) -> Result<(Component<H>, Origin), CompileError> {
        Component::check(&self.shared, wasm)?;
        let home = self.home(wasm)?;
        let subject = Subject::new(&home.engine, wasm);
        let found = cache.find(&subject);
        let loaded = found.and_then(|code| code.map(|code| home.load_code(&code)).transpose());
        let (code, origin) = match loaded {
            Ok(Some(code)) => (code, Origin::Loaded),
            missing => {
                let code = home.compile_code(wasm)?;
                let kept = code.serialize().map_err(io::Error::other);
                let kept = kept.and_then(|bytes| cache.keep(&subject, &bytes));
                (code, Origin::Compiled { refused: missing.err(), kept })
            }
        };
        Ok((Component::new(home, &code)?, origin))
    }

    /// Waits for the calls that still run. None may begin any more.
    pub async fn settled(&self) {
        self.shared.calls.close();
        self.shared.calls.wait().await;
    }

    /// Returns the linear memory that running instances hold together, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.shared.budget.held_bytes()
    }
}

impl<H: Host> Shared<H> {
    fn new(
        config: EngineConfig,
        concurrency: Concurrency,
        common: Common,
    ) -> Result<Shared<H>, EngineError> {
        let refused = |error: wasmtime::Error| EngineError::Refused {
            instances_max: config.instances_max,
            reason: format!("{error:#}"),
        };
        let engine = wasmtime::Engine::new(&settings(&config, concurrency)).map_err(refused)?;
        let mut linker = Linker::new(&engine);
        bindings::Handler::add_to_linker::<_, HasSelf<Guest<H>>>(&mut linker, |guest| guest)
            .map_err(refused)?;
        standard::link(&mut linker).map_err(refused)?;
        if concurrency == Concurrency::On {
            standard::link_0_3(&mut linker).map_err(refused)?;
        }
        let ticker = Ticker::start(engine.weak(), config.instances_max)?;
        let Common { budget, parking, calls, compiling } = common;
        Ok(Shared { ticker, budget, parking, linker, config, engine, calls, compiling })
    }

    fn compile_code(&self, wasm: &[u8]) -> Result<Compiled, CompileError> {
        Component::<H>::check_code(wasm)?;
        // A compilation that panicked has left nothing behind that the next could trip over.
        let _turn = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        Compiled::from_binary(&self.engine, wasm)
            .map_err(|error| CompileError::Invalid(quote(&format!("{error:#}"))))
    }

    /// Only for what came out of a [`CodeCache`].
    #[allow(unsafe_code, reason = "loading compiled code is, by its nature")]
    fn load_code(&self, code: &[u8]) -> Result<Compiled, Refused> {
        // SAFETY: these bytes were sealed by this node, with a key that its user alone can read,
        // right after the engine had made them, for this engine's version and settings; the seal
        // was checked over this very copy of them. Nobody else can write to it.
        let loaded = unsafe { Compiled::deserialize(&self.engine, code) };
        loaded.map_err(|error| Refused::Engine(quote(&format!("{error:#}"))))
    }
}

impl<H: Host> Clone for Engine<H> {
    fn clone(&self) -> Engine<H> {
        Engine { shared: Arc::clone(&self.shared), concurrent: Arc::clone(&self.concurrent) }
    }
}

impl<H: Host> fmt::Debug for Engine<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Engine")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// Each setting here was measured on the call of a small Rust handler: together they bring a fresh
/// instance and its call from 38 to 14 microseconds.
fn settings(config: &EngineConfig, concurrency: Concurrency) -> Config {
    let mut settings = Config::new();
    settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config, concurrency)));
    settings.epoch_interruption(true);
    settings.concurrency_support(concurrency == Concurrency::On);
    settings.memory_init_cow(true);
    settings
}

/// Instances that may wait to be used again.
fn idle_max(config: &EngineConfig) -> u32 {
    config.instances_max.div_ceil(IDLE_SHARE)
}

fn pool(config: &EngineConfig, concurrency: Concurrency) -> PoolingAllocationConfig {
    // Those that wait take no place from those that run.
    let instances = config.instances_max.saturating_add(idle_max(config));
    let stacks = match concurrency {
        Concurrency::Off => instances,
        // While one task of an instance waits in a call, another runs on a stack of its own.
        Concurrency::On => instances.saturating_mul(2),
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(stacks)
        .total_memories(instances)
        .total_core_instances(instances.saturating_mul(4))
        .total_tables(instances.saturating_mul(2))
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(config.memory_bytes_max)
        // What a slot keeps between two instances needs no page fault the next time; where the
        // kernel can tell which pages were written (6.7 and newer), only these are wiped.
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(8 * TABLE_ELEMENTS_MAX)
        .pagemap_scan(Enabled::Auto);
    pool
}

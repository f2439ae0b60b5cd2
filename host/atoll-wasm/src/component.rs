//! A component that was taken in: checked, compiled, ready to be called.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::bindings::HandlerPre;
use crate::bindings::atoll::edge::types as raw;
use crate::engine::Shared;
use crate::error::{CallError, CompileError, PLACES_TAKEN, quote};
use crate::host::{Host, Request, Response};
use crate::instance::{self, Guest};
use crate::limits::Limits;
use crate::ticker::CallGuard;

/// The interface that a handler exports.
pub const HANDLER_EXPORT: &str = "atoll:edge/incoming-handler@0.1.0";

/// An interface that the node offers to guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interface {
    /// `atoll:edge/clock`.
    Clock,
    /// `atoll:edge/config`.
    Config,
    /// `atoll:edge/kv`: needs a grant.
    Kv,
    /// `atoll:edge/log`.
    Log,
    /// `atoll:edge/random`.
    Random,
}

impl Interface {
    /// Every interface.
    pub const ALL: [Interface; 5] =
        [Interface::Clock, Interface::Config, Interface::Kv, Interface::Log, Interface::Random];

    /// Returns its name in WIT, without the version.
    pub fn name(self) -> &'static str {
        match self {
            Interface::Clock => "atoll:edge/clock",
            Interface::Config => "atoll:edge/config",
            Interface::Kv => "atoll:edge/kv",
            Interface::Log => "atoll:edge/log",
            Interface::Random => "atoll:edge/random",
        }
    }
}

/// A compiled handler. Cheap to call, shared by reference between requests.
pub struct Handler<H: Host> {
    shared: Arc<Shared<H>>,
    pre: HandlerPre<Guest<H>>,
    imports: BTreeSet<Interface>,
}

impl<H: Host> Handler<H> {
    pub(crate) fn compile(shared: Arc<Shared<H>>, wasm: &[u8]) -> Result<Handler<H>, CompileError> {
        let bytes_max = shared.config.component_bytes_max;
        if wasm.len() > bytes_max {
            return Err(CompileError::TooLarge { len: wasm.len(), bytes_max });
        }
        check_preamble(wasm)?;
        let component = Component::from_binary(&shared.engine, wasm)
            .map_err(|error| CompileError::Invalid(quote(&format!("{error:#}"))))?;
        check_export(&component)?;
        let imports = check_imports(&component)?;
        // Names fit; what is left to go wrong are the types behind them.
        let mismatch =
            |error: wasmtime::Error| CompileError::Mismatch(quote(&format!("{error:#}")));
        let pre = shared.linker.instantiate_pre(&component).map_err(mismatch)?;
        let pre = HandlerPre::new(pre).map_err(mismatch)?;
        Ok(Handler { shared, pre, imports })
    }

    /// Returns which of the node's interfaces the component imports, so that a deploy without the
    /// grant for one can be refused.
    pub fn imports(&self) -> &BTreeSet<Interface> {
        &self.imports
    }

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
        let limits = limits.bounded(self.shared.config.memory_bytes_max);
        let _running = self.enter()?;
        let mut store = instance::store(&self.shared.engine, host, &self.shared.budget, &limits);
        instance::run(&self.pre, &mut store, request, &limits).await
    }

    /// Makes an instance and drops it: what a deploy does before it sends requests.
    ///
    /// Fails as a call would, for a component that needs more memory than `limits` at its start, or
    /// whose start code traps.
    pub async fn try_instance(&self, host: H, limits: &Limits) -> Result<(), CallError> {
        let limits = limits.bounded(self.shared.config.memory_bytes_max);
        let _running = self.enter()?;
        let mut store = instance::store(&self.shared.engine, host, &self.shared.budget, &limits);
        instance::start(&self.pre, &mut store, &limits).await
    }

    fn enter(&self) -> Result<CallGuard, CallError> {
        self.shared.ticker.enter().ok_or(CallError::Busy(PLACES_TAKEN))
    }
}

impl<H: Host> fmt::Debug for Handler<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Handler").field("imports", &self.imports).finish_non_exhaustive()
    }
}

/// `\0asm`, then version and layer: 1 and 0 of a core module, 13 and 1 of a component.
fn check_preamble(wasm: &[u8]) -> Result<(), CompileError> {
    if !wasm.starts_with(b"\0asm") {
        return Err(CompileError::NotWasm);
    }
    if wasm[4..].starts_with(&[1, 0, 0, 0]) {
        return Err(CompileError::CoreModule);
    }
    Ok(())
}

fn check_export(component: &Component) -> Result<(), CompileError> {
    let engine = component.engine();
    let component = component.component_type();
    let Some(export) = component.get_export(engine, HANDLER_EXPORT) else {
        let found = component.exports(engine).map(|(name, _)| name.to_owned()).collect();
        return Err(CompileError::MissingExport { wanted: HANDLER_EXPORT, found });
    };
    let handle = match &export.ty {
        ComponentItem::ComponentInstance(instance) => instance.get_export(engine, "handle"),
        _ => None,
    };
    let Some(ComponentItem::ComponentFunc(handle)) = handle.map(|handle| handle.ty) else {
        return Err(CompileError::Mismatch(format!("{HANDLER_EXPORT} has no function `handle`")));
    };
    // wasmtime would compare these types at the first instance; who deploys is told now.
    handle
        .typecheck::<(raw::Request<'_>,), (raw::Response,)>(&component.instance_type())
        .map_err(|error| CompileError::Mismatch(quote(&format!("`handle`: {error:#}"))))
}

/// Returns the interfaces that are imported, if all of them are offered.
fn check_imports(component: &Component) -> Result<BTreeSet<Interface>, CompileError> {
    let mut known = BTreeSet::new();
    let mut unknown = Vec::new();
    for (name, import) in component.component_type().imports(component.engine()) {
        match offered(name) {
            Some(Offered::Interface(interface)) => {
                known.insert(interface);
            }
            // Only the shapes of records: nothing to call.
            Some(Offered::Types) => {}
            None if matches!(import.ty, ComponentItem::Type(_)) => {}
            None => unknown.push(name.to_owned()),
        }
    }
    if unknown.is_empty() {
        Ok(known)
    } else {
        Err(CompileError::UnknownImports { names: unknown })
    }
}

enum Offered {
    Interface(Interface),
    Types,
}

/// Looks an import up by its full name. Any 0.1.x will do: they differ in what was added, and a
/// function that this node lacks is found when the types are compared.
fn offered(import: &str) -> Option<Offered> {
    let (name, version) = import.split_once('@')?;
    if !version.starts_with("0.1.") {
        return None;
    }
    if name == "atoll:edge/types" {
        return Some(Offered::Types);
    }
    Interface::ALL.into_iter().find(|interface| interface.name() == name).map(Offered::Interface)
}

//! What a component is and what it wants, by the names that it exports and imports.

use wasmparser::{Chunk, FunctionBody, Operator, Parser, Payload};
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::watcher;
use crate::bindings::atoll::edge::types as raw;
use crate::error::{CompileError, quote};
use crate::limits::{
    BLOCK_DEPTH_MAX, CODE_BYTES_MAX, FUNCTION_BYTES_MAX, FUNCTIONS_MAX, LOOP_COUNT_MAX,
};
use crate::standard;

const EDGE_EXPORT: &str = "atoll:edge/incoming-handler@0.1.0";
const FILTER_EXPORT: &str = "atoll:edge/route-filter@0.1.0";
const PROXY_EXPORT: &str = "wasi:http/incoming-handler";
const SERVICE_EXPORT: &str = "wasi:http/handler";

/// The interfaces of our own world that have functions.
const EDGE_IMPORTS: [&str; 8] = [
    CACHE_IMPORT,
    "atoll:edge/clock",
    "atoll:edge/config",
    FETCH_IMPORT,
    STORE_IMPORT,
    "atoll:edge/log",
    "atoll:edge/random",
    "atoll:edge/secrets",
];
const CACHE_IMPORT: &str = "atoll:edge/cache";
const FETCH_IMPORT: &str = "atoll:edge/fetch";
const STORE_IMPORT: &str = "atoll:edge/kv";
/// Only the shapes of records: nothing to call.
const TYPES_IMPORT: &str = "atoll:edge/types";

/// What a component was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Our own world `atoll:edge/handler`.
    Edge,
    /// The standard's `wasi:http/proxy`, which is of 0.2.
    Proxy,
    /// The standard's `wasi:http/service`, which is of 0.3.
    Service,
    /// The standard's `wasi:keyvalue/watch-service`, and nothing that answers requests.
    Watcher,
    /// Our own world `atoll:edge/filter`.
    Filter,
}

impl World {
    /// Returns its name in WIT, without the version.
    pub fn name(self) -> &'static str {
        match self {
            World::Edge => "atoll:edge/handler",
            World::Proxy => "wasi:http/proxy",
            World::Service => "wasi:http/service",
            World::Watcher => "wasi:keyvalue/watch-service",
            World::Filter => "atoll:edge/filter",
        }
    }
}

/// `\0asm`, then version and layer: 1 and 0 of a core module, 13 and 1 of a component.
pub(super) fn check_preamble(wasm: &[u8]) -> Result<(), CompileError> {
    if !wasm.starts_with(b"\0asm") {
        return Err(CompileError::NotWasm);
    }
    if wasm[4..].starts_with(&[1, 0, 0, 0]) {
        return Err(CompileError::CoreModule);
    }
    Ok(())
}

/// Tells whether a component, that nobody has checked yet, exports a handler of `wasi:http` 0.3, and
/// so can only be compiled by an engine with concurrency.
pub(crate) fn is_concurrent(wasm: &[u8]) -> bool {
    let (mut parser, mut rest) = (Parser::new(0), wasm);
    while let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true) {
        rest = &rest[consumed..];
        match payload {
            // What lies within is another's, and nearly all of the bytes.
            Payload::ModuleSection { unchecked_range, .. }
            | Payload::ComponentSection { unchecked_range, .. } => {
                let Some(behind) = rest.get(unchecked_range.len()..) else { return false };
                rest = behind;
            }
            Payload::ComponentExportSection(exports) => {
                let any_draft = |version: &str| version.starts_with("0.3.");
                let mut names = exports.into_iter().flatten().map(|export| export.name.name);
                if names.any(|name| version_of(SERVICE_EXPORT, name).is_some_and(any_draft)) {
                    return true;
                }
            }
            Payload::End(_) => return false,
            _ => {}
        }
    }
    false
}

/// The version behind an interface's name, if it is this interface.
fn version_of<'n>(interface: &str, name: &'n str) -> Option<&'n str> {
    name.strip_prefix(interface)?.strip_prefix('@')
}

/// Refuses what would keep the compiler busy for minutes, or take it gigabytes: it cannot be stopped,
/// and others wait.
pub(super) fn check_functions(wasm: &[u8]) -> Result<(), CompileError> {
    let (mut functions, mut code_bytes) = (0_usize, 0_usize);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::CodeSectionEntry(body)) => {
                let (len, bytes_max) = (body.range().len(), FUNCTION_BYTES_MAX);
                (functions, code_bytes) = (functions + 1, code_bytes.saturating_add(len));
                if len > bytes_max {
                    return Err(CompileError::FunctionTooLarge { len, bytes_max });
                }
                if is_too_complex(&body).unwrap_or_default() {
                    return Err(CompileError::FunctionTooComplex);
                }
            }
            // Each is compiled as well.
            Ok(Payload::ComponentCanonicalSection(adapters)) => {
                functions = functions.saturating_add(adapters.count() as usize);
            }
            Ok(_) => {}
            // The compiler reads it in the same way, and says what is broken.
            Err(_) => return Ok(()),
        }
        if functions > FUNCTIONS_MAX || code_bytes > CODE_BYTES_MAX {
            return Err(CompileError::TooManyFunctions);
        }
    }
    Ok(())
}

fn is_too_complex(body: &FunctionBody<'_>) -> wasmparser::Result<bool> {
    let (mut depth, mut loops) = (0_usize, 0);
    for operator in body.get_operators_reader()? {
        match operator? {
            Operator::Loop { .. } => {
                depth += 1;
                loops += 1;
            }
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => depth += 1,
            // That of the function itself is one more.
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > BLOCK_DEPTH_MAX || loops > LOOP_COUNT_MAX {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds out which world the component was made for. One of several is of the newest standard, or
/// ours.
pub(super) fn world(component: &Component) -> Result<World, CompileError> {
    let ty = component.component_type();
    let names = || ty.exports(component.engine()).map(|(name, _)| name);
    let is_service = |name| version_of(SERVICE_EXPORT, name).is_some_and(standard::is_wasi_0_3);
    if names().any(is_service) {
        return Ok(World::Service);
    }
    if ty.get_export(component.engine(), EDGE_EXPORT).is_some() {
        check_edge_export(component)?;
        return Ok(World::Edge);
    }
    if ty.get_export(component.engine(), FILTER_EXPORT).is_some() {
        return Ok(World::Filter);
    }
    let is_proxy = |name| version_of(PROXY_EXPORT, name).is_some_and(standard::is_wasi_0_2);
    if names().any(is_proxy) {
        return Ok(World::Proxy);
    }
    if names().any(watcher::is_watcher) {
        return Ok(World::Watcher);
    }
    Err(CompileError::MissingExport { found: names().map(str::to_owned).collect() })
}

fn check_edge_export(component: &Component) -> Result<(), CompileError> {
    let engine = component.engine();
    let ty = component.component_type();
    let export = ty.get_export(engine, EDGE_EXPORT);
    let handle = match export.map(|export| export.ty) {
        Some(ComponentItem::ComponentInstance(instance)) => {
            instance.get_export(engine, "handle").map(|handle| handle.ty)
        }
        _ => None,
    };
    let Some(ComponentItem::ComponentFunc(handle)) = handle else {
        return Err(CompileError::Mismatch(format!("{EDGE_EXPORT} has no function `handle`")));
    };
    // wasmtime would compare these types at the first instance; who deploys is told now.
    handle
        .typecheck::<(raw::Request<'_>,), (raw::Response,)>(&ty.instance_type())
        .map_err(|error| CompileError::Mismatch(quote(&format!("`handle`: {error:#}"))))
}

/// Returns the interfaces that are imported, if all of them are offered.
pub(super) fn imports(component: &Component, world: World) -> Result<Vec<String>, CompileError> {
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for (name, import) in component.component_type().imports(component.engine()) {
        if is_offered(name, world) {
            known.push(name.to_owned());
        } else if !matches!(import.ty, ComponentItem::Type(_)) {
            unknown.push(name.to_owned());
        }
    }
    if unknown.is_empty() {
        Ok(known)
    } else {
        Err(CompileError::UnknownImports { names: unknown })
    }
}

/// Tells whether the interface of this full name gives access to the store.
pub(super) fn reaches_store(component: &Component, import: &str) -> bool {
    match edge(import) {
        Some(STORE_IMPORT) => true,
        Some(CACHE_IMPORT) => calls(component, import, "get-or-fill"),
        _ => standard::reaches_store(import),
    }
}

/// Tells whether the component was written to take back what HTTP caches hold. Tools for JavaScript and
/// Python import every function of an interface, which says nothing.
pub(super) fn purges(component: &Component, import: &str) -> bool {
    edge(import) == Some(CACHE_IMPORT)
        && calls(component, import, "purge")
        && !calls(component, import, "get-or-fill")
}

/// Tells whether a function is among those that the component imports of an interface.
fn calls(component: &Component, import: &str, function: &str) -> bool {
    let engine = component.engine();
    let item = component.component_type().get_import(engine, import).map(|import| import.ty);
    match item {
        Some(ComponentItem::ComponentInstance(instance)) => {
            instance.get_export(engine, function).is_some()
        }
        _ => false,
    }
}

/// Tells whether the interface of this full name has functions that wait for others.
pub(super) fn waits(import: &str) -> bool {
    matches!(edge(import), Some(CACHE_IMPORT | FETCH_IMPORT))
        || standard::offers(import)
        || standard::offers_0_3(import)
}

/// Tells whether a call of this interface may hold up all that its instance does, until somebody outside
/// has answered.
pub(super) fn holds_up(import: &str) -> bool {
    matches!(edge(import), Some(CACHE_IMPORT | FETCH_IMPORT))
        || import.starts_with("wasi:http/outgoing-handler@")
}

fn is_offered(import: &str, world: World) -> bool {
    edge(import).is_some()
        || standard::offers(import)
        || world == World::Service && standard::offers_0_3(import)
}

/// Looks up an interface of ours by its full name. Any 0.1.x will do: they differ in what was added,
/// and a function that this node lacks is found when the types are compared.
fn edge(import: &str) -> Option<&'static str> {
    let (name, version) = import.split_once('@')?;
    if !version.starts_with("0.1.") {
        return None;
    }
    EDGE_IMPORTS.into_iter().chain([TYPES_IMPORT]).find(|known| *known == name)
}

//! The standard worlds: what components that know nothing of this node import and export.
//!
//! WASI 0.2 and 0.3 themselves and the types of `wasi:http` are the engine's own crates; what they lack, or keep
//! to themselves (the store behind `wasi:keyvalue`), is here. Nothing of the machine is granted: no
//! environment, no files, no sockets; time and dice are free, and what is printed is logged.

mod answer;
mod body;
mod config;
mod exchange;
mod keyvalue;
mod logging;
mod outbound;
mod progress;
mod service;
mod session;
mod stdio;

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::bindings::standard;
use crate::host::{Host, Level};
use crate::instance::Guest;
use crate::limits::{HEADER_BYTES_MAX, RANDOM_BYTES_MAX, RESOURCES_MAX};
use crate::log::Log;

pub use body::{AnswerBody, BrokenOff};
pub(crate) use exchange::{Call, Callee, serve};
pub(crate) use keyvalue::KeyValue;
pub(crate) use outbound::Outbound;
pub(crate) use session::{Job, Reply, Session, Start};

/// What the engine's crates keep for one instance.
pub(crate) struct Standard {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    output: [stdio::Lines; 2],
}

impl Standard {
    fn new(log: &Arc<Log>) -> Standard {
        let output =
            [Level::Info, Level::Warn].map(|level| stdio::Lines::new(Arc::clone(log), level));
        let [stdout, stderr] = output.clone();
        let mut wasi = WasiCtx::builder();
        wasi.stdout(stdout)
            .stderr(stderr)
            .max_random_size(u64::from(RANDOM_BYTES_MAX))
            .allow_tcp(false)
            .allow_udp(false);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADER_BYTES_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Standard { wasi: wasi.build(), http, table, output }
    }

    /// The call is over.
    pub(crate) fn rest(&self) {
        self.output.iter().for_each(stdio::Lines::end_line);
    }
}

impl fmt::Debug for Standard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Standard").finish_non_exhaustive()
    }
}

impl<H: Host> Guest<H> {
    /// Made when it is first needed: a handler of our own world pays nothing for it.
    fn standard(&mut self) -> &mut Standard {
        if self.standard.is_none() {
            let log = Arc::clone(self.log());
            self.standard = Some(Box::new(Standard::new(&log)));
        }
        self.standard.as_mut().expect("it was just made")
    }
}

impl<H: Host> Guest<H> {
    /// What sends this call's requests, whichever interface the guest uses.
    pub(crate) fn outbound(&mut self) -> &mut Outbound {
        if self.outbound.is_none() {
            let log = Arc::clone(self.log());
            self.outbound = Some(Outbound::new(self.host.fetcher(), log));
        }
        self.outbound.as_mut().expect("it was just made")
    }
}

impl<H: Host> WasiView for Guest<H> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let standard = self.standard();
        WasiCtxView { ctx: &mut standard.wasi, table: &mut standard.table }
    }
}

impl<H: Host> WasiHttpView for Guest<H> {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.outbound();
        self.standard();
        let outbound = self.outbound.as_mut().expect("it was just made");
        let standard = self.standard.as_mut().expect("it was just made");
        WasiHttpCtxView { hooks: outbound, table: &mut standard.table, ctx: &mut standard.http }
    }
}

/// Links every standard interface that is offered.
pub(crate) fn link<H: Host>(linker: &mut Linker<Guest<H>>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    standard::Standard::add_to_linker::<_, HasSelf<Guest<H>>>(linker, |guest| guest)?;
    for name in config::NAMES {
        config::link(&mut linker.instance(name)?)?;
    }
    for name in logging::NAMES {
        logging::link(&mut linker.instance(name)?)?;
    }
    Ok(())
}

/// Links what came with WASI 0.3, where the engine runs asynchronous components.
pub(crate) fn link_0_3<H: Host>(linker: &mut Linker<Guest<H>>) -> wasmtime::Result<()> {
    wasmtime_wasi::p3::add_to_linker(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)
}

/// Tells whether a component may import the interface of this full name.
pub(crate) fn offers(import: &str) -> bool {
    // The engine's crates have every interface of these packages, and hold any 0.2.x for one.
    const WASI: [&str; 7] = [
        "wasi:cli",
        "wasi:clocks",
        "wasi:filesystem",
        "wasi:http",
        "wasi:io",
        "wasi:random",
        "wasi:sockets",
    ];
    let (package, version) = package_of(import);
    let is_wasi = WASI.contains(&package) && is_wasi_0_2(version);
    is_wasi
        || keyvalue::NAMES.contains(&import)
        || config::NAMES.contains(&import)
        || logging::NAMES.contains(&import)
}

/// Tells whether a component of `wasi:http` 0.3 may import this interface too.
pub(crate) fn offers_0_3(import: &str) -> bool {
    const WASI: [&str; 6] =
        ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:http", "wasi:random", "wasi:sockets"];
    let (package, version) = package_of(import);
    WASI.contains(&package) && is_wasi_0_3(version) && !import.starts_with("wasi:http/handler@")
}

/// The package that an interface is of, and its version.
fn package_of(import: &str) -> (&str, &str) {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    (name.split_once('/').map_or(name, |(package, _)| package), version)
}

/// Tells whether an interface gives access to the store.
pub(crate) fn reaches_store(import: &str) -> bool {
    keyvalue::NAMES.contains(&import)
}

/// Tells whether a version is a released one of WASI 0.2.
pub(crate) fn is_wasi_0_2(version: &str) -> bool {
    is_patch(version.strip_prefix("0.2."))
}

/// The same of WASI 0.3.
pub(crate) fn is_wasi_0_3(version: &str) -> bool {
    is_patch(version.strip_prefix("0.3."))
}

fn is_patch(patch: Option<&str>) -> bool {
    patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_patch_of_wasi_0_2_is_offered_and_drafts_only_as_they_are() {
        for name in [
            "wasi:http/types@0.2.0",
            "wasi:io/streams@0.2.12",
            "wasi:keyvalue/store@0.2.0-draft",
            "wasi:keyvalue/atomics@0.2.0-draft2",
            "wasi:config/store@0.2.0-rc.1",
            "wasi:logging/logging",
            "wasi:logging/logging@0.1.0-draft",
        ] {
            assert!(offers(name), "{name}");
        }
        for name in [
            "wasi:http/types@0.2.0-rc-2023-12-05",
            "wasi:http/types@0.3.0",
            "wasi:http/types",
            "wasi:keyvalue/store@0.2.0",
            "wasi:keyvalue/watcher@0.2.0-draft",
            "wasi:nn/graph@0.2.0",
            "other:http/types@0.2.0",
        ] {
            assert!(!offers(name), "{name}");
        }
    }

    #[test]
    fn any_patch_of_wasi_0_3_is_offered_and_neither_its_drafts_nor_a_handler_behind_it() {
        for name in ["wasi:http/types@0.3.0", "wasi:http/client@0.3.2", "wasi:clocks/types@0.3.1"] {
            assert!(offers_0_3(name), "{name}");
        }
        for name in [
            "wasi:http/types@0.3.0-rc-2026-03-15",
            "wasi:http/handler@0.3.0",
            "wasi:io/streams@0.3.0",
            "wasi:http/types@0.2.0",
        ] {
            assert!(!offers_0_3(name), "{name}");
        }
    }
}

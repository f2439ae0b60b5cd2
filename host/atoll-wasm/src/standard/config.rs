//! `wasi:config/store`: the settings that the handler was deployed with.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, LinkerInstance, Lower};

use crate::host::Host;
use crate::instance::Guest;

/// One text under the versions that guests were made for: those of drafts never match.
pub(super) const NAMES: [&str; 3] = [
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
];

/// Why a setting could not be read. Here it always can: settings are in memory.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "its shape is the standard's")]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

pub(super) fn link<H: Host>(instance: &mut LinkerInstance<'_, Guest<H>>) -> wasmtime::Result<()> {
    instance.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, Guest<H>>, (key,): (String,)| -> Answer<Option<String>> {
            Ok((Ok(store.data_mut().host.config(&key)),))
        },
    )?;
    instance.func_wrap(
        "get-all",
        |mut store: StoreContextMut<'_, Guest<H>>, (): ()| -> Answer<Vec<(String, String)>> {
            Ok((Ok(store.data_mut().host.settings()),))
        },
    )
}

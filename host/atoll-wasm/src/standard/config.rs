//! `wasi:config/store`: the settings that the handler was deployed with, and its secrets.
//!
//! The standards have no interface for secrets that is in use, so they are settings named
//! `secret:NAME`. `get-all` tells of none of them.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, LinkerInstance, Lower};

use crate::host::{Host, SecretError};
use crate::instance::Guest;

/// One text under the versions that guests were made for: those of drafts never match.
pub(super) const NAMES: [&str; 3] = [
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
];

/// What a setting begins with that is a secret.
const SECRET: &str = "secret:";

/// Why a setting could not be read. Only a secret may not be, or cannot.
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
            let host = &mut store.data_mut().host;
            Ok((match key.strip_prefix(SECRET) {
                Some(name) => secret(host, name),
                None => Ok(host.config(&key)),
            },))
        },
    )?;
    instance.func_wrap(
        "get-all",
        |mut store: StoreContextMut<'_, Guest<H>>, (): ()| -> Answer<Vec<(String, String)>> {
            Ok((Ok(store.data_mut().host.settings()),))
        },
    )
}

fn secret<H: Host>(host: &mut H, name: &str) -> Result<Option<String>, Error> {
    let secret = host.secret(name).map_err(|error| match error {
        SecretError::Denied(detail) | SecretError::Unavailable(detail) => Error::Upstream(detail),
    })?;
    let not_text = |_| Error::Upstream(format!("the secret {name} is not text in UTF-8"));
    secret.map(String::from_utf8).transpose().map_err(not_text)
}

//! `wasi:logging/logging`: lines of the handler's log.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance};

use crate::host::{Host, Level};
use crate::instance::Guest;

/// One text, that tools write with and without a version.
pub(super) const NAMES: [&str; 2] = ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "lifted from the guest, never made here")]
enum GuestLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

pub(super) fn link<H: Host>(instance: &mut LinkerInstance<'_, Guest<H>>) -> wasmtime::Result<()> {
    instance.func_wrap(
        "log",
        |mut store: StoreContextMut<'_, Guest<H>>,
         (level, context, message): (GuestLevel, String, String)| {
            let level = match level {
                GuestLevel::Trace => Level::Trace,
                GuestLevel::Debug => Level::Debug,
                GuestLevel::Info => Level::Info,
                GuestLevel::Warn => Level::Warn,
                GuestLevel::Error | GuestLevel::Critical => Level::Error,
            };
            let log = store.data_mut().log();
            match context.is_empty() {
                true => log.write(level, &message),
                false => log.write(level, &format!("{context}: {message}")),
            }
            Ok(())
        },
    )
}

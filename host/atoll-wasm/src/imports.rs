//! The functions that a guest can call, over the [`Host`](crate::host::Host) of its call.
//!
//! What is bounded here is what a host could not refuse in time: how many, how long, how often.

mod cache;
mod fetch;
pub(crate) mod kv;

use crate::bindings::atoll::edge::{clock, config, log, random, secrets, types};
use crate::host::{Host, Level, SecretError};
use crate::instance::Guest;
use crate::limits::RANDOM_BYTES_MAX;

impl<H: Host> types::Host for Guest<H> {}

impl<H: Host> log::Host for Guest<H> {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log().write(level, &message);
        Ok(())
    }
}

impl<H: Host> clock::Host for Guest<H> {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(self.host.now_ms())
    }
}

impl<H: Host> random::Host for Guest<H> {
    fn bytes(&mut self, len: u32) -> wasmtime::Result<Vec<u8>> {
        if len > RANDOM_BYTES_MAX {
            return Err(wasmtime::Error::msg(format!(
                "it asked for {len} random bytes at once; at most {RANDOM_BYTES_MAX} are given"
            )));
        }
        let mut bytes = vec![0; len as usize];
        self.host.random(&mut bytes).map_err(wasmtime::Error::new)?;
        Ok(bytes)
    }

    fn number(&mut self) -> wasmtime::Result<u64> {
        let mut bytes = [0; 8];
        self.host.random(&mut bytes).map_err(wasmtime::Error::new)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl<H: Host> config::Host for Guest<H> {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.host.config(&key))
    }
}

impl<H: Host> secrets::Host for Guest<H> {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Option<Vec<u8>>, secrets::Error>> {
        let secret = self.host.secret(&name);
        if let Err(SecretError::Denied(what)) = &secret {
            self.log().write(Level::Warn, &format!("secrets: {what}"));
        }
        Ok(secret.map_err(|error| match error {
            SecretError::Denied(detail) => secrets::Error::Denied(detail),
            SecretError::Unavailable(detail) => secrets::Error::Unavailable(detail),
        }))
    }
}

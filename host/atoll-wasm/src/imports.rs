//! The functions that a guest can call, over the [`Host`](crate::host::Host) of its call.
//!
//! What is bounded here is what a host could not refuse in time: how many, how long, how often.

pub(crate) mod kv;

use crate::bindings::atoll::edge::{clock, config, log, random, types};
use crate::host::{Host, Level};
use crate::instance::Guest;
use crate::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX, RANDOM_BYTES_MAX};

/// How many lines of log a guest has left.
#[derive(Debug)]
pub(crate) struct LogBudget {
    lines_left: u32,
}

impl LogBudget {
    pub(crate) fn new() -> LogBudget {
        LogBudget { lines_left: LOG_LINES_MAX }
    }
}

impl<H: Host> types::Host for Guest<H> {}

impl<H: Host> log::Host for Guest<H> {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let Some(lines_left) = self.log.lines_left.checked_sub(1) else { return Ok(()) };
        self.log.lines_left = lines_left;
        if lines_left == 0 {
            self.host.log(
                Level::Warn,
                "this call has written as many lines of log as it may: the rest is dropped",
            );
            return Ok(());
        }
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.host.log(level, cut(&message));
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

/// Returns the message up to the bound, cut between characters.
fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(LOG_LINE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = "é".repeat(LOG_LINE_BYTES_MAX);
        assert_eq!(cut(&long).len(), LOG_LINE_BYTES_MAX);
        let shifted = format!("x{long}");
        assert_eq!(cut(&shifted).len(), LOG_LINE_BYTES_MAX - 1);
    }
}

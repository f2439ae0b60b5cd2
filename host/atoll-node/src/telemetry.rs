//! Logging: what is written to stderr, and how. A panic is logged like any other error.

use crate::config::{Config, LogFormat};
use anyhow::Context;
use atoll_core::store::POISONED;
use std::panic::PanicHookInfo;
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Installs the process's logger and its panic hook.
pub(crate) fn start(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&config.log)
        .with_context(|| format!("--log {:?} is no filter; write e.g. info", config.log))?;
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => {
            logger.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init()
        }
        LogFormat::Json => logger.json().init(),
    }
    std::panic::set_hook(Box::new(on_panic));
    Ok(())
}

/// A panic ends its own request or connection. One under a lock of the store leaves it in a state
/// that must not be served: the process ends, and whoever supervises it starts a new one.
fn on_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = std::backtrace::Backtrace::capture();
    error!(panic = message, place, %backtrace, "a task panicked");
    if is_fatal(message) {
        error!("the store is suspect, the process ends");
        std::process::abort();
    }
}

fn is_fatal(message: &str) -> bool {
    message.contains(POISONED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_panic_at_a_poisoned_lock_is_the_fatal_one() {
        let lock = std::sync::Mutex::new(());
        let panics = |work: &dyn Fn()| {
            let work = std::panic::AssertUnwindSafe(work);
            let panic = std::panic::catch_unwind(work).expect_err("it panics");
            panic.downcast_ref::<String>().cloned().unwrap_or_default()
        };
        let first = panics(&|| {
            let _guard = lock.lock();
            panic!("{}", "a bug");
        });
        assert!(!is_fatal(&first), "{first}");
        let second = panics(&|| drop(lock.lock().expect(POISONED)));
        assert!(is_fatal(&second), "{second}");
    }
}

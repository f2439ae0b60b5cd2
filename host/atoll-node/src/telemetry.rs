//! Logging: what is written to stderr, and how.

use crate::config::{Config, LogFormat};
use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Installs the process's logger.
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
    Ok(())
}

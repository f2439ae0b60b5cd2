//! The handler's log, as far as one call may write it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::host::{Level, Logger};
use crate::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX};

/// Writes lines until the call has written as many as it may.
pub(crate) struct Log {
    logger: Arc<dyn Logger>,
    lines_left: AtomicU32,
}

impl Log {
    pub(crate) fn new(logger: Arc<dyn Logger>) -> Log {
        Log { logger, lines_left: AtomicU32::new(LOG_LINES_MAX) }
    }

    /// Another call begins, with as many lines as the first.
    pub(crate) fn begin(&self) {
        self.lines_left.store(LOG_LINES_MAX, Ordering::Relaxed);
    }

    /// Keeps a line, cut at its bound.
    pub(crate) fn write(&self, level: Level, message: &str) {
        let take = |left: u32| left.checked_sub(1);
        match self.lines_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Err(_) => {}
            Ok(1) => self.logger.log(
                Level::Warn,
                "this call has written as many lines of log as it may: the rest is dropped",
            ),
            Ok(_) => self.logger.log(level, cut(message)),
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Log").field("lines_left", &self.lines_left).finish_non_exhaustive()
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

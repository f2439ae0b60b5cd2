//! The handler's log, as far as one call may write it.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::{Level, Logger};
use crate::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX};

/// Writes lines until the call has written as many as it may.
pub(crate) struct Log {
    logger: Arc<dyn Logger>,
    lines: Mutex<Lines>,
}

/// How many lines a call may still write. A clone is the same call's.
#[derive(Debug, Clone)]
pub(crate) struct Lines(Arc<AtomicU32>);

impl Lines {
    pub(crate) fn new() -> Lines {
        Lines(Arc::new(AtomicU32::new(LOG_LINES_MAX)))
    }
}

impl Log {
    pub(crate) fn new(logger: Arc<dyn Logger>) -> Log {
        Log { logger, lines: Mutex::new(Lines::new()) }
    }

    /// Another call begins, with as many lines as the first.
    pub(crate) fn begin(&self) {
        self.lines().0.store(LOG_LINES_MAX, Ordering::Relaxed);
    }

    /// It is another call's turn, of several that share the instance. Returns what the one before has left.
    pub(crate) fn turn_to(&self, lines: Lines) -> Lines {
        std::mem::replace(&mut *self.lines(), lines)
    }

    /// A log of its own for the call whose turn it is, and for its lines alone.
    pub(crate) fn of_this_call(&self) -> Log {
        Log { logger: Arc::clone(&self.logger), lines: Mutex::new(self.lines().clone()) }
    }

    /// A handle: whoever panicked has left a whole one.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a line, cut at its bound.
    pub(crate) fn write(&self, level: Level, message: &str) {
        let take = |left: u32| left.checked_sub(1);
        let Lines(left) = self.lines().clone();
        match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
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
        formatter.debug_struct("Log").field("lines", &self.lines).finish_non_exhaustive()
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

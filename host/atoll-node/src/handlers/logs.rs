//! The last lines that each handler has logged on this node, for whoever asks.
//!
//! They go to the node's own log as well. Here they are kept by handler, over all its versions, for
//! as long as the process runs and there is room.

use atoll_wasm::host::Level;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Lines that are kept of one handler.
const LINES_MAX: usize = 1_000;
/// Bytes of text that are kept of one handler: of a thousand handlers that all talk, 128 MiB.
const BYTES_MAX: usize = 128 << 10;

/// The logs of all handlers, by name.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<BTreeMap<String, Arc<HandlerLog>>>);

impl Logs {
    /// The log of a handler; an empty one for a new one.
    pub(super) fn open(&self, handler: &str) -> Arc<HandlerLog> {
        let mut logs = lock(&self.0);
        Arc::clone(logs.entry(handler.to_owned()).or_default())
    }

    /// Forgets the logs of handlers that never went live and are not on their way either.
    pub(super) fn sweep(&self, is_live: impl Fn(&str) -> bool) {
        lock(&self.0).retain(|handler, log| is_live(handler) || Arc::strong_count(log) > 1);
    }

    /// Forgets the log of a handler that is gone, and wakes who follows it.
    pub(super) fn end(&self, handler: &str) {
        let log = lock(&self.0).remove(handler);
        if let Some(log) = log {
            log.grown.send_modify(|_| ());
        }
    }
}

/// The last lines of one handler.
#[derive(Debug)]
pub(crate) struct HandlerLog {
    kept: Mutex<Kept>,
    /// The number of the next line.
    grown: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    bytes: usize,
    next: u64,
}

/// A line of a handler's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// Counts up by one with every line of the handler on this node; what is missing was not kept.
    pub(crate) seq: u64,
    /// When it was written, ms since the epoch.
    pub(crate) time_ms: u64,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub(crate) level: &'static str,
    /// The version that wrote it.
    pub(crate) version: u64,
    pub(crate) text: String,
}

impl Default for HandlerLog {
    fn default() -> HandlerLog {
        HandlerLog { kept: Mutex::default(), grown: watch::Sender::new(0) }
    }
}

impl HandlerLog {
    /// Keeps a line; the oldest ones make room.
    pub(super) fn write(&self, version: u64, level: Level, text: &str) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let (level, text) = (word(level), text.to_owned());
        let next = {
            let mut kept = lock(&self.kept);
            kept.bytes += text.len();
            let seq = kept.next;
            kept.next += 1;
            kept.lines.push_back(Line { seq, time_ms, level, version, text });
            while kept.lines.len() > LINES_MAX || kept.bytes > BYTES_MAX {
                let Some(oldest) = kept.lines.pop_front() else { break };
                kept.bytes -= oldest.text.len();
            }
            kept.next
        };
        // Two writers may come in the wrong order.
        self.grown.send_if_modified(|grown| {
            let is_later = next > *grown;
            *grown = next.max(*grown);
            is_later
        });
    }

    /// The lines from `seq` on, at most `count`, and the number to go on with.
    pub(crate) fn since(&self, seq: u64, count: usize) -> (Vec<Line>, u64) {
        let kept = lock(&self.kept);
        let lines = kept.lines.iter().skip_while(|line| line.seq < seq).take(count);
        let lines: Vec<Line> = lines.cloned().collect();
        let next = lines.last().map_or(kept.next, |line| line.seq + 1);
        (lines, next)
    }

    /// Where the last `count` lines begin.
    pub(crate) fn tail(&self, count: usize) -> u64 {
        let kept = lock(&self.kept);
        let skipped = kept.lines.len().saturating_sub(count);
        kept.lines.get(skipped).map_or(kept.next, |line| line.seq)
    }

    /// The number of the next line.
    pub(crate) fn next_seq(&self) -> u64 {
        lock(&self.kept).next
    }

    /// Changes when a line is written, and when the handler is gone.
    pub(crate) fn grown(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// Whoever panicked has left whole lines, and a sum that is a little off at worst.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(log: &HandlerLog, seq: u64) -> Vec<String> {
        log.since(seq, usize::MAX).0.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let log = HandlerLog::default();
        for text in ["a", "b", "c"] {
            log.write(1, Level::Info, text);
        }
        assert_eq!(texts(&log, log.tail(2)), ["b", "c"]);
        let (lines, next) = log.since(0, 2);
        assert_eq!((lines.len(), next), (2, 2));
        assert_eq!(texts(&log, next), ["c"]);
        let (lines, next) = log.since(3, 10);
        assert!(lines.is_empty() && next == 3);
        log.write(2, Level::Warn, "d");
        let (lines, _) = log.since(next, 10);
        assert_eq!((lines[0].version, lines[0].level, lines[0].seq), (2, "warn", 3));
    }

    #[test]
    fn the_oldest_lines_make_room_by_count_and_by_size() {
        let log = HandlerLog::default();
        for number in 0..LINES_MAX + 10 {
            log.write(1, Level::Info, &number.to_string());
        }
        assert_eq!(texts(&log, 0).len(), LINES_MAX);
        assert_eq!(texts(&log, 0)[0], "10", "a reader that was too slow sees a gap");
        log.write(1, Level::Info, &"x".repeat(BYTES_MAX));
        assert_eq!(texts(&log, 0).len(), 1);
        log.write(1, Level::Info, "y");
        assert_eq!(texts(&log, 0), ["y"]);
    }

    #[test]
    fn a_handler_that_is_gone_leaves_no_log() {
        let logs = Logs::default();
        logs.open("a").write(1, Level::Info, "x");
        assert_eq!(texts(&logs.open("a"), 0), ["x"]);
        let log = logs.open("a");
        let followed = log.grown();
        logs.end("a");
        assert!(followed.has_changed().expect("the log is held"), "who follows it is woken");
        assert!(texts(&logs.open("a"), 0).is_empty());
    }

    #[test]
    fn a_handler_that_is_on_its_way_keeps_its_log() {
        let logs = Logs::default();
        let (coming, _) = (logs.open("a"), logs.open("b"));
        logs.sweep(|_| false);
        assert!(Arc::ptr_eq(&coming, &logs.open("a")));
        assert_eq!(lock(&logs.0).len(), 1);
    }
}

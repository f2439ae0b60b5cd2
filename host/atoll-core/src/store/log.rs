//! The op log: every accepted change in order, kept within a budget while somebody reads it.
//!
//! A reader holds a position and nothing else, so a slow one costs memory for nobody: once its
//! position falls off the log's end it is told so, and falls back to a scan of the store.

use crate::clock::Now;
use crate::entry::op::{Change, Effect, Op};
use std::collections::VecDeque;

/// Ops are still kept this long after the last reader left, so that one that reconnects resumes.
pub const LINGER_MS: u64 = 60_000;
/// What an op costs beside its key and value, in bytes: itself and its share of the queue.
const OP_OVERHEAD_BYTES: usize = size_of::<Op>() + 64;

/// Accepted changes, oldest first.
#[derive(Debug)]
pub(super) struct Log {
    ops: VecDeque<Op>,
    /// Position of the oldest op kept.
    first: u64,
    bytes: usize,
    bytes_max: usize,
    readers: usize,
    /// Until when ops are kept with no reader, ms since the epoch.
    linger_until_ms: u64,
}

/// What a reader got.
#[derive(Debug)]
pub enum LogRead {
    /// The ops from the position on, oldest first, and the position to read from next.
    Ops {
        /// At most as many as were asked for; none where the reader has caught up.
        ops: Vec<Op>,
        /// Where to go on.
        next: u64,
    },
    /// The log no longer covers the position: look at the store, then go on at `resume`.
    Fallen {
        /// The end of the log at this moment.
        resume: u64,
    },
}

impl Log {
    pub(super) fn new(bytes_max: usize) -> Log {
        let ops = VecDeque::new();
        Log { ops, first: 0, bytes: 0, bytes_max, readers: 0, linger_until_ms: 0 }
    }

    /// Position after the newest op.
    pub(super) fn end(&self) -> u64 {
        self.first + self.ops.len() as u64
    }

    /// Whether an op made now is to be kept: then it is [pushed](Log::push), else
    /// [skipped](Log::skip).
    pub(super) fn keeps(&self, now: Now) -> bool {
        self.readers > 0 || now.millis() < self.linger_until_ms
    }

    /// Notes that an op was made and not kept. Drops what is left from readers that are long gone.
    pub(super) fn skip(&mut self) {
        if !self.ops.is_empty() {
            self.first = self.end();
            self.ops = VecDeque::new();
            self.bytes = 0;
        }
        // A position that a reader still remembers must not seem covered.
        self.first += 1;
    }

    /// Appends an op and drops the oldest ones over the budget.
    pub(super) fn push(&mut self, op: Op) {
        self.bytes += op_bytes(&op);
        self.ops.push_back(op);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.ops.pop_front() else { break };
            self.bytes -= op_bytes(&oldest);
            self.first += 1;
        }
    }

    /// Starts keeping ops for one more reader; returns the position to read from.
    pub(super) fn subscribe(&mut self) -> u64 {
        self.readers += 1;
        self.end()
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&mut self, now: Now) {
        self.readers = self.readers.saturating_sub(1);
        self.linger_until_ms = now.millis() + LINGER_MS;
    }

    /// Reads at most `count_max` ops from `position` on.
    pub(super) fn read(&self, position: u64, count_max: usize) -> LogRead {
        if position < self.first || position > self.end() {
            return LogRead::Fallen { resume: self.end() };
        }
        let skip = (position - self.first) as usize;
        let ops: Vec<Op> = self.ops.iter().skip(skip).take(count_max).cloned().collect();
        let next = position + ops.len() as u64;
        LogRead::Ops { ops, next }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What an op costs while it is kept, in bytes.
fn op_bytes(op: &Op) -> usize {
    let payload = match &op.effect {
        Effect::Flush { .. } | Effect::RelayFlush { .. } => 0,
        Effect::Relay { key, .. } => key.len() + op.value_bytes(),
        Effect::Join { name, .. } => name.len(),
        Effect::Message { channel, payload } => channel.len() + payload.len(),
        Effect::Key { key, change, .. } => {
            let value = match change {
                Change::Set { value, resets, .. } => {
                    value.bytes.len()
                        + value.attributes.as_ref().map_or(0, |a| a.text_bytes())
                        + size_of_val(&resets[..])
                }
                Change::Delete { resets } => size_of_val(&resets[..]),
                Change::Touch { .. } | Change::Count { .. } => 0,
            };
            key.len() + value
        }
    };
    OP_OVERHEAD_BYTES + payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::key::BucketName;

    fn op(seq: u64) -> Op {
        let bucket = BucketName::of_database(0);
        Op { seq, stamp: Stamp::ZERO, effect: Effect::Flush { bucket } }
    }

    #[track_caller]
    fn check_read(log: &Log, position: u64, want: &[u64]) {
        match log.read(position, 100) {
            LogRead::Ops { ops, next } => {
                assert_eq!(ops.iter().map(|op| op.seq).collect::<Vec<_>>(), want);
                assert_eq!(next, position + want.len() as u64);
            }
            LogRead::Fallen { .. } => panic!("position {position} should be covered"),
        }
    }

    #[test]
    fn a_reader_gets_each_op_once_and_in_order() {
        let mut log = Log::new(1 << 20);
        let start = log.subscribe();
        for seq in 1..=3 {
            assert!(log.keeps(Now::from_millis(1)));
            log.push(op(seq));
        }
        check_read(&log, start, &[1, 2, 3]);
        check_read(&log, start + 2, &[3]);
        check_read(&log, start + 3, &[]);
    }

    #[test]
    fn nothing_is_kept_while_nobody_reads_and_a_late_reader_is_told() {
        let mut log = Log::new(1 << 20);
        let start = log.subscribe();
        log.unsubscribe(Now::from_millis(0));
        assert!(log.keeps(Now::from_millis(LINGER_MS - 1)));
        log.push(op(1));
        check_read(&log, start, &[1]);
        assert!(!log.keeps(Now::from_millis(LINGER_MS)));
        log.skip();
        assert_eq!(log.bytes(), 0);
        assert!(matches!(log.read(start, 10), LogRead::Fallen { .. }));
        assert!(matches!(log.read(start + 1, 10), LogRead::Fallen { .. }), "an op was not kept");
    }

    #[test]
    fn a_slow_reader_falls_off_the_end_and_costs_no_more_than_the_budget() {
        let mut log = Log::new(10 * OP_OVERHEAD_BYTES);
        let start = log.subscribe();
        for seq in 1..=100 {
            log.push(op(seq));
        }
        assert_eq!(log.bytes(), 10 * OP_OVERHEAD_BYTES);
        let LogRead::Fallen { resume } = log.read(start, 10) else { panic!("should have fallen") };
        assert_eq!(resume, start + 100);
        check_read(&log, resume - 1, &[100]);
    }

    #[test]
    fn a_position_from_the_future_is_not_trusted() {
        let mut log = Log::new(1 << 20);
        log.subscribe();
        assert!(matches!(log.read(5, 10), LogRead::Fallen { resume: 0 }));
    }
}

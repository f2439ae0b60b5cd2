//! Counts of what the commands did: one set for each thread, so that counting costs no lock.

use super::command::COMMAND_COUNT;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that one thread raises and any may read.
#[derive(Debug, Default)]
pub struct Count {
    value: AtomicU64,
    /// The value at the last CONFIG RESETSTAT.
    base: AtomicU64,
}

impl Count {
    /// Adds `more`. Only the thread that owns the count may call it.
    #[inline]
    pub fn add(&self, more: u64) {
        // One writer: a plain store instead of a locked instruction.
        self.value.store(self.value.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// The sum since the start: never falls.
    pub fn total(&self) -> u64 {
        self.value.load(Relaxed)
    }

    /// The sum since the last CONFIG RESETSTAT.
    pub fn get(&self) -> u64 {
        self.total().wrapping_sub(self.base.load(Relaxed))
    }

    fn reset(&self) {
        self.base.store(self.total(), Relaxed);
    }
}

/// The counts of one thread.
#[derive(Debug)]
pub struct Tally {
    calls: [Count; COMMAND_COUNT],
    failures: [Count; COMMAND_COUNT],
    /// Names that are no command.
    pub unknown: Count,
    /// Keys that a read found.
    pub hits: Count,
    /// Keys that a read did not find.
    pub misses: Count,
    /// Bytes received.
    pub input_bytes: Count,
    /// Bytes sent.
    pub output_bytes: Count,
    /// Connections that were closed because they did not take their replies.
    pub stalled: Count,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            calls: std::array::from_fn(|_| Count::default()),
            failures: std::array::from_fn(|_| Count::default()),
            unknown: Count::default(),
            hits: Count::default(),
            misses: Count::default(),
            input_bytes: Count::default(),
            output_bytes: Count::default(),
            stalled: Count::default(),
        }
    }
}

impl Tally {
    /// How often the command of this index was called and how often it failed.
    pub fn of_command(&self, index: usize) -> (u64, u64) {
        (self.calls[index].get(), self.failures[index].get())
    }

    /// Calls of all commands.
    pub fn call_count(&self) -> u64 {
        self.calls.iter().map(Count::get).sum()
    }

    /// Commands that answered with an error, unknown ones included.
    pub fn failure_count(&self) -> u64 {
        self.failures.iter().map(Count::get).sum::<u64>() + self.unknown.get()
    }

    /// Counts from zero again, but for [`Count::total`].
    pub(super) fn reset(&self) {
        let Tally { calls, failures, unknown, hits, misses, input_bytes, output_bytes, stalled } =
            self;
        calls.iter().chain(failures).for_each(Count::reset);
        for count in [unknown, hits, misses, input_bytes, output_bytes, stalled] {
            count.reset();
        }
    }

    #[inline]
    pub(super) fn called(&self, index: usize) {
        self.calls[index].add(1);
    }

    pub(super) fn failed(&self, index: usize) {
        self.failures[index].add(1);
    }

    #[inline]
    pub(super) fn looked_up(&self, found: usize, missed: usize) {
        if found > 0 {
            self.hits.add(found as u64);
        }
        if missed > 0 {
            self.misses.add(missed as u64);
        }
    }
}

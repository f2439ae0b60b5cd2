//! What this process has written and its links have yet to take: runs of ops, ready to be sent.
//!
//! One reader takes everything at once and keeps it as long as it wants. Nothing is kept while
//! there is none; one that does not come in time loses the oldest, never the order.

use crate::clock::{Hlc, Stamp};
use crate::entry::op::Op;
use crate::limits::{RUN_BYTES_MAX, RUN_VALUE_BYTES_MAX};
use crate::wire::op::{self, EffectRef};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a run costs beside its ops, in bytes.
const RUN_OVERHEAD_BYTES: usize = 128;

/// Consecutive ops of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of the first.
    pub first_seq: u64,
    /// How many.
    pub count: u32,
    /// What the first stamp is written as the distance from.
    pub base: Hlc,
    /// Stamp of the last.
    pub last: Hlc,
    /// The ops themselves.
    pub body: Body,
}

/// The ops of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// As they travel.
    Packed(Bytes),
    /// A single one with a large value, which is shared with the store and packed when it is sent.
    Large(Arc<Op>),
}

impl Run {
    /// Number after the last op.
    pub fn end_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count)
    }

    /// The ops as they travel.
    pub fn pack(&self) -> Bytes {
        match &self.body {
            Body::Packed(bytes) => bytes.clone(),
            Body::Large(single) => {
                let mut bytes = Vec::new();
                let stamps = [self.base, single.stamp.hlc];
                op::encode(&mut bytes, stamps, EffectRef::of(&single.effect));
                Bytes::from(bytes)
            }
        }
    }

    /// Bytes that keeping it takes.
    pub fn bytes(&self) -> usize {
        RUN_OVERHEAD_BYTES
            + match &self.body {
                Body::Packed(bytes) => bytes.len(),
                Body::Large(op) => op.value_bytes(),
            }
    }
}

/// Runs that wait to be taken.
#[derive(Debug)]
pub(super) struct Outbox {
    reader: Reader,
    runs: VecDeque<Run>,
    /// The run that is being written.
    open: Vec<u8>,
    open_first: u64,
    open_base: Hlc,
    open_count: u32,
    /// Stamp of the newest op.
    last: Hlc,
    bytes: usize,
    bytes_max: usize,
    /// Whether the reader was told that there is something.
    told: bool,
}

/// Whether somebody takes the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Nothing is kept.
    Absent,
    /// Everything is, within the budget.
    Present,
}

/// Whether the reader should be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// There is something where there was nothing.
    Now,
    /// It knows.
    Already,
}

impl Outbox {
    pub(super) fn new(bytes_max: usize) -> Outbox {
        Outbox {
            reader: Reader::Absent,
            runs: VecDeque::new(),
            open: Vec::new(),
            open_first: 0,
            open_base: Hlc::ZERO,
            open_count: 0,
            last: Hlc::ZERO,
            bytes: 0,
            bytes_max,
            told: false,
        }
    }

    pub(super) fn is_read(&self) -> bool {
        self.reader == Reader::Present
    }

    pub(super) fn set_reader(&mut self, reader: Reader) {
        if self.reader != reader {
            *self = Outbox { reader, ..Outbox::new(self.bytes_max) };
        }
    }

    /// Keeps an op.
    pub(super) fn push(&mut self, seq: u64, stamp: Stamp, effect: EffectRef<'_>) -> Tell {
        if effect.value_len() >= RUN_VALUE_BYTES_MAX {
            self.close();
            let effect = effect.to_effect(&Bytes::new());
            let body = Body::Large(Arc::new(Op { seq, stamp, effect }));
            let base = Hlc::from_bits(stamp.hlc.to_bits() - 1);
            self.keep(Run { first_seq: seq, count: 1, base, last: stamp.hlc, body });
        } else {
            if self.open_count == 0 {
                self.open_first = seq;
                self.open_base = Hlc::from_bits(stamp.hlc.to_bits() - 1);
                self.last = self.open_base;
            }
            op::encode(&mut self.open, [self.last, stamp.hlc], effect);
            self.open_count += 1;
        }
        self.last = stamp.hlc;
        if self.open.len() >= RUN_BYTES_MAX {
            self.close();
        }
        if std::mem::replace(&mut self.told, true) { Tell::Already } else { Tell::Now }
    }

    /// Hands over everything, oldest first. The first may begin later than the last one taken
    /// ended: then what lies between was lost.
    pub(super) fn take(&mut self) -> VecDeque<Run> {
        self.close();
        self.told = false;
        self.bytes = 0;
        std::mem::take(&mut self.runs)
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.bytes + self.open.len()
    }

    fn close(&mut self) {
        if self.open_count == 0 {
            return;
        }
        // Exactly as large as needed, and the buffer goes on to be used.
        let body = Body::Packed(Bytes::copy_from_slice(&self.open));
        self.open.clear();
        let (first_seq, count) = (self.open_first, std::mem::take(&mut self.open_count));
        self.keep(Run { first_seq, count, base: self.open_base, last: self.last, body });
    }

    fn keep(&mut self, run: Run) {
        self.bytes += run.bytes();
        self.runs.push_back(run);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.runs.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Deadline;
    use crate::entry::op::Resets;
    use crate::wire::op::{BucketRef, Place, decode_all};
    use uuid::Uuid;

    fn push(outbox: &mut Outbox, seq: u64, value: &[u8]) -> Tell {
        let stamp = Stamp { hlc: Hlc::from_bits(1_000 + seq), origin: Uuid::nil() };
        let effect = EffectRef::Set {
            bucket: BucketRef::Database(0),
            key: b"k",
            value,
            whole: None,
            deadline: Deadline::NEVER,
            attributes: None,
            resets: Resets::new(),
        };
        outbox.push(seq, stamp, effect)
    }

    fn seqs(runs: &VecDeque<Run>) -> Vec<u64> {
        let all = runs.iter().flat_map(|run| {
            let (first_seq, base, count) = (run.first_seq, run.base, run.count);
            let place = Place { origin: Uuid::nil(), first_seq, base, count };
            let ops = decode_all(&run.pack(), place).expect("what was packed is unpacked");
            assert_eq!(ops.last().map(|op| op.stamp.hlc), Some(run.last));
            ops
        });
        all.map(|op| op.seq).collect()
    }

    #[test]
    fn what_was_pushed_is_taken_once_and_in_order() {
        let mut outbox = Outbox::new(1 << 20);
        outbox.set_reader(Reader::Present);
        assert_eq!(push(&mut outbox, 1, b"v"), Tell::Now);
        assert_eq!(push(&mut outbox, 2, b"v"), Tell::Already);
        push(&mut outbox, 3, &vec![7; RUN_VALUE_BYTES_MAX]);
        push(&mut outbox, 4, b"v");
        let runs = outbox.take();
        assert_eq!(runs.len(), 3, "a large value is a run of its own");
        assert_eq!(seqs(&runs), [1, 2, 3, 4]);
        assert!(outbox.take().is_empty());
        assert_eq!(push(&mut outbox, 5, b"v"), Tell::Now, "the reader is told again");
    }

    #[test]
    fn a_reader_that_does_not_come_costs_no_more_than_the_budget() {
        let mut outbox = Outbox::new(4 * RUN_BYTES_MAX);
        outbox.set_reader(Reader::Present);
        for seq in 1..=1_000 {
            push(&mut outbox, seq, &[7; 1_000]);
        }
        assert!(outbox.bytes() <= 5 * RUN_BYTES_MAX);
        let taken = seqs(&outbox.take());
        assert_eq!(taken.last(), Some(&1_000));
        assert!(taken.is_sorted() && taken.len() < 1_000);
    }
}

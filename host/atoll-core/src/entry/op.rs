//! One accepted change, in the form in which it is logged and will travel.

use super::{Cell, Deadline, Entry, Register, Reset, Tally, Touch, Value};
use crate::clock::{Hlc, Stamp};
use crate::key::BucketName;
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use uuid::Uuid;

/// A change made by one origin: what it wrote, where, and its place in that origin's sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Contiguous for each origin, from 1.
    pub seq: u64,
    /// Strictly increasing with `seq` for each origin.
    pub stamp: Stamp,
    /// What it does.
    pub effect: Effect,
}

impl Op {
    /// Bytes of the value that it sets, or of its message; 0 for others.
    pub fn value_bytes(&self) -> usize {
        match &self.effect {
            Effect::Key { change: Change::Set { value, .. }, .. } => value.bytes.len(),
            Effect::Relay { entry, .. } => {
                entry.register.value.as_ref().map_or(0, |value| value.bytes.len())
            }
            Effect::Message { payload, .. } => payload.len(),
            _ => 0,
        }
    }
}

/// What an op does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Changes one key.
    Key {
        /// Where.
        bucket: BucketName,
        /// 1 to `KEY_BYTES_MAX` bytes.
        key: Bytes,
        /// What it does to it.
        change: Change,
    },
    /// Everything in the bucket that is stamped up to here is dead.
    Flush {
        /// Where.
        bucket: BucketName,
    },
    /// The origin has met another, whose ops it applies from here on.
    ///
    /// Whoever has seen an origin's stream past this point knows every process whose writes that
    /// origin may have seen: what the floor is computed over.
    Join {
        /// Whom.
        origin: Uuid,
        /// Its stable name; empty where only its id is known.
        name: Box<str>,
    },
    /// Effects of writes by an origin that is gone, which reached this op's origin and perhaps
    /// nobody else, outside of any stream. They keep their stamps; here they get a place in one.
    Relay {
        /// Where.
        bucket: BucketName,
        /// 1 to `KEY_BYTES_MAX` bytes.
        key: Bytes,
        /// The parts that were not covered.
        entry: Box<Entry>,
    },
    /// The same for a flush.
    RelayFlush {
        /// Where.
        bucket: BucketName,
        /// Of the flush.
        stamp: Stamp,
    },
    /// A message to the subscribers of a channel, on every node once. Changes nothing.
    Message {
        /// Where it was published.
        channel: Bytes,
        /// What was.
        payload: Bytes,
    },
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new version.
    Set {
        /// Its value.
        value: Value,
        /// Its deadline.
        deadline: Deadline,
        /// The increments that it has observed and so replaces.
        resets: Resets,
    },
    /// A tombstone.
    Delete {
        /// The increments that it has observed and so undoes.
        resets: Resets,
    },
    /// Another deadline for the version `base`.
    Touch {
        /// The version that was observed.
        base: Stamp,
        /// The new deadline.
        deadline: Deadline,
    },
    /// The new state of one of the origin's own cells.
    Count {
        /// Names the cell.
        birth: Hlc,
        /// Cumulative since birth.
        sum: i64,
        /// Past it the cell counts nothing.
        deadline: Deadline,
        /// Older cells of the origin that are dead for good.
        closed: Hlc,
    },
}

/// Cells that a write observed: (origin, birth) and how far.
pub type Resets = SmallVec<[ObservedCell; 0]>;

/// A cell as a SET or DEL saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedCell {
    /// The cell's origin.
    pub origin: Uuid,
    /// The cell's birth.
    pub birth: Hlc,
    /// Its latest increment.
    pub last: Hlc,
    /// Its sum.
    pub sum: i64,
}

impl Change {
    /// The part of an entry that this change, stamped `stamp`, speaks of: merging it applies the
    /// change.
    pub fn into_entry(self, stamp: Stamp) -> Entry {
        match self {
            Change::Set { value, deadline, resets } => Entry {
                register: Register { stamp, value: Some(value), deadline },
                touch: None,
                tallies: reset_tallies(&resets, stamp),
            },
            Change::Delete { resets } => Entry {
                register: Register { stamp, value: None, deadline: Deadline::NEVER },
                touch: None,
                tallies: reset_tallies(&resets, stamp),
            },
            Change::Touch { base, deadline } => {
                Entry { touch: Some(Touch { base, stamp, deadline }), ..Entry::default() }
            }
            Change::Count { birth, sum, deadline, closed } => {
                let cell = Cell { birth, last: stamp.hlc, sum, deadline, reset: Reset::default() };
                let tally = Tally { origin: stamp.origin, closed, cells: smallvec![cell] };
                Entry { tallies: vec![tally], ..Entry::default() }
            }
        }
    }
}

/// Tallies that carry nothing but resets. A cell that is not yet known is known as reset from then
/// on, with the state that was observed.
fn reset_tallies(resets: &Resets, by: Stamp) -> Vec<Tally> {
    let mut sorted = resets.clone();
    sorted.sort_unstable_by_key(|seen| (seen.origin, seen.birth));
    let mut tallies: Vec<Tally> = Vec::new();
    for seen in sorted {
        let cell = Cell {
            birth: seen.birth,
            last: seen.last,
            sum: seen.sum,
            // The writer's half of the true state has the same `last` and the same sum, so
            // whichever deadline is kept, the cell is dead up to there.
            deadline: Deadline::at_millis(0),
            reset: Reset { last: seen.last, by, sum: seen.sum },
        };
        match tallies.last_mut() {
            Some(tally) if tally.origin == seen.origin => tally.cells.push(cell),
            _ => tallies.push(Tally {
                origin: seen.origin,
                closed: Hlc::ZERO,
                cells: smallvec![cell],
            }),
        }
    }
    tallies
}

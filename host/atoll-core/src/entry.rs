//! What a key holds, and the merge by which every node comes to hold the same.
//!
//! An entry is a product of small join-semilattices: a last-write-wins register, the latest touch
//! of its deadline, and one tally of counter cells for each origin. Each joins by the maximum over
//! a total order, so any order, repetition or batching of writes gives the same entry.
//!
//! Source: Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated Data
//! Types" (2011), for registers and PN-counters; the observed reset of a cell is ours.

use crate::clock::{Hlc, Now, Stamp};
use crate::limits::{DEADLINE_MS_MAX, TAG_BYTES_MAX, TAG_COUNT_MAX};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;
use uuid::Uuid;

pub mod counter;
mod cover;
pub mod op;
#[cfg(test)]
mod tests;

/// When a version stops being visible: ms since the Unix epoch, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

impl Deadline {
    /// No deadline. Orders after every other.
    pub const NEVER: Deadline = Deadline(u64::MAX);

    /// The deadline at `millis` since the Unix epoch, at most [`DEADLINE_MS_MAX`].
    pub fn at_millis(millis: u64) -> Deadline {
        Deadline(millis.min(DEADLINE_MS_MAX))
    }

    /// Milliseconds since the Unix epoch, or `None` for never.
    pub fn millis(self) -> Option<u64> {
        (self != Deadline::NEVER).then_some(self.0)
    }

    /// Whether a version with this deadline is no longer visible at `now_ms`.
    pub fn is_past(self, now_ms: u64) -> bool {
        self.0 <= now_ms
    }
}

/// What travels with a value beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Media type, as the writer gave it.
    pub content_type: Option<Box<str>>,
    /// A JSON document of the writer's, at most `META_BYTES_MAX` bytes.
    pub meta: Option<Box<str>>,
    /// Surrogate keys, at most `TAG_COUNT_MAX`.
    pub tags: Box<[Box<str>]>,
}

/// Why these cannot be the tags of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a value has at most {TAG_COUNT_MAX} tags, each of 1 to {TAG_BYTES_MAX} visible ASCII characters \
     without commas"
)]
pub struct TagsError;

impl Attributes {
    /// Checks tags that a writer gives to a value; one that is there twice is kept once.
    pub fn check_tags<'t>(
        tags: impl IntoIterator<Item = &'t str>,
    ) -> Result<Box<[Box<str>]>, TagsError> {
        let mut checked: Vec<Box<str>> = Vec::new();
        for tag in tags {
            let fits = (1..=TAG_BYTES_MAX).contains(&tag.len());
            if !fits || !tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
                return Err(TagsError);
            }
            if !checked.iter().any(|earlier| **earlier == *tag) {
                checked.push(tag.into());
            }
            if checked.len() > TAG_COUNT_MAX {
                return Err(TagsError);
            }
        }
        Ok(checked.into())
    }

    /// Whether nothing is set, so that none need be kept.
    pub fn is_empty(&self) -> bool {
        self.content_type.is_none() && self.meta.is_none() && self.tags.is_empty()
    }

    /// Bytes of text held.
    pub fn text_bytes(&self) -> usize {
        let text = |t: &Option<Box<str>>| t.as_ref().map_or(0, |t| t.len());
        let tags: usize = self.tags.iter().map(|t| t.len() + size_of::<Box<str>>()).sum();
        text(&self.content_type) + text(&self.meta) + tags
    }
}

/// The bytes of a version and what travels with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes themselves, shared with whoever reads them.
    pub bytes: Bytes,
    /// Absent for most keys.
    pub attributes: Option<Arc<Attributes>>,
}

impl Value {
    /// A value without attributes.
    pub fn plain(bytes: impl Into<Bytes>) -> Value {
        Value { bytes: bytes.into(), attributes: None }
    }
}

/// The last-write-wins part: the newest SET or DEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Of the write; [`Stamp::ZERO`] where the key was only ever counted.
    pub stamp: Stamp,
    /// `None` is a tombstone.
    pub value: Option<Value>,
    /// As the write gave it; a [`Touch`] of this version overrides it.
    pub deadline: Deadline,
}

impl Register {
    /// The register of a key that was never set or deleted.
    pub const ABSENT: Register =
        Register { stamp: Stamp::ZERO, value: None, deadline: Deadline::NEVER };
}

/// An EXPIRE or PERSIST of one version of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Touch {
    /// The version that it belongs to. It means nothing for any other.
    pub base: Stamp,
    /// Of the touch itself.
    pub stamp: Stamp,
    /// The new deadline.
    pub deadline: Deadline,
}

/// How much of a cell a SET, DEL or EXPIRE has observed and so undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reset {
    /// The cell's `last` as observed.
    pub last: Hlc,
    /// Of the write that observed it.
    pub by: Stamp,
    /// The cell's `sum` as observed.
    pub sum: i64,
}

/// One run of increments by one origin, written by that origin alone.
///
/// The sum is cumulative, so receiving a newer state of the cell twice or out of order is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// When the origin opened the cell; with the origin it names the cell.
    pub birth: Hlc,
    /// Of the latest increment.
    pub last: Hlc,
    /// Of all increments since birth.
    pub sum: i64,
    /// Past it the cell counts nothing.
    pub deadline: Deadline,
    /// The part that no longer counts.
    pub reset: Reset,
}

/// The cells of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The only writer of these cells.
    pub origin: Uuid,
    /// Cells born up to here are dead for good: the origin itself saw to it before it opened the
    /// next.
    pub closed: Hlc,
    /// By birth, ascending; all born after `closed`.
    pub cells: SmallVec<[Cell; 1]>,
}

/// Everything that a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The newest SET or DEL.
    pub register: Register,
    /// The newest change of that version's deadline.
    pub touch: Option<Touch>,
    /// By origin, ascending.
    pub tallies: Vec<Tally>,
}

/// What a reader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visible<'a> {
    /// The register's value.
    Value(&'a Value),
    /// The register's integer, if any, and the increments on top of it.
    Counter(i64),
}

impl Default for Entry {
    fn default() -> Entry {
        Entry { register: Register::ABSENT, touch: None, tallies: Vec::new() }
    }
}

impl Entry {
    /// Joins what another node knows of this key into what this one knows.
    ///
    /// Commutative, associative and idempotent.
    pub fn merge(&mut self, other: &Entry) {
        if newer_register(&other.register, &self.register) {
            self.register = other.register.clone();
        }
        self.touch = self.touch.max(other.touch);
        // A touch of an older version can never matter again: stamps only grow.
        let register_stamp = self.register.stamp;
        self.touch = self.touch.filter(|touch| touch.base >= register_stamp);
        for theirs in &other.tallies {
            match self.tallies.binary_search_by_key(&theirs.origin, |tally| tally.origin) {
                Ok(at) => self.tallies[at].merge(theirs),
                Err(at) => self.tallies.insert(at, theirs.clone()),
            }
        }
    }

    /// The deadline in force for the register's version.
    pub fn register_deadline(&self) -> Deadline {
        match self.touch {
            Some(touch) if touch.base == self.register.stamp => touch.deadline,
            _ => self.register.deadline,
        }
    }

    /// Whether the register shows a value at `now`, after a flush of its bucket at `flushed`.
    pub fn register_alive(&self, now_ms: u64, flushed: Stamp) -> bool {
        self.register.value.is_some()
            && self.register.stamp > flushed
            && !self.register_deadline().is_past(now_ms)
    }

    /// Time of the newest write that is known of here.
    pub fn newest(&self) -> Hlc {
        let cells = self.tallies.iter().flat_map(|tally| &tally.cells);
        let counted = cells.flat_map(|cell| [cell.last, cell.reset.by.hlc]).max();
        let touched = self.touch.map(|touch| touch.stamp.hlc);
        self.register.stamp.hlc.max(counted.unwrap_or_default()).max(touched.unwrap_or_default())
    }

    /// What a reader sees at `now_ms`, or `None` where there is nothing.
    pub fn visible(&self, now_ms: u64, flushed: Stamp) -> Option<Visible<'_>> {
        let value = self.register.value.as_ref();
        let value = value.filter(|_| self.register_alive(now_ms, flushed));
        let counted = counter::sum_alive(&self.tallies, now_ms, flushed.hlc);
        match (value, counted) {
            (None, None) => None,
            (Some(value), None) => Some(Visible::Value(value)),
            (None, Some(sum)) => Some(Visible::Counter(counter::clamp(sum))),
            (Some(value), Some(sum)) => match counter::parse_integer(&value.bytes) {
                Some(base) => Some(Visible::Counter(counter::clamp(i128::from(base) + sum))),
                // Increments on top of text stay hidden until something resets them.
                None => Some(Visible::Value(value)),
            },
        }
    }

    /// The deadline that a reader is told at `now_ms`.
    pub fn visible_deadline(&self, now_ms: u64, flushed: Stamp) -> Deadline {
        if self.register_alive(now_ms, flushed) {
            return self.register_deadline();
        }
        counter::latest_deadline(&self.tallies, now_ms, flushed.hlc).unwrap_or(Deadline::NEVER)
    }

    /// Whether nothing here can show again and every write that made it so is at or before `floor`.
    ///
    /// The floor is the second-order one: every member has everything up to it, and so has it what
    /// was written before its author knew that. A node alone passes the present.
    pub fn is_garbage(&self, now: Now, floor: Hlc, flushed: Stamp) -> bool {
        let now_ms = now.millis();
        // What a flush killed stays dead without a tombstone: the record of the flush is kept.
        let settled = |stamp: Stamp| stamp.hlc <= floor || stamp <= flushed;
        if self.register_alive(now_ms, flushed) || !settled(self.register.stamp) {
            return false;
        }
        // A version that died by its deadline may be touched by someone who still saw it alive.
        let died_by_deadline = self.register.value.is_some() && self.register.stamp > flushed;
        if died_by_deadline && self.register_deadline().millis() > Some(floor.millis()) {
            return false;
        }
        self.touch.is_none_or(|touch| touch.stamp.hlc <= floor || touch.base <= flushed)
            && self.tallies.iter().all(|tally| tally.is_garbage(now_ms, floor, flushed.hlc))
    }
}

/// Whether `a` replaces `b`. Equal stamps mean equal writes; should a bug or a forged frame break
/// that, the tie still breaks the same way everywhere: a tombstone first, then the larger bytes.
fn newer_register(a: &Register, b: &Register) -> bool {
    if a.stamp != b.stamp {
        return a.stamp > b.stamp;
    }
    match (&a.value, &b.value) {
        (None, Some(_)) => true,
        (Some(_), None) | (None, None) => false,
        (Some(a), Some(b)) => a.bytes > b.bytes,
    }
}

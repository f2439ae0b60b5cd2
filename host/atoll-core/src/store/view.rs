//! What a reader sees of a key, while the shard's lock is held.

use super::extra::Extra;
use super::flush::FlushMark;
use super::origins::Origins;
use super::record::{Header, Life, Record};
use crate::clock::{Hlc, Stamp};
use crate::entry::counter::{clamp, latest_deadline, parse_integer, sum_alive};
use crate::entry::{Attributes, Cell, Deadline};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// The value of a key as it lies in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// Kept inline: copy what you need.
    Inline(&'a [u8]),
    /// Kept apart: clone the handle, never the bytes.
    Shared(&'a Bytes),
    /// The sum of a counter; its text is the decimal number.
    Counter(i64),
}

/// A visible key: its value, version, deadline and attributes.
#[derive(Clone, Copy)]
pub struct View<'a> {
    value: ValueRef<'a>,
    /// The register, where it shows.
    register: Option<Header>,
    extra: Option<&'a Extra>,
    deadline: Deadline,
    sight: &'a Sight<'a>,
}

/// Names what a reader saw: equal on two nodes exactly when they hold the same.
///
/// For a plain key it is the stamp of its newest write; counter cells add a digest of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Of the newest write to the value.
    pub stamp: Stamp,
    /// Of the counter cells; 0 where there are none.
    pub cells: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cells {
            0 => write!(f, "{}", self.stamp),
            digest => write!(f, "{}-{digest:x}", self.stamp),
        }
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("value", &self.value)
            .field("register", &self.register)
            .finish()
    }
}

impl<'a> View<'a> {
    /// The view of a record at `now_ms`, or `None` where nothing shows.
    #[inline]
    pub(super) fn of(
        record: &'a Record,
        extra: impl FnOnce(u32) -> &'a Extra,
        seen: &'a Sight<'a>,
    ) -> Option<View<'a>> {
        let (header, _, inline) = record.parts();
        match header.extra {
            None => {
                let shows = header.life == Life::Value
                    && !header.deadline.is_past(seen.now_ms)
                    && seen.newer(&header);
                let (value, deadline) = (ValueRef::Inline(inline), header.deadline);
                let register = Some(header);
                shows.then_some(View { value, register, extra: None, deadline, sight: seen })
            }
            Some(slot) => View::of_rich(header, inline, extra(slot), seen),
        }
    }

    fn of_rich(
        header: Header,
        inline: &'a [u8],
        extra: &'a Extra,
        seen: &'a Sight<'a>,
    ) -> Option<View<'a>> {
        let register_deadline = match extra.touch {
            Some(touch) if touch.base == seen.stamp(&header) => touch.deadline,
            _ => header.deadline,
        };
        let register_shows = header.life == Life::Value
            && !register_deadline.is_past(seen.now_ms)
            && seen.newer(&header);
        let register = extra.value.as_ref().map_or(ValueRef::Inline(inline), ValueRef::Shared);
        let counted = sum_alive(&extra.tallies, seen.now_ms, seen.flushed);
        let value = match (register_shows, counted) {
            (false, None) => return None,
            (false, Some(sum)) => ValueRef::Counter(clamp(sum)),
            (true, None) => register,
            (true, Some(sum)) => match register.as_integer() {
                Some(base) => ValueRef::Counter(clamp(i128::from(base) + sum)),
                None => register,
            },
        };
        let deadline = if register_shows {
            register_deadline
        } else {
            latest_deadline(&extra.tallies, seen.now_ms, seen.flushed).unwrap_or(Deadline::NEVER)
        };
        let register = register_shows.then_some(header);
        Some(View { value, register, extra: Some(extra), deadline, sight: seen })
    }

    /// The value as it lies in the store.
    pub fn value(&self) -> ValueRef<'a> {
        self.value
    }

    /// When it stops being visible.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// What was stored beside the bytes.
    pub fn attributes(&self) -> Option<&'a Arc<Attributes>> {
        self.register?;
        self.extra.and_then(|extra| extra.attributes.as_ref())
    }

    /// The newest write to the value: what decides between two nodes.
    pub fn stamp(&self) -> Stamp {
        let register = self.register.map_or(Stamp::ZERO, |header| self.sight.stamp(&header));
        let counts = self.cells().map(|(origin, cell)| Stamp { hlc: cell.last, origin });
        counts.fold(register, Stamp::max)
    }

    /// Names exactly what this reader sees; for an ETag.
    pub fn version(&self) -> Version {
        if self.cells().next().is_none() {
            return Version { stamp: self.stamp(), cells: 0 };
        }
        let mut digest = Xxh3::new();
        // A version that came late may lie below a cell's newest increment, and still be news.
        let register = self.register.map_or(Stamp::ZERO, |header| self.sight.stamp(&header));
        digest.update(&register.hlc.to_bits().to_le_bytes());
        digest.update(register.origin.as_bytes());
        for (origin, cell) in self.cells() {
            digest.update(origin.as_bytes());
            for word in [cell.birth, cell.last, cell.reset.last] {
                digest.update(&word.to_bits().to_le_bytes());
            }
        }
        Version { stamp: self.stamp(), cells: digest.digest().max(1) }
    }

    /// The cells that count, by origin and birth.
    fn cells(&self) -> impl Iterator<Item = (Uuid, &'a Cell)> {
        let tallies = self.extra.map_or(&[][..], |extra| &extra.tallies);
        let (now_ms, flushed) = (self.sight.now_ms, self.sight.flushed);
        tallies.iter().flat_map(move |tally| {
            let alive = tally.cells.iter().filter(move |cell| cell.is_alive(now_ms, flushed));
            alive.map(|cell| (tally.origin, cell))
        })
    }
}

impl ValueRef<'_> {
    /// The 64-bit integer that the value is the canonical decimal form of.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            ValueRef::Inline(bytes) => parse_integer(bytes),
            ValueRef::Shared(_) => None,
            ValueRef::Counter(sum) => Some(*sum),
        }
    }

    /// Calls `read` with the value's bytes.
    pub fn with_bytes<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            ValueRef::Inline(bytes) => read(bytes),
            ValueRef::Shared(bytes) => read(bytes),
            ValueRef::Counter(sum) => read(itoa::Buffer::new().format(*sum).as_bytes()),
        }
    }

    /// The value's bytes with a life of their own: copied where inline, shared where large.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            ValueRef::Shared(bytes) => Bytes::clone(bytes),
            _ => self.with_bytes(Bytes::copy_from_slice),
        }
    }

    /// Bytes in the value.
    pub fn len(&self) -> usize {
        self.with_bytes(<[u8]>::len)
    }

    /// Whether the value is the empty string.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The circumstances of a look at the store.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    /// Wall time, ms since the epoch.
    pub(super) now_ms: u64,
    /// Time of the bucket's latest flush.
    pub(super) flushed: Hlc,
    /// The bucket's latest flush in full.
    pub(super) mark: &'a FlushMark,
    /// Turns interned origins into ids.
    pub(super) origins: &'a Origins,
}

impl Sight<'_> {
    /// The stamp of a record's register.
    pub(super) fn stamp(&self, header: &Header) -> Stamp {
        Stamp { hlc: header.hlc, origin: self.origins.id(header.origin) }
    }

    /// Whether the register was written after the bucket's latest flush.
    #[inline]
    fn newer(&self, header: &Header) -> bool {
        header.hlc > self.flushed
            || (header.hlc == self.flushed && self.stamp(header) > self.mark.stamp())
    }
}

//! The edits that this process makes: what they do to a record, and what is logged of them.

use super::{Content, Probe, Shard, Writer};
use crate::clock::{Hlc, Stamp};
use crate::entry::counter::{self, Increment};
use crate::entry::op::{Change, Resets};
use crate::entry::{Attributes, Deadline, Tally, Touch};
use crate::limits::CELL_COUNT_MAX;
use crate::store::edit::{Edit, NewValue};
use crate::store::extra::Extra;
use crate::store::record::Life;
use crate::store::view::ValueRef;
use bytes::Bytes;
use std::sync::Arc;

/// A version that is going to be set.
struct New<'a> {
    value: NewValue<'a>,
    deadline: Deadline,
    attributes: Option<Arc<Attributes>>,
}

/// A counter that is going to be a plain number.
struct Fold {
    sum: i64,
    deadline: Deadline,
    attributes: Option<Arc<Attributes>>,
}

/// The change that an edit made, in a form that costs nothing where it is not logged.
#[derive(Debug)]
pub(in crate::store) enum Made {
    /// A new version.
    Set {
        /// Its bytes; `None` where they are inline in the record.
        shared: Option<Bytes>,
        /// Of the record, for as long as the shard stays locked.
        place: usize,
        attributes: Option<Arc<Attributes>>,
        deadline: Deadline,
        resets: Resets,
    },
    /// Any other.
    Change(Change),
}

impl Shard {
    /// Makes an edit of this process's own. Returns the change, or `None` where nothing changed.
    pub(in crate::store) fn edit(
        &mut self,
        probe: Probe<'_>,
        edit: Edit<'_>,
        writer: Writer<'_>,
    ) -> Option<Made> {
        let place = self.find(probe);
        self.newest = self.newest.max(writer.stamp.hlc);
        match edit {
            Edit::Keep => None,
            Edit::Set { value, deadline, attributes } => {
                let attributes = attributes.filter(|attributes| !attributes.is_empty());
                Some(self.set(place, probe, New { value, deadline, attributes }, writer.stamp))
            }
            Edit::Delete => self.delete(place?, probe, writer),
            Edit::Expire(deadline) => self.expire(place?, probe, deadline, writer),
            Edit::Add { delta, deadline } => {
                Some(self.add(place, probe, (delta, deadline), writer))
            }
        }
    }

    fn set(&mut self, place: Option<usize>, probe: Probe<'_>, new: New<'_>, stamp: Stamp) -> Made {
        let mut extra = place.and_then(|place| self.take_extra(place));
        let resets = extra.as_mut().map(|extra| extra.supersede(stamp)).unwrap_or_default();
        let (value, shared) = match new.value.is_inline() {
            true => (new.value, None),
            false => (NewValue::Copy(&[]), Some(new.value.into_bytes())),
        };
        if shared.is_some() || new.attributes.is_some() {
            let extra = extra.get_or_insert_default();
            extra.value.clone_from(&shared);
            extra.attributes.clone_from(&new.attributes);
        }
        let inline = value.as_slice();
        let (hlc, deadline) = (stamp.hlc, new.deadline);
        let content = Content { hlc, origin: 0, life: Life::Value, deadline, inline, extra };
        let place = self.put(place, probe, content);
        Made::Set { shared, place, attributes: new.attributes, deadline, resets }
    }

    fn delete(&mut self, place: usize, probe: Probe<'_>, writer: Writer<'_>) -> Option<Made> {
        self.view_at(place, writer.sight)?;
        let stamp = writer.stamp;
        let mut extra = self.take_extra(place);
        let resets = extra.as_mut().map(|extra| extra.supersede(stamp)).unwrap_or_default();
        let content = Content {
            hlc: stamp.hlc,
            origin: 0,
            life: Life::Tombstone,
            deadline: Deadline::NEVER,
            inline: &[],
            extra,
        };
        self.put(Some(place), probe, content);
        Some(Made::Change(Change::Delete { resets }))
    }

    fn expire(
        &mut self,
        place: usize,
        probe: Probe<'_>,
        deadline: Deadline,
        writer: Writer<'_>,
    ) -> Option<Made> {
        let (key, stamp) = (probe.key, writer.stamp);
        debug_assert_eq!(self.record(place).key(), key, "the place was found for this key");
        let (_, view) = self.view_at(place, writer.sight)?;
        if let ValueRef::Counter(sum) = view.value() {
            // Nobody but its owner can change a cell's deadline: fold them all into a new version.
            let attributes = view.attributes().cloned();
            return Some(self.fold(place, probe, Fold { sum, deadline, attributes }, stamp));
        }
        let header = self.record(place).header();
        let base = writer.sight.stamp(&header);
        let touch = Some(Touch { base, stamp, deadline });
        match header.extra {
            None => self.put_extra(place, Box::new(Extra { touch, ..Extra::default() })),
            Some(slot) => {
                self.discount(place);
                let extra = &mut self.extras[slot as usize];
                extra.touch = extra.touch.max(touch);
                self.count(place);
                self.note(place);
            }
        }
        Some(Made::Change(Change::Touch { base, deadline }))
    }

    fn add(
        &mut self,
        place: Option<usize>,
        probe: Probe<'_>,
        (delta, own_deadline): (i64, Deadline),
        writer: Writer<'_>,
    ) -> Made {
        let (stamp, sight) = (writer.stamp, writer.sight);
        if let Some(counted) = place.and_then(|place| self.count_on(place, delta, writer)) {
            return counted;
        }
        let view = place.and_then(|place| self.view_at(place, sight));
        let (seen, deadline) = match &view {
            None => (0, own_deadline),
            Some((_, view)) => (view.value().as_integer().unwrap_or(0), view.deadline()),
        };
        let attributes = view.and_then(|(_, view)| view.attributes().cloned());
        let mut extra = place.and_then(|place| self.take_extra(place)).unwrap_or_default();
        let flushed = sight.flushed;
        let cell_count: usize = extra.tallies.iter().map(|tally| tally.cells.len()).sum();
        let tally = extra.own_tally(stamp);
        let counted = if cell_count < CELL_COUNT_MAX {
            counter::begin(tally, stamp.hlc, Increment { delta, deadline, flushed })
        } else {
            None
        };
        let closed = tally.closed;
        let place = self.put_rich(place, probe, extra);
        if let Some(cell) = counted {
            let (birth, sum, deadline) = (cell.birth, cell.sum, cell.deadline);
            return Made::Change(Change::Count { birth, sum, deadline, closed });
        }
        // Too many cells, or a cumulative sum at the end of its range: fold into a new version.
        let fold = Fold { sum: seen.saturating_add(delta), deadline, attributes };
        self.fold(place, probe, fold, stamp)
    }

    /// Makes a new version of what a counter adds up to, and resets its cells.
    fn fold(&mut self, place: usize, probe: Probe<'_>, fold: Fold, stamp: Stamp) -> Made {
        let Fold { sum, deadline, attributes } = fold;
        let text = Bytes::from(sum.to_string());
        let value = NewValue::Copy(&text);
        match self.set(Some(place), probe, New { value, deadline, attributes }, stamp) {
            // The caller has no bytes to log in the place of these.
            Made::Set { attributes, place, deadline, resets, .. } => {
                Made::Set { shared: Some(text), place, attributes, deadline, resets }
            }
            other => other,
        }
    }

    /// The common case of an increment: the process's newest cell goes on. Nothing moves.
    fn count_on(&mut self, place: usize, delta: i64, writer: Writer<'_>) -> Option<Made> {
        let slot = self.record(place).header().extra?;
        let (stamp, sight) = (writer.stamp, writer.sight);
        let tallies = &mut self.extras[slot as usize].tallies;
        let at = tallies.binary_search_by_key(&stamp.origin, |tally| tally.origin).ok()?;
        let cell = counter::go_on(&mut tallies[at], stamp.hlc, (delta, sight.flushed))?;
        let (birth, sum, deadline) = (cell.birth, cell.sum, cell.deadline);
        let closed = tallies[at].closed;
        self.note(place);
        Some(Made::Change(Change::Count { birth, sum, deadline, closed }))
    }
}

impl Extra {
    /// Drops what belongs to the version before the write `by`, and resets the cells that it saw.
    fn supersede(&mut self, by: Stamp) -> Resets {
        self.value = None;
        self.attributes = None;
        self.touch = None;
        counter::observe(&mut self.tallies, by)
    }

    /// The tally of the process that stamps `stamp`.
    fn own_tally(&mut self, stamp: Stamp) -> &mut Tally {
        let at = match self.tallies.binary_search_by_key(&stamp.origin, |tally| tally.origin) {
            Ok(at) => at,
            Err(at) => {
                let tally =
                    Tally { origin: stamp.origin, closed: Hlc::ZERO, cells: Default::default() };
                // Nearly always the first and only one: not room for the four that a vector begins
                // with.
                self.tallies.reserve_exact(1);
                self.tallies.insert(at, tally);
                at
            }
        };
        &mut self.tallies[at]
    }
}

//! Dropping what can never matter again, and giving memory back.

use super::{Probe, Shard};
use crate::clock::{Hlc, Now};
use crate::entry::{Entry, counter};
use crate::store::record::Life;
use crate::store::view::Sight;
use slab::Slab;

impl Shard {
    /// Collects the record at `place` if nothing of it can matter again. Returns whether it did.
    pub(in crate::store) fn collect_at(
        &mut self,
        place: usize,
        floor: Hlc,
        sight: &Sight<'_>,
    ) -> bool {
        let Some(record) = self.table.get_bucket(place) else { return false };
        let header = record.header();
        let extra = header.extra.map(|slot| &*self.extras[slot as usize]);
        // Only what was touched or counted can have parts that are dead while the value is alive.
        let all_or_nothing =
            extra.is_none_or(|extra| extra.touch.is_none() && extra.tallies.is_empty());
        let alive = header.life == Life::Value
            && !header.deadline.is_past(sight.now_ms)
            && header.hlc > sight.flushed;
        if all_or_nothing && alive {
            return false;
        }
        let now = Now::from_millis(sight.now_ms);
        let mut entry = self.outline_at(place, sight.origins);
        if entry.is_garbage(now, floor, sight.mark.stamp()) {
            // What is newer than the floor was killed by a flush, whose record lasts.
            self.forgotten = self.forgotten.max(entry.newest().min(floor));
            self.remove_at(place);
            return true;
        }
        if let Some(slot) = header.extra {
            counter::prune(&mut entry.tallies, sight.now_ms, floor, sight.flushed);
            if entry.tallies != self.extras[slot as usize].tallies {
                let key = self.record(place).key().to_vec();
                let probe = Probe { key: &key, hash: self.hasher.hash(&key) };
                let whole = Entry { tallies: entry.tallies, ..self.load_at(place, sight.origins) };
                self.save(probe, whole, header.origin);
            }
        }
        false
    }

    /// Whether no record can be collected before it is written again, or the bucket flushed: there
    /// is nothing to look for.
    pub(in crate::store) fn is_lasting(&self, sight: &Sight<'_>) -> bool {
        self.counts.mortal == 0 && self.oldest > sight.flushed
    }

    /// Drops what a flush has killed: all that is stamped at or before it. Where that is
    /// everything, the dead shard is handed back: taking it out is quick, freeing it may not
    /// be.
    pub(in crate::store) fn drop_flushed(&mut self, sight: &Sight<'_>) -> Option<Shard> {
        if self.newest < sight.flushed {
            let epoch = self.epoch.wrapping_add(1);
            let forgotten = self.forgotten;
            // Notes of what is dead are not needed: whoever keeps a copy keeps the flush too.
            let changes = self.changes.take().map(|changes| Box::new(changes.restart()));
            let empty = Shard { epoch, forgotten, changes, ..Shard::new(self.hasher.clone()) };
            return Some(std::mem::replace(self, empty));
        }
        for place in 0..self.place_count() {
            self.collect_at(place, Hlc::ZERO, sight);
        }
        None
    }

    /// No record that was ever collected here was stamped later.
    pub(in crate::store) fn forgotten(&self) -> Hlc {
        self.forgotten
    }

    /// Notes that anything stamped up to `until` may have been collected.
    pub(in crate::store) fn assume_forgotten(&mut self, until: Hlc) {
        self.forgotten = self.forgotten.max(until);
    }

    /// Gives back the memory of a table that has become far too large.
    pub(in crate::store) fn shrink(&mut self) {
        if self.table.len() * 8 < self.table.capacity() && self.table.capacity() > 64 {
            let (before, hasher) = (self.table.allocation_size(), &self.hasher);
            self.table.shrink_to(self.table.len() * 2, |record| hasher.hash(record.key()));
            self.epoch = self.epoch.wrapping_add(1);
            self.counts.bytes = self.counts.bytes - before + self.table.allocation_size();
        }
        if self.extras.is_empty() && self.extras.capacity() > 64 {
            self.extras = Slab::new();
        }
    }
}

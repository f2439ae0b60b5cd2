//! Dropping what can never matter again, and giving memory back.

use super::{Probe, Shard};
use crate::clock::{Hlc, Now};
use crate::entry::counter;
use crate::store::record::{Life, Record};
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
        let plain_and_alive = header.extra.is_none()
            && header.life == Life::Value
            && !header.deadline.is_past(sight.now_ms);
        if plain_and_alive {
            return false;
        }
        let now = Now::from_millis(sight.now_ms);
        let mut entry = self.load_at(place, sight.origins);
        if entry.is_garbage(now, floor, sight.mark.stamp()) {
            self.remove_at(place);
            return true;
        }
        if let Some(slot) = header.extra {
            counter::prune(&mut entry.tallies, sight.now_ms, floor, sight.flushed);
            if entry.tallies != self.extras[slot as usize].tallies {
                let key = self.record(place).key().to_vec();
                let probe = Probe { key: &key, hash: self.hasher.hash(&key) };
                self.save(probe, entry, header.origin);
            }
        }
        false
    }

    /// Drops what a flush has killed: all that is stamped at or before it.
    pub(in crate::store) fn drop_flushed(&mut self, sight: &Sight<'_>) {
        if self.table.iter().all(|record| self.is_older(record, sight.flushed)) {
            let epoch = self.epoch.wrapping_add(1);
            *self = Shard { epoch, ..Shard::new(self.hasher.clone()) };
            return;
        }
        for place in 0..self.place_count() {
            self.collect_at(place, Hlc::ZERO, sight);
        }
    }

    /// Whether everything that a record holds was written before `flushed`.
    fn is_older(&self, record: &Record, flushed: Hlc) -> bool {
        let header = record.header();
        let extra_is_older = |slot: u32| {
            let extra = &self.extras[slot as usize];
            let mut cells = extra.tallies.iter().flat_map(|tally| &tally.cells);
            cells.all(|cell| cell.birth < flushed)
                && extra.tallies.iter().all(|tally| tally.closed < flushed)
                // A touch may have come before the version that it belongs to.
                && extra.touch.is_none_or(|touch| touch.base.hlc < flushed)
        };
        header.hlc < flushed && header.extra.is_none_or(extra_is_older)
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

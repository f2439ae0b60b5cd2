//! One lock's worth of a bucket: a table of records, and what the rich ones hang off.

use super::changes::{Changes, Tracker};
use super::extra::Extra;
use super::hasher::KeyHasher;
use super::record::{Header, Life, Record};
use super::view::{Sight, View};
use crate::clock::{Hlc, Stamp};
use crate::entry::Deadline;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

mod collect;
pub(super) mod edits;
pub(super) mod merge;
mod notes;
mod whole;

/// A shard, under its lock.
#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<Record>,
    extras: Slab<Box<Extra>>,
    hasher: KeyHasher,
    counts: Counts,
    /// No write to the shard is later.
    newest: Hlc,
    /// No record that was ever collected here was stamped later.
    forgotten: Hlc,
    /// No value that the shard ever held is older.
    oldest: Hlc,
    /// Goes up whenever records may have changed their places in the table.
    epoch: u32,
    /// Which keys have changed, where somebody asks.
    changes: Option<Box<Changes>>,
    /// Whether it has ever held a value with tags.
    had_tags: bool,
}

/// Sums over a shard, kept exact by every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Keys that hold something, expired ones included until they are collected.
    pub(super) keys: usize,
    /// Those of them with a deadline.
    pub(super) volatile: usize,
    /// Records, tombstones included.
    pub(super) records: usize,
    /// Those that are, or may become, collectable without being written again: tombstones, and what
    /// has a deadline, a touch or counter cells. A flush aside.
    pub(super) mortal: usize,
    /// Of records, extras and the table.
    pub(super) bytes: usize,
}

/// A key and its hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<'k> {
    pub(super) key: &'k [u8],
    pub(super) hash: u64,
}

/// An edit that is going to be made: by whom and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer<'a> {
    /// Of the edit.
    pub(super) stamp: Stamp,
    /// The circumstances in which its decider looked.
    pub(super) sight: &'a Sight<'a>,
}

/// A new content for a record.
struct Content<'a> {
    hlc: Hlc,
    origin: u16,
    life: Life,
    deadline: Deadline,
    inline: &'a [u8],
    extra: Option<Box<Extra>>,
}

impl Shard {
    pub(super) fn new(hasher: KeyHasher) -> Shard {
        let (table, extras, counts) = (HashTable::new(), Slab::new(), Counts::default());
        let (newest, forgotten, oldest) = (Hlc::ZERO, Hlc::ZERO, Hlc::MAX);
        let (epoch, changes, had_tags) = (0, None, false);
        Shard { table, extras, hasher, counts, newest, forgotten, oldest, epoch, changes, had_tags }
    }

    /// The same, with its changes noted for whoever asks `tracker`.
    pub(super) fn tracked(hasher: KeyHasher, tracker: Tracker) -> Shard {
        Shard { changes: Some(Box::new(Changes::new(tracker))), ..Shard::new(hasher) }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether there may be a value with tags.
    pub(super) fn had_tags(&self) -> bool {
        self.had_tags
    }

    /// Places in the table, taken or free.
    pub(super) fn place_count(&self) -> usize {
        self.table.num_buckets()
    }

    /// The visible content of `probe`.
    #[inline]
    pub(super) fn view<'a>(&'a self, probe: Probe<'_>, sight: &'a Sight<'a>) -> Option<View<'a>> {
        let record = self.table.find(probe.hash, |record| record.key() == probe.key)?;
        View::of(record, |slot| &self.extras[slot as usize], sight)
    }

    /// The key and visible content of the record at `place`.
    pub(super) fn view_at<'a>(
        &'a self,
        place: usize,
        sight: &'a Sight<'a>,
    ) -> Option<(&'a [u8], View<'a>)> {
        let record = self.table.get_bucket(place)?;
        let view = View::of(record, |slot| &self.extras[slot as usize], sight)?;
        Some((record.key(), view))
    }

    /// The inline value of the record at `place`, which was found under this lock.
    pub(super) fn inline_at(&self, place: usize) -> &[u8] {
        self.record(place).parts().2
    }

    /// Touches what are very likely the records of these keys. Returns what is of no use but to show
    /// that it was done.
    pub(super) fn touch<'k>(&self, probes: impl Iterator<Item = Probe<'k>>) -> u8 {
        // By what the table knows of their hashes: a look at one key would be waited for before the
        // next.
        let likely = probes.filter_map(|probe| self.table.find(probe.hash, |_| true));
        let likely: SmallVec<[&Record; 32]> = likely.collect();
        likely.iter().fold(0, |mix, record| mix ^ record.touch())
    }

    fn find(&self, probe: Probe<'_>) -> Option<usize> {
        self.table.find_bucket_index(probe.hash, |record| record.key() == probe.key)
    }

    fn record(&self, place: usize) -> &Record {
        self.table.get_bucket(place).expect("the place was found under this lock")
    }

    // What follows keeps the counts exact: every change of a record goes through these.

    /// Removes the extra of the record at `place`, which must be put back or replaced.
    fn take_extra(&mut self, place: usize) -> Option<Box<Extra>> {
        let (header, key, inline) = self.record(place).parts();
        let slot = header.extra?;
        let (key, inline) = (key.to_vec(), inline.to_vec());
        self.discount(place);
        let extra = self.extras.remove(slot as usize);
        let record = self.table.get_bucket_mut(place).expect("the place was found under this lock");
        record.rewrite(Header { extra: None, ..header }, &key, &inline);
        self.count(place);
        Some(extra)
    }

    /// Hangs `extra` onto the record at `place`, which has none.
    fn put_extra(&mut self, place: usize, extra: Box<Extra>) {
        let (header, key, inline) = self.record(place).parts();
        debug_assert_eq!(header.extra, None, "the old extra was taken");
        let (key, inline) = (key.to_vec(), inline.to_vec());
        self.discount(place);
        let slot = self.hang(Some(extra));
        let record = self.table.get_bucket_mut(place).expect("the place was found under this lock");
        record.rewrite(Header { extra: slot, ..header }, &key, &inline);
        self.count(place);
        self.note(place);
    }

    /// Hangs `extra` onto the key's record, which has none, or onto a new one with no register.
    fn put_rich(&mut self, place: Option<usize>, probe: Probe<'_>, extra: Box<Extra>) -> usize {
        match place {
            Some(place) => {
                self.put_extra(place, extra);
                place
            }
            None => self.put(None, probe, Content::absent(extra)),
        }
    }

    /// Writes the record of a key whose old extra, if any, was taken. Returns its place.
    fn put(&mut self, place: Option<usize>, probe: Probe<'_>, content: Content<'_>) -> usize {
        if let Some(place) = place {
            self.discount(place);
        }
        let Content { hlc, origin, life, deadline, inline, extra } = content;
        let extra = self.hang(extra.filter(|extra| !extra.is_empty()));
        let header = Header { hlc, origin, life, deadline, extra };
        let (place, bytes) = match place {
            Some(place) => {
                let record =
                    self.table.get_bucket_mut(place).expect("the place was found under this lock");
                record.rewrite(header, probe.key, inline);
                (place, record.allocated_bytes())
            }
            None => {
                let record = Record::new(header, probe.key, inline);
                let bytes = record.allocated_bytes();
                (self.insert(record, probe.hash), bytes)
            }
        };
        self.count_as(&header, bytes);
        self.note(place);
        place
    }

    fn hang(&mut self, extra: Option<Box<Extra>>) -> Option<u32> {
        let extra = extra?;
        // Every value that has some comes by here.
        self.had_tags |= extra.attributes.as_ref().is_some_and(|it| !it.tags.is_empty());
        let slot = self.extras.insert(extra);
        Some(u32::try_from(slot).expect("a shard holds fewer than 2^32 records"))
    }

    fn insert(&mut self, record: Record, hash: u64) -> usize {
        let before = self.table.allocation_size();
        if self.table.len() == self.table.capacity() {
            // The table is about to grow, or to move its records within itself.
            self.epoch = self.epoch.wrapping_add(1);
        }
        let hasher = &self.hasher;
        let place = self
            .table
            .insert_unique(hash, record, |record| hasher.hash(record.key()))
            .bucket_index();
        self.counts.bytes += self.table.allocation_size() - before;
        self.counts.records += 1;
        place
    }

    fn remove_at(&mut self, place: usize) {
        self.note_removal(place);
        self.discount(place);
        let entry = self.table.get_bucket_entry(place).expect("the place is taken");
        let (record, _) = entry.remove();
        if let Some(slot) = record.header().extra {
            self.extras.remove(slot as usize);
        }
        self.counts.records -= 1;
    }

    /// Adds the record at `place` to the counts.
    fn count(&mut self, place: usize) {
        let record = self.record(place);
        let (header, bytes) = (record.header(), record.allocated_bytes());
        self.count_as(&header, bytes);
    }

    /// Adds a record to the counts.
    fn count_as(&mut self, header: &Header, allocated_bytes: usize) {
        let weight = self.weigh(header, allocated_bytes);
        self.counts.keys += weight.keys;
        self.counts.volatile += weight.volatile;
        self.counts.mortal += weight.mortal;
        self.counts.bytes += weight.bytes;
        if header.life == Life::Value {
            self.oldest = self.oldest.min(header.hlc);
        }
    }

    /// Takes the record at `place` out of the counts.
    fn discount(&mut self, place: usize) {
        let record = self.record(place);
        let (header, bytes) = (record.header(), record.allocated_bytes());
        let weight = self.weigh(&header, bytes);
        self.counts.keys -= weight.keys;
        self.counts.volatile -= weight.volatile;
        self.counts.mortal -= weight.mortal;
        self.counts.bytes -= weight.bytes;
    }

    /// What a record with this header adds to the counts of a shard that holds it already.
    #[inline]
    fn weigh(&self, header: &Header, allocated_bytes: usize) -> Counts {
        let holds = header.life == Life::Value;
        let volatile = header.deadline != Deadline::NEVER;
        let Some(slot) = header.extra else {
            return Counts {
                keys: usize::from(holds),
                volatile: usize::from(holds && volatile),
                records: 0,
                mortal: usize::from(!holds || volatile),
                bytes: allocated_bytes,
            };
        };
        let extra = &self.extras[slot as usize];
        let bytes = allocated_bytes + extra.allocated_bytes();
        // Bases are compared by time alone: equal times of two origins are next to impossible,
        // and this is a count for people.
        let touch = extra.touch.filter(|touch| touch.base.hlc == header.hlc);
        let mut shown = (holds, touch.map_or(header.deadline, |touch| touch.deadline));
        let mut cells = extra.tallies.iter().flat_map(|tally| &tally.cells);
        if !holds && let Some(cell) = cells.find(|cell| cell.is_counting()) {
            shown = (true, cell.deadline);
        }
        let (shows, deadline) = shown;
        let is_rich = extra.touch.is_some() || !extra.tallies.is_empty();
        Counts {
            keys: usize::from(shows),
            volatile: usize::from(shows && deadline != Deadline::NEVER),
            records: 0,
            mortal: usize::from(!holds || volatile || is_rich),
            bytes,
        }
    }

    /// The counts, worked out from scratch.
    #[cfg(test)]
    pub(super) fn recount(&self) -> Counts {
        let mut counts = Counts { bytes: self.table.allocation_size(), ..Counts::default() };
        for place in 0..self.place_count() {
            if self.table.get_bucket(place).is_some() {
                let record = self.record(place);
                let weight = self.weigh(&record.header(), record.allocated_bytes());
                counts.records += 1;
                counts.bytes += weight.bytes;
                counts.keys += weight.keys;
                counts.volatile += weight.volatile;
                counts.mortal += weight.mortal;
            }
        }
        counts
    }
}

impl Content<'_> {
    /// No register, only an extra.
    fn absent(extra: Box<Extra>) -> Content<'static> {
        let (life, deadline) = (Life::Tombstone, Deadline::NEVER);
        Content { hlc: Hlc::ZERO, origin: 1, life, deadline, inline: &[], extra: Some(extra) }
    }
}

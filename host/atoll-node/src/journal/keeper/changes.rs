//! From the store's notes to records: what has changed since the turn before.

use super::{Call, Keeper};
use crate::journal::disk::{Batch, Disk, DiskError};
use crate::journal::record::{self, CHECKPOINT, Checkpoint};
use crate::journal::status::Sums;
use atoll_core::entry::Entry;
use atoll_core::key::BucketName;
use atoll_core::store::changes::{KeyList, Lost, NotedKeys, Selection, Walk};
use atoll_core::store::{Bucket, Store};
use atoll_core::wire::entry::encode_entry;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Most bytes of names of keys that are remembered until they are safe.
const WINDOW_BYTES_MAX: usize = 64 << 20;
/// What a list costs beside its keys, in bytes: its place, itself and what its allocations waste.
const LIST_OVERHEAD_BYTES: usize = 128;
/// What the node keeps beside its keys may change with the clock alone; it is then written so often.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// The keys that were written and are not safe yet.
#[derive(Default)]
pub(super) struct Window {
    lists: Vec<(Arc<Bucket>, Arc<KeyList>)>,
    bytes: usize,
    known: Known,
}

/// Whether the lists name everything that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Known {
    #[default]
    All,
    /// It was too much to remember.
    NotAll,
}

impl Window {
    fn add(&mut self, bucket: &Arc<Bucket>, keys: &Arc<KeyList>) {
        // Where somebody waits all the time the lists are many and short.
        let bytes = keys.bytes() + LIST_OVERHEAD_BYTES;
        if self.bytes + bytes > WINDOW_BYTES_MAX {
            self.give_up();
        }
        if self.known == Known::All {
            self.bytes += bytes;
            self.lists.push((Arc::clone(bucket), Arc::clone(keys)));
        }
    }

    /// Remembers only that there was something.
    fn give_up(&mut self) {
        *self = Window { known: Known::NotAll, ..Window::default() };
    }

    /// Everything is safe.
    pub(super) fn clear(&mut self) {
        *self = Window::default();
    }

    /// Notes its keys as changed once more. Returns whether those are all.
    pub(super) fn note_again(&self, store: &Store) -> Known {
        self.lists.iter().for_each(|(bucket, keys)| store.note_again(bucket, keys));
        self.known
    }
}

/// Gathers records and commits them in batches.
pub(in crate::journal) struct Writer<'w> {
    disk: &'w mut dyn Disk,
    batch: Batch,
    sums: &'w Sums,
    record_count: usize,
}

impl<'w> Writer<'w> {
    pub(in crate::journal) fn new(disk: &'w mut dyn Disk, sums: &'w Sums) -> Writer<'w> {
        Writer { disk, batch: Batch::default(), sums, record_count: 0 }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk
    }

    /// Whether nothing was handed over since the start.
    fn is_idle(&self) -> bool {
        self.record_count == 0
    }

    pub(in crate::journal) fn put(
        &mut self,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<(), DiskError> {
        self.record_count += 1;
        self.batch.put(key, value);
        self.commit_if_full()
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) -> Result<(), DiskError> {
        self.record_count += 1;
        self.batch.remove(key);
        self.commit_if_full()
    }

    /// Writes what the key holds, or removes it.
    pub(in crate::journal) fn entry(
        &mut self,
        bucket: &BucketName,
        key: &[u8],
        entry: Option<&Entry>,
    ) -> Result<(), DiskError> {
        let record_key = record::entry_key(bucket, key);
        match entry {
            None => self.remove(record_key),
            Some(entry) => {
                let value = record::seal(&record_key, |out| encode_entry(entry, out));
                self.put(record_key, value)
            }
        }
    }

    /// Writes what the key holds, unless that is what the disk has.
    fn entry_if_other(
        &mut self,
        bucket: &BucketName,
        key: &[u8],
        entry: &Entry,
    ) -> Result<(), DiskError> {
        let record_key = record::entry_key(bucket, key);
        let value = record::seal(&record_key, |out| encode_entry(entry, out));
        let found = self.disk.get(&record_key)?;
        if found.is_some_and(|found| found == value) { Ok(()) } else { self.put(record_key, value) }
    }

    fn commit_if_full(&mut self) -> Result<(), DiskError> {
        if self.batch.is_full() { self.commit() } else { Ok(()) }
    }

    /// Commits what was gathered.
    pub(in crate::journal) fn commit(&mut self) -> Result<(), DiskError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.sums.records.fetch_add(batch.records.len() as u64, Relaxed);
        self.sums.bytes.fetch_add(batch.bytes as u64, Relaxed);
        self.disk.commit(batch)
    }
}

impl Keeper {
    /// Writes everything that has changed. Up to which op of this process that goes is in
    /// `unsynced`.
    pub(super) fn write_changes(
        &mut self,
        disk: &mut dyn Disk,
        call: Call,
    ) -> Result<(), DiskError> {
        // In this order: what the state covers and what has a number is noted before it is told.
        let state = (self.node_state)();
        let seq = self.store.seq();
        let journal = Arc::clone(&self.journal);
        let mut writer = Writer::new(disk, &journal.board.sums);
        let mut lost = Lost::None;
        for bucket in self.store.buckets() {
            if self.write_bucket(&bucket, &mut writer)? == Lost::Some {
                lost = Lost::Some;
            }
        }
        if lost == Lost::Some {
            self.purges.purge_all(&self.store, &mut writer)?;
        }
        self.purges.step(&self.store, &mut writer)?;
        self.write_state(state, &mut writer, call)?;
        self.unsynced.any |= !writer.is_idle();
        self.unsynced.seq = seq;
        Ok(())
    }

    /// Writes what has changed in a bucket. Returns whether keys may have gone unnoticed.
    fn write_bucket(
        &mut self,
        bucket: &Arc<Bucket>,
        writer: &mut Writer<'_>,
    ) -> Result<Lost, DiskError> {
        let (mut lost, mut lists, mut walks) = (Lost::None, Vec::new(), Vec::new());
        // First all notes are remembered: should the disk fail at the first of them, none is lost.
        for (shard, noted) in self.store.take_changes(bucket) {
            if noted.lost_removals == Lost::Some {
                lost = Lost::Some;
            }
            match noted.keys {
                NotedKeys::Listed(keys) => {
                    let keys = Arc::new(keys);
                    self.window.add(bucket, &keys);
                    lists.push(keys);
                }
                NotedKeys::Walk(selection) => {
                    self.window.give_up();
                    walks.push((Walk::of(shard), selection));
                }
            }
        }
        for keys in &lists {
            self.store.visit_noted(bucket, keys, |key, entry| {
                writer.entry(bucket.name(), key, entry.as_ref())
            })?;
        }
        for (start, selection) in walks {
            let mut next = Some(start);
            while let Some(walk) = next {
                next =
                    self.store.walk(bucket, (walk, selection), |key, entry| match selection {
                        // The copy may hold most of it, and rewriting it may be what fills the disk.
                        Selection::All => writer.entry_if_other(bucket.name(), key, &entry),
                        Selection::Changed | Selection::Copy => {
                            writer.entry(bucket.name(), key, Some(&entry))
                        }
                    })?;
            }
        }
        Ok(lost)
    }

    /// Writes what the node keeps beside its keys, last of all, and commits what was gathered.
    fn write_state(
        &mut self,
        state: Vec<u8>,
        writer: &mut Writer<'_>,
        call: Call,
    ) -> Result<(), DiskError> {
        let mut flushes = self.store.flush_marks();
        flushes.retain(|(bucket, stamp)| self.copy.flushes.get(bucket) != Some(stamp));
        for (bucket, stamp) in &flushes {
            let key = record::flush_key(bucket);
            let value = record::seal(&key, |out| record::write_stamp(*stamp, out));
            writer.put(key, value)?;
        }
        let is_due =
            call == Call::Stop || self.copy.written_at.is_none_or(|at| at.elapsed() >= STATE_EVERY);
        if writer.is_idle() && (!is_due || self.copy.checkpoint.state == state) {
            return Ok(());
        }
        let number = self.copy.checkpoint.number + 1;
        let checkpoint = Checkpoint { number, state: Bytes::from(state) };
        let value = record::seal(CHECKPOINT, |out| checkpoint.write(out));
        writer.put(CHECKPOINT.to_vec(), value)?;
        writer.commit()?;
        self.copy.checkpoint = checkpoint;
        self.copy.written_at = Some(Instant::now());
        for (bucket, stamp) in flushes {
            self.purges.add(bucket.clone());
            self.copy.flushes.insert(bucket, stamp);
        }
        Ok(())
    }
}

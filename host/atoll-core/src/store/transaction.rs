//! Several keys of one bucket, looked at and changed as one.

use super::edit::{Edit, WriteError};
use super::shard::{Shard, Writer};
use super::view::{Sight, View};
use super::{Bucket, POISONED, Sequencer, Store, Turn, shard_index};
use crate::clock::{Now, Stamp};
use crate::limits::SHARD_COUNT;
use std::sync::MutexGuard;

const _: () = assert!(SHARD_COUNT <= 64, "a set of shards is one word");

/// Holds the locks of all shards that the named keys lie in, and the sequencer.
///
/// Other writers wait until it is dropped: decide and write, nothing else.
#[derive(Debug)]
pub struct Transaction<'a> {
    store: &'a Store,
    bucket: &'a Bucket,
    now: Now,
    /// Of the first write at the earliest: what reads decide by.
    decided_at: Now,
    shards: Shards<'a>,
    sequencer: MutexGuard<'a, Sequencer>,
    has_room: Room,
}

/// Whether the memory for all writes has been promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Reserved,
    AskEachTime,
}

/// Locked shards, by ascending index: the order in which everyone locks.
#[derive(Debug)]
struct Shards<'a> {
    locked: Vec<(usize, MutexGuard<'a, Shard>)>,
}

impl<'a> Shards<'a> {
    fn lock<'k>(store: &Store, bucket: &'a Bucket, keys: impl Iterator<Item = &'k [u8]>) -> Self {
        let set = keys.fold(0_u64, |set, key| set | 1 << shard_index(store.probe(key).hash));
        let indices = (0..SHARD_COUNT).filter(|index| set & 1 << index != 0);
        let lock = |index: usize| (index, bucket.shards[index].lock().expect(POISONED));
        Shards { locked: indices.map(lock).collect() }
    }

    fn of(&mut self, hash: u64) -> &mut Shard {
        let index = shard_index(hash);
        let at = self.locked.binary_search_by_key(&index, |(index, _)| *index);
        &mut self.locked[at.expect("the key was named when the locks were taken")].1
    }
}

impl Store {
    /// Locks what `keys` lie in and lets `body` look and write there as one.
    pub fn transaction<'a, 'k, R>(
        &'a self,
        bucket: &'a Bucket,
        keys: impl Iterator<Item = &'k [u8]>,
        now: Now,
        body: impl FnOnce(&mut Transaction<'a>) -> R,
    ) -> R {
        let shards = Shards::lock(self, bucket, keys);
        let mut sequencer = self.sequencer();
        let decided_at = Now::from_millis(sequencer.stamp(now, self.origin()).hlc.millis());
        let has_room = Room::AskEachTime;
        body(&mut Transaction { store: self, bucket, now, decided_at, shards, sequencer, has_room })
    }

    /// Calls `look` with each of `keys` in turn, all as of one moment.
    pub fn read_many<'k>(
        &self,
        bucket: &Bucket,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
        now: Now,
        mut look: impl FnMut(Option<View<'_>>),
    ) {
        let mut shards = Shards::lock(self, bucket, keys.clone());
        let sight = self.sight(bucket, now);
        for key in keys {
            let probe = self.probe(key);
            look(shards.of(probe.hash).view(probe, &sight));
        }
    }
}

impl Transaction<'_> {
    /// Calls `look` with what `key`, one of those named, shows.
    pub fn read<R>(&mut self, key: &[u8], look: impl FnOnce(Option<View<'_>>) -> R) -> R {
        let probe = self.store.probe(key);
        let sight = self.store.sight(self.bucket, self.decided_at);
        look(self.shards.of(probe.hash).view(probe, &sight))
    }

    /// Promises memory for `bytes` more of keys and values: no later write is refused for want of
    /// it, so that either all or none are made.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), WriteError> {
        self.store.make_room(bytes)?;
        self.has_room = Room::Reserved;
        Ok(())
    }

    /// Makes an edit of `key`, one of those named. Returns its stamp, or `None` where nothing
    /// changed.
    pub fn write(&mut self, key: &[u8], edit: Edit<'_>) -> Result<Option<Stamp>, WriteError> {
        match self.store.admit(&edit) {
            Err(WriteError::Full { .. }) if self.has_room == Room::Reserved => {}
            admitted => admitted?,
        }
        let probe = self.store.probe(key);
        let stamp = self.sequencer.stamp(self.now, self.store.origin());
        let sight: Sight<'_> = self.store.sight(self.bucket, Now::from_millis(stamp.hlc.millis()));
        let turn = Turn {
            bucket: self.bucket,
            shard: self.shards.of(probe.hash),
            sequencer: &mut self.sequencer,
            now: self.now,
        };
        let made = self.store.apply(turn, probe, edit, Writer { stamp, sight: &sight });
        Ok(made.then_some(stamp))
    }
}

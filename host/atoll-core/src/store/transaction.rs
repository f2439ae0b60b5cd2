//! Several keys, of one bucket or of several, looked at and changed as one.

use super::edit::{Edit, WriteError, Written};
use super::shard::{Shard, Writer};
use super::view::View;
use super::{Bucket, POISONED, Sequencer, Store, Turn, shard_index};
use crate::clock::{Now, Stamp};
use crate::limits::SHARD_COUNT;
use smallvec::SmallVec;
use std::sync::MutexGuard;

const _: () = assert!(SHARD_COUNT <= 64, "a set of shards is one word");

/// The shards that a transaction looks at and changes.
#[derive(Debug, Default)]
pub struct Scope<'a> {
    /// Buckets, by address, and for each the set of its shards.
    buckets: SmallVec<[(&'a Bucket, u64); 1]>,
}

/// Holds the locks of all shards in its scope, and the sequencer.
///
/// Other writers wait until it is dropped: decide and write, nothing else. Whoever calls the
/// [`Store`] itself meanwhile waits for ever.
#[derive(Debug)]
pub struct Transaction<'a> {
    store: &'a Store,
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

/// Locked shards by bucket and index, ascending: the order in which everyone locks.
#[derive(Debug)]
struct Shards<'a> {
    locked: Vec<((usize, usize), MutexGuard<'a, Shard>)>,
}

/// The place of a bucket in the order of locking: any that all threads agree on.
fn rank(bucket: &Bucket) -> usize {
    std::ptr::from_ref(bucket).addr()
}

impl<'a> Scope<'a> {
    /// The shards of these keys of one bucket.
    pub fn of<'k>(store: &Store, bucket: &'a Bucket, keys: impl Iterator<Item = &'k [u8]>) -> Self {
        let set = keys.fold(0_u64, |set, key| set | 1 << shard_index(store.probe(key).hash));
        Scope { buckets: SmallVec::from_buf([(bucket, set)]) }
    }

    /// Adds the shard of `key`.
    pub fn add(&mut self, store: &Store, bucket: &'a Bucket, key: &[u8]) {
        *self.set_of(bucket) |= 1 << shard_index(store.probe(key).hash);
    }

    /// Adds all shards of `bucket`.
    pub fn add_all(&mut self, bucket: &'a Bucket) {
        *self.set_of(bucket) = u64::MAX >> (64 - SHARD_COUNT);
    }

    fn set_of(&mut self, bucket: &'a Bucket) -> &mut u64 {
        let found = self.buckets.binary_search_by_key(&rank(bucket), |(known, _)| rank(known));
        let at = found.unwrap_or_else(|at| {
            self.buckets.insert(at, (bucket, 0));
            at
        });
        &mut self.buckets[at].1
    }
}

impl<'a> Shards<'a> {
    fn lock(scope: &Scope<'a>) -> Self {
        let mut locked = Vec::new();
        for &(bucket, set) in &scope.buckets {
            let indices = (0..SHARD_COUNT).filter(|index| set & 1 << index != 0);
            locked.extend(indices.map(|index| {
                ((rank(bucket), index), bucket.shards[index].lock().expect(POISONED))
            }));
        }
        Shards { locked }
    }

    fn of(&mut self, bucket: &Bucket, hash: u64) -> &mut Shard {
        let at = (rank(bucket), shard_index(hash));
        let at = self.locked.binary_search_by_key(&at, |(at, _)| *at);
        &mut self.locked[at.expect("the key was named when the locks were taken")].1
    }
}

impl Store {
    /// Locks what is in `scope` and lets `body` look and write there as one.
    pub fn transaction<'a, R>(
        &'a self,
        scope: &Scope<'a>,
        now: Now,
        body: impl FnOnce(&mut Transaction<'a>) -> R,
    ) -> R {
        let shards = Shards::lock(scope);
        let mut sequencer = self.sequencer();
        let decided_at = Now::from_millis(sequencer.stamp(now, self.origin()).hlc.millis());
        let has_room = Room::AskEachTime;
        body(&mut Transaction { store: self, now, decided_at, shards, sequencer, has_room })
    }

    /// Calls `look` with each of `keys` in turn, all as of one moment.
    pub fn read_many<'k>(
        &self,
        bucket: &Bucket,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
        now: Now,
        mut look: impl FnMut(Option<View<'_>>),
    ) {
        let mut shards = Shards::lock(&Scope::of(self, bucket, keys.clone()));
        let sight = self.sight(bucket, now);
        for key in keys {
            let probe = self.probe(key);
            look(shards.of(bucket, probe.hash).view(probe, &sight));
        }
    }
}

impl Transaction<'_> {
    /// Calls `look` with what `key`, one of those in scope, shows.
    pub fn read<R>(
        &mut self,
        bucket: &Bucket,
        key: &[u8],
        look: impl FnOnce(Option<View<'_>>) -> R,
    ) -> R {
        let probe = self.store.probe(key);
        let sight = self.store.sight(bucket, self.decided_at);
        look(self.shards.of(bucket, probe.hash).view(probe, &sight))
    }

    /// Promises memory for `bytes` more of keys and values: no later write is refused for want of
    /// it, so that either all or none are made.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), WriteError> {
        self.store.make_room(bytes)?;
        self.has_room = Room::Reserved;
        Ok(())
    }

    /// Takes the promise back.
    pub fn end_reservation(&mut self) {
        self.has_room = Room::AskEachTime;
    }

    /// Lets `decide` look at `key`, one of those in scope, and makes the edit that it decides on.
    pub fn write<'e, R>(
        &mut self,
        bucket: &Bucket,
        key: &[u8],
        decide: impl FnOnce(Option<View<'_>>) -> (Edit<'e>, R),
    ) -> Result<Written<R>, WriteError> {
        let probe = self.store.probe(key);
        let stamp = self.sequencer.stamp(self.now, self.store.origin());
        let sight = self.store.sight(bucket, Now::from_millis(stamp.hlc.millis()));
        let shard = self.shards.of(bucket, probe.hash);
        let (edit, answer) = decide(shard.view(probe, &sight));
        match self.store.admit(&edit) {
            Err(WriteError::Full { .. }) if self.has_room == Room::Reserved => {}
            admitted => admitted?,
        }
        let turn = Turn { bucket, shard, sequencer: &mut self.sequencer, now: self.now };
        let made = self.store.apply(turn, probe, edit, Writer { stamp, sight: &sight });
        Ok(Written { answer, stamp: made.then_some(stamp) })
    }

    /// Marks everything that `bucket`, all of it in scope, holds as dead. The memory is freed by
    /// the next sweeps, or by [`Store::drop_flushed`] afterwards.
    pub fn flush(&mut self, bucket: &Bucket) -> Stamp {
        self.store.mark_flushed(&mut self.sequencer, bucket, self.now)
    }
}

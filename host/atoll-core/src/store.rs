//! The sharded last-write-wins store: what this node knows, and the log of how it came to know it.
//!
//! A key's shard is locked for each look and each write; writes then take the sequencer, which
//! gives them their stamp and their place in the log. Locks are always taken in that order, shards
//! by ascending index, and those of several buckets one bucket after the other, by address. Nothing
//! here waits for a peer, a disk or a guest.

pub mod ahead;
pub mod apply;
pub mod changes;
mod covered;
pub mod edit;
mod extra;
mod flush;
pub mod gate;
mod hasher;
pub mod internal;
pub mod list;
pub mod log;
mod origins;
pub mod outbox;
mod record;
pub mod restore;
pub mod scan;
mod shard;
pub mod survey;
pub mod sweep;
pub mod transaction;
pub mod view;

#[cfg(test)]
mod tests;

use crate::clock::{Hlc, Now, Stamp};
use crate::entry::Entry;
use crate::entry::op::Op;
use crate::key::{BucketName, check_key};
use crate::limits::{BUCKET_COUNT_MAX, SHARD_COUNT, VALUE_BYTES_MAX};
use crate::replica::vector::Mark;
use crate::wire::op::{BucketRef, EffectRef};
use bytes::Bytes;
use changes::{ChangeBudget, ChangedShards};
use edit::{Edit, WriteError, Written};
use flush::FlushMark;
use gate::Gate;
use hasher::KeyHasher;
use log::{Log, LogRead};
use origins::Origins;
use outbox::{Outbox, Reader, Run, Tell};
use shard::edits::Made;
use shard::{Probe, Shard, Writer};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use uuid::Uuid;
use view::{Sight, View};

/// The message of the panic that follows when a lock of the store is taken after a panic under it.
/// A process that sees it must end: suspect state is not served.
pub const POISONED: &str = "the store is poisoned by an earlier panic; restart the node";

/// How large a store may become.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Bytes of keys, values and their tables; writes past it are refused. The log comes on top.
    pub memory_bytes_max: usize,
    /// Bytes of ops kept for readers of the log.
    pub log_bytes_max: usize,
    /// Bytes for the names of keys that have changed, where somebody [takes](Store::take_changes)
    /// them; past it shards are walked instead.
    pub change_bytes_max: Option<usize>,
}

/// The dice of a store: drawn once by the shell at start.
#[derive(Clone, Copy, Debug)]
pub struct Dice {
    /// Names this process among all that ever were. Never saved, never used twice.
    pub origin: Uuid,
    /// Keys the hash of the tables.
    pub hash_seed: u64,
}

/// Everything that this node holds.
pub struct Store {
    hasher: KeyHasher,
    origins: Origins,
    buckets: RwLock<HashMap<BucketName, Arc<Bucket>>>,
    databases: [Arc<Bucket>; 16],
    sequencer: Mutex<Sequencer>,
    change_budget: Option<Arc<ChangeBudget>>,
    gate: Gate,
    used_bytes: AtomicUsize,
    memory_bytes_max: AtomicUsize,
    /// What flushes have killed, whole shards of it, until the sweep frees it.
    rubble: Mutex<Vec<Shard>>,
    /// Called, under the sequencer's lock, whenever an op was logged. Must not block or come back.
    on_log: Box<dyn Fn() + Send + Sync>,
    on_internal: internal::Listener,
}

/// A namespace of keys.
pub struct Bucket {
    name: BucketName,
    shards: Box<[Mutex<Shard>]>,
    flushed: FlushMark,
    /// Where something has changed, if somebody asks.
    changed: Option<Arc<ChangedShards>>,
    /// Whether it belongs to the node itself.
    is_internal: bool,
}

/// Gives out stamps and sequence numbers, and keeps the log.
#[derive(Debug)]
struct Sequencer {
    clock: Hlc,
    seq: u64,
    /// Number of the latest op that was not made by replication itself.
    written_seq: u64,
    log: Log,
    outbox: Outbox,
}

/// Sums over the store or a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys that hold something, expired ones included until they are collected.
    pub key_count: usize,
    /// Those of them with a deadline.
    pub volatile_count: usize,
    /// Tombstones and the like that still wait for collection.
    pub tombstone_count: usize,
    /// Bytes of records, their extras and tables.
    pub used_bytes: usize,
}

/// A node holds at most [`BUCKET_COUNT_MAX`] buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node already holds {BUCKET_COUNT_MAX} buckets, which is the maximum")]
pub struct TooManyBuckets;

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("origin", &self.origin()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.name).finish()
    }
}

impl Store {
    /// An empty store. `on_log` is called under a lock whenever an op was logged: it may set a flag
    /// or wake a task, and must neither block nor call the store.
    pub fn new(config: StoreConfig, dice: Dice, on_log: Box<dyn Fn() + Send + Sync>) -> Store {
        let hasher = KeyHasher::new(dice.hash_seed);
        let change_budget =
            config.change_bytes_max.map(|bytes_max| Arc::new(ChangeBudget::new(bytes_max)));
        let databases = std::array::from_fn(|n| {
            let name = BucketName::of_database(n as u8);
            Arc::new(Bucket::new(name, &hasher, change_budget.as_ref()))
        });
        let buckets = databases.iter().map(|bucket| (bucket.name.clone(), Arc::clone(bucket)));
        let buckets = RwLock::new(buckets.collect());
        let (log, outbox) = (Log::new(config.log_bytes_max), Outbox::new(config.log_bytes_max));
        let sequencer =
            Mutex::new(Sequencer { clock: Hlc::ZERO, seq: 0, written_seq: 0, log, outbox });
        let origins = Origins::new(dice.origin);
        Store {
            hasher,
            origins,
            buckets,
            databases,
            sequencer,
            change_budget,
            gate: Gate::new(),
            used_bytes: AtomicUsize::new(0),
            memory_bytes_max: AtomicUsize::new(config.memory_bytes_max),
            rubble: Mutex::default(),
            on_log,
            on_internal: internal::Listener::default(),
        }
    }

    /// Names this process.
    pub fn origin(&self) -> Uuid {
        self.origins.own()
    }

    /// The bucket behind `SELECT database`, 0 to 15. Larger numbers give 15.
    pub fn database(&self, database: u8) -> &Arc<Bucket> {
        &self.databases[usize::from(database.min(15))]
    }

    /// The bucket of this name, if anything was ever stored in it.
    pub fn find_bucket(&self, name: &BucketName) -> Option<Arc<Bucket>> {
        self.buckets.read().expect(POISONED).get(name).cloned()
    }

    /// The bucket of this name, created where it is new.
    pub fn open_bucket(&self, name: &BucketName) -> Result<Arc<Bucket>, TooManyBuckets> {
        if let Some(bucket) = self.find_bucket(name) {
            return Ok(bucket);
        }
        let mut buckets = self.buckets.write().expect(POISONED);
        if buckets.len() >= BUCKET_COUNT_MAX && !buckets.contains_key(name) {
            return Err(TooManyBuckets);
        }
        let bucket = buckets.entry(name.clone()).or_insert_with(|| {
            Arc::new(Bucket::new(name.clone(), &self.hasher, self.change_budget.as_ref()))
        });
        Ok(Arc::clone(bucket))
    }

    /// All buckets, by name.
    pub fn buckets(&self) -> Vec<Arc<Bucket>> {
        let buckets = self.buckets.read().expect(POISONED);
        let mut buckets: Vec<_> = buckets.values().cloned().collect();
        buckets.sort_by(|a, b| a.name.cmp(&b.name));
        buckets
    }

    /// Bytes of records, their extras and tables in all buckets.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// The memory budget in bytes.
    pub fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max.load(Ordering::Relaxed)
    }

    /// Changes the memory budget. A smaller one drops nothing: writes that need room are refused
    /// until there is some.
    pub fn set_memory_bytes_max(&self, bytes_max: usize) {
        self.memory_bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Calls `look` with what `key` shows at `now`, under the shard's lock: keep it short, and do
    /// not call the store from it.
    #[inline]
    pub fn read<R>(
        &self,
        bucket: &Bucket,
        key: &[u8],
        now: Now,
        look: impl FnOnce(Option<View<'_>>) -> R,
    ) -> R {
        let probe = self.probe(key);
        let sight = self.sight(bucket, now);
        let shard = bucket.shard(probe);
        look(shard.view(probe, &sight))
    }

    /// Lets `decide` look at `key` and makes the edit that it decides on, all under one lock.
    ///
    /// The answer of `decide` is handed back with the write's stamp. Refusals change nothing.
    /// `key` has 1 to `KEY_BYTES_MAX` bytes: doors check it before.
    #[inline]
    pub fn write<'e, R>(
        &self,
        bucket: &Bucket,
        key: &[u8],
        now: Now,
        decide: impl FnOnce(Option<View<'_>>) -> (Edit<'e>, R),
    ) -> Result<Written<R>, WriteError> {
        let probe = self.probe(key);
        let mut shard = bucket.shard(probe);
        let mut sequencer = self.sequencer();
        let stamp = sequencer.stamp(now, self.origin());
        // The decision and the edit see the time of the edit's own stamp: the wall may lie behind.
        let sight = self.sight(bucket, Now::from_millis(stamp.hlc.millis()));
        let (edit, answer) = decide(shard.view(probe, &sight));
        self.admit(&edit)?;
        let turn = Turn { bucket, shard: &mut shard, sequencer: &mut sequencer, now };
        let made = self.apply(turn, probe, edit, Writer { stamp, sight: &sight });
        Ok(Written { answer, stamp: made.then_some(stamp) })
    }

    /// Applies one decided and admitted edit. Returns whether anything changed.
    fn apply(&self, turn: Turn<'_>, probe: Probe<'_>, edit: Edit<'_>, writer: Writer<'_>) -> bool {
        debug_assert!(check_key(probe.key).is_ok(), "doors check keys");
        let Turn { bucket, shard, sequencer, now } = turn;
        let before = shard.counts().bytes;
        let made = shard.edit(probe, edit, writer);
        self.account(before, shard.counts().bytes);
        let Some(made) = made else { return false };
        self.tell_if_internal(bucket, Some(probe.key));
        if !sequencer.is_read(now) {
            sequencer.skip();
            return true;
        }
        let (bucket, key) = (BucketRef::of(&bucket.name), probe.key);
        let effect = match made {
            Made::Change(change) => EffectRef::Other { bucket, key, change },
            Made::Set { ref shared, place, attributes, deadline, resets } => {
                let (value, whole) = match shared {
                    Some(shared) => (&shared[..], Some(shared)),
                    None => (shard.inline_at(place), None),
                };
                EffectRef::Set { bucket, key, value, whole, deadline, attributes, resets }
            }
        };
        self.number(sequencer, now, writer.stamp, effect);
        true
    }

    /// Numbers a change of this process's own, and keeps it for whoever reads.
    fn number(&self, sequencer: &mut Sequencer, now: Now, stamp: Stamp, effect: EffectRef<'_>) {
        if sequencer.record(now, stamp, effect) == Tell::Now {
            (self.on_log)();
        }
    }

    /// Refuses what would grow a full store, and values over the limit; while writes are refused,
    /// all but what changes nothing.
    fn admit(&self, edit: &Edit<'_>) -> Result<(), WriteError> {
        if !matches!(edit, Edit::Keep) {
            self.check_writable()?;
        }
        let grows = match edit {
            Edit::Keep | Edit::Delete => return Ok(()),
            // A cell, a touch: small, but of a size of their own.
            Edit::Add { .. } | Edit::Expire(_) => 0,
            Edit::Set { value, .. } => value.len(),
        };
        if grows > VALUE_BYTES_MAX {
            return Err(WriteError::TooLarge { len: grows });
        }
        self.make_room(grows)
    }

    /// Refuses `grows` more bytes of keys and values where the budget does not hold them.
    pub fn make_room(&self, grows: usize) -> Result<(), WriteError> {
        let (used, max) = (self.used_bytes(), self.memory_bytes_max());
        if used.saturating_add(grows) > max {
            return Err(WriteError::Full { used, max });
        }
        Ok(())
    }

    /// Marks everything that `bucket` holds as dead, with one stamped record.
    ///
    /// The memory is freed by the next sweeps, or at once where more than half of the budget is
    /// used.
    pub fn flush(&self, bucket: &Bucket, now: Now) -> Stamp {
        let stamp = self.mark_flushed(&mut self.sequencer(), bucket, now);
        self.drop_flushed(bucket, now);
        stamp
    }

    fn mark_flushed(&self, sequencer: &mut Sequencer, bucket: &Bucket, now: Now) -> Stamp {
        let stamp = sequencer.stamp(now, self.origin());
        bucket.flushed.advance(stamp);
        let effect = EffectRef::Flush { bucket: BucketRef::of(&bucket.name) };
        self.number(sequencer, now, stamp, effect);
        stamp
    }

    /// Frees what a flush has killed, where there is not much room.
    pub fn drop_flushed(&self, bucket: &Bucket, now: Now) {
        // Freed later, what is dead comes on top of what is used: not where there is no room for
        // both.
        let has_room = self.used_bytes() < self.memory_bytes_max() / 2;
        for shard in &bucket.shards {
            let mut shard = shard.lock().expect(POISONED);
            let sight = self.sight(bucket, now);
            let before = shard.counts().bytes;
            let dead = shard.drop_flushed(&sight);
            self.account(before, shard.counts().bytes);
            drop(shard);
            if let Some(dead) = dead.filter(|dead| has_room && dead.counts().records > 0) {
                self.rubble.lock().expect(POISONED).push(dead);
            }
        }
    }

    /// Everything that this node holds under `key`, dead or alive.
    pub fn entry(&self, bucket: &Bucket, key: &[u8]) -> Option<Entry> {
        let probe = self.probe(key);
        bucket.shard(probe).load(probe, &self.origins)
    }

    /// Starts keeping ops for one more reader; returns the position to read from.
    pub fn log_subscribe(&self) -> u64 {
        self.sequencer().log.subscribe()
    }

    /// Ends a subscription; ops are kept for [`log::LINGER_MS`] more.
    pub fn log_unsubscribe(&self, now: Now) {
        self.sequencer().log.unsubscribe(now);
    }

    /// Reads at most `count_max` ops from `position` on.
    pub fn log_read(&self, position: u64, count_max: usize) -> LogRead {
        self.sequencer().log.read(position, count_max)
    }

    /// Bytes of ops kept for readers.
    pub fn log_bytes(&self) -> usize {
        self.sequencer().log.bytes()
    }

    /// Takes what this process wrote since the last time, and says how far that goes. From here on
    /// its ops are kept for `reader`, if there is one.
    pub fn take_outbox(&self, reader: Reader) -> (VecDeque<Run>, Mark) {
        let mut sequencer = self.sequencer();
        sequencer.outbox.set_reader(reader);
        (sequencer.outbox.take(), sequencer.mark())
    }

    /// Promises that every later write of this process is stamped after the present, and says how
    /// far the writes so far go.
    pub fn beacon(&self, now: Now) -> Mark {
        let mut sequencer = self.sequencer();
        sequencer.witness(Hlc::from_wall(now));
        sequencer.mark()
    }

    /// Notes that a write at `seen` exists: this node's next one will be after it.
    pub fn witness(&self, seen: Hlc) {
        self.sequencer().witness(seen);
    }

    /// Numbers an op that changes no key here: a [`EffectRef::Message`], or what replication says
    /// for itself, which is no write that anybody waits for.
    pub fn announce(&self, now: Now, effect: EffectRef<'_>) -> Stamp {
        let mut sequencer = self.sequencer();
        let (before, is_message) =
            (sequencer.written_seq, matches!(effect, EffectRef::Message { .. }));
        let stamp = sequencer.stamp(now, self.origin());
        self.number(&mut sequencer, now, stamp, effect);
        if !is_message {
            sequencer.written_seq = before;
        }
        stamp
    }

    /// The number of this process's latest op.
    pub fn seq(&self) -> u64 {
        self.sequencer().seq
    }

    /// The number of the latest op that somebody made here, and may wait for.
    pub fn written_seq(&self) -> u64 {
        self.sequencer().written_seq
    }

    #[inline]
    fn probe<'k>(&self, key: &'k [u8]) -> Probe<'k> {
        Probe { key, hash: self.hasher.hash(key) }
    }

    #[inline]
    fn sight<'a>(&'a self, bucket: &'a Bucket, now: Now) -> Sight<'a> {
        let (mark, origins) = (&bucket.flushed, &self.origins);
        Sight { now_ms: now.millis(), flushed: mark.hlc(), mark, origins }
    }

    fn sequencer(&self) -> MutexGuard<'_, Sequencer> {
        self.sequencer.lock().expect(POISONED)
    }

    fn account(&self, before: usize, after: usize) {
        if before == after {
            return;
        }
        // Two's complement: adding a negative difference wraps to the right sum.
        self.used_bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// One writer's turn: what it holds locked, and when it came.
struct Turn<'t> {
    bucket: &'t Bucket,
    shard: &'t mut Shard,
    sequencer: &'t mut Sequencer,
    now: Now,
}

impl Bucket {
    fn new(name: BucketName, hasher: &KeyHasher, budget: Option<&Arc<ChangeBudget>>) -> Bucket {
        let (changed, trackers) = budget.map(ChangedShards::new).unzip();
        let shards: Vec<Shard> = match trackers {
            None => (0..SHARD_COUNT).map(|_| Shard::new(hasher.clone())).collect(),
            Some(trackers) => {
                trackers.into_iter().map(|of| Shard::tracked(hasher.clone(), of)).collect()
            }
        };
        let shards = shards.into_iter().map(Mutex::new).collect();
        let is_internal = name.is_internal();
        Bucket { name, shards, flushed: FlushMark::new(), changed, is_internal }
    }

    /// Its name.
    pub fn name(&self) -> &BucketName {
        &self.name
    }

    /// Sums over the bucket. Locks its shards one after the other.
    pub fn stats(&self) -> Stats {
        self.shards.iter().fold(Stats::default(), |sum, shard| {
            let counts = shard.lock().expect(POISONED).counts();
            Stats {
                key_count: sum.key_count + counts.keys,
                volatile_count: sum.volatile_count + counts.volatile,
                tombstone_count: sum.tombstone_count + counts.records - counts.keys,
                used_bytes: sum.used_bytes + counts.bytes,
            }
        })
    }

    #[inline]
    fn shard(&self, probe: Probe<'_>) -> MutexGuard<'_, Shard> {
        self.shards[shard_index(probe.hash)].lock().expect(POISONED)
    }
}

/// The table takes a hash's lowest and highest bits; the shard takes some in between.
#[inline]
fn shard_index(hash: u64) -> usize {
    (hash >> 40) as usize & (SHARD_COUNT - 1)
}

impl Sequencer {
    /// The stamp of a write that is being made: after every other that this node has seen.
    #[inline]
    fn stamp(&mut self, now: Now, origin: Uuid) -> Stamp {
        self.clock = self.clock.tick(now);
        Stamp { hlc: self.clock, origin }
    }

    /// Notes that a write at `seen` exists: this node's next one will be after it.
    fn witness(&mut self, seen: Hlc) {
        self.clock = self.clock.max(seen);
    }

    /// How far this process's own writes go.
    fn mark(&self) -> Mark {
        Mark { seq: self.seq, head: self.clock }
    }

    /// Whether anybody reads what is written.
    #[inline]
    fn is_read(&self, now: Now) -> bool {
        self.outbox.is_read() || self.log.keeps(now)
    }

    /// Counts a change.
    #[inline]
    fn advance(&mut self) {
        self.seq += 1;
        self.written_seq = self.seq;
    }

    /// Numbers a change that nobody reads.
    #[inline]
    fn skip(&mut self) {
        self.advance();
        self.log.skip();
    }

    /// Numbers a change and keeps it for whoever reads.
    fn record(&mut self, now: Now, stamp: Stamp, effect: EffectRef<'_>) -> Tell {
        self.advance();
        let mut tell = Tell::Already;
        if self.log.keeps(now) {
            let effect = effect.to_effect(&Bytes::new());
            self.log.push(Op { seq: self.seq, stamp, effect });
            tell = Tell::Now;
        } else {
            self.log.skip();
        }
        if self.outbox.is_read() && self.outbox.push(self.seq, stamp, effect) == Tell::Now {
            tell = Tell::Now;
        }
        tell
    }
}

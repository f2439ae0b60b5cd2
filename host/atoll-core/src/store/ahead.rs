//! Runs of ops as they arrive: their keys are looked up ahead, all of a shard at once.
//!
//! Each key is a record somewhere in memory, and waiting for it is most of what an op costs. Looked
//! up one after the other under one lock, many are waited for together. Nothing is changed ahead:
//! ops are applied one by one, in their order.

use super::apply::MergeError;
use super::shard::Probe;
use super::shard::merge::Plain;
use super::{Bucket, POISONED, Store, TooManyBuckets};
use crate::clock::{Hlc, Stamp};
use crate::limits::{SHARD_COUNT, VALUE_INLINE_BYTES_MAX};
use crate::wire::op::{BucketRef, EffectRef, OpError, Ops};
use std::sync::Arc;
use std::vec;

/// Ops that are looked at together: several for each shard, and what they touch still fits in a
/// core's cache when it is their turn.
const AHEAD_COUNT: usize = 512;
/// Fewer are not worth a look of their own.
const AHEAD_COUNT_MIN: usize = 16;

/// The end of a list of keys.
const END: u16 = u16::MAX;

const _: () = assert!(AHEAD_COUNT < END as usize, "a key is named by its place in the window");

type Item<'a> = Result<(u64, Stamp, EffectRef<'a>), OpError>;

/// The ops of a run, in order. Where their keys lie is known to the processor before they come.
#[derive(Debug)]
pub struct Ahead<'s, 'a> {
    store: &'s Store,
    ops: Ops<'a>,
    after: u64,
    window: vec::IntoIter<Item<'a>>,
    newest: Hlc,
    /// Whose ops they are, interned.
    origin: Option<u16>,
    /// The bucket with a name of its own that was written to last.
    named: Option<Arc<Bucket>>,
}

/// What to do with a version that the node may have forgotten the successor of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// Join it like any other.
    Join,
    /// Leave it to the caller.
    Leave,
}

impl Ahead<'_, '_> {
    /// The stamp of the latest op that has been looked at.
    pub fn newest(&self) -> Hlc {
        self.newest
    }

    /// Joins the common op, a new version and nothing else, into what its key holds. Returns
    /// whether that is done; any other op, and what is `late`, is left as it was.
    ///
    /// The caller has [witnessed](Store::witness) the stamp before.
    pub fn join(
        &mut self,
        (stamp, effect): (Stamp, &EffectRef<'_>),
        late: Late,
    ) -> Result<bool, MergeError> {
        let (bucket, key, plain) = match effect {
            EffectRef::Set { bucket, key, value, deadline, attributes: None, resets, .. }
                if resets.is_empty() && value.len() <= VALUE_INLINE_BYTES_MAX =>
            {
                (*bucket, *key, Plain { stamp, value, deadline: *deadline })
            }
            _ => return Ok(false),
        };
        let origin = match self.origin {
            Some(origin) => origin,
            None => *self.origin.insert(self.store.origins.intern(stamp.origin)?),
        };
        let store = self.store;
        let bucket = self.open(bucket)?;
        let probe = store.probe(key);
        let mut shard = bucket.shard(probe);
        if late == Late::Leave && stamp.hlc <= shard.forgotten() {
            return Ok(false);
        }
        let before = shard.counts().bytes;
        let is_joined = shard.merge_plain(probe, &plain, (origin, &store.origins)).is_some();
        store.account(before, shard.counts().bytes);
        Ok(is_joined)
    }

    fn open(&mut self, bucket: BucketRef<'_>) -> Result<&Bucket, TooManyBuckets> {
        let name = match bucket {
            BucketRef::Database(database) => return Ok(self.store.database(database)),
            BucketRef::Named(name) => name,
        };
        match self.named.take_if(|named| named.name.as_str() == name) {
            Some(same) => Ok(self.named.insert(same)),
            None => Ok(self.named.insert(self.store.open(bucket)?)),
        }
    }
}

impl<'a> Iterator for Ahead<'_, 'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.window.len() == 0 {
            let window: Vec<_> = self.ops.by_ref().take(AHEAD_COUNT).collect();
            self.store.look_up(&window, self.after);
            if let Some((_, stamp, _)) = window.iter().flatten().last() {
                self.newest = stamp.hlc;
            }
            self.window = window.into_iter();
        }
        self.window.next()
    }
}

/// Keys of one bucket, by shard: each shard's are a list of places in `probes`.
struct Sorted<'a> {
    probes: Vec<Probe<'a>>,
    next: Vec<u16>,
    first: [u16; SHARD_COUNT],
}

impl<'a> Sorted<'a> {
    fn push(&mut self, probe: Probe<'a>) {
        let first = &mut self.first[super::shard_index(probe.hash)];
        self.next.push(std::mem::replace(first, self.probes.len() as u16));
        self.probes.push(probe);
    }

    fn of_shard(&self, shard: usize) -> impl Iterator<Item = Probe<'a>> + '_ {
        let mut at = self.first[shard];
        std::iter::from_fn(move || {
            let probe = *self.probes.get(usize::from(at))?;
            at = self.next[usize::from(at)];
            Some(probe)
        })
    }
}

impl Store {
    /// The ops of a run that came from elsewhere, to be applied in order; those up to number `after`
    /// have been.
    pub fn look_ahead<'s, 'a>(&'s self, ops: Ops<'a>, after: u64) -> Ahead<'s, 'a> {
        let window = Vec::new().into_iter();
        Ahead { store: self, ops, after, window, newest: Hlc::ZERO, origin: None, named: None }
    }

    /// Looks up the keys of new versions: those in the bucket of the first, which is all of most
    /// runs.
    fn look_up(&self, window: &[Item<'_>], after: u64) {
        if window.len() < AHEAD_COUNT_MIN {
            return;
        }
        let new = window.iter().flatten().filter(|(seq, ..)| *seq > after);
        let mut keys = new.filter_map(|(_, _, effect)| match effect {
            EffectRef::Set { bucket, key, .. } => Some((*bucket, *key)),
            _ => None,
        });
        let Some((first, key)) = keys.next() else { return };
        let named;
        let bucket: &Bucket = match first {
            BucketRef::Database(database) => self.database(database),
            BucketRef::Named(_) => match self.find_bucket(&first.to_name()) {
                Some(bucket) => {
                    named = bucket;
                    &named
                }
                None => return,
            },
        };
        let capacity = window.len();
        let mut sorted = Sorted {
            probes: Vec::with_capacity(capacity),
            next: Vec::with_capacity(capacity),
            first: [END; SHARD_COUNT],
        };
        sorted.push(self.probe(key));
        for (_, key) in keys.filter(|(bucket, _)| *bucket == first) {
            sorted.push(self.probe(key));
        }
        for (index, shard) in bucket.shards.iter().enumerate() {
            if sorted.first[index] != END {
                let shard = shard.lock().expect(POISONED);
                std::hint::black_box(shard.touch(sorted.of_shard(index)));
            }
        }
    }
}

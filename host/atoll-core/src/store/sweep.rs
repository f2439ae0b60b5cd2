//! Collecting what is dead, a few thousand records at a time.

use super::{Bucket, POISONED, Store};
use crate::clock::{Hlc, Now};
use crate::limits::SHARD_COUNT;
use std::sync::Arc;

/// Places that are looked at under one lock: well under a millisecond.
const STEP_PLACES: usize = 2_048;

/// Where the sweeper stands in its round through all buckets.
#[derive(Clone, Debug, Default)]
pub struct Sweeper {
    bucket: usize,
    shard: usize,
    place: usize,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Records dropped.
    pub collected: usize,
    /// Whether the step ended a round through everything.
    pub round_done: bool,
}

impl Store {
    /// Looks at the next few thousand records and drops what is dead and stamped at or before
    /// `floor`: the time up to which every member of the cluster has everything (this node
    /// alone: now).
    pub fn sweep(&self, sweeper: &mut Sweeper, now: Now, floor: Hlc) -> Swept {
        let rubble = self.rubble.lock().expect(POISONED).pop();
        if let Some(shard) = rubble {
            return Swept { collected: shard.counts().records, round_done: false };
        }
        let buckets = self.buckets();
        let (mut collected, mut budget) = (0, STEP_PLACES);
        while budget > 0 {
            let Some(bucket) = buckets.get(sweeper.bucket) else {
                *sweeper = Sweeper::default();
                drop(buckets);
                self.drop_empty_buckets();
                return Swept { collected, round_done: true };
            };
            let (dropped, seen) = self.sweep_bucket(bucket, sweeper, (now, floor, budget));
            collected += dropped;
            // A bucket costs something even if it is empty.
            budget = budget.saturating_sub(seen.max(1));
        }
        Swept { collected, round_done: false }
    }

    /// Forgets the buckets that hold nothing and that nobody has a handle on: clients may make up
    /// names for ever. One that was flushed is kept, for the record of the flush.
    fn drop_empty_buckets(&self) {
        let mut buckets = self.buckets.write().expect(POISONED);
        buckets.retain(|_, bucket| {
            // Handles are only given out under this lock, so the last one is the map's own.
            if Arc::strong_count(bucket) > 1 || bucket.flushed.hlc() != Hlc::ZERO {
                return true;
            }
            let stats = bucket.stats();
            stats.key_count + stats.tombstone_count > 0
                || bucket.changed.as_ref().is_some_and(|changed| !changed.is_empty())
        });
    }

    /// Looks at up to `budget` places of a bucket. Returns how many records were dropped and how
    /// many places seen.
    fn sweep_bucket(
        &self,
        bucket: &Bucket,
        sweeper: &mut Sweeper,
        (now, floor, budget_max): (Now, Hlc, usize),
    ) -> (usize, usize) {
        let sight = self.sight(bucket, now);
        let (mut collected, mut budget) = (0, budget_max);
        while budget > 0 && sweeper.shard < SHARD_COUNT {
            let mut shard = bucket.shards[sweeper.shard].lock().expect(POISONED);
            let before = shard.counts().bytes;
            let place_count = shard.place_count();
            // Most shards of a store without TTLs, most of the time: nobody waits for their records
            // to come from memory one by one.
            let is_lasting = shard.is_lasting(&sight);
            let end = match is_lasting {
                true => place_count,
                false => place_count.min(sweeper.place + budget),
            };
            let places = if is_lasting { end..end } else { sweeper.place..end };
            budget -= places.len();
            collected += places.filter(|&place| shard.collect_at(place, floor, &sight)).count();
            sweeper.place = end;
            if end == place_count {
                shard.shrink();
                sweeper.place = 0;
                sweeper.shard += 1;
            }
            self.account(before, shard.counts().bytes);
        }
        if sweeper.shard == SHARD_COUNT {
            sweeper.shard = 0;
            sweeper.bucket += 1;
        }
        (collected, budget_max - budget)
    }
}

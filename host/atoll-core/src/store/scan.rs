//! Walking all keys of a bucket in small steps while it changes.
//!
//! The guarantee is that of Redis' SCAN: a key that is there from the first step to the last is
//! visited at least once. A cursor names a shard, a place in its table and the table's epoch; where
//! the epoch has passed, records may have moved, and the rest of that shard is walked in one step.

use super::shard::Shard;
use super::view::View;
use super::{Bucket, POISONED, Store};
use crate::clock::Now;
use crate::limits::{SCAN_COUNT_MAX, SHARD_COUNT};

/// Places that a step looks at for each key that is wanted, and at the least.
const PLACES_PER_KEY_MAX: usize = 16;
/// See [`PLACES_PER_KEY_MAX`].
const STEP_PLACES_MIN: usize = 4_096;

const PLACE_BITS: u32 = 32;
const EPOCH_BITS: u32 = 18;
const EPOCH_MASK: u64 = (1 << EPOCH_BITS) - 1;

/// Where a walk stands. 0 is both the start and the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    shard: usize,
    epoch: u64,
    place: usize,
}

impl Cursor {
    fn from_bits(bits: u64) -> Cursor {
        Cursor {
            shard: (bits >> (PLACE_BITS + EPOCH_BITS)) as usize,
            epoch: bits >> PLACE_BITS & EPOCH_MASK,
            place: (bits & ((1 << PLACE_BITS) - 1)) as usize,
        }
    }

    fn to_bits(self) -> u64 {
        (self.shard as u64) << (PLACE_BITS + EPOCH_BITS)
            | (self.epoch & EPOCH_MASK) << PLACE_BITS
            | self.place as u64
    }
}

impl Store {
    /// Visits about `count` keys from `cursor` on (0 to begin); returns the next cursor, 0 at the
    /// end.
    ///
    /// `visit` runs under a shard's lock. A cursor that this store never gave ends the walk or
    /// starts somewhere; it does no harm.
    pub fn scan(
        &self,
        bucket: &Bucket,
        (cursor, count): (u64, usize),
        now: Now,
        visit: impl FnMut(&[u8], View<'_>),
    ) -> u64 {
        self.scan_shards(bucket, (cursor, count), now, |_| true, visit)
    }

    /// The same for keys whose values have tags, and perhaps others: parts of the bucket that never
    /// held any are skipped.
    pub fn scan_tagged(
        &self,
        bucket: &Bucket,
        at: (u64, usize),
        now: Now,
        visit: impl FnMut(&[u8], View<'_>),
    ) -> u64 {
        self.scan_shards(bucket, at, now, Shard::had_tags, visit)
    }

    fn scan_shards(
        &self,
        bucket: &Bucket,
        (cursor, count): (u64, usize),
        now: Now,
        is_wanted: impl Fn(&Shard) -> bool,
        mut visit: impl FnMut(&[u8], View<'_>),
    ) -> u64 {
        let sight = self.sight(bucket, now);
        let mut budget = count.clamp(1, SCAN_COUNT_MAX);
        // Places with nothing to show cost time as well: a table may be full of what has expired.
        let mut places_left = budget * PLACES_PER_KEY_MAX + STEP_PLACES_MIN;
        let mut at = Cursor::from_bits(cursor);
        while at.shard < SHARD_COUNT {
            let shard = bucket.shards[at.shard].lock().expect(POISONED);
            let epoch = u64::from(shard.epoch()) & EPOCH_MASK;
            let moved = at.place > 0 && at.epoch != epoch;
            let mut place = if moved { 0 } else { at.place };
            if !is_wanted(&shard) {
                at = Cursor { shard: at.shard + 1, epoch: 0, place: 0 };
                continue;
            }
            while place < shard.place_count() && ((budget > 0 && places_left > 0) || moved) {
                if let Some((key, view)) = shard.view_at(place, &sight) {
                    visit(key, view);
                    budget = budget.saturating_sub(1);
                }
                place += 1;
                places_left = places_left.saturating_sub(1);
            }
            if place < shard.place_count() {
                return Cursor { shard: at.shard, epoch, place }.to_bits();
            }
            at = Cursor { shard: at.shard + 1, epoch: 0, place: 0 };
            if (budget == 0 || places_left == 0) && at.shard < SHARD_COUNT {
                return at.to_bits();
            }
        }
        0
    }
}

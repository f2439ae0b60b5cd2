//! A walk through everything that the store holds, for syncs: each record that lasts from its
//! beginning to its end is seen.
//!
//! A shard is locked for one step at a time. Records that a growing table moves within their shard
//! may be seen twice, never missed.

use super::shard::Shard;
use super::{Bucket, POISONED, Store};
use crate::clock::{Hlc, Stamp};
use crate::entry::Entry;
use crate::key::BucketName;
use crate::limits::SHARD_COUNT;
use crate::replica::vector::Vector;
use uuid::Uuid;

/// Records that are looked at under one lock.
const STEP_PLACES: usize = 2_048;

/// Where a survey stands.
#[derive(Debug)]
pub struct Survey {
    /// The buckets that were there at its beginning, by name.
    buckets: Vec<BucketName>,
    bucket: usize,
    shard: usize,
    place: usize,
    epoch: u32,
    moved: bool,
}

/// A record as a survey sees it.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub bucket: BucketName,
    /// Its key.
    pub key: Box<[u8]>,
    /// What it holds.
    pub entry: Entry,
}

/// Which records a survey hands out.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Those with parts that the vector does not cover.
    Uncovered(&'a Vector),
    /// All.
    Everything,
}

/// What a step came to.
#[derive(Debug)]
pub struct Surveyed {
    /// What was found, in no order.
    pub found: Vec<Found>,
    /// Whether everything has been seen.
    pub done: bool,
}

impl Survey {
    /// A survey of what `store` holds from here on. Buckets that come later are not in it: what is
    /// in them is newer than whatever the survey is for.
    pub fn new(store: &Store) -> Survey {
        let buckets = store.buckets().iter().map(|bucket| bucket.name().clone()).collect();
        Survey { buckets, bucket: 0, shard: 0, place: 0, epoch: 0, moved: false }
    }

    /// Whether records have moved while it went on, so that some may have been seen twice.
    pub fn has_moved(&self) -> bool {
        self.moved
    }
}

impl Store {
    /// Looks at the next few thousand records, at most until those found weigh `bytes_max`.
    pub fn survey(&self, survey: &mut Survey, wanted: Wanted<'_>, bytes_max: usize) -> Surveyed {
        let mut found = Vec::new();
        let heads = match wanted {
            Wanted::Uncovered(vector) => Some(self.origins.map(|id| vector.get(id).head)),
            Wanted::Everything => None,
        };
        let done = self.visit_places(survey, bytes_max, |bucket, shard, place| {
            let skip = |stamp: (Hlc, u16)| {
                let (hlc, origin) = stamp;
                heads.as_ref().is_some_and(|heads| {
                    hlc <= heads.get(usize::from(origin)).copied().unwrap_or_default()
                })
            };
            let Some((key, entry)) = shard.survey_at(place, skip, &self.origins) else { return 0 };
            let value = entry.register.value.as_ref();
            let bytes = key.len() + value.map_or(0, |value| value.bytes.len()) + 64;
            found.push(Found { bucket: bucket.name.clone(), key, entry });
            bytes
        });
        Surveyed { found, done }
    }

    /// Calls `look` with what the next few thousand records hold beside the bytes of their values,
    /// until what it returns adds up to `bytes_max`. Returns whether everything has been seen.
    pub fn survey_outlines(
        &self,
        survey: &mut Survey,
        bytes_max: usize,
        mut look: impl FnMut(&Bucket, &[u8], &Entry) -> usize,
    ) -> bool {
        self.visit_places(survey, bytes_max, |bucket, shard, place| {
            shard
                .outline_with_key(place, &self.origins)
                .map_or(0, |(key, entry)| look(bucket, key, &entry))
        })
    }

    /// Visits the next few thousand places, until what `visit` returns adds up to `bytes_max`.
    /// Returns whether that was all.
    fn visit_places(
        &self,
        survey: &mut Survey,
        bytes_max: usize,
        mut visit: impl FnMut(&Bucket, &Shard, usize) -> usize,
    ) -> bool {
        let (mut bytes, mut budget) = (0, STEP_PLACES);
        let mut current = None;
        while let Some(name) = survey.buckets.get(survey.bucket) {
            let bucket = current.take().or_else(|| self.find_bucket(name));
            let Some(bucket) = bucket.filter(|_| survey.shard < SHARD_COUNT) else {
                (survey.bucket, survey.shard, survey.place) = (survey.bucket + 1, 0, 0);
                continue;
            };
            let shard = bucket.shards[survey.shard].lock().expect(POISONED);
            if survey.place > 0 && survey.epoch != shard.epoch() {
                // Records may have moved to where this survey has already been.
                (survey.place, survey.moved) = (0, true);
            }
            survey.epoch = shard.epoch();
            while survey.place < shard.place_count() && budget > 0 && bytes < bytes_max {
                let place = survey.place;
                survey.place += 1;
                budget -= 1;
                bytes += visit(&bucket, &shard, place);
            }
            if survey.place < shard.place_count() {
                return false;
            }
            (survey.shard, survey.place) = (survey.shard + 1, 0);
            // An empty shard costs something, too.
            budget = budget.saturating_sub(8).max(1);
            if bytes >= bytes_max {
                return false;
            }
            drop(shard);
            current = Some(bucket);
        }
        true
    }

    /// All others of whom this store has ever held a write.
    pub fn origins_seen(&self) -> Vec<Uuid> {
        let mut seen = self.origins.map(|id| id);
        seen.retain(|id| !id.is_nil() && *id != self.origins.own());
        seen
    }

    /// The latest flush of a bucket; [`Stamp::ZERO`] where there was none.
    pub fn flushed(&self, bucket: &Bucket) -> Stamp {
        bucket.flushed.stamp()
    }
}

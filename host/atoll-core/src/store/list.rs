//! One page of a bucket's keys in order of their bytes.
//!
//! The tables are not ordered, so a page costs a walk over the whole bucket; it holds no more than
//! a page in memory and locks a few thousand places at a time.

use super::view::View;
use super::{Bucket, POISONED, Store};
use crate::clock::Now;
use crate::limits::{LIST_PAGE_MAX, SHARD_COUNT};
use memchr::memmem::Finder;
use std::collections::BTreeMap;

/// Places that one step looks at, and that are walked under one lock at most.
const STEP_PLACES: usize = 4_096;

/// Which keys are wanted.
#[derive(Clone, Copy, Debug)]
pub struct ListQuery<'q> {
    /// Every key starts with it.
    pub prefix: &'q [u8],
    /// Every name is greater; empty for the first page.
    pub after: &'q [u8],
    /// Keys that hold it after the prefix are rolled up to it, as folders are.
    pub delimiter: Option<&'q [u8]>,
    /// 1 to [`LIST_PAGE_MAX`].
    pub limit: usize,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<T> {
    /// By name, ascending. `None` is a rolled-up prefix.
    pub items: Vec<(Vec<u8>, Option<T>)>,
    /// Whether there are more: ask again with `after` set to the last name.
    pub has_more: bool,
}

impl Store {
    /// The page that `query` asks for; `pick` takes what is wanted of each key on it.
    pub fn list<T>(
        &self,
        bucket: &Bucket,
        query: ListQuery<'_>,
        now: Now,
        mut pick: impl FnMut(View<'_>) -> T,
    ) -> ListPage<T> {
        let mut listing = Listing::new(query);
        while !self.list_step(bucket, &mut listing, now, &mut pick) {}
        listing.finish()
    }

    /// One step of the same, for who cannot stay that long: looks at some thousand places. Returns
    /// whether it was the last.
    pub fn list_step<T>(
        &self,
        bucket: &Bucket,
        listing: &mut Listing<T>,
        now: Now,
        mut pick: impl FnMut(View<'_>) -> T,
    ) -> bool {
        let sight = self.sight(bucket, now);
        let mut places_left = STEP_PLACES;
        while listing.shard < SHARD_COUNT && places_left > 0 {
            let shard = bucket.shards[listing.shard].lock().expect(POISONED);
            if listing.epoch.is_some_and(|epoch| epoch != shard.epoch()) {
                // Records have moved between two steps: walk the shard again. The page holds
                // each name once.
                listing.place = 0;
            }
            listing.epoch = Some(shard.epoch());
            let end = shard.place_count().min(listing.place + places_left);
            for place in listing.place..end {
                if let Some((key, view)) = shard.view_at(place, &sight) {
                    listing.offer(key, || pick(view));
                }
            }
            places_left -= end - listing.place;
            listing.place = end;
            if end == shard.place_count() {
                (listing.shard, listing.place, listing.epoch) = (listing.shard + 1, 0, None);
            }
        }
        listing.shard == SHARD_COUNT
    }
}

/// A page in the making: the smallest names seen so far, one more than the page holds.
#[derive(Debug)]
pub struct Listing<T> {
    prefix: Vec<u8>,
    after: Vec<u8>,
    delimiter: Option<Finder<'static>>,
    names: BTreeMap<Vec<u8>, Option<T>>,
    limit: usize,
    /// Where the walk stands, and the epoch of that shard's table if it has begun with it.
    shard: usize,
    place: usize,
    epoch: Option<u32>,
}

impl<T> Listing<T> {
    /// Begins the page that `query` asks for.
    pub fn new(query: ListQuery<'_>) -> Listing<T> {
        let delimiter = query.delimiter.filter(|delimiter| !delimiter.is_empty());
        Listing {
            prefix: query.prefix.to_vec(),
            after: query.after.to_vec(),
            delimiter: delimiter.map(|delimiter| Finder::new(delimiter).into_owned()),
            names: BTreeMap::new(),
            limit: query.limit.clamp(1, LIST_PAGE_MAX),
            shard: 0,
            place: 0,
            epoch: None,
        }
    }

    fn offer(&mut self, key: &[u8], pick: impl FnOnce() -> T) {
        let Some(rest) = key.strip_prefix(&self.prefix[..]) else { return };
        let rolled = self.delimiter.as_ref().and_then(|delimiter| {
            let at = delimiter.find(rest)?;
            Some(self.prefix.len() + at + delimiter.needle().len())
        });
        let name = &key[..rolled.unwrap_or(key.len())];
        if name <= &self.after[..] {
            return;
        }
        if self.names.len() > self.limit {
            let last = self.names.last_key_value().expect("the page is full");
            if name >= &last.0[..] {
                return;
            }
        }
        // A key that equals a rolled-up prefix is that prefix.
        if rolled.is_some() {
            self.names.insert(name.to_vec(), None);
        } else {
            self.names.entry(name.to_vec()).or_insert_with(|| Some(pick()));
        }
        if self.names.len() > self.limit + 1 {
            self.names.pop_last();
        }
    }

    /// The page, after the last step.
    pub fn finish(mut self) -> ListPage<T> {
        let has_more = self.names.len() > self.limit;
        if has_more {
            self.names.pop_last();
        }
        ListPage { items: self.names.into_iter().collect(), has_more }
    }
}

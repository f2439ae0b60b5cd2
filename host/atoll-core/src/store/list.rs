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

/// Places that are walked under one lock.
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
        let mut page = Page::new(query);
        let sight = self.sight(bucket, now);
        for index in 0..SHARD_COUNT {
            let (mut place, mut epoch) = (0, None);
            loop {
                let shard = bucket.shards[index].lock().expect(POISONED);
                if epoch.is_some_and(|epoch| epoch != shard.epoch()) {
                    // Records have moved between two steps: walk the shard again. The page holds
                    // each name once.
                    place = 0;
                }
                epoch = Some(shard.epoch());
                let end = shard.place_count().min(place + STEP_PLACES);
                for place in place..end {
                    if let Some((key, view)) = shard.view_at(place, &sight) {
                        page.offer(key, || pick(view));
                    }
                }
                place = end;
                if end == shard.place_count() {
                    break;
                }
            }
        }
        page.finish()
    }
}

/// The smallest names seen so far, one more than the page holds.
struct Page<'q, T> {
    query: ListQuery<'q>,
    delimiter: Option<Finder<'q>>,
    names: BTreeMap<Vec<u8>, Option<T>>,
    limit: usize,
}

impl<'q, T> Page<'q, T> {
    fn new(query: ListQuery<'q>) -> Page<'q, T> {
        let delimiter = query.delimiter.filter(|delimiter| !delimiter.is_empty()).map(Finder::new);
        let limit = query.limit.clamp(1, LIST_PAGE_MAX);
        Page { query, delimiter, names: BTreeMap::new(), limit }
    }

    fn offer(&mut self, key: &[u8], pick: impl FnOnce() -> T) {
        let Some(rest) = key.strip_prefix(self.query.prefix) else { return };
        let rolled = self.delimiter.as_ref().and_then(|delimiter| {
            let at = delimiter.find(rest)?;
            Some(self.query.prefix.len() + at + delimiter.needle().len())
        });
        let name = &key[..rolled.unwrap_or(key.len())];
        if name <= self.query.after {
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

    fn finish(mut self) -> ListPage<T> {
        let has_more = self.names.len() > self.limit;
        if has_more {
            self.names.pop_last();
        }
        ListPage { items: self.names.into_iter().collect(), has_more }
    }
}

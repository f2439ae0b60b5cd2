//! Removing from the disk what memory no longer holds and nobody noted.
//!
//! A flush kills any number of keys with one record; what they left on the disk is dead and is
//! removed a few at a time. Where notes of removed keys were dropped, everything is looked through at
//! once.

use super::changes::Writer;
use crate::journal::disk::DiskError;
use crate::journal::record::{self, FIRST_ENTRY, Subject};
use atoll_core::key::BucketName;
use atoll_core::store::{Bucket, Store};
use std::collections::VecDeque;
use std::sync::Arc;

/// Records that are looked at in one step.
const STEP_COUNT: usize = 1_024;

/// The buckets that have something to be removed.
#[derive(Debug, Default)]
pub(super) struct Purges {
    queue: VecDeque<Purge>,
}

/// Where the look through a bucket stands.
#[derive(Debug)]
struct Purge {
    bucket: BucketName,
    /// Record keys up to this one were looked at.
    after: Vec<u8>,
}

impl Purges {
    pub(super) fn of(buckets: Vec<BucketName>) -> Purges {
        let mut purges = Purges::default();
        buckets.into_iter().for_each(|bucket| purges.add(bucket));
        purges
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Looks through a bucket, from its start if that is being done already.
    pub(super) fn add(&mut self, bucket: BucketName) {
        self.queue.retain(|purge| purge.bucket != bucket);
        let after = record::entry_key(&bucket, b"");
        self.queue.push_back(Purge { bucket, after });
    }

    /// Goes a step on with the first bucket.
    pub(super) fn step(&mut self, store: &Store, writer: &mut Writer<'_>) -> Result<(), DiskError> {
        let Some(purge) = self.queue.front_mut() else { return Ok(()) };
        let prefix = record::entry_key(&purge.bucket, b"");
        match look(store, writer, &purge.after)? {
            Some(last) if last.starts_with(&prefix) => purge.after = last,
            _ => drop(self.queue.pop_front()),
        }
        Ok(())
    }

    /// Looks through everything.
    pub(super) fn purge_all(
        &mut self,
        store: &Store,
        writer: &mut Writer<'_>,
    ) -> Result<(), DiskError> {
        let mut after = FIRST_ENTRY.to_vec();
        while let Some(last) = look(store, writer, &after)? {
            after = last;
        }
        self.queue.clear();
        Ok(())
    }
}

/// Removes, of the next records, those that memory does not hold. Returns the last that was looked
/// at.
fn look(
    store: &Store,
    writer: &mut Writer<'_>,
    after: &[u8],
) -> Result<Option<Vec<u8>>, DiskError> {
    let keys = writer.disk().keys_after(after, STEP_COUNT)?;
    let mut bucket: Option<Arc<Bucket>> = None;
    for record_key in &keys {
        let is_held = match Subject::of(record_key) {
            Ok(Subject::Entry { bucket: name, key }) => {
                let is_same = |bucket: &Arc<Bucket>| bucket.name().as_str().as_bytes() == name;
                if !bucket.as_ref().is_some_and(is_same) {
                    let name = record::bucket_name(name).ok();
                    bucket = name.and_then(|name| store.find_bucket(&name));
                }
                bucket.as_ref().is_some_and(|bucket| store.holds(bucket, key))
            }
            // The node's own records are not looked at: they come before all entries.
            Ok(Subject::Checkpoint | Subject::Flush(_)) | Err(_) => false,
        };
        if !is_held {
            writer.remove(record_key.to_vec())?;
        }
    }
    Ok(keys.last().map(|key| key.to_vec()))
}

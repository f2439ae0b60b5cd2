//! What comes from elsewhere: ops of other origins, entries of a sync, records of the own disk.
//!
//! Nothing here is numbered or sent on: that is the caller's part.

use super::edit::NewValue;
use super::origins::TooManyOrigins;
use super::shard::merge::Plain;
use super::{Bucket, POISONED, Store, TooManyBuckets};
use crate::clock::{Hlc, Now, Stamp};
use crate::entry::op::{Change, Effect, Op};
use crate::entry::{Entry, Value};
use crate::key::{KeyError, check_key};
use crate::limits::{VALUE_BYTES_MAX, VALUE_INLINE_BYTES_MAX};
use crate::replica::vector::Vector;
use crate::wire::op::{BucketRef, EffectRef};
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

/// Why what came from elsewhere was not applied. The store is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Its key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its value is over `VALUE_BYTES_MAX`.
    #[error("a value of {len} bytes exceeds the maximum of {VALUE_BYTES_MAX} bytes")]
    TooLarge {
        /// Bytes that were given.
        len: usize,
    },
    /// It names a bucket that this node has no room for.
    #[error(transparent)]
    Buckets(#[from] TooManyBuckets),
    /// It comes from one origin too many.
    #[error(transparent)]
    Origins(#[from] TooManyOrigins),
}

/// Refuses what no node would have taken.
pub(super) fn check_incoming(key: &[u8], entry: &Entry) -> Result<(), MergeError> {
    check_key(key)?;
    let len = entry.register.value.as_ref().map_or(0, |value| value.bytes.len());
    if len > VALUE_BYTES_MAX {
        return Err(MergeError::TooLarge { len });
    }
    Ok(())
}

impl Store {
    /// Joins what another node knows of `key` into what this one knows. Returns whether anything
    /// was new.
    pub fn merge(&self, bucket: &Bucket, key: &[u8], theirs: &Entry) -> Result<bool, MergeError> {
        check_incoming(key, theirs)?;
        let probe = self.probe(key);
        let mut shard = bucket.shard(probe);
        let ours = shard.load(probe, &self.origins).unwrap_or_default();
        let mut joined = ours.clone();
        joined.merge(theirs);
        if joined == ours {
            return Ok(false);
        }
        self.origins.meet(&joined)?;
        let origin = self.origins.intern(joined.register.stamp.origin)?;
        self.sequencer().witness(joined.newest());
        let before = shard.counts().bytes;
        shard.save(probe, joined, origin);
        self.account(before, shard.counts().bytes);
        Ok(true)
    }

    /// Applies an op of another origin. Returns whether anything was new.
    pub fn merge_op(&self, op: Op, now: Now) -> Result<bool, MergeError> {
        self.witness(op.stamp.hlc);
        self.apply_effect(op.stamp, &EffectRef::of(&op.effect), (now, &Bytes::new()))
    }

    /// Applies an effect of another origin, borrowed from `run`. Returns whether anything was new.
    ///
    /// The caller has [witnessed](Store::witness) the stamp before.
    pub fn apply_effect(
        &self,
        stamp: Stamp,
        effect: &EffectRef<'_>,
        (now, run): (Now, &Bytes),
    ) -> Result<bool, MergeError> {
        match effect {
            EffectRef::Set { bucket, key, value, deadline, attributes: None, resets, .. }
                if resets.is_empty() && value.len() <= VALUE_INLINE_BYTES_MAX =>
            {
                self.set_plain(*bucket, key, Plain { stamp, value, deadline: *deadline })
            }
            EffectRef::Set { .. } | EffectRef::Other { .. } => match effect.to_effect(run) {
                Effect::Key { bucket, key, change } => {
                    let bucket = self.open_bucket(&bucket)?;
                    self.merge(&bucket, &key, &change.into_entry(stamp))
                }
                _ => Ok(false),
            },
            EffectRef::Flush { bucket } => {
                let bucket = self.open(*bucket)?;
                Ok(self.flush_at(&bucket, stamp, now))
            }
            EffectRef::Relay { bucket, key, entry } => {
                let bucket = self.open(*bucket)?;
                self.merge(&bucket, key, entry)
            }
            EffectRef::RelayFlush { bucket, stamp } => {
                let bucket = self.open(*bucket)?;
                Ok(self.flush_at(&bucket, *stamp, now))
            }
            EffectRef::Join { .. } | EffectRef::Message { .. } => Ok(false),
        }
    }

    /// Marks everything in `bucket` that is stamped up to `stamp` as dead: another node's flush.
    /// Returns whether it is the latest.
    pub fn flush_at(&self, bucket: &Bucket, stamp: Stamp, now: Now) -> bool {
        self.witness(stamp.hlc);
        // With one origin too many, whose flush it was is not remembered.
        let _ = self.origins.intern(stamp.origin);
        let newer = bucket.flushed.advance(stamp);
        if newer {
            self.drop_flushed(bucket, now);
        }
        newer
    }

    /// Forgets all flushes: for a replica that takes everything anew, flushes included.
    pub fn forget_flushes(&self) {
        for bucket in self.buckets() {
            bucket.flushed.forget();
        }
    }

    /// The common op: a new version and nothing else.
    fn set_plain(
        &self,
        bucket: BucketRef<'_>,
        key: &[u8],
        plain: Plain<'_>,
    ) -> Result<bool, MergeError> {
        check_key(key)?;
        let bucket = self.open(bucket)?;
        let probe = self.probe(key);
        let origin = self.origins.intern(plain.stamp.origin)?;
        let mut shard = bucket.shard(probe);
        let before = shard.counts().bytes;
        if let Some(news) = shard.merge_plain(probe, &plain, (origin, &self.origins)) {
            self.account(before, shard.counts().bytes);
            return Ok(news);
        }
        drop(shard);
        let value = Value::plain(NewValue::Copy(plain.value).into_bytes());
        let (deadline, resets) = (plain.deadline, Default::default());
        self.merge(&bucket, key, &Change::Set { value, deadline, resets }.into_entry(plain.stamp))
    }

    /// The bucket, created where it is new.
    pub fn open(&self, bucket: BucketRef<'_>) -> Result<Arc<Bucket>, TooManyBuckets> {
        match bucket {
            BucketRef::Database(database) => Ok(Arc::clone(self.database(database))),
            BucketRef::Named(_) => self.open_bucket(&bucket.to_name()),
        }
    }

    /// Drops of `key` what `vector` covers and `listed`, which is what a fresher node holds under
    /// it, does not name. Returns whether anything was dropped.
    pub fn restrict(
        &self,
        bucket: &Bucket,
        key: &[u8],
        (listed, vector): (&Entry, &Vector),
    ) -> bool {
        let probe = self.probe(key);
        let mut shard = bucket.shard(probe);
        let Some(ours) = shard.load(probe, &self.origins) else { return false };
        let mut restricted = ours.clone();
        restricted.restrict(listed, vector);
        if restricted == ours {
            return false;
        }
        let before = shard.counts().bytes;
        if restricted == Entry::default() {
            shard.remove(probe);
        } else {
            let origin = self.origins.intern(restricted.register.stamp.origin);
            shard.save(probe, restricted, origin.expect("it is known: it was ours"));
        }
        self.account(before, shard.counts().bytes);
        true
    }

    /// Whether a version of `key` with this stamp may be one that this node has forgotten, or that
    /// what it has forgotten superseded: it holds no newer version, and has dropped things as new as
    /// that from the bucket. What a flush has ended is dead wherever it comes from.
    pub fn may_have_forgotten(&self, bucket: &Bucket, key: &[u8], stamp: Stamp) -> bool {
        let probe = self.probe(key);
        let shard = bucket.shard(probe);
        // An older version that is there may have come late, too.
        let is_older = |entry: Entry| entry.register.stamp < stamp;
        stamp.hlc <= shard.forgotten()
            && stamp > bucket.flushed.stamp()
            && shard.load(probe, &self.origins).is_none_or(is_older)
    }

    /// Notes that this node may have forgotten anything stamped up to `until`: it starts from a
    /// saved state.
    pub fn assume_forgotten(&self, bucket: &Bucket, until: Hlc) {
        for shard in &bucket.shards {
            shard.lock().expect(POISONED).assume_forgotten(until);
        }
    }

    /// Keeps an op of another origin for the readers of the log, if there are any.
    pub fn log_foreign(&self, now: Now, op: impl FnOnce() -> Op) {
        let mut sequencer = self.sequencer();
        if sequencer.log.keeps(now) {
            sequencer.log.push(op());
            drop(sequencer);
            (self.on_log)();
        }
    }

    /// Tells the readers of the log that `key` has changed outside of any stream: by a sync, an
    /// audit, a backup. What it shows now they see when they look; here it is an empty relay, stamped
    /// with the time at which it came.
    pub fn log_arrival(&self, now: Now, bucket: &Bucket, key: &[u8]) {
        self.tell_if_internal(bucket, Some(key));
        self.log_foreign(now, || {
            let (bucket, key) = (bucket.name.clone(), Bytes::copy_from_slice(key));
            let effect = Effect::Relay { bucket, key, entry: Box::default() };
            let came = Stamp { hlc: Hlc::from_wall(now), origin: Uuid::nil() };
            Op { seq: 0, stamp: came, effect }
        });
    }

    /// The same for a flush.
    pub fn log_flush_arrival(&self, now: Now, bucket: &Bucket, stamp: Stamp) {
        self.tell_if_internal(bucket, None);
        self.log_foreign(now, || {
            let effect = Effect::RelayFlush { bucket: bucket.name.clone(), stamp };
            Op { seq: 0, stamp, effect }
        });
    }

    /// Whether anybody reads the log.
    pub fn is_log_read(&self, now: Now) -> bool {
        self.sequencer().log.keeps(now)
    }
}

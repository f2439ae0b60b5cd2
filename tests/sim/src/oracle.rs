//! The oracle: every write that was ever made, joined, nothing ever forgotten.

use atoll_core::clock::{Now, Stamp};
use atoll_core::entry::op::{Change, Effect, Op};
use atoll_core::entry::{Deadline, Entry, Visible};
use atoll_core::key::BucketName;
use atoll_core::replica::vector::Vector;
use std::collections::{BTreeMap, BTreeSet};

/// A key of a bucket.
pub type Key = (BucketName, Vec<u8>);

/// A version of a key of a bucket.
type Version<'o> = (&'o BucketName, &'o [u8], Stamp);

/// All writes.
#[derive(Debug, Default)]
pub struct Oracle {
    ops: Vec<Op>,
}

/// What the oracle says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Its value and deadline.
    Holds(Vec<u8>, Option<u64>),
    /// Nothing.
    Nothing,
}

impl Oracle {
    /// Notes a write.
    pub fn note(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// How many writes there were.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// What each key must show at `now` on nodes that have what `vector` says. Keys that writes
    /// touch which it does not cover are left out: their effects may or may not be there.
    pub fn shown(&self, vector: &Vector, now: Now) -> BTreeMap<Key, Shown> {
        let covered = |op: &&Op| op.seq <= vector.seq(op.stamp.origin);
        let mut entries: BTreeMap<Key, Entry> = BTreeMap::new();
        let mut flushes: BTreeMap<&BucketName, Stamp> = BTreeMap::new();
        let (mut open_keys, mut open_buckets) = (BTreeSet::new(), BTreeSet::new());
        for op in &self.ops {
            match &op.effect {
                Effect::Key { bucket, key, change } => {
                    let name = (bucket.clone(), key.to_vec());
                    if covered(&op) {
                        let entry = entries.entry(name).or_default();
                        entry.merge(&change.clone().into_entry(op.stamp));
                    } else {
                        open_keys.insert(name);
                    }
                }
                Effect::Flush { bucket } if covered(&op) => {
                    let flush = flushes.entry(bucket).or_default();
                    *flush = op.stamp.max(*flush);
                }
                Effect::Flush { bucket } => {
                    open_buckets.insert(bucket.clone());
                }
                Effect::Relay { .. }
                | Effect::RelayFlush { .. }
                | Effect::Join { .. }
                | Effect::Message { .. } => {}
            }
        }
        open_keys.extend(self.revived());
        let certain = entries
            .into_iter()
            .filter(|(key, _)| !open_keys.contains(key) && !open_buckets.contains(&key.0));
        certain
            .map(|(key, entry)| {
                let flushed = flushes.get(&key.0).copied().unwrap_or(Stamp::ZERO);
                let shown = shown(&entry, now, flushed);
                (key, shown)
            })
            .collect()
    }

    /// Keys to whose value somebody gave another deadline that did not know of one which had passed:
    /// others may have forgotten the value by then.
    fn revived(&self) -> BTreeSet<Key> {
        let mut deadlines: BTreeMap<Version, Vec<(Stamp, Deadline)>> = BTreeMap::new();
        for op in &self.ops {
            let Effect::Key { bucket, key, change } = &op.effect else { continue };
            let (version, deadline) = match change {
                Change::Set { deadline, .. } => (op.stamp, *deadline),
                Change::Touch { base, deadline } => (*base, *deadline),
                Change::Delete { .. } | Change::Count { .. } => continue,
            };
            deadlines.entry((bucket, &key[..], version)).or_default().push((op.stamp, deadline));
        }
        let is_revived = |given: &[(Stamp, Deadline)]| {
            given.iter().any(|(stamp, deadline)| {
                given.iter().any(|(later, _)| later > stamp && deadline.is_past(later.hlc.millis()))
            })
        };
        let revived = deadlines.into_iter().filter(|(_, given)| is_revived(given));
        revived.map(|((bucket, key, _), _)| (bucket.clone(), key.to_vec())).collect()
    }
}

fn shown(entry: &Entry, now: Now, flushed: Stamp) -> Shown {
    let deadline = entry.visible_deadline(now.millis(), flushed).millis();
    match entry.visible(now.millis(), flushed) {
        None => Shown::Nothing,
        Some(Visible::Value(value)) => Shown::Holds(value.bytes.to_vec(), deadline),
        Some(Visible::Counter(sum)) => Shown::Holds(sum.to_string().into_bytes(), deadline),
    }
}

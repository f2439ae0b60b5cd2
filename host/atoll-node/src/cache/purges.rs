//! Purges as records of the store: written on one node, effective on all.
//!
//! A record is an ordinary key of the bucket `_purge`, so it travels, survives cuts and is caught up
//! on like any other. It is kept for a week, longer than any node can be away and come back with
//! what it has in memory.

mod tagged;

use super::Cache;
use crate::node::Node;
use anyhow::Context;
use atoll_core::clock::Stamp;
use atoll_core::entry::Deadline;
use atoll_core::entry::op::{Change, Effect, Op};
use atoll_core::http_cache::purge::{Scope, Strength};
use atoll_core::key::BucketName;
use atoll_core::store::Bucket;
use atoll_core::store::edit::{Edit, NewValue, WriteError};
use atoll_core::store::log::LogRead;
use atoll_core::store::view::View;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tagged::Tagged;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

/// How long a record is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How often the records are looked through, for those that came in no log.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Ops and keys that are looked at in one step.
const STEP_COUNT: usize = 1_000;

/// A record, as the value of its key.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    scope: String,
    name: String,
    soft: bool,
}

/// The purges of a node and its cluster.
#[derive(Debug)]
pub(crate) struct Purges {
    node: Arc<Node>,
    cache: Arc<Cache>,
    bucket: Arc<Bucket>,
    /// The records that have taken effect here.
    known: Mutex<HashMap<Vec<u8>, Stamp>>,
    /// Keys that end with a purge of their tags.
    tagged: Tagged,
    /// Those who end them although nobody may wait for that any more.
    tasks: TaskTracker,
}

impl Purges {
    /// None yet.
    pub(crate) fn new(node: &Arc<Node>, cache: &Arc<Cache>) -> anyhow::Result<Arc<Purges>> {
        let name = BucketName::new("_purge").context("the name of the bucket of purges")?;
        let bucket = node.store().open_bucket(&name)?;
        let (node, cache) = (Arc::clone(node), Arc::clone(cache));
        // Those that took effect before a restart: what was fetched since is not purged anew.
        let at_start = cache.disk().map_or(&[][..], |disk| disk.purges_at_start());
        let known = at_start.iter().filter_map(|purge| purge.record.clone()).collect();
        let (known, tagged, tasks) = (Mutex::new(known), Tagged::new(&node), TaskTracker::new());
        for purge in at_start {
            // Whether the keys were seen to before the end of the process is not known.
            if let Some((_, stamp)) = &purge.record {
                tagged.note_purge(&purge.scope, purge.strength, *stamp);
            }
        }
        Ok(Arc::new(Purges { node, cache, bucket, known, tagged, tasks }))
    }

    /// Purges here at once and, through replication, on every node. Keys with a tag that is purged end
    /// when [`settle_keys`](Purges::settle_keys) has ended.
    pub(crate) fn purge(&self, scope: &Scope, strength: Strength) -> Result<(), WriteError> {
        let (word, name) = scope.parts();
        let soft = strength == Strength::Soft;
        let record = Record { scope: word.to_owned(), name: name.to_owned(), soft };
        let value = serde_json::to_vec(&record).unwrap_or_default();
        // Apart for both strengths: a soft purge does not undo a hard one.
        let digest = xxhash_rust::xxh3::xxh3_128(name.as_bytes());
        let strength_word = if soft { "soft" } else { "hard" };
        let key = format!("{strength_word}/{word}/{digest:032x}");
        let now = self.node.now();
        let deadline = Deadline::at_millis(now.millis() + KEPT.as_millis() as u64);
        let edit = Edit::set(NewValue::Owned(value), deadline);
        self.cache.purge(scope, strength);
        let store = self.node.store();
        let written = store.write(&self.bucket, key.as_bytes(), now, |_| (edit, ()))?;
        if let Some(stamp) = written.stamp {
            self.cache.note_record(scope, strength, (key.clone().into_bytes(), stamp));
            self.note(key.into_bytes(), stamp);
            self.tagged.note_purge(scope, strength, stamp);
        }
        info!(scope = word, soft, "purged");
        Ok(())
    }

    /// Ends the keys whose tags were purged before. Goes on to its end although nobody may wait.
    pub(crate) async fn settle_keys(self: &Arc<Self>) {
        if !self.tagged.is_due() {
            return;
        }
        let purges = Arc::clone(self);
        let settled = self.tasks.spawn(async move { purges.tagged.settle().await });
        // It fails only by a panic, which was told, or at the end of the process.
        let _ = settled.await;
    }

    /// Waits for those that still end keys. None may begin any more.
    pub(crate) async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The cache that they are about.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Takes note of a record. Returns whether it is new.
    fn note(&self, key: Vec<u8>, stamp: Stamp) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = known.get(&key).is_none_or(|old| *old < stamp);
        if is_new {
            known.insert(key, stamp);
        }
        is_new
    }

    /// A record that has come, by whatever way.
    fn meet(&self, key: &[u8], stamp: Stamp, value: &[u8]) {
        if !self.note(key.to_vec(), stamp) {
            return;
        }
        let Ok(record) = serde_json::from_slice::<Record>(value) else { return };
        let strength = if record.soft { Strength::Soft } else { Strength::Hard };
        // One that a later version has written: more than it asked for is purged, never less.
        let scope = match Scope::of(&record.scope, &record.name) {
            Some(Ok(scope)) => scope,
            Some(Err(_)) | None => Scope::All,
        };
        self.cache.purge(&scope, strength);
        self.cache.note_record(&scope, strength, (key.to_vec(), stamp));
        self.tagged.note_purge(&scope, strength, stamp);
    }

    /// Follows the records until `shutdown`.
    pub(crate) async fn follow(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The log only then: while somebody reads it, every write costs a little more. Keys with tags
        // can wait for a tick.
        loop {
            tokio::select! {
                () = self.cache.used() => break,
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => self.look_at_all(),
            }
        }
        let mut grown = self.node.log_grown();
        let mut position = self.node.store().log_subscribe();
        ticks.reset_immediately();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                // Before the log: while it grows without end, the ticks have their turn.
                _ = ticks.tick() => self.look_at_all(),
                changed = grown.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    position = self.read_log(position).await;
                }
            }
        }
        self.node.store().log_unsubscribe(self.node.now());
    }

    /// Looks at every record, and at keys with tags that were purged.
    fn look_at_all(self: &Arc<Self>) {
        self.look_through();
        let oldest_ms = self.node.now().millis().saturating_sub(KEPT.as_millis() as u64);
        self.tagged.keep_from(oldest_ms);
        // Beside this: purges that come meanwhile take effect at once.
        let purges = Arc::clone(self);
        self.tasks.spawn(async move { purges.tagged.settle_now_and_then().await });
    }

    async fn read_log(&self, mut position: u64) -> u64 {
        loop {
            match self.node.store().log_read(position, STEP_COUNT) {
                LogRead::Fallen { resume } => {
                    self.look_through();
                    return resume;
                }
                LogRead::Ops { ops, .. } if ops.is_empty() => return position,
                LogRead::Ops { ops, next } => {
                    position = next;
                    ops.iter().for_each(|op| self.meet_op(op));
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn meet_op(&self, op: &Op) {
        match &op.effect {
            Effect::Key { bucket, key, change: Change::Set { value, .. } }
                if bucket == self.bucket.name() =>
            {
                self.meet(key, op.stamp, &value.bytes);
            }
            Effect::Relay { bucket, key, .. } if bucket == self.bucket.name() => self.look_at(key),
            _ => {}
        }
    }

    /// Looks at the record of that name, if there is one.
    fn look_at(&self, key: &[u8]) {
        let node = &self.node;
        let look =
            |view: Option<View<'_>>| view.map(|view| (view.stamp(), view.value().to_bytes()));
        let found = node.store().read(&self.bucket, key, node.now(), look);
        if let Some((stamp, value)) = found {
            self.meet(key, stamp, &value);
        }
    }

    /// The node that they are of.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Looks at every record. Those that have expired are forgotten.
    pub(super) fn look_through(&self) {
        let now = self.node.now();
        let mut found: Vec<(Vec<u8>, Stamp, Vec<u8>)> = Vec::new();
        let mut cursor = 0;
        loop {
            cursor =
                self.node.store().scan(&self.bucket, (cursor, STEP_COUNT), now, |key, view| {
                    let value = view.value().to_bytes();
                    found.push((key.to_vec(), view.stamp(), value.to_vec()));
                });
            if cursor == 0 {
                break;
            }
        }
        for (key, stamp, value) in &found {
            self.meet(key, *stamp, value);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > 2 * found.len() + STEP_COUNT {
            known.clear();
            known.extend(found.into_iter().map(|(key, stamp, _)| (key, stamp)));
        }
    }
}

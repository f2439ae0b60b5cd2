//! Purges as records of the store: written on one node, effective on all.
//!
//! A record is an ordinary key of the bucket `_purge`, so it travels, survives cuts and is caught up
//! on like any other. It is kept for a week, longer than any node can be away and come back with
//! what it has in memory.
//!
//! One that comes from another node is in force before that one is told that it has come.

mod tagged;

use super::Cache;
use crate::node::Node;
use crate::node::arrivals::Came;
use anyhow::Context;
use atoll_core::clock::Stamp;
use atoll_core::entry::Deadline;
use atoll_core::http_cache::purge::{Scope, Strength, Subject};
use atoll_core::key::BucketName;
use atoll_core::replica::vector::Vector;
use atoll_core::store::Bucket;
use atoll_core::store::edit::{Edit, NewValue, WriteError};
use atoll_core::store::view::View;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tagged::Tagged;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

/// How long a record is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The name of the bucket.
const PURGE: &str = "_purge";
/// How often the records are looked through, for those that came by no link.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What was fetched elsewhere is used behind a purge that could not be written where it was asked for
/// so much later, in ms: more than clocks of nodes may differ.
const UNWRITTEN_DISTANCE_MS: u64 = 60_000;
/// Most such purges that are kept.
const UNWRITTEN_COUNT_MAX: usize = 10_000;
/// Keys that are looked at in one step.
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
    known: Mutex<Known>,
    /// Those that are in force and have yet to be put on the list of the disk.
    met: Mutex<Vec<Met>>,
    has_met: Notify,
    /// Keys that end with a purge of their tags.
    tagged: Tagged,
    /// Those who end them although nobody may wait for that any more.
    tasks: TaskTracker,
}

/// A record that has taken effect.
#[derive(Debug)]
struct Met {
    scope: Scope,
    strength: Strength,
    /// When it did, in microseconds.
    at_us: u64,
    /// Its key and its stamp.
    record: (Vec<u8>, Stamp),
}

/// The records that have taken effect here, by their keys.
#[derive(Debug, Default)]
struct Known {
    stamps: HashMap<Vec<u8>, Stamp>,
    /// What those of prefixes name. One of which nothing is understood names everything.
    prefixes: HashMap<Vec<u8>, Box<str>>,
    /// Those that are in force on this node alone, as it may write none, and when that began, in ms.
    unwritten: HashMap<Vec<u8>, u64>,
    /// The same for more of them than are kept.
    unwritten_all_ms: u64,
}

impl Known {
    /// Takes note of a record. Returns whether it is new.
    fn note(&mut self, key: &[u8], stamp: Stamp) -> bool {
        let is_new = self.stamps.get(key).is_none_or(|old| *old < stamp);
        if is_new {
            self.stamps.insert(key.to_vec(), stamp);
        }
        is_new
    }

    fn note_prefix(&mut self, key: &[u8], scope: &Scope) {
        if let Scope::Prefix(prefix) = scope {
            self.prefixes.insert(key.to_vec(), prefix.clone());
        }
    }

    fn note_unwritten(&mut self, scope: &Scope, strength: Strength, now_ms: u64) {
        let key = key_of(scope, strength);
        self.note_prefix(&key, scope);
        self.unwritten.insert(key, now_ms);
        if self.unwritten.len() > UNWRITTEN_COUNT_MAX {
            self.unwritten.clear();
            self.unwritten_all_ms = now_ms;
        }
    }

    /// Whether whoever included `marks` when it began to fetch, at `began_ms` by its clock, knew of
    /// the record under `key`.
    fn includes(&self, key: &[u8], marks: &Vector, began_ms: u64) -> bool {
        // No other node can know of one that is not written, so that clocks have to tell.
        let is_later = |at_ms: &u64| began_ms > at_ms + UNWRITTEN_DISTANCE_MS;
        self.stamps.get(key).is_none_or(|stamp| marks.covers(*stamp))
            && self.unwritten.get(key).is_none_or(is_later)
    }
}

impl Purges {
    /// None yet.
    pub(crate) fn new(node: &Arc<Node>, cache: &Arc<Cache>) -> anyhow::Result<Arc<Purges>> {
        let name = BucketName::new(PURGE).context("the name of the bucket of purges")?;
        let bucket = node.store().open_bucket(&name)?;
        let (node, cache) = (Arc::clone(node), Arc::clone(cache));
        // Those that took effect before a restart: what was fetched since is not purged anew.
        let at_start = cache.disk().map_or(&[][..], |disk| disk.purges_at_start());
        let (tagged, tasks) = (Tagged::new(&node), TaskTracker::new());
        let mut known = Known::default();
        for (purge, (key, stamp)) in
            at_start.iter().filter_map(|purge| Some((purge, purge.record.clone()?)))
        {
            // Whether the keys were seen to before the end of the process is not known.
            tagged.note_purge(&purge.scope, purge.strength, stamp);
            known.note_prefix(&key, &purge.scope);
            known.stamps.insert(key, stamp);
        }
        let known = Mutex::new(known);
        let (met, has_met) = (Mutex::default(), Notify::new());
        let purges = Purges { node, cache, bucket, known, met, has_met, tagged, tasks };
        let purges = Arc::new(purges);
        // A weak handle, or the two would keep one another alive.
        let meeting = Arc::downgrade(&purges);
        purges.node.arrivals().follow(
            PURGE,
            Box::new(move |came| {
                if let Some(purges) = meeting.upgrade() {
                    purges.meet_all(came);
                }
            }),
        );
        Ok(purges)
    }

    /// Purges here at once and, through replication, on every node. Keys with a tag that is purged end
    /// when [`settle_keys`](Purges::settle_keys) has ended.
    pub(crate) fn purge(&self, scope: &Scope, strength: Strength) -> Result<(), WriteError> {
        // As records as well: what nodes share is compared with those.
        for scope in self.cache.other_scopes(scope) {
            self.purge_as_named(&scope, strength)?;
        }
        self.purge_as_named(scope, strength)
    }

    fn purge_as_named(&self, scope: &Scope, strength: Strength) -> Result<(), WriteError> {
        let (word, name) = scope.parts();
        let soft = strength == Strength::Soft;
        let record = Record { scope: word.to_owned(), name: name.to_owned(), soft };
        let value = serde_json::to_vec(&record).unwrap_or_default();
        let key = key_of(scope, strength);
        let now = self.node.now();
        let deadline = Deadline::at_millis(now.millis() + KEPT.as_millis() as u64);
        let edit = Edit::set(NewValue::Owned(value), deadline);
        let store = self.node.store();
        let written = store.write(&self.bucket, &key, now, |_| (edit, ()));
        let at_us = {
            let mut known = self.known();
            if let Ok(Some(stamp)) = written.as_ref().map(|written| written.stamp) {
                known.note(&key, stamp);
                known.note_prefix(&key, scope);
            } else {
                known.note_unwritten(scope, strength, now.millis());
            }
            // Under the lock: what is known is in force.
            self.cache.purge_in_memory(scope, strength)
        };
        self.cache.note_purge(scope, strength, at_us, None);
        if let Some(stamp) = written?.stamp {
            self.tagged.note_purge(scope, strength, stamp);
            self.cache.note_record(scope, strength, (key, stamp));
        }
        match scope {
            // Clients make these.
            Scope::Place(_) => debug!("made invalid on every node"),
            _ => info!(scope = word, soft, "purged"),
        }
        Ok(())
    }

    /// Purges here alone, where this node may write nothing.
    pub(crate) fn purge_here(&self, scope: &Scope, strength: Strength) {
        for scope in self.cache.other_scopes(scope).iter().chain([scope]) {
            self.known().note_unwritten(scope, strength, self.node.now().millis());
            self.cache.purge(scope, strength);
        }
    }

    /// Something was made invalid here of which no other node is told: what those fetched before is
    /// not used here.
    pub(crate) fn note_untold(&self) {
        self.known().unwritten_all_ms = self.node.now().millis();
    }

    /// Whether a node that included `marks` when it began to fetch, at `began_ms` by its clock, knew
    /// all purges that this one knows and that cover `subject`. Later ones count from when this node
    /// learns of them.
    pub(crate) fn are_known(
        &self,
        subject: Subject<'_>,
        (marks, began_ms): (&Vector, u64),
    ) -> bool {
        let known = self.known();
        if known.stamps.is_empty() && known.unwritten.is_empty() && known.unwritten_all_ms == 0 {
            return true;
        }
        if known.unwritten_all_ms > 0 && began_ms <= known.unwritten_all_ms + UNWRITTEN_DISTANCE_MS
        {
            return false;
        }
        let is_known = |key: &[u8]| known.includes(key, marks, began_ms);
        let mut prefixes = known.prefixes.iter().filter(|(_, prefix)| subject.begins_with(prefix));
        let strengths = [Strength::Hard, Strength::Soft];
        prefixes.all(|(key, _)| is_known(key))
            && subject
                .scopes()
                .iter()
                .all(|scope| strengths.iter().all(|strength| is_known(&key_of(scope, *strength))))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A record that has come, by whatever way: it is in force when this returns, and what of it is to
    /// be put on the list of the disk is told. `None` for one that is known.
    fn meet(&self, key: &[u8], stamp: Stamp, value: &[u8]) -> Option<Met> {
        // Until it is in force: several threads come here, and none may take it for known before.
        let mut known = self.known();
        if !known.note(key, stamp) {
            return None;
        }
        let record = serde_json::from_slice::<Record>(value).ok()?;
        let strength = if record.soft { Strength::Soft } else { Strength::Hard };
        // One that a later version has written: more than it asked for is purged, never less.
        let scope = match Scope::of(&record.scope, &record.name) {
            Some(Ok(scope)) => scope,
            Some(Err(_)) | None => {
                known.prefixes.insert(key.to_vec(), Box::default());
                Scope::All
            }
        };
        known.note_prefix(key, &scope);
        let at_us = self.cache.purge_in_memory(&scope, strength);
        Some(Met { scope, strength, at_us, record: (key.to_vec(), stamp) })
    }

    /// Puts it on the list of the disk. May wait for that.
    fn keep(&self, met: Met) {
        let Met { scope, strength, at_us, record } = met;
        self.tagged.note_purge(&scope, strength, record.1);
        self.cache.note_purge(&scope, strength, at_us, Some(record));
    }

    /// Those that have come from other nodes.
    fn meet_all(&self, came: Came) {
        let met: Vec<Met> = match came {
            Came::Keys(keys) => keys.iter().filter_map(|key| self.look_at(key)).collect(),
            Came::Many => self.look_at_each(),
        };
        if !met.is_empty() {
            self.met.lock().unwrap_or_else(PoisonError::into_inner).extend(met);
            self.has_met.notify_one();
        }
    }

    /// Keeps those that have come from other nodes.
    fn keep_met(&self) {
        let met = std::mem::take(&mut *self.met.lock().unwrap_or_else(PoisonError::into_inner));
        met.into_iter().for_each(|met| self.keep(met));
    }

    /// Follows the records until `shutdown`.
    pub(crate) async fn follow(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => self.look_at_all(),
                () = self.has_met.notified() => self.keep_met(),
            }
        }
        // Those of the last moment: a restart undoes none of them.
        self.keep_met();
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

    /// Looks at the record of that name, if there is one.
    fn look_at(&self, key: &[u8]) -> Option<Met> {
        let node = &self.node;
        let look =
            |view: Option<View<'_>>| view.map(|view| (view.stamp(), view.value().to_bytes()));
        let (stamp, value) = node.store().read(&self.bucket, key, node.now(), look)?;
        self.meet(key, stamp, &value)
    }

    /// The node that they are of.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Looks at every record. Those that have expired are forgotten.
    pub(super) fn look_through(&self) {
        self.look_at_each().into_iter().for_each(|met| self.keep(met));
        self.keep_met();
        self.forget_expired();
    }

    fn look_at_each(&self) -> Vec<Met> {
        let now = self.node.now();
        let (mut met, mut cursor) = (Vec::new(), 0);
        loop {
            let mut found: Vec<(Vec<u8>, Stamp, Bytes)> = Vec::new();
            let from = (cursor, STEP_COUNT);
            cursor = self.node.store().scan(&self.bucket, from, now, |key, view| {
                found.push((key.to_vec(), view.stamp(), view.value().to_bytes()));
            });
            let met_now =
                found.iter().filter_map(|(key, stamp, value)| self.meet(key, *stamp, value));
            met.extend(met_now);
            if cursor == 0 {
                return met;
            }
        }
    }

    /// Forgets those of which there is no record any more, once they are many.
    fn forget_expired(&self) {
        let stats = self.bucket.stats();
        let known: Vec<Vec<u8>> = {
            let known = self.known();
            if known.stamps.len() <= 2 * stats.key_count + STEP_COUNT {
                return;
            }
            known.stamps.keys().cloned().collect()
        };
        let (store, now) = (self.node.store(), self.node.now());
        // One that comes meanwhile is there.
        let is_gone = |key: &Vec<u8>| store.read(&self.bucket, key, now, |view| view.is_none());
        let gone: Vec<Vec<u8>> = known.into_iter().filter(is_gone).collect();
        let mut known = self.known();
        let Known { stamps, prefixes, unwritten, .. } = &mut *known;
        for key in &gone {
            stamps.remove(key);
        }
        prefixes.retain(|key, _| stamps.contains_key(key) || unwritten.contains_key(key));
    }
}

/// The key of a record. Apart for both strengths: a soft purge does not undo a hard one.
fn key_of(scope: &Scope, strength: Strength) -> Vec<u8> {
    let (word, name) = scope.parts();
    let digest = xxhash_rust::xxh3::xxh3_128(name.as_bytes());
    let strength = if strength == Strength::Soft { "soft" } else { "hard" };
    format!("{strength}/{word}/{digest:032x}").into_bytes()
}

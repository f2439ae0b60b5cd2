//! Writes of keys that stored responses were made from: each makes those responses stale, as soon as
//! this node learns of it.
//!
//! Nothing of it costs anything before a response names its keys for the first time: then the log of
//! the store is followed.

use super::Cache;
use super::stored::Stored;
use crate::node::Node;
use atoll_core::entry::op::{Effect, Op};
use atoll_core::http_cache::keys::{Concerns, KeyIndex, hash_of, hash_of_bucket};
use atoll_core::store::log::LogRead;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Ops that are looked at in one step.
const STEP_COUNT: usize = 1_000;

/// The keys of stored responses.
#[derive(Debug)]
pub(super) struct Keys {
    index: Mutex<KeyIndex>,
    /// Whether a response has named a key, so that writes are followed.
    start: watch::Sender<bool>,
    /// The place in the log from where on writes are to be looked at.
    position: Mutex<u64>,
}

impl Keys {
    /// None yet. What was fetched before `now_us`, by an earlier process, may have missed writes.
    pub(super) fn new(now_us: u64) -> Keys {
        let mut index = KeyIndex::default();
        index.begin(now_us);
        Keys { index: Mutex::new(index), start: watch::Sender::new(false), position: Mutex::new(0) }
    }

    fn index(&self) -> MutexGuard<'_, KeyIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn position(&self) -> MutexGuard<'_, u64> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a write has made `stored` stale.
    pub(super) fn outdate(&self, stored: &Stored) -> bool {
        !stored.keys.is_empty() && self.index().covers(&stored.keys, stored.fetched_us)
    }
}

impl Cache {
    /// Takes note of a response with these keys whose fetch began at `fetched_us`: writes from then
    /// on make it stale.
    pub(crate) fn admit_keys(&self, keys: &[u64], fetched_us: u64) {
        if keys.is_empty() {
            return;
        }
        let now_us = self.now_us();
        self.keys.index().admit(keys, fetched_us, now_us);
    }

    /// From now on writes are followed. Responses with keys whose fetch began before are stale.
    pub(crate) fn follow_keys(&self, node: &Node) {
        if *self.keys.start.borrow() {
            return;
        }
        self.keys.start.send_if_modified(|start| {
            if *start {
                return false;
            }
            *self.keys.position() = node.store().log_subscribe();
            *start = true;
            self.note_gap();
            true
        });
    }

    /// A response names keys: from now on what is written here is looked at before it is answered,
    /// and all that was answered already is known when this returns.
    pub(crate) fn name_keys(self: &Arc<Self>, node: &Arc<Node>) {
        self.follow_keys(node);
        node.writes().follow(|| {
            let (cache, node) = (Arc::downgrade(self), Arc::downgrade(node));
            Box::new(move || {
                if let (Some(cache), Some(node)) = (cache.upgrade(), node.upgrade()) {
                    while cache.note_written(&node) {}
                }
            })
        });
        while self.note_written(node) {}
    }

    /// Looks at some of what was written. Returns whether there may be more. What another thread is
    /// looking at is waited for.
    fn note_written(&self, node: &Node) -> bool {
        let mut position = self.keys.position();
        match node.store().log_read(*position, STEP_COUNT) {
            LogRead::Fallen { resume } => {
                self.note_gap();
                *position = resume;
                true
            }
            LogRead::Ops { ops, .. } if ops.is_empty() => false,
            LogRead::Ops { ops, next } => {
                ops.iter().for_each(|op| self.note_op(op));
                *position = next;
                true
            }
        }
    }

    /// Whether one of these keys was written since a fetch began, as far as is known.
    pub(crate) fn is_written(&self, keys: &[u64], fetched_us: u64) -> bool {
        !keys.is_empty() && self.keys.index().is_written(keys, fetched_us)
    }

    /// Takes note of a write of which this node has just learned.
    pub(crate) fn note_write(&self, hash: u64) {
        let now_us = self.now_us();
        let concerns = self.keys.index().note(hash, now_us);
        if concerns == Concerns::Stored {
            // Behind the note: whoever sees the new number finds it.
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Writes may have been missed: all that was stored with keys is stale.
    fn note_gap(&self) {
        let now_us = self.now_us();
        self.keys.index().begin(now_us);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn note_op(&self, op: &Op) {
        match &op.effect {
            Effect::Key { bucket, key, .. } | Effect::Relay { bucket, key, .. } => {
                self.note_write(hash_of(bucket.as_str(), key));
            }
            Effect::Flush { bucket } | Effect::RelayFlush { bucket, .. } => {
                self.note_write(hash_of_bucket(bucket.as_str()));
            }
            Effect::Join { .. } | Effect::Message { .. } => {}
        }
    }
}

/// Follows what is written, by whomever, from the moment at which it matters until `shutdown`.
pub(crate) async fn follow(node: Arc<Node>, cache: Arc<Cache>, shutdown: CancellationToken) {
    let mut started = cache.keys.start.subscribe();
    tokio::select! {
        started = started.wait_for(|is_started| *is_started) => if started.is_err() { return },
        () = shutdown.cancelled() => return,
    }
    let mut grown = node.log_grown();
    // What was written meanwhile rings no bell any more.
    read_log(&node, &cache).await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = grown.changed() => {
                if changed.is_err() {
                    break;
                }
                read_log(&node, &cache).await;
            }
        }
    }
    node.store().log_unsubscribe(node.now());
}

async fn read_log(node: &Node, cache: &Cache) {
    while cache.note_written(node) {
        tokio::task::yield_now().await;
    }
}

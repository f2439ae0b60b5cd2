//! What keeps a component from being lost while a record needs it.
//!
//! A node deletes a component once no record names it that this node knows. Another may have written
//! one meanwhile, beyond a partition or at the same moment. So each node holds on to the components
//! that its records name, and puts back what is gone from the bucket. That costs no memory: the
//! bucket and who holds share the bytes. What no record has named for long is deleted.

use super::Records;
use atoll_core::manifest::HandlerRecord;
use atoll_core::store::edit::NewValue;
use atoll_core::store::view::View;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// How long nothing has to name what is deleted then. A record comes after its component, and from
/// far away later still.
const ORPHAN_WAIT: Duration = Duration::from_secs(600);

/// What this node's records name.
#[derive(Debug, Default)]
pub(super) struct Components {
    /// By the key of a record: its stamp, and the digests that it names; `None` where it cannot be
    /// read, as one of a newer node.
    named: BTreeMap<String, (String, Option<Vec<String>>)>,
    /// By digest: those that are named, as far as they have been here.
    held: BTreeMap<String, Bytes>,
    /// Those that could not be put back, which was said.
    unkept: BTreeSet<String>,
    /// Keys that nothing needs, and since when.
    orphans: BTreeMap<String, Instant>,
}

impl Records {
    /// Holds what the records name, puts back what of it is gone, and deletes what nothing has named
    /// for long. Nothing may be kept or forgotten on this node meanwhile.
    pub(in crate::handlers) fn tend(&self, now: Instant) {
        let mut components = self.components();
        let needed = self.needed(&mut components);
        let there = self.digests();
        for digest in needed.intersection(&there) {
            if !components.held.contains_key(digest)
                && let Some(bytes) = self.component(digest)
            {
                components.held.insert(digest.clone(), bytes);
            }
        }
        components.unkept.retain(|digest| needed.contains(digest) && !there.contains(digest));
        // Others forget a record first and its component then: what is gone may be needed no more.
        let is_lost = needed.difference(&there).any(|lost| components.held.contains_key(lost));
        let needed = if is_lost { self.needed(&mut components) } else { needed };
        components.held.retain(|digest, _| needed.contains(digest));
        // A replica has to wait for others to do it.
        if self.node.permission().write().is_err() {
            return;
        }
        for digest in needed.difference(&there) {
            self.put_back(&mut components, digest);
        }
        self.sweep(&mut components, now);
    }

    /// Holds on to the component of a digest for a record that is to name it, and puts it back where
    /// it is gone. Returns whether it is there.
    pub(in crate::handlers) fn hold(&self, digest: &str) -> bool {
        let mut components = self.components();
        match self.component(digest) {
            Some(bytes) => {
                components.held.insert(digest.to_owned(), bytes);
                true
            }
            None => self.put_back(&mut components, digest),
        }
    }

    /// Returns whether it is there now.
    fn put_back(&self, components: &mut Components, digest: &str) -> bool {
        let Some(bytes) = components.held.get(digest) else { return false };
        let put =
            self.system.put(&HandlerRecord::blob_key(digest), NewValue::Shared(bytes.clone()));
        match put {
            Ok(()) => info!(digest, "a component was deleted that a handler needs: it is put back"),
            Err(error) => {
                if components.unkept.insert(digest.to_owned()) {
                    warn!(digest, %error, "a component that a handler needs cannot be put back");
                }
                return false;
            }
        }
        true
    }

    /// The digests that records and kept versions name.
    fn needed(&self, components: &mut Components) -> BTreeSet<String> {
        let mut before = std::mem::take(&mut components.named);
        for prefix in [HandlerRecord::PREFIX, HandlerRecord::VERSION_PREFIX] {
            let look = |view: View<'_>| (view.version().to_string(), view.value().to_bytes());
            for (rest, (stamp, bytes)) in self.system.list(prefix, look) {
                let key = format!("{prefix}{rest}");
                let known = before.remove(&key).filter(|(known, _)| *known == stamp);
                let named = known.map_or_else(|| digests_of(&bytes), |(_, digests)| digests);
                components.named.insert(key, (stamp, named));
            }
        }
        components.named.values().flat_map(|(_, digests)| digests).flatten().cloned().collect()
    }

    /// The digests of the components that are in the bucket.
    fn digests(&self) -> BTreeSet<String> {
        let blobs = self.system.list(HandlerRecord::BLOB_PREFIX, |_| ());
        blobs.into_iter().map(|(digest, ())| digest).collect()
    }

    /// Deletes what has been without a record for long: components, and the versions and states of
    /// handlers that are gone, which came from a node that did not know yet.
    fn sweep(&self, components: &mut Components, now: Instant) {
        let named = || components.named.values().map(|(_, digests)| digests);
        let needed: BTreeSet<&String> = named().flatten().flatten().collect();
        // What cannot be read may name any.
        let are_read = named().all(Option::is_some);
        let is_live = |rest: &str| {
            let name = rest.split('/').next().unwrap_or(rest);
            components.named.contains_key(&HandlerRecord::key(name))
        };
        let mut orphans = BTreeSet::new();
        let blobs = self.digests().into_iter();
        let blobs = blobs.filter(|digest| are_read && !needed.contains(digest));
        orphans.extend(blobs.map(|digest| HandlerRecord::blob_key(&digest)));
        for prefix in [HandlerRecord::VERSION_PREFIX, HandlerRecord::STATE_PREFIX] {
            let keys = self.system.list(prefix, |_| ()).into_iter().map(|(rest, ())| rest);
            orphans
                .extend(keys.filter(|rest| !is_live(rest)).map(|rest| format!("{prefix}{rest}")));
        }
        let since = |key: String| {
            let since = components.orphans.get(&key).copied().unwrap_or(now);
            (key, since)
        };
        components.orphans = orphans.into_iter().map(since).collect();
        components.orphans.retain(|key, since| {
            let is_over = now.duration_since(*since) >= ORPHAN_WAIT;
            // What fails is tried again: there will be another look.
            !is_over || self.system.delete(key).is_err()
        });
    }

    fn components(&self) -> MutexGuard<'_, Components> {
        // Whoever panicked has left what the next look finds out anew.
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The digests that a record names; `None` where it cannot be read.
fn digests_of(bytes: &[u8]) -> Option<Vec<String>> {
    let record = HandlerRecord::decode(bytes).ok()?;
    let canary = record.canary.map(|canary| canary.record.digest);
    Some(canary.into_iter().chain([record.digest]).collect())
}

#[cfg(test)]
mod tests;

//! Keys of the store that end when one of their tags is purged.
//!
//! A value has its tags beside it, and they travel with it. A hard purge of a tag ends each version
//! that has the tag and was written before: by a deadline that is past, as an EXPIRE gives it. That is
//! an ordinary write about this one version, so that all nodes come to the same whatever the order in
//! which it meets others, and a version that was written after the purge is never touched by it.
//!
//! The node that purges does so at once. Every other that learns of the purge looks as well, a moment
//! later: for what was on its way past the purge, and in case that the first has died. It finds
//! nothing left to do where all is well. A soft purge leaves keys alone: nothing could validate them.

use crate::node::Node;
use atoll_core::clock::Stamp;
use atoll_core::entry::Deadline;
use atoll_core::http_cache::purge::{Scope, Strength};
use atoll_core::limits::PURGE_RECORD_COUNT_MAX;
use atoll_core::store::Bucket;
use atoll_core::store::edit::{Edit, WriteError};
use atoll_core::store::view::View;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// Keys that are looked at in one step.
const STEP_COUNT: usize = 1_000;
/// How long ago a version ends that is purged: no node's clock may be so far behind that it still
/// shows.
const PAST: Duration = Duration::from_secs(24 * 3_600);
/// How often all purges that are kept are looked through again, for a version that came late from a
/// node that has died since.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(600);

/// Purged tags, each with the stamp of its latest purge.
type Tags = Arc<HashMap<Box<str>, Stamp>>;

/// The purges of tags that a node knows of, and how far its keys were looked through for them.
#[derive(Debug)]
pub(super) struct Tagged {
    node: Arc<Node>,
    state: Mutex<State>,
    /// One looks through the keys at a time; who comes meanwhile is served by the next.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    tags: Tags,
    /// Goes up with each purge.
    asked: u64,
    /// The last of them that was seen to.
    done: u64,
    looked_at: Instant,
}

impl Tagged {
    pub(super) fn new(node: &Arc<Node>) -> Tagged {
        let (tags, looked_at) = (Tags::default(), Instant::now());
        let state = Mutex::new(State { tags, asked: 0, done: 0, looked_at });
        Tagged { node: Arc::clone(node), state, turn: tokio::sync::Mutex::default() }
    }

    /// Takes note of what a purge means for keys.
    pub(super) fn note_purge(&self, scope: &Scope, strength: Strength, stamp: Stamp) {
        if let (Scope::Tag(tag), Strength::Hard) = (scope, strength) {
            self.note(tag, stamp);
        }
    }

    /// One that is known, or older than what is known, is nothing new.
    fn note(&self, tag: &str, stamp: Stamp) {
        let mut state = self.state();
        if state.tags.get(tag).is_some_and(|known| *known >= stamp) {
            return;
        }
        let tags = Arc::make_mut(&mut state.tags);
        tags.insert(tag.into(), stamp);
        if tags.len() > PURGE_RECORD_COUNT_MAX {
            // The older half was seen to long ago: this is only about what comes late.
            let mut stamps: Vec<Stamp> = tags.values().copied().collect();
            let (_, middle, _) = stamps.select_nth_unstable(PURGE_RECORD_COUNT_MAX / 2);
            let middle = *middle;
            tags.retain(|_, stamp| *stamp >= middle);
        }
        state.asked += 1;
    }

    /// Forgets the purges of which no record is kept any more.
    pub(super) fn keep_from(&self, oldest_ms: u64) {
        let mut state = self.state();
        if state.tags.values().any(|stamp| stamp.hlc.millis() < oldest_ms) {
            Arc::make_mut(&mut state.tags).retain(|_, stamp| stamp.hlc.millis() >= oldest_ms);
        }
    }

    /// Whether there are purges for which keys were not looked at yet.
    pub(super) fn is_due(&self) -> bool {
        let state = self.state();
        state.done < state.asked
    }

    /// Ends the keys whose tags were purged before this was called, unless that was done.
    pub(super) async fn settle(&self) {
        let asked = self.state().asked;
        let _turn = self.turn.lock().await;
        if self.state().done < asked {
            self.look_through().await;
        }
    }

    /// The same where it is due or was done long ago, unless somebody is at it.
    pub(super) async fn settle_now_and_then(&self) {
        let is_wanted = {
            let state = self.state();
            let is_long_ago = state.looked_at.elapsed() >= LOOK_AGAIN_EVERY;
            state.done < state.asked || (is_long_ago && !state.tags.is_empty())
        };
        if is_wanted && let Ok(_turn) = self.turn.try_lock() {
            self.look_through().await;
        }
    }

    async fn look_through(&self) {
        // A node that may not write leaves it to the others until it may.
        if self.node.permission().write().is_err() {
            return;
        }
        let (tags, asked) = {
            let state = self.state();
            (Arc::clone(&state.tags), state.asked)
        };
        let mut failed = None;
        for bucket in self.node.store().buckets() {
            if bucket.name().is_internal() {
                continue;
            }
            let mut cursor = 0;
            loop {
                let (next, result) = self.step(&bucket, cursor, &tags);
                failed = failed.or(result.err());
                cursor = next;
                if cursor == 0 {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        if let Some(error) = failed {
            warn!(%error, "keys whose tags were purged could not be ended yet");
            return;
        }
        let mut state = self.state();
        (state.done, state.looked_at) = (asked, Instant::now());
    }

    /// Looks at some keys. Returns where it goes on, 0 at the end.
    fn step(&self, bucket: &Bucket, cursor: u64, tags: &Tags) -> (u64, Result<(), WriteError>) {
        let (store, now) = (self.node.store(), self.node.now());
        let mut found: Vec<Vec<u8>> = Vec::new();
        let next = store.scan_tagged(bucket, (cursor, STEP_COUNT), now, |key, view| {
            if is_purged(&view, tags) {
                found.push(key.to_vec());
            }
        });
        let past = now.millis().saturating_sub(PAST.as_millis() as u64);
        let end = |view: Option<View<'_>>| match view {
            Some(view) if is_purged(&view, tags) => (Edit::Expire(Deadline::at_millis(past)), ()),
            _ => (Edit::Keep, ()),
        };
        let mut ended = found.iter().map(|key| store.write(bucket, key, now, end).map(drop));
        (next, ended.try_for_each(|ended| ended))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one step: whoever panicked has left a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what is seen was written before one of its tags was purged.
fn is_purged(view: &View<'_>, tags: &Tags) -> bool {
    let Some(attributes) = view.attributes() else { return false };
    let stamp = view.stamp();
    attributes.tags.iter().any(|tag| tags.get(tag).is_some_and(|purged| stamp < *purged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FileConfig};
    use atoll_core::entry::Attributes;
    use atoll_core::key::BucketName;
    use atoll_core::store::edit::NewValue;

    fn node() -> (Arc<Node>, Tagged) {
        let config = Config::resolve(FileConfig::default()).expect("the defaults");
        let node = Node::new(&config).expect("a node");
        let tagged = Tagged::new(&node);
        (node, tagged)
    }

    fn bucket(node: &Node) -> Arc<Bucket> {
        let name = BucketName::new("default").expect("a name");
        node.store().open_bucket(&name).expect("there is room")
    }

    /// Writes a key with these tags; returns the stamp.
    fn set(node: &Node, key: &str, tags: &[&str]) -> Stamp {
        let tags = Attributes::check_tags(tags.iter().copied()).expect("they are fine");
        let attributes = Some(Arc::new(Attributes { tags, ..Attributes::default() }));
        let value = NewValue::Copy(b"1");
        let edit = Edit::Set { value, deadline: Deadline::NEVER, attributes };
        let decide = |_: Option<View<'_>>| (edit, ());
        let written = node.store().write(&bucket(node), key.as_bytes(), node.now(), decide);
        written.expect("there is room").stamp.expect("it is new")
    }

    fn holds(node: &Node, key: &str) -> bool {
        let look = |view: Option<View<'_>>| view.is_some();
        node.store().read(&bucket(node), key.as_bytes(), node.now(), look)
    }

    #[tokio::test]
    async fn a_purge_ends_what_was_written_before_it_and_nothing_else() {
        let (node, tagged) = node();
        for number in 0..5_000 {
            set(&node, &format!("old:{number}"), &["a", "b"]);
            set(&node, &format!("other:{number}"), &["c"]);
        }
        let purged = set(&node, "same", &["b"]);
        set(&node, "later", &["b"]);
        tagged.note("b", purged);
        tagged.settle().await;
        let count = |start: &str| {
            (0..5_000).filter(|number| holds(&node, &format!("{start}:{number}"))).count()
        };
        assert_eq!((count("old"), count("other")), (0, 5_000));
        assert!(holds(&node, "same") && holds(&node, "later"), "not before the purge");
        let written = node.store().written_seq();
        tagged.settle_now_and_then().await;
        assert_eq!(node.store().written_seq(), written, "nothing is left to do");
    }

    #[tokio::test]
    async fn an_older_purge_takes_nothing_of_a_newer_one_back_and_all_are_forgotten_in_the_end() {
        let (node, tagged) = node();
        let old = set(&node, "x", &[]);
        set(&node, "k", &["a"]);
        let purged = set(&node, "x", &[]);
        tagged.note("a", purged);
        tagged.note("a", old);
        tagged.settle().await;
        assert!(!holds(&node, "k"));
        set(&node, "k", &["a"]);
        tagged.note("z", purged);
        tagged.settle().await;
        assert!(holds(&node, "k"), "written since");
        tagged.keep_from(u64::MAX);
        assert!(tagged.state().tags.is_empty());
    }
}

//! Keys of one of the node's own buckets that have changed, for the one who acts on them at once:
//! before any other node is told that this one has the change.
//!
//! They are noted under locks of the store and met behind them, by the thread that links the node
//! with others.

use atoll_core::store::internal::InternalChange;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Most keys that are noted by name.
const KEY_COUNT_MAX: usize = 10_000;

/// Meets the keys that have changed. Must not wait for a disk or for other nodes.
pub(crate) type Meeting = Box<dyn Fn(Came) + Send + Sync>;

/// What has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Changes of these keys.
    Keys(BTreeSet<Vec<u8>>),
    /// More than are noted by name.
    Many,
}

impl Default for Came {
    fn default() -> Came {
        Came::Keys(BTreeSet::new())
    }
}

/// The keys.
#[derive(Default)]
pub(crate) struct Arrivals {
    followed: OnceLock<(&'static str, Meeting)>,
    came: Mutex<Came>,
    has_any: AtomicBool,
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals").field("has_any", &self.has_any).finish_non_exhaustive()
    }
}

impl Arrivals {
    /// Has `meeting` called with the keys of `bucket` that change from now on. The first one stays.
    pub(crate) fn follow(&self, bucket: &'static str, meeting: Meeting) {
        // A second one would be a bug of ours, and hears nothing.
        let _ = self.followed.set((bucket, meeting));
    }

    /// Notes a change. May be called under locks of the store.
    pub(super) fn note(&self, change: InternalChange<'_>) {
        if self.followed.get().is_none_or(|(bucket, _)| *bucket != change.bucket) {
            return;
        }
        let mut came = self.came();
        match (&mut *came, change.key) {
            (Came::Keys(keys), Some(key)) if keys.len() < KEY_COUNT_MAX => {
                keys.insert(key.to_vec());
            }
            (came, _) => *came = Came::Many,
        }
        self.has_any.store(true, Ordering::Release);
    }

    /// Has met what was noted so far when it returns.
    pub(crate) fn meet(&self) {
        if !self.has_any.load(Ordering::Acquire) {
            return;
        }
        let came = {
            let mut came = self.came();
            self.has_any.store(false, Ordering::Release);
            std::mem::take(&mut *came)
        };
        if let Some((_, meeting)) = self.followed.get() {
            meeting(came);
        }
    }

    fn came(&self) -> MutexGuard<'_, Came> {
        // Names of keys: nothing is half done.
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn change<'c>(bucket: &'c str, key: Option<&'c str>) -> InternalChange<'c> {
        InternalChange { bucket, key: key.map(str::as_bytes) }
    }

    #[test]
    fn what_has_changed_in_the_bucket_is_met_once() {
        let (arrivals, met) = (Arrivals::default(), Arc::new(Mutex::new(Vec::new())));
        let into = Arc::clone(&met);
        arrivals.note(change("_purge", Some("before")));
        arrivals.follow("_purge", Box::new(move |came| into.lock().unwrap().push(came)));
        let check = |want: &[Came]| {
            arrivals.meet();
            assert_eq!(std::mem::take(&mut *met.lock().unwrap()), want);
        };
        check(&[]);
        for (bucket, key) in [("_purge", "a"), ("_sys", "b"), ("_purge", "c"), ("_purge", "a")] {
            arrivals.note(change(bucket, Some(key)));
        }
        check(&[Came::Keys([b"a".to_vec(), b"c".to_vec()].into())]);
        check(&[]);
        arrivals.note(change("_purge", Some("a")));
        arrivals.note(change("_purge", None));
        check(&[Came::Many]);
        for number in 0..=KEY_COUNT_MAX {
            arrivals.note(change("_purge", Some(&number.to_string())));
        }
        check(&[Came::Many]);
    }
}

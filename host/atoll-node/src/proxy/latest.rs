//! Which version of a handler or filter requests have met last: what earlier ones have a part in is
//! stale, and has no place in the cache.
//!
//! A node may for a moment serve two versions, as requests in flight end on the one that they began
//! with.

use super::Proxy;
use atoll_core::http_cache::keys::hash_of;
use atoll_core::manifest::HandlerRecord;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Later ones are larger.
type Version = (u64, u64);

/// The latest version by name, and what was made for it.
#[derive(Debug)]
pub(super) struct Latest<T>(RwLock<HashMap<String, (Version, T)>>);

impl<T> Default for Latest<T> {
    fn default() -> Latest<T> {
        Latest(RwLock::default())
    }
}

/// What is known of a version.
enum Known<T> {
    /// It is the latest.
    This(T),
    /// A later one was met.
    Later,
    /// It was not met yet, nor was a later one.
    New,
}

impl<T: Clone> Latest<T> {
    fn find(known: &HashMap<String, (Version, T)>, name: &str, version: Version) -> Known<T> {
        match known.get(name) {
            Some((known, made)) if *known == version => Known::This(made.clone()),
            Some((known, _)) if *known > version => Known::Later,
            _ => Known::New,
        }
    }
}

impl Proxy {
    /// What was made for this version of a handler or filter; `make` makes it for the first request,
    /// which makes stale what earlier versions had a part in. `None` where a later one was met.
    pub(super) fn latest<T: Clone>(
        &self,
        versions: &Latest<T>,
        record: &HandlerRecord,
        make: impl FnOnce() -> T,
    ) -> Option<T> {
        let version = (record.deployed_ms, record.version);
        {
            let known = versions.0.read().unwrap_or_else(PoisonError::into_inner);
            match Latest::find(&known, &record.name, version) {
                Known::This(made) => return Some(made),
                Known::Later => return None,
                Known::New => {}
            }
        }
        // Before the first fetch: what it names is known to be up to date then.
        self.cache.follow_keys(&self.node);
        let made = make();
        {
            let mut known = versions.0.write().unwrap_or_else(PoisonError::into_inner);
            match Latest::find(&known, &record.name, version) {
                Known::This(made) => return Some(made),
                Known::Later => return None,
                Known::New => known.insert(record.name.clone(), (version, made.clone())),
            };
        }
        // Once more: the version before may have answered since its successor was written.
        self.cache.note_write(hash_of("_sys", HandlerRecord::key(&record.name).as_bytes()));
        Some(made)
    }
}

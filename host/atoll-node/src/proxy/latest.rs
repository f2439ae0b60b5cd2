//! Which version of a handler or filter requests have met last: what earlier ones have a part in is
//! stale, and has no place in the cache.
//!
//! A node may for a moment serve two versions, as requests in flight end on the one that they began
//! with.

use super::fetch::Asked;
use super::filters::Filtered;
use super::{Proxy, Route, Source};
use atoll_core::http_cache::keys::hash_of;
use atoll_core::manifest::HandlerRecord;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Later ones are larger; that of a route without a guest is 0.
pub(super) type Version = (u64, u64);

/// The version of a handler or filter that a record is of.
pub(super) fn version_of(record: &HandlerRecord) -> Version {
    (record.deployed_ms, record.version)
}

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

impl<T> Latest<T> {
    /// Whether no later version was met.
    fn reach(&self, name: &str, version: Version) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).is_none_or(|(known, _)| *known <= version)
    }
}

impl Asked {
    /// The version of the handler or filter that has a part in what this request gets.
    pub(super) fn version(&self, route: &Route) -> Version {
        let filtered = self.parts.extensions.get::<Arc<Filtered>>();
        match (&route.source, filtered) {
            (Source::Guest(guest), _) => guest.version().1,
            (Source::Upstream(_), Some(filtered)) => filtered.version().1,
            (Source::Upstream(_), None) => Version::default(),
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
        let version = version_of(record);
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

    /// Whether no request has met a later version than this one's of the handler or filter that has a
    /// part in what it gets. Asked for once the fetch has begun, or the response was taken: a version
    /// that is met after that makes it stale.
    pub(super) fn is_of_the_latest(&self, route: &Route, asked: &Asked) -> bool {
        let of_filter = asked.parts.extensions.get::<Arc<Filtered>>().is_none_or(|filtered| {
            let (name, version) = filtered.version();
            self.filter_versions.reach(name, version)
        });
        let of_guest = match &route.source {
            Source::Upstream(_) => true,
            Source::Guest(guest) => {
                let (name, version) = guest.version();
                self.guests.reach(name, version)
            }
        };
        of_filter && of_guest
    }
}

//! Keys of the store that a response was made from, and how they bound its lifetime.

use super::Proxy;
use atoll_core::clock::Now;
use atoll_core::http_cache::keys;
use atoll_core::http_cache::storing::Meta;
use http::{HeaderMap, HeaderValue, StatusCode};

/// Names a key of the node's own beside those of a response. A 304 that names none leaves those that
/// are stored as they are, this one among them.
pub(super) fn add_own<B>(response: &mut http::Response<B>, key: Option<HeaderValue>) {
    let names_none = !response.headers().contains_key(keys::ATOLL_KEYS);
    if let Some(key) = key
        && !(response.status() == StatusCode::NOT_MODIFIED && names_none)
    {
        response.headers_mut().append(keys::ATOLL_KEYS, key);
    }
}

impl Proxy {
    /// A response is fresh no longer than the keys that it was made from: a deadline is no write, and
    /// no node tells another of it.
    pub(super) fn end_with_keys(&self, headers: &HeaderMap, meta: &mut Meta) {
        let store = self.node.store();
        // One that has passed while the response was made is seen as well.
        let since = Now::from_millis(meta.responded_ms.saturating_sub(meta.initial_age_ms));
        let names = keys::of(headers).unwrap_or_default();
        if !names.is_empty() {
            self.cache.name_keys(&self.node);
        }
        for name in names {
            let Some(bucket) = store.find_bucket(&name.bucket) else { continue };
            let deadline_ms = store.read(&bucket, &name.key, since, |view| {
                view.and_then(|view| view.deadline().millis())
            });
            if let Some(deadline_ms) = deadline_ms {
                let left_ms = deadline_ms.saturating_sub(meta.responded_ms);
                let lifetime = &mut meta.lifetime;
                lifetime.lifetime_ms = lifetime.lifetime_ms.min(meta.initial_age_ms + left_ms);
            }
        }
    }
}

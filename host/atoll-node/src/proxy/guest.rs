//! Handlers whose answers are cached: a route that leads to a guest in the place of an upstream.
//!
//! Nothing is cached that an answer does not allow in so many words: no lifetime is guessed. What a
//! handler has answered is stale once its record is written: a deployment or a removal on any node
//! is such a write.

use super::latest::{self, Version};
use super::settings::{CacheSettings, Replicated, RouteEdits};
use super::{Proxy, Route, Source};
use crate::cache::limits::OBJECT_BYTES_DEFAULT;
use crate::cache::replicated::BODY_BYTES_DEFAULT;
use crate::upstream::ResponseBody;
use atoll_core::http_cache::key::QueryRules;
use atoll_core::http_cache::keys::hash_of;
use atoll_core::http_cache::report::Report;
use atoll_core::http_cache::storing::Rules;
use atoll_core::manifest::HandlerRecord;
use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use http::request::Parts;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// The future of an answer.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// What answers requests in the place of an upstream. Failures are answers too: 5xx, which are not
/// stored.
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// Answers one request, in the form in which a client sent it.
    fn answer(&self, request: Request) -> Answering;
}

/// A backend, and how its answers are known.
#[derive(Debug)]
pub(super) struct Guest {
    backend: Arc<dyn Backend>,
    name: String,
    version: Version,
    /// The key of the handler's record, as Atoll-Keys names it.
    record_key: Option<HeaderValue>,
}

impl Guest {
    /// The handler and its version.
    pub(super) fn version(&self) -> (&str, Version) {
        (&self.name, self.version)
    }

    /// Answers a request of a client, or one that the cache has made of it.
    pub(super) async fn send(
        &self,
        request: http::Request<axum::body::Body>,
    ) -> http::Response<ResponseBody> {
        let mut response = self.backend.answer(request).await;
        super::keys::add_own(&mut response, self.record_key.clone());
        response.map(ResponseBody::of_guest)
    }
}

impl Proxy {
    /// The route to this version of a handler. `None` where a later version has been asked for: what
    /// this one answers is for its own requests alone.
    pub(crate) fn route_to_guest(
        &self,
        record: &HandlerRecord,
        backend: impl FnOnce() -> Arc<dyn Backend>,
    ) -> Option<Arc<Route>> {
        self.latest(&self.guests, record, || Arc::new(self.new_guest_route(record, backend())))
    }

    fn new_guest_route(&self, record: &HandlerRecord, backend: Arc<dyn Backend>) -> Route {
        let key = format!("\"_sys/{}\"", HandlerRecord::key(&record.name));
        let guest = Guest {
            backend,
            name: record.name.clone(),
            version: latest::version_of(record),
            record_key: HeaderValue::try_from(key).ok(),
        };
        if record.replicate {
            self.shared.begin();
        }
        let rules = Rules { may_guess: false, ..Rules::default() };
        let cache = CacheSettings {
            rules,
            query: QueryRules::default(),
            object_bytes_max: OBJECT_BYTES_DEFAULT,
            compresses: false,
            follows_clients: true,
            is_shielded: false,
            replicated: record
                .replicate
                .then_some(Replicated { body_bytes_max: BODY_BYTES_DEFAULT }),
        };
        Route {
            source: Source::Guest(guest),
            cache: Some(cache),
            edits: RouteEdits::default(),
            filter: None,
            others: Vec::new(),
            records: self.figures.records(&format!("handler {}", record.name)),
            // All that matters of it is its version.
            hash: hash_of("handler", record.name.as_bytes()),
        }
    }

    /// Passes a request to a guest without a look into the cache.
    pub(super) async fn pass_to_guest(
        &self,
        route: &Route,
        request: Request,
        why: Option<Report>,
    ) -> Option<Response> {
        let Source::Guest(guest) = &route.source else { return None };
        route.records.passed.inc();
        route.records.upstream_requests.inc();
        Some(super::forward::stream(guest.send(request).await, why))
    }
}

/// What of a client's request a guest does not see when the cache asks it.
pub(super) fn prepare(parts: &mut Parts) {
    // There is no body to wait for.
    parts.headers.remove(http::header::EXPECT);
}

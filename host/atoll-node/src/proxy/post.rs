//! Responses to POST that may answer later requests with GET (RFC 9110 section 9.3.3): stored while
//! the client reads them, once it has come to the end.

use super::fetch::head;
use super::forward::MadeOfKeys;
use super::settings::CacheSettings;
use super::{Proxy, Route};
use crate::cache::Cache;
use crate::cache::body::StoredBody;
use crate::cache::stored::{Ingredients, Stored};
use crate::followed::{Follower, followed};
use atoll_core::http_cache::freshness::Exchanged;
use atoll_core::http_cache::key::Url;
use atoll_core::http_cache::storing::{self, Answered};
use atoll_core::http_cache::vary::Vary;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use http_body::{Body as _, Frame};
use prometheus_client::metrics::counter::Counter;
use std::sync::Arc;

/// A request with POST, for the time when its response is there.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) key: String,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) requested_us: u64,
}

impl Proxy {
    /// Stores `response` as it is read, if it may be. What was there before is invalid already.
    pub(super) fn keep_posted(
        &self,
        route: &Route,
        settings: &CacheSettings,
        posted: Posted,
        response: Response,
    ) -> Response {
        // It was made before this node could listen for writes of its keys.
        if response.extensions().get::<MadeOfKeys>().is_some() {
            return response;
        }
        // Just behind the invalidation by this very request, of which it is the outcome.
        let responded_us = self.cache.now_us() + 1;
        let exchanged = Exchanged {
            requested_ms: crate::cache::ms_of(posted.requested_us),
            responded_ms: crate::cache::ms_of(responded_us),
        };
        let asked = storing::Asked { method: &Method::POST, headers: &posted.headers };
        let answered = Answered { status: response.status(), headers: response.headers() };
        let target = (asked, &posted.url);
        let Ok(storable) = storing::judge_post(target, answered, exchanged, &settings.rules) else {
            return response;
        };
        let length = response.body().size_hint().exact();
        let bytes_max = self.memory_bytes_max(settings);
        if length.is_some_and(|length| length > bytes_max) {
            return response;
        }
        let mut fields = response.headers().clone();
        fields.remove(atoll_core::http_cache::report::CACHE_STATUS);
        let status = response.status();
        let rules = (exchanged, &settings.rules);
        let head = head(&posted.headers, (status, fields), storable, rules);
        let made_of = Ingredients {
            host_bytes: posted.key.find('/').unwrap_or(0),
            route: route.hash,
            key: posted.key.into(),
            status,
            headers: head.headers,
            meta: head.meta,
            exchanged,
            body: StoredBody::of(Vec::new()),
            span: None,
            // A purge that came while the upstream worked on it takes it. The invalidation by this
            // very request does not: see `Cache::store_posted`.
            fetched_us: posted.requested_us,
        };
        let keep = Keep {
            cache: Arc::clone(&self.cache),
            made_of: Some(made_of),
            asked: posted.headers,
            vary: head.vary,
            pieces: Vec::new(),
            taken: 0,
            bytes: 0,
            bytes_max,
            length,
            responded_us,
            stored_bytes: route.records.stored_bytes.clone(),
        };
        response.map(|body| followed(body, keep))
    }
}

/// What is gathered of a body.
struct Keep {
    cache: Arc<Cache>,
    /// `None` once it is stored, or will not be.
    made_of: Option<Ingredients>,
    asked: HeaderMap,
    vary: Vary,
    pieces: Vec<Bytes>,
    /// Bytes of them, which are taken out of the budget of fills.
    taken: u64,
    bytes: u64,
    bytes_max: u64,
    length: Option<u64>,
    responded_us: u64,
    stored_bytes: Counter,
}

impl Keep {
    fn push(&mut self, piece: &Bytes) {
        self.bytes += piece.len() as u64;
        if self.made_of.is_some() {
            // A copy: what came may be a small part of a large buffer.
            self.pieces.push(Bytes::copy_from_slice(piece));
            self.taken += piece.len() as u64;
            self.cache.fills().take(piece.len() as u64);
        }
        if self.bytes > self.bytes_max || self.cache.fills().is_over() {
            self.made_of = None;
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        self.pieces = Vec::new();
        self.cache.fills().give(std::mem::take(&mut self.taken));
    }

    fn finish(&mut self) {
        let is_whole = self.length.is_none_or(|length| length == self.bytes);
        let Some(mut made_of) = self.made_of.take().filter(|_| is_whole) else { return };
        made_of.body = StoredBody::of(std::mem::take(&mut self.pieces));
        self.let_go();
        made_of.headers.insert(header::CONTENT_LENGTH, self.bytes.into());
        let stored = Arc::new(Stored::new(made_of));
        if self.cache.store_posted(&stored, &self.vary, &self.asked, self.responded_us) {
            self.stored_bytes.inc_by(self.bytes);
        }
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Follower for Keep {
    fn see(&mut self, frame: Option<&Result<Frame<Bytes>, axum::Error>>) {
        match frame {
            Some(Ok(frame)) => {
                if let Some(piece) = frame.data_ref() {
                    self.push(piece);
                }
                // The end may be left out.
                if self.length == Some(self.bytes) {
                    self.finish();
                }
            }
            Some(Err(_)) => self.made_of = None,
            None => self.finish(),
        }
    }
}

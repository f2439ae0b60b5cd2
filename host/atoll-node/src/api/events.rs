//! Server-sent events: who may have a stream of them, and how its response begins.

use super::Api;
use crate::problem::Problem;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// A place among the watchers, for as long as it is held; a problem where there is none left.
pub(super) fn place(api: &Api) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&api.watchers).try_acquire_owned().map_err(|_| {
        Problem::busy("watchers-full", "this node has as many watchers as it takes", 10)
    })
}

/// A response that is a stream of events, which is `body`.
pub(super) fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

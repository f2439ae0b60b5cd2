//! HEAD where what is stored does not answer it: it goes upstream as it is.

use super::fetch::{Asked, ERROR, is_failure};
use super::filters::NotStored;
use super::forward::{bypass, failure, stream};
use super::lookup::stand_in;
use super::{Proxy, Route};
use crate::cache::ms_of;
use crate::cache::stored::Stored;
use crate::problem::Problem;
use atoll_core::http_cache::report::{Forward, Report};
use atoll_core::http_cache::reuse::{self, Failure};
use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

impl Proxy {
    /// Passes HEAD on, and brings what is stored up to date (RFC 9111 section 4.3.5).
    pub(super) async fn pass_head(
        &self,
        route: &Arc<Route>,
        asked: &Asked,
        forward: Forward,
        stored: Option<Arc<Stored>>,
    ) -> Result<Response, Problem> {
        let began_us = self.cache.now_us();
        let parts = self.upstream_head(route, asked, (None, None))?;
        route.records.upstream_requests.inc();
        let request = http::Request::from_parts(parts, Body::empty());
        let sent = route.send(request).await;
        let now_ms = ms_of(self.cache.now_us());
        let report = Report { forward: Some(forward), ..Report::default() };
        let response = match (sent, &stored) {
            (Ok(response), Some(stored))
                if is_failure(response.status())
                    && reuse::stands_in(&stored.meta, &asked.control, Failure::Error, now_ms) =>
            {
                let failed = (response.status(), ERROR);
                return stand_in(route, asked, (Some(Arc::clone(stored)), report), failed, now_ms);
            }
            (Ok(response), _) => response,
            (Err(error), Some(stored)) => {
                let failed = error.answer();
                return stand_in(route, asked, (Some(Arc::clone(stored)), report), failed, now_ms);
            }
            (Err(error), None) => return Err(failure(route, &error)),
        };
        route.records.misses.inc();
        let is_kept_out = response.extensions().get::<NotStored>().is_some();
        let response = stream(response, bypass(forward, None));
        if let (StatusCode::OK, Some(stored), false) = (response.status(), stored, is_kept_out) {
            self.note_head(route, asked, &stored, (response.headers(), began_us));
        }
        Ok(response)
    }
}

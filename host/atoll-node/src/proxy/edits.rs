//! What a route changes in requests and responses, and when.
//!
//! Fields of a request are changed before the cache is asked, so that Vary, conditions and
//! credentials are those that the upstream sees. Fields of a response are changed before it is
//! stored. The path is changed last: keys and purges are about the URLs of clients.

use super::filters::Filtered;
use super::settings::RouteEdits;
use super::shield::SHIELD;
use super::{Route, Source};
use crate::upstream::{ResponseBody, Upstream, UpstreamError};
use atoll_core::http::location::Named;
use atoll_core::http_cache::{fields, key};
use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::sync::Arc;

/// What a client's path has in front that the upstream does not see.
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

impl RouteEdits {
    /// Changes the fields of a request as it came.
    pub(super) fn of_request(&self, headers: &mut HeaderMap) {
        self.cookies.drop_from(headers);
        if !self.request.is_empty() {
            self.request.apply(headers);
        }
    }
}

/// What a client has asked for.
struct Came {
    path: String,
    host: String,
}

impl Came {
    fn of<B>(request: &http::Request<B>) -> Came {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        Came { path: request.uri().path().to_owned(), host: key::host_of(host.unwrap_or_default()) }
    }

    /// Makes references to what the upstream knows ones to what the client does.
    fn rewrite(&self, edits: &RouteEdits, upstream: &Upstream, headers: &mut HeaderMap) {
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) else {
                continue;
            };
            let changed = edits.path.public_reference(value, &self.path, |authority| {
                // As in keys: in lower case, without a default port.
                let named = key::host_of(authority);
                match upstream.is_named(|own| key::host_of(own) == named) {
                    _ if named == self.host => Named::Client,
                    true => Named::Upstream,
                    false => Named::Other,
                }
            });
            if let Some(changed) = changed.and_then(|text| HeaderValue::try_from(text).ok()) {
                headers.insert(name, changed);
            }
        }
    }
}

impl Route {
    /// Sends a request and waits for the head of the response, both as this route changes them.
    pub(super) async fn send(
        &self,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<ResponseBody>, UpstreamError> {
        let upstream = match &self.source {
            Source::Upstream(upstream) => upstream,
            Source::Guest(guest) => return Ok(guest.send(request).await),
        };
        let filtered = request.extensions_mut().remove::<Arc<Filtered>>();
        let chosen = filtered.as_ref().and_then(|filtered| filtered.upstream.as_ref());
        let chosen = chosen.and_then(|name| self.others.iter().find(|(other, _)| other == name));
        let upstream = chosen.map_or(upstream, |(_, upstream)| upstream);
        let asked = filtered.map(|filtered| {
            let head = (request.method().clone(), request.uri().clone(), request.headers().clone());
            (filtered, head)
        });
        let edits = &self.edits;
        let came = edits.rewrites_location.then(|| Came::of(&request));
        edits.path.apply(request.uri_mut());
        // One that is told would name it itself.
        if let Some(prefix) = edits.path.stripped().filter(|_| came.is_none())
            && let Ok(prefix) = HeaderValue::from_str(prefix)
        {
            request.headers_mut().insert(FORWARDED_PREFIX, prefix);
        }
        // Once more: what the node itself has added is for the route to say as well.
        edits.request.apply_again(request.headers_mut());
        let mut response = upstream.send(request).await?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let headers = response.headers_mut();
            // First: no Connection field may name what the route sets.
            fields::remove_of_the_connection(headers);
            // It is between nodes.
            headers.remove(&SHIELD);
            if let Some(came) = came {
                came.rewrite(edits, upstream, headers);
            }
            edits.response.apply_to_response(status, headers);
        }
        if let Some((filtered, (method, uri, headers))) = asked
            && status != StatusCode::SWITCHING_PROTOCOLS
        {
            filtered.on_response((&method, &uri, &headers), &mut response).await?;
        }
        Ok(response)
    }

    /// The keys under which clients find what the upstream knows by `key`.
    pub(super) fn public_keys(&self, key: String) -> impl Iterator<Item = String> {
        let public = self.edits.path.public_key(&key);
        [Some(key), public].into_iter().flatten()
    }
}

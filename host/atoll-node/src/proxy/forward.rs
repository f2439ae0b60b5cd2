//! A request as it goes on, and what comes back without the cache.

use super::filters::{Filtered, NotStored};
use super::shield::SHIELD;
use super::{Proxy, Route, Source, upgrade};
use crate::listen::PeerAddress;
use crate::listen::interim::Interim;
use crate::problem::Problem;
use crate::trace;
use crate::upstream::{ResponseBody, UpstreamError};
use atoll_core::http_cache::fields;
use atoll_core::http_cache::keys::ATOLL_KEYS;
use atoll_core::http_cache::report::{Forward, Report};
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use http_body::Body as _;
use std::fmt::Write as _;
use std::sync::Arc;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Names the caches that a request has gone through (RFC 8586).
const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

impl Proxy {
    /// Passes a request on and its response back, without a look into the cache.
    pub(super) async fn pass(
        &self,
        route: &Route,
        request: Request,
        authority: Option<&Authority>,
    ) -> Result<Response, Problem> {
        self.pass_on(route, request, authority, None).await
    }

    /// The same, with a word about why in Cache-Status.
    pub(super) async fn pass_on(
        &self,
        route: &Route,
        request: Request,
        authority: Option<&Authority>,
        why: Option<Report>,
    ) -> Result<Response, Problem> {
        if matches!(route.source, Source::Guest(_)) {
            let answer = self.pass_to_guest(route, request, why).await;
            return answer.ok_or_else(|| Problem::bad_request("no-handler", "no handler answers"));
        }
        let (mut parts, body) = request.into_parts();
        check_coding(&parts.headers)?;
        let upgrade = upgrade::Wanted::of(&mut parts, &route.edits.upgrades);
        let waits = !body.is_end_stream() && waits_for_100(&parts);
        let interim = parts.extensions.get::<Interim>().cloned();
        self.prepare(&mut parts, authority)?;
        if waits {
            parts.headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        }
        if let Some(upgrade) = &upgrade {
            upgrade.write(&mut parts.headers);
        }
        route.records.passed.inc();
        route.records.upstream_requests.inc();
        let request = http::Request::from_parts(parts, body);
        let response = route.send(request).await;
        if let Some(interim) = interim {
            interim.sent().await;
        }
        match response {
            Ok(mut response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                match upgrade {
                    Some(upgrade) if upgrade.is_answered(response.headers()) => {
                        Ok(upgrade.join(&mut response))
                    }
                    _ => Err(failure(route, &UpstreamError::Broken)),
                }
            }
            Ok(response) => Ok(stream(response, why)),
            Err(error) => Err(failure(route, &error)),
        }
    }

    /// Turns the head of a client's request into that of one to an upstream.
    pub(super) fn prepare(
        &self,
        parts: &mut Parts,
        authority: Option<&Authority>,
    ) -> Result<(), Problem> {
        let headers = &mut parts.headers;
        self.note_passage(headers)?;
        fields::remove_of_the_connection(headers);
        // Nothing waits for 100 but a body.
        headers.remove(header::EXPECT);
        headers.remove(&SHIELD);
        if let Some(authority) = authority {
            // RFC 9112 section 3.2.2: the request line goes before the field.
            let host = HeaderValue::from_str(authority.as_str());
            let host = host.map_err(|_| Problem::bad_request("bad-host", "no host"))?;
            headers.insert(header::HOST, host.clone());
            headers.insert(FORWARDED_HOST, host);
        }
        if let Some(PeerAddress(peer)) = parts.extensions.get::<PeerAddress>() {
            let mut chain = String::new();
            for line in headers.get_all(&FORWARDED_FOR).iter().filter_map(|l| l.to_str().ok()) {
                chain.push_str(line);
                chain.push_str(", ");
            }
            // Writing to a string cannot fail.
            let _ = write!(chain, "{}", peer.ip());
            if let Ok(chain) = HeaderValue::try_from(chain) {
                headers.insert(FORWARDED_FOR, chain);
            }
        }
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        let via = match parts.version {
            Version::HTTP_2 => "2 atoll",
            Version::HTTP_10 => "1.0 atoll",
            _ => "1.1 atoll",
        };
        headers.append(header::VIA, HeaderValue::from_static(via));
        let interim = parts.extensions.remove::<Interim>();
        let filtered = parts.extensions.remove::<Arc<Filtered>>();
        let trace = trace::of(&parts.extensions).cloned();
        parts.extensions.clear();
        if let Some(trace) = trace {
            parts.extensions.insert(trace);
        }
        // So that its hooks are of one version, from the client to the upstream and back.
        if let Some(filtered) = filtered {
            parts.extensions.insert(filtered);
        }
        // The way back for interim responses goes with the request.
        if let Some(interim) = interim {
            parts.extensions.insert(interim);
        }
        Ok(())
    }

    /// Adds this node to those that the request has gone through, or refuses one that comes back.
    fn note_passage(&self, headers: &mut HeaderMap) -> Result<(), Problem> {
        let own = format!("atoll; node=\"{}\"", self.node.name().replace(['"', '\\'], "_"));
        let lines = headers.get_all(CDN_LOOP).iter().filter_map(|line| line.to_str().ok());
        if lines.flat_map(|line| line.split(',')).any(|member| member.trim() == own) {
            let detail =
                "the request has come back to this node; an upstream of a route leads here";
            return Err(Problem::new(StatusCode::LOOP_DETECTED, "loop", detail));
        }
        if let Ok(own) = HeaderValue::try_from(own) {
            headers.append(CDN_LOOP, own);
        }
        Ok(())
    }
}

/// Whether the client sends its body only once it is asked to (RFC 9110 section 10.1.1).
fn waits_for_100(parts: &Parts) -> bool {
    let expects = parts.headers.get(header::EXPECT);
    let is_known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    parts.version >= Version::HTTP_11 && expects.is_some_and(is_known)
}

/// A response as it comes, without the fields of its connection.
pub(super) fn stream(response: http::Response<ResponseBody>, why: Option<Report>) -> Response {
    let (mut parts, body) = response.into_parts();
    parts.version = Version::default();
    if let Some(why) = why {
        why.append_to(&mut parts.headers);
    }
    let is_kept_out = parts.extensions.get::<NotStored>().is_some();
    parts.extensions.clear();
    if parts.headers.remove(ATOLL_KEYS).is_some() || is_kept_out {
        parts.extensions.insert(MadeOfKeys);
    }
    Response::from_parts(parts, Body::new(body))
}

/// The response has named keys that it was made from, or a filter keeps it out of the cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct MadeOfKeys;

/// What a client is told where the upstream gave no answer.
pub(super) fn failure(route: &Route, error: &UpstreamError) -> Problem {
    route.records.failed.inc();
    let (status, code) = error.answer();
    Problem::new(status, code, error.to_string())
}

/// A report for a request that does not concern the cache.
pub(super) fn bypass(forward: Forward, detail: Option<&'static str>) -> Option<Report> {
    Some(Report { forward: Some(forward), detail, ..Report::default() })
}

/// Refuses a request in a transfer coding that nobody here undoes (RFC 9112 section 6.1).
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if headers.get_all(header::TRANSFER_ENCODING).iter().all(plain) {
        return Ok(());
    }
    let detail = "the only transfer coding that is understood is chunked";
    Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "transfer-coding", detail))
}

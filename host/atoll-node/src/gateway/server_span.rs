//! The span of a request: from its head to the end of its answer.

use crate::followed::{Follower, followed};
use crate::listen::PeerAddress;
use crate::trace::attribute::{self, text};
use crate::trace::span::{Kind, Span};
use crate::trace::tracer::Tracer;
use atoll_core::http_cache::report::CACHE_STATUS;
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;

/// A request that is traced, and under way.
#[derive(Debug)]
pub(super) struct ServerSpan {
    span: Span,
    method: String,
}

/// Begins the span of a request whose head has come, if the request is sampled. It has a trace from
/// here on, either way.
pub(super) fn begin(tracer: &Tracer, request: &mut Request) -> Option<ServerSpan> {
    let trace = super::trace::of(request, Some(tracer));
    let recorder = trace.recorder()?.clone();
    let method = attribute::method_name(request.method()).to_owned();
    let mut span = Span::of_request(trace, recorder, (Kind::Server, method.clone()));
    span.extend(attribute::of_incoming(request));
    if let Some(PeerAddress(peer)) = request.extensions().get::<PeerAddress>() {
        span.set(attribute::CLIENT_ADDRESS, text(peer.ip().to_string()));
    }
    Some(ServerSpan { span, method })
}

impl ServerSpan {
    /// Watches the answer to its end.
    pub(super) fn answered(mut self, response: Response) -> Response {
        let ServerSpan { span, method } = &mut self;
        let notes = span.trace().recorder().map(|recorder| recorder.take_notes());
        for (name, value) in notes.unwrap_or_default() {
            if let (attribute::ROUTE, attribute::Value::StringValue(route)) = (name, &value) {
                span.rename(format!("{method} {route}"));
            }
            span.set(name, value);
        }
        if let Some(status) = cache_status(&response) {
            span.set(attribute::CACHE_STATUS, text(status));
        }
        span.answered(response.status());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Its connection is taken from it.
            return response;
        }
        response.map(|body| followed(body, self.span))
    }
}

/// What this node's cache says, as far as it has been asked.
pub(super) fn cache_status(response: &Response) -> Option<&str> {
    let own = response.headers().get_all(CACHE_STATUS).iter().next_back()?;
    let own = own.to_str().ok()?.strip_prefix("Atoll")?;
    Some(own.trim_start_matches("; "))
}

/// The span ends with the body.
impl Follower for Span {}

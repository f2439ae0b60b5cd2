//! The trace that a handler's request is part of: what the handler sees, and what it asks others
//! with.

use atoll_core::http::trace::TraceContext;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

/// Where a request stands in its trace.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors of tracing add to it.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A request's trace.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) context: TraceContext,
    /// Handed on as it came.
    pub(crate) state: Vec<HeaderValue>,
}

impl Trace {
    /// Puts it in the place of what is there.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        headers.remove(&TRACESTATE);
        // Digits and dashes are a value.
        if let Ok(parent) = HeaderValue::try_from(self.context.to_string()) {
            headers.insert(TRACEPARENT, parent);
            for state in &self.state {
                headers.append(TRACESTATE, state.clone());
            }
        }
    }

    /// The same, unless the guest has said something of its own.
    pub(super) fn put_if_absent(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(TRACEPARENT) {
            self.put(headers);
        }
    }
}

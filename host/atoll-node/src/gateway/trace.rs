//! The trace that a request is part of, from its head into a handler and on to whom that asks.

use crate::trace::tracer::Tracer;
use crate::trace::{Recording, TRACEPARENT, TRACESTATE, Trace};
use atoll_core::http::trace::{TraceContext, TraceOrigin};
use axum::extract::Request;
use http::HeaderValue;
use std::sync::Arc;

/// Longest `tracestate` that is handed on, in bytes: what the standard asks of everybody.
const STATE_BYTES_MAX: usize = 512;

/// The request's trace, found out once: where there is a tracer, with it first.
pub(super) fn of(request: &mut Request, tracer: Option<&Tracer>) -> Arc<Trace> {
    if let Some(trace) = request.extensions().get::<Arc<Trace>>() {
        return Arc::clone(trace);
    }
    let headers = request.headers();
    let mut parents = headers.get_all(&TRACEPARENT).iter();
    // Two name none: nobody can say which is meant.
    let parent = parents.next().filter(|_| parents.next().is_none());
    let mut dice = [0; 24];
    // Ids are no secrets, and the system's randomness costs a call of it.
    fastrand::fill(&mut dice);
    let context = TraceContext::new(parent.map(HeaderValue::as_bytes), dice);
    let states = || headers.get_all(&TRACESTATE).iter();
    let fits = states().map(HeaderValue::len).sum::<usize>() <= STATE_BYTES_MAX;
    let state = match context.origin() {
        TraceOrigin::Caller if fits => states().cloned().collect(),
        TraceOrigin::Caller | TraceOrigin::Here => Vec::new(),
    };
    let trace = match tracer {
        Some(tracer) => tracer.trace(context, state),
        None => Trace { context, state, recording: Recording::Off },
    };
    let trace = Arc::new(trace);
    request.extensions_mut().insert(Arc::clone(&trace));
    trace
}

//! The trace that a request is part of: its place there, what it asks others with, and who records
//! what becomes of it.

pub(crate) mod attribute;
mod delivery;
pub(crate) mod settings;
pub(crate) mod span;
pub(crate) mod tracer;

use atoll_core::http::trace::TraceContext;
use http::header::HeaderName;
use http::{Extensions, HeaderMap, HeaderValue};
use span::{Kind, Span};
use std::sync::Arc;
use tracer::Recorder;

/// Where a request stands in its trace.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors of tracing add to it.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A request's trace, or that of something that the request leads to.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) context: TraceContext,
    /// Handed on as it came.
    pub(crate) state: Vec<HeaderValue>,
    pub(crate) recording: Recording,
}

/// Who records a trace.
#[derive(Clone, Debug)]
pub(crate) enum Recording {
    /// Nobody: no collector is configured, and what others have said of the trace is only handed on.
    Off,
    /// Nobody: the sampler has decided so, and others are told.
    Declined,
    /// A collector is told.
    On(Arc<Recorder>),
}

impl Trace {
    /// Puts it in the place of what is there.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        headers.remove(&TRACESTATE);
        // Digits and dashes are a value.
        if let Ok(parent) = HeaderValue::from_bytes(&self.context.field()) {
            headers.insert(TRACEPARENT, parent);
            for state in &self.state {
                headers.append(TRACESTATE, state.clone());
            }
        }
    }

    /// The same, unless the guest has said something of its own.
    pub(crate) fn put_if_absent(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(TRACEPARENT) {
            self.put(headers);
        }
    }

    /// Begins a span below this place. `None` where nobody records: then nothing is computed.
    pub(crate) fn begin(&self, kind: Kind, name: impl FnOnce() -> String) -> Option<Span> {
        let Recording::On(recorder) = &self.recording else { return None };
        Some(Span::below(self, recorder, (kind, name())))
    }

    /// Who records it, if anybody does.
    pub(crate) fn recorder(&self) -> Option<&Arc<Recorder>> {
        match &self.recording {
            Recording::On(recorder) => Some(recorder),
            Recording::Off | Recording::Declined => None,
        }
    }
}

/// The trace of a request that is about to be sent, if its receiver is to hear of it.
pub(crate) fn of(extensions: &Extensions) -> Option<&Arc<Trace>> {
    let trace = extensions.get::<Arc<Trace>>();
    trace.filter(|trace| !matches!(trace.recording, Recording::Off))
}

/// Begins a span in the trace that `extensions` have; what they lead to is below that span.
pub(crate) fn descend(
    extensions: &mut Extensions,
    kind: Kind,
    name: impl FnOnce() -> String,
) -> Option<Span> {
    let span = of(extensions)?.begin(kind, name)?;
    extensions.insert(Arc::clone(span.trace()));
    Some(span)
}

//! A span: something that takes time in a trace, told to the collector when it ends.

use super::attribute::{Attribute, ERROR_TYPE, STATUS, Value, number, text};
use super::tracer::Recorder;
use super::{Recording, Trace};
use http::StatusCode;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as wire;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request that was received.
    Server,
    /// A request that was sent.
    Client,
    /// Something within the node.
    Internal,
}

/// A span that is under way. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Span {
    /// The span's own place in the trace.
    trace: Arc<Trace>,
    recorder: Arc<Recorder>,
    began: Instant,
    /// As it is sent, so that nothing is copied then.
    told: wire::Span,
}

impl Span {
    /// The span of a request at the place that is the request's own.
    pub(crate) fn of_request(
        trace: Arc<Trace>,
        recorder: Arc<Recorder>,
        (kind, name): (Kind, String),
    ) -> Span {
        let (trace_id, span_id, parent) = trace.context.ids();
        let state = trace.state.iter().filter_map(|state| state.to_str().ok());
        let told = wire::Span {
            trace_id: trace_id.to_vec(),
            span_id: span_id.to_vec(),
            parent_span_id: parent.map(|parent| parent.to_vec()).unwrap_or_default(),
            trace_state: state.collect::<Vec<_>>().join(","),
            flags: u32::from(trace.context.flags()),
            name,
            kind: match kind {
                Kind::Server => wire::span::SpanKind::Server,
                Kind::Client => wire::span::SpanKind::Client,
                Kind::Internal => wire::span::SpanKind::Internal,
            } as i32,
            start_time_unix_nano: now_ns(),
            ..wire::Span::default()
        };
        Span { trace, recorder, began: Instant::now(), told }
    }

    pub(super) fn below(parent: &Trace, recorder: &Arc<Recorder>, what: (Kind, String)) -> Span {
        let mut dice = [0; 8];
        fastrand::fill(&mut dice);
        let trace = Trace {
            context: parent.context.child(dice),
            state: parent.state.clone(),
            recording: Recording::On(Arc::clone(recorder)),
        };
        Span::of_request(Arc::new(trace), Arc::clone(recorder), what)
    }

    /// The place of the span: for what it leads to.
    pub(crate) fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    /// What it is about begins only now.
    pub(crate) fn restart(&mut self) {
        self.began = Instant::now();
        self.told.start_time_unix_nano = now_ns();
    }

    /// Names it once more is known.
    pub(crate) fn rename(&mut self, name: String) {
        self.told.name = name;
    }

    /// Adds what is known of it.
    pub(crate) fn set(&mut self, name: &'static str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        let key = name.to_owned();
        self.told.attributes.push(KeyValue { key, value, ..KeyValue::default() });
    }

    /// Adds several at once.
    pub(crate) fn extend(&mut self, attributes: impl IntoIterator<Item = Attribute>) {
        attributes.into_iter().for_each(|(name, value)| self.set(name, value));
    }

    /// Notes the status of the answer. From 500 on, or from 400 on at a client, it is an error.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.set(STATUS, number(status.as_u16()));
        let is_client = self.told.kind == wire::span::SpanKind::Client as i32;
        if status.is_server_error() || (is_client && status.is_client_error()) {
            self.fail(status.as_str(), "");
        }
    }

    /// Notes that it went wrong. `kind` is one of few.
    pub(crate) fn fail(&mut self, kind: &str, message: impl Into<String>) {
        self.set(ERROR_TYPE, text(kind));
        let code = wire::status::StatusCode::Error as i32;
        self.told.status = Some(wire::Status { code, message: message.into() });
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let took_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // The wall clock may be set meanwhile.
        self.told.end_time_unix_nano = self.told.start_time_unix_nano.saturating_add(took_ns);
        self.recorder.ended(std::mem::take(&mut self.told));
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

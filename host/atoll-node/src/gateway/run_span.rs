//! The run of a handler in the trace of its request.

use crate::handlers::deployed::Deployed;
use crate::trace::Trace;
use crate::trace::attribute::{self, Value, text};
use crate::trace::span::{Kind, Span};
use atoll_wasm::error::CallError;
use atoll_wasm::host::Usage;
use std::sync::{Arc, OnceLock};

/// A run that is about to begin, and what it is part of.
#[derive(Debug)]
pub(super) struct Run {
    /// The span's where there is one, else the request's.
    trace: Arc<Trace>,
    span: Option<Span>,
}

impl Run {
    /// Begins a span where the request is traced.
    pub(super) fn begin(deployed: &Deployed, trace: Arc<Trace>) -> Run {
        let name = || format!("handler {}", deployed.record.name);
        let Some(mut span) = trace.begin(Kind::Internal, name) else {
            return Run { trace, span: None };
        };
        span.extend(deployed.attributes());
        Run { trace: Arc::clone(span.trace()), span: Some(span) }
    }

    /// What the handler sees, and asks others with.
    pub(super) fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    /// What the handler needs is there, and it is called.
    pub(super) fn starts(&mut self) {
        if let Some(span) = &mut self.span {
            span.restart();
        }
    }

    /// Tells how it has ended.
    pub(super) fn ended(self, usage: Option<&OnceLock<Usage>>, end: Result<(), &CallError>) {
        let Some(mut span) = self.span else { return };
        if let Some(usage) = usage.and_then(OnceLock::get) {
            let instance = if usage.is_reused { "reused" } else { "fresh" };
            span.set(attribute::HANDLER_INSTANCE, text(instance));
            let cpu_ms = usage.cpu.as_secs_f64() * 1e3;
            span.set(attribute::HANDLER_CPU_MS, Value::DoubleValue(cpu_ms));
        }
        if let Err(error) = end {
            span.fail(error.kind(), error.to_string());
        }
    }
}

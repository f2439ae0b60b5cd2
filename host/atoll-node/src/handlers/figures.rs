//! What handlers have used and how their requests ended, in the node's figures.

use super::Handlers;
use crate::metrics::Metrics;
use atoll_wasm::host::Usage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

/// How a handler's request ended: `answered`, or the kind of the error.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    handler: String,
    /// `live` or `canary`.
    release: &'static str,
    outcome: &'static str,
}

/// Which versions of which handler.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    handler: String,
    /// `live` or `canary`.
    release: &'static str,
}

/// Where a call found its instance.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Start {
    handler: String,
    /// `live` or `canary`.
    release: &'static str,
    /// `fresh` or `reused`.
    instance: &'static str,
}

/// The figures of all handlers.
#[derive(Debug, Default)]
pub(super) struct Figures {
    requests: Family<Outcome, Counter>,
    cpu: Family<Of, Counter<f64, AtomicU64>>,
    memory: Family<Of, Gauge>,
    calls: Family<Start, Counter>,
    /// Requests that a fresh instance was given after a used one had failed.
    retries: Family<Of, Counter>,
}

/// Those of one handler's live versions or canaries, found once and not for each request.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReleaseFigures {
    answered: Counter,
    cpu: Counter<f64, AtomicU64>,
    memory: Gauge,
    fresh: Counter,
    reused: Counter,
    retries: Counter,
}

impl Figures {
    pub(super) fn register(metrics: &Metrics) -> Figures {
        let figures = Figures::default();
        let help = "Requests of handlers, by how they ended";
        metrics.register("handler_requests", help, figures.requests.clone());
        let help = "Time on a processor of handlers, host calls and new instances included";
        metrics.register("handler_cpu_seconds", help, figures.cpu.clone());
        let help = "Most linear memory that one instance of a handler has had";
        metrics.register("handler_memory_peak_bytes", help, figures.memory.clone());
        let help = "Calls of handlers, hooks and watchers, by whether the instance was new";
        metrics.register("handler_calls", help, figures.calls.clone());
        let help = "Requests that a used instance failed at and a fresh one was given";
        metrics.register("handler_retries", help, figures.retries.clone());
        figures
    }

    /// Those of one handler, `release` being `live` or `canary`.
    pub(super) fn of(&self, handler: &str, release: &'static str) -> ReleaseFigures {
        let of = Of { handler: handler.to_owned(), release };
        let start = |instance| Start { handler: handler.to_owned(), release, instance };
        ReleaseFigures {
            answered: self.requests.get_or_create_owned(&outcome(handler, release, "answered")),
            cpu: self.cpu.get_or_create_owned(&of),
            memory: self.memory.get_or_create_owned(&of),
            fresh: self.calls.get_or_create_owned(&start("fresh")),
            reused: self.calls.get_or_create_owned(&start("reused")),
            retries: self.retries.get_or_create_owned(&of),
        }
    }

    /// Counts a request that got no answer of the handler's.
    pub(super) fn note_failure(&self, handler: &str, release: &'static str, kind: &'static str) {
        self.requests.get_or_create(&outcome(handler, release, kind)).inc();
    }
}

fn outcome(handler: &str, release: &'static str, outcome: &'static str) -> Outcome {
    Outcome { handler: handler.to_owned(), release, outcome }
}

impl ReleaseFigures {
    /// Counts a request that the handler has answered.
    pub(super) fn note_answer(&self) {
        self.answered.inc();
    }

    /// Counts requests that a fresh instance was given after a used one had failed.
    pub(super) fn note_retries(&self, count: u64) {
        self.retries.inc_by(count);
    }

    /// Counts what a call has used.
    pub(super) fn note_usage(&self, usage: Usage) {
        self.cpu.inc_by(usage.cpu.as_secs_f64());
        let memory_bytes = i64::try_from(usage.memory_bytes).unwrap_or(i64::MAX);
        // Two at once may both be the largest yet: the next such call puts it right.
        if memory_bytes > self.memory.get() {
            self.memory.set(memory_bytes);
        }
        let calls = if usage.is_reused { &self.reused } else { &self.fresh };
        calls.inc();
    }
}

/// What is true of handlers at the moment.
struct Gauges(Weak<Handlers>);

/// Shows what is true of handlers whenever the figures are asked for.
pub(super) fn watch(handlers: &Arc<Handlers>, metrics: &Metrics) {
    metrics.register_collector(Gauges(Arc::downgrade(handlers)));
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(handlers) = self.0.upgrade() else { return Ok(()) };
        let mut rows = Vec::new();
        for release in handlers.list() {
            for version in release.versions() {
                let handler = version.record.name.clone();
                let of = Of { handler, release: version.standing.as_str() };
                let running = version.running();
                let idle = version.pool.as_ref().map_or(0, |pool| pool.counts().idle as u64);
                rows.push((of, running, idle));
            }
        }
        let mut show = |name, help, value: fn(&(Of, u64, u64)) -> u64| {
            let kind = ConstGauge::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            rows.iter().try_for_each(|row| {
                ConstGauge::new(value(row)).encode(family.encode_family(&row.0)?)
            })
        };
        show("handler_running", "Requests that handlers work on now.", |row| row.1)?;
        show("handler_instances_idle", "Instances that wait to be used again.", |row| row.2)
    }
}

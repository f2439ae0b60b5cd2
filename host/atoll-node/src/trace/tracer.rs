//! Takes the spans of sampled requests and lets them go to the collector, without ever waiting.

use super::attribute::Attribute;
use super::delivery::{Delivering, Delivery};
use super::settings::Settings;
use super::{Recording, Trace};
use crate::metrics::Metrics;
use crate::node::Node;
use atoll_core::http::sampling::{Sampled, Sampler};
use atoll_core::http::trace::TraceContext;
use http::HeaderValue;
use opentelemetry_proto::tonic::trace::v1 as wire;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Decides which requests are traced, and takes their spans.
#[derive(Clone, Debug)]
pub(crate) struct Tracer {
    sampler: Sampler,
    spans: mpsc::Sender<wire::Span>,
    queue_full: Counter,
}

/// Records one request.
#[derive(Debug)]
pub(crate) struct Recorder {
    tracer: Tracer,
    /// What was found out of the request on its way, for the span that it came in with.
    notes: Mutex<Vec<Attribute>>,
}

/// What has become of spans.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// The collector has them.
    pub(super) exported: Counter,
    /// More came than wait.
    queue_full: Counter,
    /// The collector could not be reached, or refused.
    pub(super) undelivered: Counter,
}

/// Why spans were dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Drop {
    why: &'static str,
}

impl Figures {
    pub(super) fn register(metrics: &Metrics) -> Figures {
        let (exported, dropped) = (Counter::default(), Family::<Drop, Counter>::default());
        let help = "Spans that the collector of traces has taken";
        metrics.register("spans_exported", help, exported.clone());
        let help =
            "Spans that were dropped, because too many waited or the collector did not take them";
        metrics.register("spans_dropped", help, dropped.clone());
        let counter = |why| dropped.get_or_create(&Drop { why }).clone();
        let (queue_full, undelivered) = (counter("queue-full"), counter("collector"));
        Figures { exported, queue_full, undelivered }
    }
}

/// The tracer, where a collector is configured, and what brings its spans there.
///
/// # Errors
///
/// The collector is to be reached over TLS, and the machine trusts no certificates.
pub(crate) fn start(
    node: &Node,
    settings: Option<Settings>,
) -> anyhow::Result<(Option<Tracer>, Option<Delivering>)> {
    let Some(settings) = settings else { return Ok((None, None)) };
    let (spans, waiting) = mpsc::channel(settings.batches.waiting_max);
    let figures = Figures::register(node.metrics());
    let queue_full = figures.queue_full.clone();
    let tracer = Tracer { sampler: settings.sampler, spans, queue_full };
    let delivery = Delivery::new(settings, waiting, figures)?;
    Ok((Some(tracer), Some(delivery.start())))
}

/// Lets the collector have what still waits, for a few seconds at most.
pub(crate) async fn stop(delivering: Option<Delivering>) {
    if let Some(delivering) = delivering {
        delivering.stop().await;
    }
}

impl Tracer {
    /// The trace of a request that has come in at this place, sampled or not.
    pub(crate) fn trace(&self, context: TraceContext, state: Vec<HeaderValue>) -> Trace {
        let sampled = self.sampler.decide(&context);
        let recording = match sampled {
            Sampled::No => Recording::Declined,
            Sampled::Yes => {
                let (tracer, notes) = (self.clone(), Mutex::default());
                Recording::On(Arc::new(Recorder { tracer, notes }))
            }
        };
        Trace { context: context.sampled(sampled), state, recording }
    }
}

impl Recorder {
    /// Adds to what is told of the request itself.
    pub(crate) fn note(&self, attributes: impl IntoIterator<Item = Attribute>) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).extend(attributes);
    }

    /// What was noted since the last time.
    pub(crate) fn take_notes(&self) -> Vec<Attribute> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn ended(&self, span: wire::Span) {
        if self.tracer.spans.try_send(span).is_err() {
            self.tracer.queue_full.inc();
        }
    }
}

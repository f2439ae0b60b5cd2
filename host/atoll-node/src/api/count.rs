//! How many requests there are, how they end, and how long their answers take.

use crate::metrics::Metrics;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::Arc;
use std::time::Instant;

/// Upper ends of the classes of latency, in seconds.
const LATENCY_CLASSES_S: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// Few values for each label, whatever clients send.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    route: String,
    status: u16,
}

/// The API's counters.
#[derive(Debug)]
pub(super) struct Requests {
    requests: Family<Labels, Counter>,
    latency: Histogram,
}

impl Requests {
    pub(super) fn new(metrics: &Metrics) -> Requests {
        let requests = Family::<Labels, Counter>::default();
        let latency = Histogram::new(LATENCY_CLASSES_S);
        metrics.register("api_requests", "Requests to the API", requests.clone());
        metrics.register(
            "api_latency_seconds",
            "Time from the head of a request to the head of its answer",
            latency.clone(),
        );
        Requests { requests, latency }
    }
}

/// Counts a request once its answer begins.
pub(super) async fn count(
    State(requests): State<Arc<Requests>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    let route = route.unwrap_or_else(|| "unknown".to_owned());
    let labels = Labels { method, route, status: response.status().as_u16() };
    requests.requests.get_or_create(&labels).inc();
    requests.latency.observe(started.elapsed().as_secs_f64());
    response
}

/// A method may be any word; a label may not.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

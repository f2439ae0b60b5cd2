//! What is counted for each route.

use crate::metrics::Metrics;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    outcome: &'static str,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    route: String,
}

/// Bytes that a route has sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    route: String,
    from: &'static str,
}

/// An address of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAddress {
    route: String,
    address: String,
}

/// Where the body of an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// It was stored, and nobody was asked about it.
    Cache,
    /// The upstream was asked, for it or about it.
    Upstream,
}

/// What became of responses that are shared.
#[derive(Clone, Debug)]
pub(super) struct SharedRecords {
    /// Written for other nodes.
    pub(super) written: Counter,
    /// Taken from another node.
    pub(super) taken: Counter,
    /// Not taken: older than a purge or a write that this node knows of.
    pub(super) outdated: Counter,
    /// Not taken: a route made it that is not the same on this node.
    pub(super) unlike: Counter,
    /// Not written: there was no room.
    pub(super) full: Counter,
}

/// What came of asking other nodes.
#[derive(Clone, Debug)]
pub(super) struct ShieldFigures {
    /// They answered.
    pub(super) answered: Counter,
    /// They did not.
    pub(super) failed: Counter,
    /// They had nothing to answer with.
    pub(super) refused: Counter,
    /// What they had was older than a purge.
    pub(super) outdated: Counter,
}

/// How asking another node ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl ShieldFigures {
    pub(super) fn register(metrics: &Metrics) -> ShieldFigures {
        let requests = Family::<Outcome, Counter>::default();
        let help = "Requests to the node that fetches for all, by what came of them";
        metrics.register("shield_requests", help, requests.clone());
        let counter = |outcome| requests.get_or_create(&Outcome { outcome }).clone();
        ShieldFigures {
            answered: counter("answered"),
            failed: counter("failed"),
            refused: counter("refused"),
            outdated: counter("outdated"),
        }
    }
}

/// The figures of all routes.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    sent_bytes: Family<Sent, Counter>,
    up: Family<OfAddress, Gauge>,
    requests: Family<Labels, Counter>,
    upstream_requests: Family<OfRoute, Counter>,
    stored_bytes: Family<OfRoute, Counter>,
    shared: Family<Labels, Counter>,
}

/// Those of one route, at hand.
#[derive(Debug)]
pub(super) struct Records {
    /// Answered from what is stored and fresh.
    pub(super) hits: Counter,
    /// Answered by the upstream.
    pub(super) misses: Counter,
    /// Answered with what is stored and stale.
    pub(super) stale: Counter,
    /// Answered with what is stored, once the upstream had said that it is right.
    pub(super) revalidated: Counter,
    /// Answered by a fetch that another request had begun.
    pub(super) collapsed: Counter,
    /// Passed on without a look into the cache.
    pub(super) passed: Counter,
    /// The upstream gave no answer.
    pub(super) failed: Counter,
    /// Requests to the upstream.
    pub(super) upstream_requests: Counter,
    /// Bytes of bodies that were stored.
    pub(super) stored_bytes: Counter,
    pub(super) shared: SharedRecords,
    /// Bytes of bodies that were sent out of the cache.
    cache_bytes: Counter,
    /// And of those that were not.
    upstream_bytes: Counter,
}

impl Figures {
    pub(super) fn register(metrics: &Metrics) -> Figures {
        let figures = Figures::default();
        let help = "Requests of routes to upstreams, by how they were answered";
        metrics.register("proxy_requests", help, figures.requests.clone());
        let help = "Requests that were sent to upstreams";
        metrics.register("upstream_requests", help, figures.upstream_requests.clone());
        let help = "Bytes of bodies that were stored in the HTTP cache";
        metrics.register("cache_stored_bytes", help, figures.stored_bytes.clone());
        let help = "Responses that nodes share, by what became of them on this one";
        metrics.register("cache_replicated", help, figures.shared.clone());
        let help = "Bytes of the bodies of answers, by where they came from";
        metrics.register("proxy_sent_bytes", help, figures.sent_bytes.clone());
        let help = "Whether the address of an upstream passes its health checks";
        metrics.register("upstream_up", help, figures.up.clone());
        figures
    }

    /// Whether an address is well. One that nobody has looked at yet is.
    pub(super) fn upstream_up(&self, route: &str, address: String) -> Gauge {
        let gauge = self.up.get_or_create(&OfAddress { route: route.to_owned(), address }).clone();
        gauge.set(1);
        gauge
    }

    pub(super) fn records(&self, route: &str) -> Records {
        let requests = |outcome| {
            let labels = Labels { route: route.to_owned(), outcome };
            self.requests.get_or_create(&labels).clone()
        };
        let sent = |from| {
            let labels = Sent { route: route.to_owned(), from };
            self.sent_bytes.get_or_create(&labels).clone()
        };
        let shared = |outcome| {
            let labels = Labels { route: route.to_owned(), outcome };
            self.shared.get_or_create(&labels).clone()
        };
        let of_route = OfRoute { route: route.to_owned() };
        Records {
            hits: requests("hit"),
            misses: requests("miss"),
            stale: requests("stale"),
            revalidated: requests("revalidated"),
            collapsed: requests("collapsed"),
            passed: requests("passed"),
            failed: requests("failed"),
            upstream_requests: self.upstream_requests.get_or_create(&of_route).clone(),
            stored_bytes: self.stored_bytes.get_or_create(&of_route).clone(),
            shared: SharedRecords {
                written: shared("written"),
                taken: shared("taken"),
                outdated: shared("outdated"),
                unlike: shared("unlike"),
                full: shared("full"),
            },
            cache_bytes: sent("cache"),
            upstream_bytes: sent("upstream"),
        }
    }
}

impl Records {
    /// Counts the bytes of an answer: at once where their number is known, and as they go by where
    /// it is not.
    pub(super) fn sent(&self, answer: Response, from: From) -> Response {
        let counter = match from {
            From::Cache => &self.cache_bytes,
            From::Upstream => &self.upstream_bytes,
        };
        if let Some(bytes) = answer.body().size_hint().exact() {
            counter.inc_by(bytes);
            return answer;
        }
        let counter = counter.clone();
        answer.map(|body| {
            Body::new(body.map_frame(move |frame| {
                counter.inc_by(frame.data_ref().map_or(0, Bytes::len) as u64);
                frame
            }))
        })
    }
}

//! What is counted for each route.

use crate::node::Node;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

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

/// The figures of all routes.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    requests: Family<Labels, Counter>,
    upstream_requests: Family<OfRoute, Counter>,
    stored_bytes: Family<OfRoute, Counter>,
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
}

impl Figures {
    pub(super) fn register(node: &Node) -> Figures {
        let figures = Figures::default();
        let metrics = node.metrics();
        let help = "Requests of routes to upstreams, by how they were answered";
        metrics.register("proxy_requests", help, figures.requests.clone());
        let help = "Requests that were sent to upstreams";
        metrics.register("upstream_requests", help, figures.upstream_requests.clone());
        let help = "Bytes of bodies that were stored in the HTTP cache";
        metrics.register("cache_stored_bytes", help, figures.stored_bytes.clone());
        figures
    }

    pub(super) fn records(&self, route: &str) -> Records {
        let requests = |outcome| {
            let labels = Labels { route: route.to_owned(), outcome };
            self.requests.get_or_create(&labels).clone()
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
        }
    }
}

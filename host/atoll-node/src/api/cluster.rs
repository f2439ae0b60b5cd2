//! `/v1/cluster`: what this node is and holds, and whom it is linked with. `/metrics`: the same for
//! Prometheus.

mod nodes;
mod peers;
pub(super) mod replication;

use super::Api;
use crate::journal::status::DiskStatus;
use crate::node::Unready;
use crate::problem::Problem;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use replication::ReplicationStatus;
use serde::Serialize;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/cluster", get(cluster))
        .route("/v1/cluster/peers", get(peers::list).post(peers::change))
        .route("/v1/cluster/nodes/{name}", delete(nodes::forget))
        .route("/metrics", get(metrics))
}

/// This node, and the cluster as it sees it.
#[derive(Debug, Serialize)]
struct Cluster {
    /// This node's clock.
    now_ms: u64,
    /// Those whose inside is known: this one.
    nodes: Vec<NodeStatus>,
    replication: ReplicationStatus,
}

/// One node.
#[derive(Debug, Serialize)]
pub(super) struct NodeStatus {
    pub(super) name: String,
    /// Of the running process.
    pub(super) origin: String,
    pub(super) version: &'static str,
    pub(super) uptime_s: u64,
    pub(super) ready: bool,
    /// Why it should be sent no requests.
    pub(super) unready: Option<&'static str>,
    pub(super) addresses: AddressStatus,
    pub(super) memory: MemoryStatus,
    /// `null` where everything is in memory only.
    pub(super) disk: Option<DiskStatus>,
    /// Those that hold something, by name.
    pub(super) buckets: Vec<BucketStatus>,
    /// Those that are live, by name.
    pub(super) handlers: Vec<LiveHandler>,
}

#[derive(Debug, Serialize)]
pub(super) struct LiveHandler {
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) routes: Vec<String>,
}

/// Where the doors are; `null` is a door that is shut.
#[derive(Debug, Serialize)]
pub(super) struct AddressStatus {
    pub(super) gateway: Option<String>,
    pub(super) api: Option<String>,
    pub(super) resp: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct MemoryStatus {
    pub(super) used_bytes: usize,
    pub(super) max_bytes: usize,
    pub(super) log_bytes: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct BucketStatus {
    pub(super) name: String,
    /// Expired ones included until they are collected.
    pub(super) keys: usize,
    pub(super) volatile_keys: usize,
    pub(super) used_bytes: usize,
}

impl NodeStatus {
    /// This node, now.
    pub(super) fn of(api: &Api) -> NodeStatus {
        let (node, store) = (&api.node, api.node.store());
        let unreadiness = node.unreadiness();
        let buckets = store.buckets().into_iter().filter_map(|bucket| {
            let stats = bucket.stats();
            (stats.key_count > 0).then(|| BucketStatus {
                name: bucket.name().to_string(),
                keys: stats.key_count,
                volatile_keys: stats.volatile_count,
                used_bytes: stats.used_bytes,
            })
        });
        let handlers = api.handlers.list();
        let handlers = handlers.iter().map(|release| LiveHandler {
            name: release.record.name.clone(),
            version: release.record.version,
            routes: release.record.routes.clone(),
        });
        let address = |address: Option<std::net::SocketAddr>| address.map(|a| a.to_string());
        NodeStatus {
            name: node.name().to_owned(),
            origin: store.origin().to_string(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: node.uptime_s(),
            ready: unreadiness.is_none(),
            unready: unreadiness.map(Unready::as_str),
            addresses: AddressStatus {
                gateway: address(api.addresses.gateway),
                api: address(api.addresses.api),
                resp: address(api.addresses.resp),
            },
            memory: MemoryStatus {
                used_bytes: store.used_bytes(),
                max_bytes: store.memory_bytes_max(),
                log_bytes: store.log_bytes(),
            },
            disk: node.journal().map(|journal| journal.status()),
            buckets: buckets.collect(),
            handlers: handlers.collect(),
        }
    }
}

async fn cluster(State(api): State<Arc<Api>>) -> Response {
    let now_ms = api.node.now().millis();
    let nodes = vec![NodeStatus::of(&api)];
    let replication = ReplicationStatus::of(&api.node);
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (no_store, Json(Cluster { now_ms, nodes, replication })).into_response()
}

async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let text = api.node.metrics().text().map_err(|_| {
        let detail = "the figures could not be written down";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "metrics", detail)
    })?;
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(form))], text).into_response())
}

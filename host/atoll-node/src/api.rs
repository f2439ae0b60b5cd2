//! The API door: keys, handlers, probes and figures over HTTP.
//!
//! One router for each file below, merged here. All of them sit behind the guard (`api/guard.rs`)
//! and are counted; every error is problem+json.

mod attributes;
mod backup;
mod cache;
mod cluster;
mod count;
mod events;
mod guard;
mod handlers;
mod kv;
mod limits;
mod page;
mod path;
mod probes;
mod purge;
mod query;
mod routes;
mod secrets;
mod settle;

#[cfg(test)]
mod tests;

use crate::cache::purges::Purges;
use crate::config::Secret;
use crate::handlers::Handlers;
use crate::listen::{Addresses, linger};
use crate::node::Node;
use crate::problem::Problem;
use crate::proxy::Proxy;
use crate::upload::Uploads;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use guard::Guard;
use http::{Method, StatusCode};
use limits::{BACKUP_COUNT_MAX, WALK_COUNT_MAX, WATCHER_COUNT_MAX};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What the API is told at start.
#[derive(Debug)]
pub(crate) struct ApiSettings {
    /// Those that are deployed.
    pub(crate) handlers: Arc<Handlers>,
    /// Routes to upstreams.
    pub(crate) proxy: Arc<Proxy>,
    /// Those of the HTTP cache.
    pub(crate) purges: Arc<Purges>,
    /// Asked for on all paths but the probes, where given.
    pub(crate) token: Option<Secret>,
    /// The doors of the node, for its status page.
    pub(crate) addresses: Addresses,
    /// Ends the streams that would otherwise never end.
    pub(crate) shutdown: CancellationToken,
}

/// What the API's handlers share.
#[derive(Debug)]
struct Api {
    node: Arc<Node>,
    handlers: Arc<Handlers>,
    proxy: Arc<Proxy>,
    purges: Arc<Purges>,
    addresses: Addresses,
    shutdown: CancellationToken,
    uploads: Uploads,
    /// Walks over a whole bucket, and batches, at once.
    walks: Semaphore,
    /// Watchers at once.
    watchers: Arc<Semaphore>,
    /// Backups and restores at once.
    backups: Arc<Semaphore>,
}

/// The API's routes.
pub(crate) fn router(node: Arc<Node>, settings: ApiSettings) -> Router {
    let guard = Arc::new(Guard::new(settings.token.as_ref(), node.name()));
    let settling = Arc::clone(&node);
    let counts = Arc::new(count::Requests::new(node.metrics()));
    let api = Arc::new(Api {
        uploads: Uploads::new(node.store().memory_bytes_max()),
        node,
        handlers: settings.handlers,
        proxy: settings.proxy,
        purges: settings.purges,
        addresses: settings.addresses,
        shutdown: settings.shutdown,
        walks: Semaphore::new(WALK_COUNT_MAX),
        watchers: Arc::new(Semaphore::new(WATCHER_COUNT_MAX)),
        backups: Arc::new(Semaphore::new(BACKUP_COUNT_MAX)),
    });
    let guarded = Router::new()
        .merge(backup::router())
        .merge(cache::router())
        .merge(cluster::router())
        .merge(handlers::router())
        .merge(kv::router())
        .merge(page::router())
        .merge(purge::router())
        .merge(secrets::router())
        .merge(routes::router())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(settling, settle::settle))
        .layer(from_fn_with_state(guard, guard::check));
    Router::new()
        .merge(probes::router())
        .method_not_allowed_fallback(wrong_method)
        .merge(guarded)
        .layer(from_fn(guard::harden))
        .layer(from_fn(linger::layer))
        .layer(from_fn_with_state(counts, count::count))
        .with_state(api)
}

async fn unknown_path() -> Problem {
    let detail = "there is nothing at this path; keys are at /v1/kv/BUCKET/KEY";
    Problem::new(StatusCode::NOT_FOUND, "unknown-path", detail)
}

/// The router adds the header Allow.
async fn wrong_method(method: Method) -> Problem {
    let detail = format!("this path does not take {method}; the header Allow says what it takes");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

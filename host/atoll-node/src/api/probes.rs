//! `/livez` and `/readyz`: for supervisors and balancers. Open without a token, and say nothing
//! else.

use super::Api;
use crate::node::Unready;
use crate::problem::Problem;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/livez", get(live)).route("/readyz", get(ready))
}

async fn live() -> &'static str {
    "live\n"
}

async fn ready(State(api): State<Arc<Api>>) -> Result<&'static str, Problem> {
    let stopping = api.shutdown.is_cancelled().then_some(Unready::Draining);
    match stopping.or(api.node.unreadiness()) {
        None => Ok("ready\n"),
        Some(reason) => Err(Problem::busy(reason.as_str(), reason.detail(), 1)),
    }
}

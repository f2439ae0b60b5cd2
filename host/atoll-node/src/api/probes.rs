//! `/livez` and `/readyz`: for supervisors and balancers. Open without a token, and say nothing
//! else.

use super::Api;
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
    if api.node.is_ready() && !api.shutdown.is_cancelled() {
        return Ok("ready\n");
    }
    Err(Problem::busy("draining", "this node is draining; use another", 1))
}

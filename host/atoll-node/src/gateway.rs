//! The gateway door: public HTTP, routed to handlers.

use crate::node::Node;
use axum::Router;
use std::sync::Arc;

/// The gateway's routes.
pub(crate) fn router(node: Arc<Node>) -> Router {
    let _ = node;
    Router::new()
}

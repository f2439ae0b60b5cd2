//! Writes are answered once they are safe, as far as that was promised (`--fsync`).

use crate::node::Node;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;

/// Holds back the answer to whatever may have written. What was refused has written nothing.
pub(super) async fn settle(
    State(node): State<Arc<Node>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let only_reads = request.method().is_safe();
    let response = next.run(request).await;
    if !only_reads && response.status().is_success() {
        node.settle().await?;
    }
    Ok(response)
}

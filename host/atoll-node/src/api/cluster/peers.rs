//! `/v1/cluster/peers`: whom this node links with, listed and changed while it runs.

use super::super::Api;
use super::super::limits::PATCH_BYTES_MAX;
use super::super::query::Query;
use super::replication::{PeerStatus, peers};
use crate::problem::Problem;
use crate::replication::endpoint::Endpoint;
use crate::replication::peers::PeersError;
use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The list, as it is answered.
#[derive(Debug, Serialize)]
pub(super) struct PeerList {
    peers: Vec<PeerStatus>,
}

/// What is asked for: one of both.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    add: Option<String>,
    remove: Option<String>,
}

/// Answers with 200 and the list.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<PeerList> {
    Json(PeerList { peers: peers(&api.node) })
}

/// Adds or removes a peer; answers with 200 and the list after it.
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Json<PeerList>, Problem> {
    let (parts, body) = request.into_parts();
    Query::parse(parts.uri.query(), &[])?;
    let gathered = api.uploads.gather(&parts.headers, body, PATCH_BYTES_MAX).await?;
    let bad = |detail: String| Problem::bad_request("bad-peer", detail);
    let form = "write {\"add\": \"HOST:PORT\"} or {\"remove\": \"HOST:PORT\"}";
    let change: Change =
        serde_json::from_slice(&gathered.bytes).map_err(|error| bad(format!("{error}; {form}")))?;
    let endpoint = |text: &str| -> Result<Endpoint, Problem> {
        text.parse()
            .map_err(|error: crate::replication::endpoint::EndpointError| bad(error.to_string()))
    };
    let replication = api.node.replication();
    match (change.add.as_deref(), change.remove.as_deref()) {
        (Some(text), None) => {
            replication.add_peer(endpoint(text)?)?;
        }
        (None, Some(text)) => {
            replication.remove_peer(&endpoint(text)?)?;
        }
        _ => return Err(bad(form.to_owned())),
    }
    Ok(list(State(api)).await)
}

impl From<PeersError> for Problem {
    fn from(error: PeersError) -> Problem {
        let (status, code) = match error {
            PeersError::Full => (StatusCode::CONFLICT, "too-many-peers"),
            PeersError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown-peer"),
        };
        Problem::new(status, code, error.to_string())
    }
}

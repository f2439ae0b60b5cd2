//! `/v1/cluster/nodes/{name}`: letting go of a node that will not come back.

use super::super::Api;
use super::super::query::Query;
use crate::problem::Problem;
use crate::replication::forget::ForgetError;
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;

/// Who was let go.
#[derive(Debug, Serialize)]
pub(super) struct Forgotten {
    forgotten: String,
}

/// Forgets the node; answers with 200 and its name.
pub(super) async fn forget(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Forgotten>, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let forgotten = api.node.replication().forget(&name)?;
    Ok(Json(Forgotten { forgotten }))
}

impl From<ForgetError> for Problem {
    fn from(error: ForgetError) -> Problem {
        let (status, code) = match error {
            ForgetError::Unknown { .. } => (StatusCode::NOT_FOUND, "unknown-node"),
            ForgetError::Itself(_) => (StatusCode::CONFLICT, "node-is-this-one"),
            ForgetError::Linked(_) | ForgetError::Alive { .. } => {
                (StatusCode::CONFLICT, "node-is-alive")
            }
            ForgetError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        };
        Problem::new(status, code, error.to_string())
    }
}

//! `/v1/secrets`: setting, naming and removing secrets. None is ever told.

use super::Api;
use crate::problem::Problem;
use crate::secrets::{SetError, Source};
use atoll_core::limits::SECRET_BYTES_MAX;
use atoll_core::store::edit::WriteError;
use axum::extract::{Path, Request, State};
use axum::routing::{get, put};
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/secrets", get(list))
        .route("/v1/secrets/{name}", put(set).delete(remove))
}

/// What may be known of a secret.
#[derive(Debug, Serialize)]
struct SecretStatus {
    name: String,
    /// `cluster`, or `environment`: that of this node.
    source: &'static str,
    /// The handlers that were granted it, on trial or live.
    handlers: Vec<String>,
    /// Why this node cannot give it to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

#[derive(Debug, Serialize)]
struct SecretList {
    secrets: Vec<SecretStatus>,
}

async fn list(
    State(api): State<Arc<Api>>,
) -> ([(header::HeaderName, HeaderValue); 1], Json<SecretList>) {
    let handlers = api.handlers.list();
    let granted_to = |name: &str| {
        let grant = format!("secret:{name}");
        let granted = handlers.iter().filter(|release| {
            release.versions().any(|version| version.record.grants.contains(&grant))
        });
        granted.map(|release| release.record.name.clone()).collect()
    };
    let secrets = api.handlers.secrets().list().into_iter().map(|known| SecretStatus {
        handlers: granted_to(&known.name),
        source: match known.source {
            Source::Cluster => "cluster",
            Source::Environment => "environment",
        },
        unreadable: known.unreadable,
        name: known.name,
    });
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (no_store, Json(SecretList { secrets: secrets.collect() }))
}

/// The body is the secret, byte for byte.
async fn set(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let (parts, body) = request.into_parts();
    api.node.permission().write()?;
    let gathered = api.uploads.gather(&parts.headers, body, SECRET_BYTES_MAX).await?;
    api.handlers.secrets().set(&name, &gathered.bytes).map_err(refusal)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    api.node.permission().write()?;
    match api.handlers.secrets().remove(&name) {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => {
            let detail =
                "the cluster has no secret of this name; GET /v1/secrets lists those there are";
            Err(Problem::new(StatusCode::NOT_FOUND, "unknown-secret", detail))
        }
        Err(error) => Err(refusal(SetError::Store(error))),
    }
}

fn refusal(error: SetError) -> Problem {
    let (status, code) = match &error {
        SetError::Name(_) | SetError::Length => (StatusCode::BAD_REQUEST, "bad-secret"),
        SetError::NoKey => (StatusCode::CONFLICT, "no-secrets-key"),
        SetError::Randomness(_) => (StatusCode::SERVICE_UNAVAILABLE, "no-randomness"),
        SetError::Store(WriteError::Obstacle(obstacle)) => return (*obstacle).into(),
        SetError::TooMany | SetError::Store(_) => (StatusCode::INSUFFICIENT_STORAGE, "full"),
    };
    Problem::new(status, code, error.to_string())
}

//! `/v1/routes`: routes to upstreams that hold on every node.

use super::Api;
use crate::problem::Problem;
use crate::proxy::routes::{RouteError, RouteRecord};
use atoll_core::store::edit::WriteError;
use axum::extract::{Path, Request, State};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;

/// Longest description of a route, in bytes.
const ROUTE_BYTES_MAX: usize = 64 * 1024;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/routes", get(list))
        .route("/v1/routes/{name}", get(show).put(put).delete(remove))
}

/// One route as the API shows it.
#[derive(Debug, Serialize)]
struct RouteStatus {
    name: String,
    /// As it was written.
    route: serde_json::Value,
    /// Why it is not live on this node.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct RouteList {
    routes: Vec<RouteStatus>,
}

impl From<RouteRecord> for RouteStatus {
    fn from(record: RouteRecord) -> RouteStatus {
        let RouteRecord { name, text, error } = record;
        RouteStatus { name, route: serde_json::from_slice(&text).unwrap_or_default(), error }
    }
}

async fn list(State(api): State<Arc<Api>>) -> Json<RouteList> {
    let records = api.proxy.route_records();
    Json(RouteList { routes: records.into_iter().map(RouteStatus::from).collect() })
}

async fn show(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<RouteStatus>, Problem> {
    find(&api, &name).map(Json)
}

fn find(api: &Api, name: &str) -> Result<RouteStatus, Problem> {
    let mut records = api.proxy.route_records().into_iter();
    let record = records.find(|record| record.name == name).ok_or_else(|| unknown(name))?;
    Ok(record.into())
}

/// `PUT /v1/routes/NAME` with a JSON object of what `[[route]]` in atoll.toml would say.
async fn put(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<RouteStatus>), Problem> {
    api.node.permission().write()?;
    let (parts, body) = request.into_parts();
    let gathered = api.uploads.gather(&parts.headers, body, ROUTE_BYTES_MAX).await?;
    let is_new = api.proxy.put_route(&name, &gathered.bytes).map_err(refusal)?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(find(&api, &name)?)))
}

async fn remove(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    api.node.permission().write()?;
    match api.proxy.remove_route(&name).map_err(|error| refusal(error.into()))? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown(&name)),
    }
}

fn unknown(name: &str) -> Problem {
    let detail = format!(
        "no route is called {name}; GET /v1/routes lists those there are, without those of atoll.toml"
    );
    Problem::new(StatusCode::NOT_FOUND, "unknown-route", detail)
}

fn refusal(error: RouteError) -> Problem {
    let (status, code) = match &error {
        RouteError::Bad(_) => (StatusCode::BAD_REQUEST, "bad-route"),
        RouteError::Taken { .. } => (StatusCode::CONFLICT, "route-taken"),
        RouteError::Store(WriteError::Obstacle(obstacle)) => return (*obstacle).into(),
        RouteError::TooMany | RouteError::Store(_) => (StatusCode::INSUFFICIENT_STORAGE, "full"),
    };
    Problem::new(status, code, error.to_string())
}

//! `/v1/handlers/NAME/routes`: the requests that a handler answers, changed while it runs.

use super::super::Api;
use super::super::query::Query;
use super::{HandlerStatus, no_body, once_each, refusal, texts};
use crate::handlers::changes::Rerouting;
use crate::problem::Problem;
use axum::Json;
use axum::extract::{Path, Request, State};
use std::sync::Arc;

/// `PUT ?route=PATTERN[&route=…]`: these routes and no others.
pub(super) async fn replace(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<HandlerStatus>, Problem> {
    let query = query(&api, request, &["route"]).await?;
    reroute(&api, &name, Rerouting::Replace(once_each(texts(&query, "route")?))).await
}

/// `POST ?add=PATTERN&remove=PATTERN`, each as often as wanted: the others stay.
pub(super) async fn edit(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<HandlerStatus>, Problem> {
    let query = query(&api, request, &["add", "remove"]).await?;
    let (add, remove) = (texts(&query, "add")?, texts(&query, "remove")?);
    if add.is_empty() && remove.is_empty() {
        let detail = "say what changes: add=PATTERN, remove=PATTERN, or both";
        return Err(Problem::bad_request("bad-parameter", detail));
    }
    reroute(&api, &name, Rerouting::Edit { remove, add }).await
}

/// The parameters, once the body, which is empty, was read: it would end the connection otherwise.
async fn query(api: &Api, request: Request, names: &[&'static str]) -> Result<Query, Problem> {
    let (parts, body) = request.into_parts();
    let hint = "routes go into the query, ?route=PATTERN or ?add=PATTERN&remove=PATTERN";
    no_body(api, &parts, body, hint).await?;
    Query::parse_repeatable(parts.uri.query(), &[], names)
}

async fn reroute(api: &Api, name: &str, change: Rerouting) -> Result<Json<HandlerStatus>, Problem> {
    api.node.permission().write()?;
    let release = api.handlers.reroute(name, change).await.map_err(refusal)?;
    Ok(Json(HandlerStatus::of(&release)))
}

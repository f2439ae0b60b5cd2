//! Versions on trial: the share of requests that one gets, and its promotion.

use super::super::Api;
use super::super::query::Query;
use super::{HandlerStatus, no_body, refusal};
use crate::problem::Problem;
use atoll_core::manifest::canary::{Share, ShareError};
use axum::Json;
use axum::extract::{Path, Request, State};
use std::sync::Arc;

/// The share that a deployment is to get beside the live version, if it is a canary.
pub(super) fn share(query: &Query) -> Result<Option<Share>, Problem> {
    let Some(text) = query.get("canary") else { return Ok(None) };
    if query.get_all("route").next().is_some() {
        let detail = "a canary answers at the routes of the live version; leave route out, and \
                      change the routes with atoll route";
        return Err(Problem::bad_request("bad-parameter", detail));
    }
    let share = String::from_utf8_lossy(text).parse();
    share.map(Some).map_err(|error: ShareError| {
        Problem::bad_request("bad-parameter", format!("canary: {error}"))
    })
}

/// `POST /v1/handlers/NAME/promote`: the canary gets all requests.
pub(super) async fn promote(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<HandlerStatus>, Problem> {
    let (parts, body) = request.into_parts();
    no_body(&api, &parts, body, "promote takes nothing").await?;
    Query::parse(parts.uri.query(), &[])?;
    api.node.permission().write()?;
    let release = api.handlers.promote(&name).await.map_err(refusal)?;
    Ok(Json(HandlerStatus::of(&release)))
}

//! `POST /v1/purge`: takes cached responses back, on every node.

use super::Api;
use super::limits::{PURGE_BODY_BYTES_MAX, PURGE_COUNT_MAX};
use super::query::Query;
use crate::problem::Problem;
use crate::replication::progress::{Progress, Wish};
use atoll_core::http_cache::purge::{Scope, Strength};
use atoll_core::limits::{COPY_WAIT_MS_DEFAULT, COPY_WAIT_MS_MAX};
use axum::extract::{Request, State};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often it is looked who has a purge, beside when it is told, and the pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_PAUSE: Duration = Duration::from_millis(10);

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/v1/purge", post(purge))
}

/// What is to be purged.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    urls: Vec<String>,
    tags: Vec<String>,
    prefixes: Vec<String>,
    hosts: Vec<String>,
    all: bool,
    /// It becomes stale instead of being gone.
    soft: bool,
}

/// What was done, and who is known to have it.
#[derive(Debug, Serialize)]
struct Done {
    purged: usize,
    /// Other nodes that have it.
    confirmed: Vec<String>,
    /// Nodes that were linked when it was made and are not known to have it yet.
    missing: Vec<String>,
}

impl Order {
    fn scopes(&self) -> Result<Vec<Scope>, Problem> {
        let bad = |detail: String| Problem::bad_request("bad-purge", detail);
        let mut scopes = Vec::new();
        if self.all {
            scopes.push(Scope::All);
        }
        let named = [
            ("url", &self.urls),
            ("prefix", &self.prefixes),
            ("tag", &self.tags),
            ("host", &self.hosts),
        ];
        for (word, names) in named {
            for name in names {
                let scope = Scope::named(word, name);
                scopes.push(scope.map_err(|error| bad(error.to_string()))?);
            }
        }
        if !(1..=PURGE_COUNT_MAX).contains(&scopes.len()) {
            let names = "urls, tags, prefixes, hosts or all";
            return Err(bad(format!("name 1 to {PURGE_COUNT_MAX} {names}")));
        }
        Ok(scopes)
    }
}

/// Answers with 200, or with 202 where `?wait=all` was asked for and a node has not confirmed.
async fn purge(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<(StatusCode, Json<Done>), Problem> {
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query(), &["wait", "timeout"])?;
    let patience = patience(&query)?;
    let gathered = api.uploads.gather(&parts.headers, body, PURGE_BODY_BYTES_MAX).await?;
    let order: Order = serde_json::from_slice(&gathered.bytes)
        .map_err(|error| Problem::bad_request("bad-purge", error.to_string()))?;
    let scopes = order.scopes()?;
    api.node.permission().write()?;
    let strength = if order.soft { Strength::Soft } else { Strength::Hard };
    // Who is linked now is told, and is named for as long as it has not confirmed.
    let others = linked(&api);
    for scope in &scopes {
        api.purges.purge(scope, strength)?;
    }
    api.purges.settle_keys().await;
    let seq = api.node.store().written_seq();
    if let Some(patience) = patience {
        tokio::select! {
            () = confirmed_by(api.node.replication().progress(), &others, (seq, patience)) => {}
            () = api.shutdown.cancelled() => {}
        }
    }
    let progress = api.node.replication().progress();
    let (confirmed, missing): (Vec<String>, Vec<String>) =
        others.into_iter().partition(|name| progress.is_held_by(name, seq));
    let status = if patience.is_some() && !missing.is_empty() {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(Done { purged: scopes.len(), confirmed, missing })))
}

/// The nodes that are linked, by name.
fn linked(api: &Api) -> Vec<String> {
    let status = api.node.replication().status();
    let mut names: Vec<String> = status.links.iter().map(|link| link.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Waits until these nodes hold what was written up to `seq`, and no longer than `patience`.
async fn confirmed_by(progress: &Progress, names: &[String], (seq, patience): (u64, Duration)) {
    let deadline = Instant::now() + patience;
    let lacks = || names.iter().any(|name| !progress.is_held_by(name, seq));
    let mut count = names.len();
    while lacks() && Instant::now() < deadline {
        let until = deadline.min(Instant::now() + LOOK_EVERY);
        let held_by = progress.wait(Wish { seq, count }, Some(until)).await;
        if lacks() {
            // Others have it that are not asked about, or too many wait already.
            sleep(LOOK_PAUSE).await;
            count = held_by + 1;
        }
    }
}

/// How long other nodes are waited for; `None` is not at all.
fn patience(query: &Query) -> Result<Option<Duration>, Problem> {
    let bad = |detail: String| Err(Problem::bad_request("bad-wait", detail));
    let timeout_ms = match query.get("timeout").map(std::str::from_utf8) {
        None => COPY_WAIT_MS_DEFAULT,
        Some(text) => match text.ok().and_then(|text| text.parse::<u64>().ok()) {
            Some(timeout_ms) if timeout_ms <= COPY_WAIT_MS_MAX => timeout_ms,
            _ => return bad(format!("timeout is a number of ms, 0 to {COPY_WAIT_MS_MAX}")),
        },
    };
    match query.get("wait") {
        None | Some(b"local") => Ok(None),
        Some(b"all") => Ok(Some(Duration::from_millis(timeout_ms))),
        Some(_) => bad("wait is local or all".to_owned()),
    }
}

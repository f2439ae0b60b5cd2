//! `GET /v1/cache?url=`: what is stored under a URL, and what would become of it, in words.

use super::Api;
use super::query::Query;
use crate::cache::inspect::Kept;
use crate::cache::ms_of;
use crate::problem::Problem;
use crate::proxy::filters::PART;
use atoll_core::http_cache::key::Url;
use atoll_core::http_cache::keys::{self, KeyName};
use atoll_core::http_cache::purge::Strength;
use atoll_core::http_cache::words;
use axum::extract::{Request, State};
use axum::routing::get;
use axum::{Json, Router};
use http::header;
use serde::Serialize;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/v1/cache", get(inspect))
}

/// What is stored under one key.
#[derive(Debug, Serialize)]
struct Inspection {
    /// Host, path and query.
    key: String,
    /// The last response could not be shared: for a few seconds requests go upstream side by side.
    passes: bool,
    responses: Vec<Inspected>,
}

/// One response, of several where Vary tells them apart.
#[derive(Debug, Serialize)]
struct Inspected {
    status: u16,
    bytes: u64,
    why: String,
    vary: Option<String>,
    tags: Vec<String>,
    purged: Option<&'static str>,
    /// `memory`, `disk`, or both.
    tiers: Vec<&'static str>,
    /// What a filter has added to its key.
    parts: Vec<String>,
    /// Keys that it was made from.
    keys: Vec<String>,
}

async fn inspect(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Json<Inspection>, Problem> {
    let query = Query::parse(request.uri().query(), &["url"])?;
    let text = query.get("url").map(std::str::from_utf8).and_then(Result::ok);
    let url = text.and_then(Url::parse).filter(|url| !url.host.is_empty());
    let Some(url) = url else {
        let detail = "give url=http://HOST/PATH, with % escapes where it holds ? or &";
        return Err(Problem::bad_request("bad-url", detail));
    };
    let (cache, asked) = (Arc::clone(api.purges.cache()), url.key());
    let now_ms = ms_of(cache.now_us());
    // It may have to read the disk.
    let inspected = tokio::task::spawn_blocking(move || {
        // Where its route stores it, if nothing lies there by that very name.
        let others = cache.other_keys(&asked).into_iter();
        let mut looks = [asked.clone()].into_iter().chain(others).map(|key| {
            let (kept, passes) = cache.inspect(&key);
            (key, kept, passes)
        });
        let found = looks.find(|(_, kept, passes)| *passes || !kept.is_empty());
        found.unwrap_or((asked, Vec::new(), false))
    });
    let (key, kept, passes) = inspected.await.map_err(|_| {
        Problem::new(http::StatusCode::INTERNAL_SERVER_ERROR, "inspect", "the look has failed")
    })?;
    let responses =
        kept.iter().map(|Kept { stored, purged, in_memory, on_disk, is_outdated }| Inspected {
            tiers: [(*in_memory, "memory"), (*on_disk, "disk")]
                .into_iter()
                .filter_map(|(is_there, tier)| is_there.then_some(tier))
                .collect(),
            status: stored.status.as_u16(),
            bytes: stored.body_bytes,
            why: match *is_outdated && *purged != Some(Strength::Hard) {
                true => words::outdated(&stored.meta, now_ms),
                false => words::explain(&stored.meta, *purged, now_ms),
            },
            parts: stored.key.split(PART).skip(1).map(str::to_owned).collect(),
            keys: keys::of(&stored.headers).unwrap_or_default().iter().map(shown).collect(),
            vary: stored
                .headers
                .get(header::VARY)
                .and_then(|vary| Some(vary.to_str().ok()?.into())),
            tags: stored.tags.iter().map(|tag| tag.to_string()).collect(),
            purged: purged.map(|strength| match strength {
                Strength::Soft => "soft",
                Strength::Hard => "hard",
            }),
        });
    let responses = responses.collect();
    Ok(Json(Inspection { key, passes, responses }))
}

fn shown(name: &KeyName) -> String {
    format!("{}/{}", name.bucket, String::from_utf8_lossy(&name.key))
}

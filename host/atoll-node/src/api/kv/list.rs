//! GET of a bucket: one page of its keys, as JSON or as NDJSON.
//!
//! A bucket comes into being with its first write, so an unknown one is listed as empty.

use super::super::Api;
use super::super::limits::WALK_WAIT;
use super::super::query::{Query, seconds_number};
use super::entity_tag;
use super::name::Name;
use crate::problem::Problem;
use atoll_core::key::BucketName;
use atoll_core::limits::{KEY_BYTES_MAX, LIST_PAGE_MAX};
use atoll_core::store::list::{ListPage, ListQuery};
use atoll_core::store::view::View;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::SemaphorePermit;

/// What stands unescaped in the link to the next page.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a listing says of a key, beside its name.
#[derive(Debug, Serialize)]
struct KeyFacts {
    /// As in the header ETag, quotes included: it can be given to If-Match.
    etag: String,
    size: usize,
    /// Seconds since the Unix epoch.
    expires_at: Option<serde_json::Number>,
    /// Seconds since the Unix epoch.
    modified_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<Box<str>>,
}

impl KeyFacts {
    fn of(view: View<'_>) -> KeyFacts {
        let attributes = view.attributes();
        KeyFacts {
            etag: entity_tag(view.version()),
            size: view.value().len(),
            expires_at: view.deadline().millis().map(seconds_number),
            modified_at: view.stamp().hlc.millis() / 1_000,
            content_type: attributes.and_then(|attributes| attributes.content_type.clone()),
        }
    }
}

#[derive(Debug, Serialize)]
struct Key {
    #[serde(flatten)]
    name: Name,
    #[serde(flatten)]
    facts: KeyFacts,
}

#[derive(Debug, Serialize)]
struct Page {
    keys: Vec<Key>,
    /// Those that are UTF-8.
    prefixes: Vec<String>,
    /// Those that are not, in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefixes_b64: Vec<String>,
    cursor: Option<String>,
}

/// The parameters of a listing, checked.
#[derive(Clone, Debug)]
struct Wanted {
    prefix: Vec<u8>,
    delimiter: Option<Vec<u8>>,
    after: Vec<u8>,
    limit: usize,
}

impl Wanted {
    fn parse(text: Option<&str>) -> Result<Wanted, Problem> {
        let query = Query::parse(text, &["prefix", "delimiter", "limit", "cursor"])?;
        let bytes = |name| query.get(name).unwrap_or_default().to_vec();
        let (prefix, delimiter) = (bytes("prefix"), bytes("delimiter"));
        if prefix.len() > KEY_BYTES_MAX || delimiter.len() > KEY_BYTES_MAX {
            let detail = format!("prefix and delimiter have at most {KEY_BYTES_MAX} bytes each");
            return Err(Problem::bad_request("bad-prefix", detail));
        }
        let limit = match query.get("limit") {
            None => LIST_PAGE_MAX,
            Some(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
                .filter(|limit| (1..=LIST_PAGE_MAX).contains(limit))
                .ok_or_else(|| {
                    let detail = format!("limit is a number from 1 to {LIST_PAGE_MAX}");
                    Problem::bad_request("bad-limit", detail)
                })?,
        };
        let after = match query.get("cursor") {
            None => Vec::new(),
            Some(text) => open_cursor(text)?,
        };
        let delimiter = Some(delimiter).filter(|delimiter| !delimiter.is_empty());
        Ok(Wanted { prefix, delimiter, after, limit })
    }

    /// The path and query of the page after this one.
    fn next_page(&self, bucket: &BucketName, cursor: &str) -> String {
        let encode = |bytes: &[u8]| percent_encode(bytes, UNRESERVED).to_string();
        let mut link = format!("/v1/kv/{bucket}?limit={}&cursor={cursor}", self.limit);
        if !self.prefix.is_empty() {
            link += &format!("&prefix={}", encode(&self.prefix));
        }
        if let Some(delimiter) = &self.delimiter {
            link += &format!("&delimiter={}", encode(delimiter));
        }
        link
    }
}

/// Where the next page begins. Opaque to clients, so that it may hold something else one day.
fn close_cursor(last: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

fn open_cursor(text: &[u8]) -> Result<Vec<u8>, Problem> {
    let after = URL_SAFE_NO_PAD.decode(text).ok();
    after.filter(|after| (1..=KEY_BYTES_MAX).contains(&after.len())).ok_or_else(|| {
        Problem::bad_request("bad-cursor", "the cursor is not one that a listing gave")
    })
}

/// Waits for one of the few places for work that keeps a core busy.
pub(super) async fn place_to_walk(api: &Api) -> Result<SemaphorePermit<'_>, Problem> {
    match tokio::time::timeout(WALK_WAIT, api.walks.acquire()).await {
        Ok(place) => Ok(place.expect("the semaphore stays open")),
        Err(_) => {
            let detail = "too many lists and batches are under way; try again in a second";
            Err(Problem::busy("walks-full", detail, 1))
        }
    }
}

/// Answers with 200.
pub(super) async fn list(
    api: &Arc<Api>,
    bucket: &BucketName,
    parts: &Parts,
) -> Result<Response, Problem> {
    let wanted = Wanted::parse(parts.uri.query())?;
    let page = match api.node.store().find_bucket(bucket) {
        None => ListPage { items: Vec::new(), has_more: false },
        Some(bucket) => {
            let place = place_to_walk(api).await?;
            let (node, wanted) = (Arc::clone(&api.node), wanted.clone());
            // A walk over a million keys takes a tenth of a second: not on a thread that serves.
            let walk = tokio::task::spawn_blocking(move || {
                let query = ListQuery {
                    prefix: &wanted.prefix,
                    after: &wanted.after,
                    delimiter: wanted.delimiter.as_deref(),
                    limit: wanted.limit,
                };
                node.store().list(&bucket, query, node.now(), KeyFacts::of)
            });
            let page = walk.await.map_err(|_| {
                Problem::busy("list-failed", "the listing was cut short; try again", 1)
            })?;
            drop(place);
            page
        }
    };
    let last = page.items.last().filter(|_| page.has_more);
    let cursor = last.map(|(name, _)| close_cursor(name));
    let link = cursor.as_ref().map(|cursor| wanted.next_page(bucket, cursor));
    let mut response = if wants_lines(&parts.headers) { lines(page) } else { json(page, cursor) };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    if let Some(link) = link {
        super::insert(headers, header::LINK, &format!("<{link}>; rel=\"next\""));
    }
    if parts.method == Method::HEAD {
        *response.body_mut() = axum::body::Body::empty();
    }
    Ok(response)
}

fn wants_lines(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut types = accept
        .flat_map(|line| line.split(','))
        .map(|member| member.split(';').next().unwrap_or_default().trim());
    types.any(|name| {
        ["application/x-ndjson", "application/ndjson"]
            .iter()
            .any(|lines| name.eq_ignore_ascii_case(lines))
    })
}

fn json(page: ListPage<KeyFacts>, cursor: Option<String>) -> Response {
    let (mut keys, mut prefixes, mut prefixes_b64) = (Vec::new(), Vec::new(), Vec::new());
    for (name, facts) in page.items {
        let name = Name::of(name);
        match (facts, name) {
            (Some(facts), name) => keys.push(Key { name, facts }),
            (None, Name { name: Some(prefix), .. }) => prefixes.push(prefix),
            (None, Name { name_b64, .. }) => prefixes_b64.extend(name_b64),
        }
    }
    axum::Json(Page { keys, prefixes, prefixes_b64, cursor }).into_response()
}

/// One object a line: a key as in JSON, or `{"prefix": …}`. The cursor is in the header Link.
fn lines(page: ListPage<KeyFacts>) -> Response {
    let mut text = String::new();
    for (name, facts) in page.items {
        let name = Name::of(name);
        let line = match facts {
            Some(facts) => serde_json::to_string(&Key { name, facts }),
            None => serde_json::to_string(&match name.name {
                Some(prefix) => serde_json::json!({ "prefix": prefix }),
                None => serde_json::json!({ "prefix_b64": name.name_b64 }),
            }),
        };
        text += &line.expect("strings and numbers always serialise");
        text.push('\n');
    }
    ([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response()
}

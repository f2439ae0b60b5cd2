//! GET and HEAD of a key: its bytes, or the part of them that was asked for.

use super::super::Api;
use super::super::attributes;
use super::super::query::Query;
use super::{
    empty, http_date, insert, modified_s, no_such_key, precondition_failed, preconditions,
    version_headers,
};
use crate::problem::Problem;
use atoll_core::clock::Stamp;
use atoll_core::entry::{Attributes, Deadline};
use atoll_core::http::conditional::{Access, Current, Verdict, if_range_holds};
use atoll_core::http::range::{self, Selection};
use atoll_core::key::BucketName;
use atoll_core::store::view::{Version, View};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::sync::Arc;

/// What is taken out of the store under the lock: a handle on a large value, never its bytes.
struct Found {
    bytes: Bytes,
    version: Version,
    stamp: Stamp,
    deadline: Deadline,
    attributes: Option<Arc<Attributes>>,
}

impl Found {
    fn of(view: View<'_>) -> Found {
        Found {
            bytes: view.value().to_bytes(),
            version: view.version(),
            stamp: view.stamp(),
            deadline: view.deadline(),
            attributes: view.attributes().cloned(),
        }
    }
}

/// Answers with 200, 206, 304, 404, 412 or 416.
pub(super) fn get(
    api: &Api,
    bucket: &BucketName,
    key: &[u8],
    parts: &Parts,
) -> Result<Response, Problem> {
    Query::parse(parts.uri.query(), &[])?;
    let preconditions = preconditions(&parts.headers)?;
    let (store, now) = (api.node.store(), api.node.now());
    let bucket = store.find_bucket(bucket).ok_or_else(no_such_key)?;
    let found = store.read(&bucket, key, now, |view| view.map(Found::of));
    let found = found.ok_or_else(no_such_key)?;
    let (tag, modified_s) = (found.version.to_string(), modified_s(found.stamp, now));
    match preconditions.evaluate(Access::Read, Some(Current { tag: &tag, modified_s })) {
        Verdict::Failed => return Err(precondition_failed()),
        Verdict::NotModified => {
            let mut response = empty(StatusCode::NOT_MODIFIED);
            version_headers(&found.version, found.deadline, response.headers_mut());
            insert(response.headers_mut(), header::CACHE_CONTROL, "no-cache");
            return Ok(response);
        }
        Verdict::Proceed => {}
    }
    let length = found.bytes.len();
    let mut response = match select(parts, &tag, length as u64) {
        Selection::Whole => full(found.bytes.clone()),
        Selection::Part { first, last } => {
            // Within the value, which is in memory.
            let part = found.bytes.slice(first as usize..=last as usize);
            let mut response = full(part);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{last}/{length}");
            insert(response.headers_mut(), header::CONTENT_RANGE, &range);
            response
        }
        Selection::Unsatisfiable => return Err(unsatisfiable(length)),
    };
    let headers = response.headers_mut();
    version_headers(&found.version, found.deadline, headers);
    insert(headers, header::LAST_MODIFIED, &http_date(modified_s));
    insert(headers, header::CACHE_CONTROL, "no-cache");
    insert(headers, header::ACCEPT_RANGES, "bytes");
    attributes::into_headers(found.attributes.as_deref(), headers);
    if parts.method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    Ok(response)
}

fn full(bytes: Bytes) -> Response {
    let length = HeaderValue::from(bytes.len());
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

/// What Range selects: for GET only, once, and only of the version that If-Range names.
fn select(parts: &Parts, tag: &str, length: u64) -> Selection {
    let single = |headers: &HeaderMap, name| {
        let mut lines = headers.get_all(name).iter();
        lines.next().filter(|_| lines.next().is_none()).cloned()
    };
    let Some(field) = single(&parts.headers, header::RANGE) else { return Selection::Whole };
    let is_current = match parts.headers.get(header::IF_RANGE) {
        Some(named) => if_range_holds(named.as_bytes(), tag),
        None => true,
    };
    if parts.method != Method::GET || !is_current {
        return Selection::Whole;
    }
    range::select(field.as_bytes(), length)
}

fn unsatisfiable(length: usize) -> Problem {
    let detail = format!("the value has {length} bytes, and none of them were asked for");
    let range =
        HeaderValue::from_str(&format!("bytes */{length}")).expect("digits are visible ASCII");
    Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", detail)
        .with_header(header::CONTENT_RANGE, range)
}

//! `/v1/kv/...`: buckets and their keys.
//!
//! The rest of the path is taken as it was sent, so one route holds all of it and this file tells
//! keys, buckets and batches apart.

mod batch;
mod consistency;
mod list;
mod name;
mod patch;
mod read;
mod watch;
mod write;

use super::Api;
use super::path::Target;
use super::query::seconds_text;
use crate::handlers::watch::carried;
use crate::problem::Problem;
use atoll_core::clock::{Now, Stamp};
use atoll_core::entry::Deadline;
use atoll_core::http::conditional::{Access, Current, Preconditions, TagList, Verdict};
use atoll_core::key::BucketName;
use atoll_core::store::edit::{Edit, WriteError, Written};
use atoll_core::store::gate::Obstacle;
use atoll_core::store::view::{Version, View};
use atoll_core::store::{Bucket, TooManyBuckets};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use consistency::{Copies, catch_up, conclude, write_query};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// When a value ends, in seconds since the Unix epoch.
const EXPIRES_AT: HeaderName = HeaderName::from_static("atoll-expires-at");

pub(super) fn router() -> Router<Arc<Api>> {
    // The first route only gives the root itself the same answers as what lies below it.
    Router::new().route("/v1/kv/", any(answer)).route("/v1/kv/{*rest}", any(answer))
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    match api.handlers.cause(request.headers()) {
        None => answer_client(api, request).await,
        Some(told) => carried::caused(told, answer_client(api, request)).await,
    }
}

async fn answer_client(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    match (Target::parse(parts.uri.path())?, &parts.method) {
        (Target::Key(bucket, key), &Method::GET | &Method::HEAD) => {
            admit_read(&api, &parts.headers).await?;
            read::get(&api, &bucket, &key, &parts)
        }
        (Target::Key(bucket, key), &Method::PUT | &Method::DELETE | &Method::PATCH) => {
            change(&api, (&bucket, &key), (&parts, body)).await
        }
        (Target::Key(..), _) => Err(Problem::method_not_allowed("GET, HEAD, PUT, PATCH, DELETE")),
        (Target::Bucket(bucket), &Method::GET | &Method::HEAD) => {
            admit_read(&api, &parts.headers).await?;
            if watch::is_asked_for(&parts) {
                watch::watch(&api, bucket, &parts)
            } else {
                list::list(&api, &bucket, &parts).await
            }
        }
        (Target::Bucket(_), _) => Err(Problem::method_not_allowed("GET, HEAD")),
        (Target::Batch(bucket), &Method::POST) => {
            let copies = Copies::of(&write_query(parts.uri.query(), &[])?)?;
            // Each of its operations asks for itself whether it may.
            catch_up(&api, &parts.headers).await?;
            let response = batch::batch(&api, bucket, (&parts, body)).await?;
            Ok(conclude(&api, copies, response).await)
        }
        (Target::Batch(_), _) => Err(Problem::method_not_allowed("POST")),
    }
}

/// PUT, DELETE and PATCH of a key. What can be refused is refused before the body is read.
async fn change(
    api: &Api,
    (bucket, key): (&BucketName, &[u8]),
    (parts, body): (&Parts, Body),
) -> Result<Response, Problem> {
    let own: &[&str] = if parts.method == Method::PUT { &["ttl", "expires_at"] } else { &[] };
    let query = write_query(parts.uri.query(), own)?;
    let copies = Copies::of(&query)?;
    api.node.permission().write()?;
    // A write that follows another must come after it: by its stamp too, which it does once this
    // node has seen that other.
    catch_up(api, &parts.headers).await?;
    let response = match parts.method {
        Method::PUT => {
            let lifetime = query.lifetime()?;
            write::put(api, bucket, key, (lifetime, parts, body)).await?
        }
        Method::DELETE => write::delete(api, bucket, key, parts)?,
        _ => patch::patch(api, bucket, key, (parts, body)).await?,
    };
    Ok(conclude(api, copies, response).await)
}

/// Whether a read may be answered, and from when on.
async fn admit_read(api: &Api, headers: &HeaderMap) -> Result<(), Problem> {
    api.node.permission().read()?;
    catch_up(api, headers).await
}

impl Api {
    /// Makes a write of a client, or of whom a watcher's call has led here.
    fn write<'v, R>(
        &self,
        (bucket, key): (&Arc<Bucket>, &[u8]),
        now: Now,
        decide: impl FnOnce(Option<View<'_>>) -> (Edit<'v>, R),
    ) -> Result<Written<R>, Problem> {
        let write = || self.node.store().write(bucket, key, now, decide).map_err(Problem::from);
        self.handlers.write_of_request((bucket.name(), key), write)
    }
}

/// The preconditions of a request. A list of tags that is none is an error; a date that is none is
/// ignored, as RFC 9110 13.1.3 asks.
fn preconditions(headers: &HeaderMap) -> Result<Preconditions, Problem> {
    let tags = |name: HeaderName| {
        let mut lines = headers.get_all(&name).iter().map(HeaderValue::as_bytes).peekable();
        if lines.peek().is_none() {
            return Ok(None);
        }
        TagList::parse(lines)
            .map(Some)
            .map_err(|error| Problem::bad_request("bad-precondition", format!("{name}: {error}")))
    };
    let date = |name: HeaderName| {
        let date = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()?;
        Some(date.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    };
    Ok(Preconditions {
        if_match: tags(header::IF_MATCH)?,
        if_unmodified_since_s: date(header::IF_UNMODIFIED_SINCE),
        if_none_match: tags(header::IF_NONE_MATCH)?,
        if_modified_since_s: date(header::IF_MODIFIED_SINCE),
    })
}

/// Whether a write may go on that sees `view`. Called under the key's lock, so that nothing comes
/// between the look and the write; a write on another node may (newest wins, there as here).
/// Dates are compared with the one that a read of the key would give.
fn may_write(preconditions: &Preconditions, view: Option<&View<'_>>, now: Now) -> bool {
    if preconditions.is_empty() {
        return true;
    }
    let seen = view.map(|view| (view.version().to_string(), modified_s(view.stamp(), now)));
    let current = seen.as_ref().map(|(tag, modified_s)| Current { tag, modified_s: *modified_s });
    preconditions.evaluate(Access::Write, current) == Verdict::Proceed
}

/// The version that a write has made. It has reset every counter cell that it saw.
fn version_of(stamp: Stamp) -> Version {
    Version { stamp, cells: 0 }
}

/// The entity tag of a version, in its quotes.
fn entity_tag(version: impl Display) -> String {
    format!("\"{version}\"")
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    let value = HeaderValue::from_str(text).expect("numbers, dates and tags are visible ASCII");
    headers.insert(name, value);
}

/// The headers that name a version and its end.
fn version_headers(version: &Version, deadline: Deadline, headers: &mut HeaderMap) {
    insert(headers, header::ETAG, &entity_tag(version));
    if let Some(at_ms) = deadline.millis() {
        insert(headers, EXPIRES_AT, &seconds_text(at_ms));
    }
}

/// The second of the latest write, never after now: RFC 9110 8.8.2.1.
fn modified_s(stamp: Stamp, now: Now) -> u64 {
    stamp.hlc.millis().min(now.millis()) / 1_000
}

fn http_date(at_s: u64) -> String {
    // Far below the year 9999, which the formatter ends at: a stamp has 53 bits of microseconds.
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at_s))
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn precondition_failed() -> Problem {
    let detail = "the key is not in the state that the request asks for; read it again";
    Problem::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", detail)
}

fn no_such_key() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-key", "there is no such key in this bucket")
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Problem {
        match error {
            WriteError::Full { .. } => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "memory-full", error.to_string())
            }
            WriteError::TooLarge { .. } => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", error.to_string())
            }
            WriteError::Obstacle(obstacle) => obstacle.into(),
        }
    }
}

impl From<Obstacle> for Problem {
    fn from(obstacle: Obstacle) -> Problem {
        let detail = obstacle.to_string();
        match obstacle {
            Obstacle::Loading => Problem::busy("loading", detail, 1),
            Obstacle::Disk => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk", detail),
        }
    }
}

impl From<TooManyBuckets> for Problem {
    fn from(error: TooManyBuckets) -> Problem {
        Problem::new(StatusCode::INSUFFICIENT_STORAGE, "too-many-buckets", error.to_string())
    }
}

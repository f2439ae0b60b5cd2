//! PATCH of a key: count, or move its end, without sending its value.

use super::super::Api;
use super::super::limits::PATCH_BYTES_MAX;
use super::super::query::{Lifetime, seconds_number};
use super::{
    may_write, no_such_key, precondition_failed, preconditions, version_headers, version_of,
};
use crate::problem::Problem;
use atoll_core::clock::Now;
use atoll_core::entry::Deadline;
use atoll_core::http::conditional::Preconditions;
use atoll_core::key::BucketName;
use atoll_core::store::edit::Edit;
use atoll_core::store::view::{ValueRef, Version, View};
use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde::Deserialize;
use serde_json::json;

const FORM: &str = "write {\"incr\": n} or {\"incr\": n, \"ttl\": seconds}, {\"expire\": seconds} or \
                    {\"persist\": true}";

/// The document as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    incr: Option<i64>,
    ttl: Option<f64>,
    expire: Option<f64>,
    persist: Option<bool>,
}

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Patch {
    /// Add to the integer, which begins at 0. The lifetime is that of a counter that begins here.
    Count(i64, Lifetime),
    /// Another end for what is there.
    End(Lifetime),
}

impl Patch {
    fn parse(body: &[u8]) -> Result<Patch, Problem> {
        let bad = |detail: String| Problem::bad_request("bad-patch", detail);
        let sent: Sent =
            serde_json::from_slice(body).map_err(|error| bad(format!("{error}; {FORM}")))?;
        match sent {
            Sent { incr: Some(delta), ttl, expire: None, persist: None } => {
                Ok(Patch::Count(delta, Lifetime::new(ttl, None)?))
            }
            Sent { incr: None, ttl: None, expire: Some(seconds), persist: None } => {
                Ok(Patch::End(Lifetime::new(Some(seconds), None)?))
            }
            Sent { incr: None, ttl: None, expire: None, persist: Some(true) } => {
                Ok(Patch::End(Lifetime::Endless))
            }
            _ => Err(bad(FORM.to_owned())),
        }
    }
}

/// Answers with 200 and a small JSON document.
pub(super) async fn patch(
    api: &Api,
    bucket: &BucketName,
    key: &[u8],
    (parts, body): (&Parts, Body),
) -> Result<Response, Problem> {
    let preconditions = preconditions(&parts.headers)?;
    let gathered = api.uploads.gather(&parts.headers, body, PATCH_BYTES_MAX).await?;
    let now = api.node.now();
    match Patch::parse(&gathered.bytes)? {
        Patch::Count(delta, lifetime) => {
            let deadline = lifetime.deadline(now)?;
            let value = count(api, bucket, key, Step { delta, deadline, now, preconditions })?;
            // No tag: a counter's version takes in what other nodes have counted, and by the time
            // of a second look somebody may have counted on.
            Ok(Json(json!({ "value": value })).into_response())
        }
        Patch::End(lifetime) => {
            let deadline = lifetime.deadline(now)?;
            let version = end(api, bucket, key, (deadline, now, &preconditions))?;
            let expires_at = deadline.millis().map(seconds_number);
            let mut response = Json(json!({ "expires_at": expires_at })).into_response();
            version_headers(&version, deadline, response.headers_mut());
            Ok(response)
        }
    }
}

/// One increment.
struct Step {
    delta: i64,
    deadline: Deadline,
    now: Now,
    preconditions: Preconditions,
}

/// Adds and returns the sum.
fn count(api: &Api, bucket: &BucketName, key: &[u8], step: Step) -> Result<i64, Problem> {
    let store = api.node.store();
    let Step { delta, deadline, now, preconditions } = step;
    let refuse = |code, detail| Problem::new(StatusCode::CONFLICT, code, detail);
    let bucket = store.open_bucket(bucket)?;
    let decide = |view: Option<View<'_>>| {
        if !may_write(&preconditions, view.as_ref(), now) {
            return Err(precondition_failed());
        }
        let before = match view.map(|view| view.value().as_integer()) {
            None => 0,
            Some(Some(before)) => before,
            Some(None) => {
                return Err(refuse("not-an-integer", "the value is not a 64-bit decimal integer"));
            }
        };
        before.checked_add(delta).ok_or_else(|| refuse("overflow", "the sum would exceed 64 bits"))
    };
    let written = api.write((&bucket, key), now, |view| match decide(view) {
        Ok(sum) => (Edit::Add { delta, deadline }, Ok(sum)),
        Err(problem) => (Edit::Keep, Err(problem)),
    })?;
    written.answer
}

/// Gives what is there another end and returns its version.
fn end(
    api: &Api,
    bucket: &BucketName,
    key: &[u8],
    (deadline, now, preconditions): (Deadline, Now, &Preconditions),
) -> Result<Version, Problem> {
    let store = api.node.store();
    let bucket = store.find_bucket(bucket).ok_or_else(no_such_key)?;
    let decide = |view: Option<View<'_>>| {
        let view = view.ok_or_else(no_such_key)?;
        if !may_write(preconditions, Some(&view), now) {
            return Err(precondition_failed());
        }
        // Only its owners can change the end of a counter's cells, so it becomes a plain version.
        let is_counter = matches!(view.value(), ValueRef::Counter(_));
        Ok((!is_counter).then(|| view.version()))
    };
    let written = api.write((&bucket, key), now, |view| match decide(view) {
        Ok(kept) => (Edit::Expire(deadline), Ok(kept)),
        Err(problem) => (Edit::Keep, Err(problem)),
    })?;
    let kept = written.answer?;
    let made = written.stamp.map(version_of);
    kept.or(made).ok_or_else(no_such_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, want: Option<Patch>) {
        assert_eq!(Patch::parse(body.as_bytes()).ok(), want, "{body}");
    }

    #[test]
    fn a_patch_asks_for_one_thing() {
        check(r#"{"incr":-3}"#, Some(Patch::Count(-3, Lifetime::Endless)));
        check(r#"{"incr":1,"ttl":1.5}"#, Some(Patch::Count(1, Lifetime::For(1_500))));
        check(r#"{"expire":60}"#, Some(Patch::End(Lifetime::For(60_000))));
        check(r#"{"persist":true}"#, Some(Patch::End(Lifetime::Endless)));
        for bad in [
            "",
            "{}",
            "[]",
            "1",
            r#"{"persist":false}"#,
            r#"{"incr":1,"expire":1}"#,
            r#"{"incr":1.5}"#,
            r#"{"incr":"1"}"#,
            r#"{"incr":9223372036854775808}"#,
            r#"{"expire":0}"#,
            r#"{"expire":-1}"#,
            r#"{"expire":1,"ttl":1}"#,
            r#"{"ttl":1}"#,
            r#"{"incr":1,"what":1}"#,
            r#"{"incr":1}{"incr":1}"#,
        ] {
            check(bad, None);
        }
    }
}

//! POST of `{bucket}:batch`: many operations in one request, one JSON object a line each way.
//!
//! Operations are carried out in order, each by itself: a batch is not a transaction. Every line
//! gets an answer with a status, also one that is no operation.

use super::super::Api;
use super::super::attributes::Given;
use super::super::limits::{BATCH_ANSWER_BYTES_MAX, BATCH_BYTES_MAX, BATCH_OP_COUNT_MAX};
use super::super::query::{Lifetime, seconds_number};
use super::list::place_to_walk;
use super::write::{self, NewVersion};
use super::{entity_tag, no_such_key, version_of};
use crate::problem::Problem;
use atoll_core::entry::Deadline;
use atoll_core::http::conditional::{Preconditions, TagList};
use atoll_core::key::{BucketName, check_key};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A line as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    op: Op,
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    ttl: Option<f64>,
    expires_at: Option<f64>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    content_type: Option<String>,
    /// Any JSON.
    meta: Option<serde_json::Value>,
    tags: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Op {
    Get,
    Put,
    Delete,
}

/// What came of a line.
#[derive(Debug, Default, Serialize)]
struct Answer {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Answers with 200 and as many lines as there are operations.
pub(super) async fn batch(
    api: &Arc<Api>,
    bucket: BucketName,
    (parts, body): (&Parts, Body),
) -> Result<Response, Problem> {
    let gathered = api.uploads.gather(&parts.headers, body, BATCH_BYTES_MAX).await?;
    let lines = gathered.bytes.split(|&byte| byte == b'\n');
    if lines.filter(|line| !line.trim_ascii().is_empty()).count() > BATCH_OP_COUNT_MAX {
        let detail = format!("a batch has at most {BATCH_OP_COUNT_MAX} operations; send several");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-operations", detail));
    }
    let place = place_to_walk(api).await?;
    let shared = Arc::clone(api);
    // Megabytes of JSON: not on a thread that serves.
    let work = tokio::task::spawn_blocking(move || run(&shared, &bucket, &gathered.bytes));
    let text = work.await.map_err(|_| {
        let detail = "the batch was cut short; some of its operations may have been carried out";
        Problem::busy("batch-failed", detail, 1)
    })?;
    drop(place);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

fn run(api: &Api, bucket: &BucketName, body: &[u8]) -> String {
    let mut text = String::new();
    let mut value_bytes_left = BATCH_ANSWER_BYTES_MAX;
    for line in body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let answer = match serde_json::from_slice::<Line>(line) {
            Ok(line) => {
                let (key, key_b64) = (line.key.clone(), line.key_b64.clone());
                let answer = carry_out(api, bucket, line, &mut value_bytes_left);
                Answer { key, key_b64, ..answer.unwrap_or_else(|problem| Answer::from(&problem)) }
            }
            Err(error) => {
                let problem = Problem::bad_request("bad-operation", error.to_string());
                Answer::from(&problem)
            }
        };
        text += &serde_json::to_string(&answer).expect("strings and numbers always serialise");
        text.push('\n');
    }
    text
}

impl From<&Problem> for Answer {
    fn from(problem: &Problem) -> Answer {
        Answer {
            status: problem.status().as_u16(),
            code: Some(problem.code()),
            detail: Some(problem.detail().to_owned()),
            ..Answer::default()
        }
    }
}

fn carry_out(
    api: &Api,
    bucket: &BucketName,
    line: Line,
    value_bytes_left: &mut usize,
) -> Result<Answer, Problem> {
    let key = either("key", line.key.as_deref(), line.key_b64.as_deref())?
        .ok_or_else(|| Problem::bad_request("bad-key", "key or key_b64 is missing"))?;
    check_key(&key).map_err(|error| Problem::bad_request("bad-key", error.to_string()))?;
    line.check_fields()?;
    let permission = api.node.permission();
    if line.op == Op::Get { permission.read() } else { permission.write() }?;
    match line.op {
        Op::Get => get(api, bucket, &key, value_bytes_left),
        Op::Put => put(api, bucket, &key, line),
        Op::Delete => {
            write::remove(api, bucket, &key, &line.preconditions()?)?;
            Ok(Answer { status: StatusCode::NO_CONTENT.as_u16(), ..Answer::default() })
        }
    }
}

impl Line {
    /// A field that an operation has no use for is a mistake of its writer.
    fn check_fields(&self) -> Result<(), Problem> {
        let of_put = self.value.is_some()
            || self.value_b64.is_some()
            || self.ttl.is_some()
            || self.expires_at.is_some()
            || self.content_type.is_some()
            || self.meta.is_some()
            || self.tags.is_some();
        let of_write = self.if_match.is_some() || self.if_none_match.is_some();
        match self.op {
            Op::Get if of_put || of_write => {
                Err(Problem::bad_request("bad-operation", "a get takes op and key only"))
            }
            Op::Delete if of_put => {
                let detail = "a delete takes op, key, if_match and if_none_match only";
                Err(Problem::bad_request("bad-operation", detail))
            }
            _ => Ok(()),
        }
    }

    fn preconditions(&self) -> Result<Preconditions, Problem> {
        let tags = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => TagList::parse([text.as_bytes()])
                .map(Some)
                .map_err(|error| Problem::bad_request("bad-precondition", error.to_string())),
        };
        Ok(Preconditions {
            if_match: tags(&self.if_match)?,
            if_none_match: tags(&self.if_none_match)?,
            ..Preconditions::default()
        })
    }
}

/// The bytes of a field that is text or, under another name, base64.
fn either(
    name: &str,
    text: Option<&str>,
    base64: Option<&str>,
) -> Result<Option<Vec<u8>>, Problem> {
    let bad = |what| Problem::bad_request("bad-operation", format!("{name}_b64 {what}"));
    match (text, base64) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(text.as_bytes().to_vec())),
        (None, Some(base64)) => STANDARD.decode(base64).map(Some).map_err(|_| bad("is no base64")),
        (Some(_), Some(_)) => Err(bad("and the same as text are both given; choose one")),
    }
}

fn get(
    api: &Api,
    bucket: &BucketName,
    key: &[u8],
    value_bytes_left: &mut usize,
) -> Result<Answer, Problem> {
    let (store, now) = (api.node.store(), api.node.now());
    let bucket = store.find_bucket(bucket).ok_or_else(no_such_key)?;
    let found = store.read(&bucket, key, now, |view| {
        view.map(|view| {
            let attributes = view.attributes().cloned();
            (view.value().to_bytes(), view.version(), view.deadline(), attributes)
        })
    });
    let (bytes, version, deadline, attributes) = found.ok_or_else(no_such_key)?;
    *value_bytes_left = value_bytes_left.checked_sub(bytes.len()).ok_or_else(|| {
        let detail = format!(
            "the values of a batch have at most {BATCH_ANSWER_BYTES_MAX} bytes; read this key alone"
        );
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "answer-too-large", detail)
    })?;
    let (value, value_b64) = match std::str::from_utf8(&bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(&bytes))),
    };
    let content_type = attributes.and_then(|a| a.content_type.as_deref().map(str::to_owned));
    Ok(Answer {
        status: StatusCode::OK.as_u16(),
        value,
        value_b64,
        etag: Some(entity_tag(version)),
        expires_at: seconds(deadline),
        content_type,
        ..Answer::default()
    })
}

fn put(api: &Api, bucket: &BucketName, key: &[u8], line: Line) -> Result<Answer, Problem> {
    let bytes = either("value", line.value.as_deref(), line.value_b64.as_deref())?
        .ok_or_else(|| Problem::bad_request("bad-operation", "a put has value or value_b64"))?;
    let meta = line.meta.as_ref().map(serde_json::Value::to_string);
    let given = Given {
        content_type: line.content_type.as_deref(),
        meta: meta.as_deref(),
        tags: line.tags.iter().flatten().map(String::as_str).collect(),
    };
    let new = NewVersion {
        bytes: Bytes::from(bytes),
        lifetime: Lifetime::new(line.ttl, line.expires_at)?,
        attributes: given.check()?,
        preconditions: line.preconditions()?,
    };
    let put = write::store(api, bucket, key, new)?;
    Ok(Answer {
        status: put.status.as_u16(),
        etag: Some(entity_tag(version_of(put.stamp))),
        expires_at: seconds(put.deadline),
        ..Answer::default()
    })
}

fn seconds(deadline: Deadline) -> Option<serde_json::Number> {
    deadline.millis().map(seconds_number)
}

//! PUT and DELETE of a key, and the parts of a write that a batch shares with them.

use super::super::Api;
use super::super::attributes;
use super::super::query::Lifetime;
use super::{empty, may_write, precondition_failed, preconditions, version_headers, version_of};
use crate::problem::Problem;
use crate::upload;
use atoll_core::clock::Stamp;
use atoll_core::entry::{Attributes, Deadline};
use atoll_core::http::conditional::Preconditions;
use atoll_core::key::BucketName;
use atoll_core::limits::VALUE_BYTES_MAX;
use atoll_core::store::edit::{Edit, NewValue, WriteError};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use std::sync::Arc;

/// A value that is to be written, with all that was said about it.
#[derive(Debug)]
pub(super) struct NewVersion {
    pub(super) bytes: Bytes,
    pub(super) lifetime: Lifetime,
    pub(super) attributes: Option<Arc<Attributes>>,
    pub(super) preconditions: Preconditions,
}

/// A write that was made.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) stamp: Stamp,
    pub(super) deadline: Deadline,
    /// 201 where there was nothing, 204 where there was.
    pub(super) status: StatusCode,
}

/// Answers with 201 or 204. What can be refused is refused before the body is read.
pub(super) async fn put(
    api: &Api,
    bucket: &BucketName,
    key: &[u8],
    (lifetime, parts, body): (Lifetime, &Parts, Body),
) -> Result<Response, Problem> {
    lifetime.deadline(api.node.now())?;
    let attributes = attributes::of_headers(&parts.headers)?;
    let preconditions = preconditions(&parts.headers)?;
    check_room(api, upload::announced_bytes(&parts.headers, &body))?;
    check_before_reading(api, bucket, key, &preconditions)?;
    // Its place in the budget is kept until the store holds the bytes.
    let gathered = api.uploads.gather(&parts.headers, body, VALUE_BYTES_MAX).await?;
    let bytes = gathered.bytes.clone();
    let put = store(api, bucket, key, NewVersion { bytes, lifetime, attributes, preconditions })?;
    let mut response = empty(put.status);
    version_headers(&version_of(put.stamp), put.deadline, response.headers_mut());
    Ok(response)
}

/// A body that would not fit into the store need not be sent. One over the limit gets 413 instead.
fn check_room(api: &Api, announced_bytes: Option<u64>) -> Result<(), Problem> {
    let store = api.node.store();
    let (used, max) = (store.used_bytes(), store.memory_bytes_max());
    let announced = announced_bytes.unwrap_or_default();
    if announced <= VALUE_BYTES_MAX as u64 && announced.saturating_add(used as u64) > max as u64 {
        return Err(WriteError::Full { used, max }.into());
    }
    Ok(())
}

/// A write whose preconditions do not hold need not send its body.
fn check_before_reading(
    api: &Api,
    bucket: &BucketName,
    key: &[u8],
    preconditions: &Preconditions,
) -> Result<(), Problem> {
    let (store, now) = (api.node.store(), api.node.now());
    let may = match store.find_bucket(bucket) {
        Some(bucket) => {
            store.read(&bucket, key, now, |view| may_write(preconditions, view.as_ref(), now))
        }
        None => may_write(preconditions, None, now),
    };
    if may { Ok(()) } else { Err(precondition_failed()) }
}

/// Writes a new version, if its preconditions hold at that moment on this node.
pub(super) fn store(
    api: &Api,
    bucket: &BucketName,
    key: &[u8],
    new: NewVersion,
) -> Result<Put, Problem> {
    let (store, now) = (api.node.store(), api.node.now());
    let deadline = new.lifetime.deadline(now)?;
    let bucket = store.open_bucket(bucket)?;
    let NewVersion { bytes, attributes, preconditions, .. } = new;
    let written = api.write((&bucket, key), now, |view| {
        if !may_write(&preconditions, view.as_ref(), now) {
            return (Edit::Keep, None);
        }
        let status = if view.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
        let value = NewValue::Shared(bytes);
        (Edit::Set { value, deadline, attributes }, Some(status))
    })?;
    match (written.answer, written.stamp) {
        (Some(status), Some(stamp)) => Ok(Put { stamp, deadline, status }),
        _ => Err(precondition_failed()),
    }
}

/// Answers with 204, also where there was nothing.
pub(super) fn delete(
    api: &Api,
    bucket: &BucketName,
    key: &[u8],
    parts: &Parts,
) -> Result<Response, Problem> {
    remove(api, bucket, key, &preconditions(&parts.headers)?)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Deletes a key, if the preconditions hold at that moment on this node.
pub(super) fn remove(
    api: &Api,
    bucket: &BucketName,
    key: &[u8],
    preconditions: &Preconditions,
) -> Result<(), Problem> {
    let (store, now) = (api.node.store(), api.node.now());
    let may = match store.find_bucket(bucket) {
        None => may_write(preconditions, None, now),
        Some(bucket) => {
            let written = api.write((&bucket, key), now, |view| {
                let may = may_write(preconditions, view.as_ref(), now);
                (if may { Edit::Delete } else { Edit::Keep }, may)
            })?;
            written.answer
        }
    };
    if may { Ok(()) } else { Err(precondition_failed()) }
}

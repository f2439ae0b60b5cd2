//! GET of a bucket with `?watch=PREFIX`: its changes as server-sent events, while they happen.
//!
//! A watcher is a position in the op log. It is handed a few changes at a time, as fast as its
//! client reads, so it holds next to nothing; one that the log has left behind is told so (`reset`)
//! and lists again. Ids are `ORIGIN.POSITION`: what to read next, and in which process's log. A key
//! that expires makes no event: its end was told when it was written.

use super::super::Api;
use super::super::events;
use super::super::limits::{WATCH_KEEP_ALIVE, WATCH_PAUSE, WATCH_STEP_MAX};
use super::super::query::{Query, seconds_number};
use super::name::Name;
use super::{entity_tag, version_of};
use crate::node::Node;
use crate::problem::Problem;
use atoll_core::entry::Deadline;
use atoll_core::entry::op::{Change, Effect, Op};
use atoll_core::key::BucketName;
use atoll_core::limits::KEY_BYTES_MAX;
use atoll_core::store::log::LogRead;
use atoll_core::store::view::View;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What a client is told of a change.
#[derive(Debug, Serialize)]
struct KeyEvent {
    #[serde(flatten)]
    name: Name,
    /// What of the key changed: `value`, `lifetime` or `count`. Not known of what came by a sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    /// Seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<serde_json::Number>,
}

/// A reader of the log, for as long as it lives.
#[derive(Debug)]
struct Subscription {
    node: Arc<Node>,
    start: u64,
}

impl Subscription {
    fn new(node: Arc<Node>) -> Subscription {
        let start = node.store().log_subscribe();
        Subscription { node, start }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.node.store().log_unsubscribe(self.node.now());
    }
}

/// One client's watch.
struct Watcher {
    subscription: Subscription,
    bucket: BucketName,
    prefix: Vec<u8>,
    position: u64,
    grown: watch::Receiver<()>,
    shutdown: CancellationToken,
    /// What to say before anything happens.
    greeting: Option<String>,
    _place: OwnedSemaphorePermit,
}

/// Whether a request for a bucket is one for its changes.
pub(super) fn is_asked_for(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    query.split('&').any(|pair| pair.split('=').next() == Some("watch"))
}

/// Answers with 200 and a stream that ends when the node does.
pub(super) fn watch(
    api: &Arc<Api>,
    bucket: BucketName,
    parts: &Parts,
) -> Result<Response, Problem> {
    let query = Query::parse(parts.uri.query(), &["watch"])?;
    let prefix = query.get("watch").unwrap_or_default().to_vec();
    if prefix.len() > KEY_BYTES_MAX {
        let detail = format!("a prefix has at most {KEY_BYTES_MAX} bytes");
        return Err(Problem::bad_request("bad-prefix", detail));
    }
    let place = events::place(api)?;
    let mut response = events::response(Body::empty());
    if parts.method == Method::HEAD {
        return Ok(response);
    }
    let node = Arc::clone(&api.node);
    let grown = node.log_grown();
    let subscription = Subscription::new(node);
    let (position, greeting) = resume(&parts.headers, &subscription);
    let shutdown = api.shutdown.clone();
    let greeting = Some(greeting);
    let watcher = Watcher {
        subscription,
        bucket,
        prefix,
        position,
        grown,
        shutdown,
        greeting,
        _place: place,
    };
    *response.body_mut() = Body::from_stream(stream::unfold(watcher, |mut watcher| async {
        let text = watcher.next_text().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), watcher))
    }));
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// Where a client goes on, and what it is told first. A client that names a place in the log of a
/// process that is gone, or none that makes sense, has missed changes.
fn resume(headers: &HeaderMap, subscription: &Subscription) -> (u64, String) {
    let (origin, start) = (subscription.node.store().origin(), subscription.start);
    let Some(last) = headers.get("last-event-id") else {
        // With the id a client can resume before its first event.
        return (start, format!("retry: 1000\n{}\n", id_line(origin, start)));
    };
    let named = last.to_str().ok().and_then(|text| {
        let (process, position) = text.split_once('.')?;
        Some((process.parse::<Uuid>().ok()?, position.parse::<u64>().ok()?))
    });
    match named {
        Some((process, position)) if process == origin => (position, "retry: 1000\n\n".to_owned()),
        _ => (start, format!("retry: 1000\n\n{}", reset_event(origin, start))),
    }
}

fn id_line(origin: Uuid, position: u64) -> String {
    format!("id: {origin}.{position}\n")
}

/// "You have missed changes: list again, and go on from here."
fn reset_event(origin: Uuid, position: u64) -> String {
    format!("event: reset\n{}data: {{}}\n\n", id_line(origin, position))
}

impl Watcher {
    /// What to send next, or `None` at the end. Waits for changes; says something from time to time
    /// where there are none, so that both sides notice a dead connection.
    async fn next_text(&mut self) -> Option<String> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        let shutdown = self.shutdown.clone();
        let origin = self.subscription.node.store().origin();
        loop {
            if shutdown.is_cancelled() {
                return None;
            }
            // Seen before the log is read: what comes after the read wakes the wait below.
            self.grown.borrow_and_update();
            match self.step() {
                Step::Text(text) => return Some(text),
                Step::NothingForUs => tokio::task::yield_now().await,
                Step::CaughtUp => {
                    let wait = timeout(WATCH_KEEP_ALIVE, self.grown.changed());
                    tokio::select! {
                        () = shutdown.cancelled() => return None,
                        waited = wait => match waited {
                            Ok(Ok(())) => {
                                // Others that are made in this moment come along.
                                sleep(WATCH_PAUSE).await;
                            }
                            Ok(Err(_)) => return None,
                            // The id moves on, so that a rare watcher does not fall behind.
                            Err(_) => {
                                let id = id_line(origin, self.position);
                                return Some(format!(": keep-alive\n{id}\n"));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Reads on in the log.
    fn step(&mut self) -> Step {
        let store = self.subscription.node.store();
        let origin = store.origin();
        match store.log_read(self.position, WATCH_STEP_MAX) {
            LogRead::Fallen { resume } => {
                self.position = resume;
                Step::Text(reset_event(origin, resume))
            }
            LogRead::Ops { ops, .. } if ops.is_empty() => Step::CaughtUp,
            LogRead::Ops { ops, next } => {
                let first = self.position;
                self.position = next;
                let mut text = String::new();
                for (op, after) in ops.iter().zip(first + 1..) {
                    self.write_event(&mut text, op, after);
                }
                if text.is_empty() { Step::NothingForUs } else { Step::Text(text) }
            }
        }
    }

    /// Appends the event of an op, if it is one that this client watches.
    fn write_event(&self, text: &mut String, op: &Op, next: u64) {
        let (kind, data) = match &op.effect {
            Effect::Flush { bucket } | Effect::RelayFlush { bucket, .. }
                if *bucket == self.bucket =>
            {
                ("flush", "{}".to_owned())
            }
            Effect::Relay { bucket, key, .. }
                if *bucket == self.bucket && key.starts_with(&self.prefix) =>
            {
                self.state_event(key)
            }
            Effect::Key { bucket, key, change }
                if *bucket == self.bucket && key.starts_with(&self.prefix) =>
            {
                key_event(key, change, op)
            }
            _ => return,
        };
        let id = id_line(self.subscription.node.store().origin(), next);
        writeln!(text, "event: {kind}\n{id}data: {data}\n").expect("a string takes any text");
    }

    /// The event of a key that changed outside of any stream: what it shows now.
    fn state_event(&self, key: &[u8]) -> (&'static str, String) {
        let node = &self.subscription.node;
        let bucket = node.store().find_bucket(&self.bucket);
        let look = |view: Option<View<'_>>| {
            view.map(|view| KeyEvent {
                name: Name::of(key.to_vec()),
                change: None,
                etag: Some(entity_tag(view.version())),
                size: Some(view.value().len()),
                expires_at: view.deadline().millis().map(seconds_number),
            })
        };
        let shown = bucket.and_then(|bucket| node.store().read(&bucket, key, node.now(), look));
        match shown {
            Some(event) => ("put", event.json()),
            None => ("delete", KeyEvent::of(key).json()),
        }
    }
}

/// What came of a look at the log.
enum Step {
    Text(String),
    NothingForUs,
    CaughtUp,
}

fn key_event(key: &[u8], change: &Change, op: &Op) -> (&'static str, String) {
    let event = KeyEvent::of(key);
    let expires_at = |deadline: Deadline| deadline.millis().map(seconds_number);
    let (kind, event) = match change {
        Change::Delete { .. } => ("delete", event),
        Change::Set { value, deadline, .. } => {
            let (etag, size) = (entity_tag(version_of(op.stamp)), value.bytes.len());
            let (etag, size, expires_at) = (Some(etag), Some(size), expires_at(*deadline));
            ("put", KeyEvent { change: Some("value"), etag, size, expires_at, ..event })
        }
        Change::Touch { deadline, .. } => {
            let expires_at = expires_at(*deadline);
            ("put", KeyEvent { change: Some("lifetime"), expires_at, ..event })
        }
        // The sum takes in what other nodes count: whoever needs it reads it.
        Change::Count { .. } => ("put", KeyEvent { change: Some("count"), ..event }),
    };
    (kind, event.json())
}

impl KeyEvent {
    fn of(key: &[u8]) -> KeyEvent {
        let name = Name::of(key.to_vec());
        KeyEvent { name, change: None, etag: None, size: None, expires_at: None }
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialise")
    }
}

//! `GET /v1/handlers/NAME/logs`: what a handler has logged on this node, and goes on to log.

use super::super::Api;
use super::super::events;
use super::super::limits::WATCH_KEEP_ALIVE;
use super::super::query::Query;
use super::{number, unknown};
use crate::handlers::logs::{HandlerLog, Line};
use crate::problem::Problem;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use serde::Serialize;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Lines that are told where nobody says how many.
const TAIL_DEFAULT: usize = 100;
/// Lines of one piece of a stream.
const STEP_MAX: usize = 100;

#[derive(Debug, Serialize)]
struct Lines {
    /// Lines of other nodes are theirs to tell.
    node: String,
    lines: Vec<Line>,
}

/// `?tail=COUNT` lines, as JSON, or with `?follow=1` as server-sent events that go on.
pub(super) async fn logs(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query(), &["tail", "follow"])?;
    let tail = number(&query, "tail", TAIL_DEFAULT)?;
    let release = api.handlers.get(&name).ok_or_else(|| unknown(&name))?;
    let log = Arc::clone(release.live.identity.kept_log());
    if query.get("follow").is_some() {
        return follow(&api, (name, log), tail, request.headers());
    }
    let (lines, _) = log.since(log.tail(tail), usize::MAX);
    Ok(Json(Lines { node: api.node.name().to_owned(), lines }).into_response())
}

/// One client that follows.
struct Follower {
    api: Arc<Api>,
    name: String,
    log: Arc<HandlerLog>,
    next: u64,
    grown: watch::Receiver<u64>,
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
}

fn follow(
    api: &Arc<Api>,
    (name, log): (String, Arc<HandlerLog>),
    tail: usize,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let place = events::place(api)?;
    let last = headers.get("last-event-id").and_then(|last| last.to_str().ok()?.parse().ok());
    let next = last.map(|last: u64| last.saturating_add(1)).filter(|next| *next <= log.next_seq());
    // A number that is not reached yet is of the log of a handler, or a process, that is gone.
    let next = next.unwrap_or_else(|| log.tail(if last.is_some() { usize::MAX } else { tail }));
    let (grown, shutdown) = (log.grown(), api.shutdown.clone());
    let follower =
        Follower { api: Arc::clone(api), name, log, next, grown, shutdown, _place: place };
    let lines = stream::unfold(follower, |mut follower| async {
        let text = follower.next_text().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), follower))
    });
    Ok(events::response(Body::from_stream(lines)))
}

impl Follower {
    /// Whether lines of the handler still go to this log: it may have been removed, and another of
    /// its name deployed.
    fn is_current(&self) -> bool {
        let release = self.api.handlers.get(&self.name);
        release.is_some_and(|release| Arc::ptr_eq(release.live.identity.kept_log(), &self.log))
    }

    /// What to send next, `None` when the node ends or the handler is gone. Something comes from time to time where nothing
    /// is logged, so that both sides notice a dead connection.
    async fn next_text(&mut self) -> Option<String> {
        loop {
            // Seen before the log is read: what comes after the read wakes the wait below.
            self.grown.borrow_and_update();
            let (lines, next) = self.log.since(self.next, STEP_MAX);
            self.next = next;
            if !lines.is_empty() {
                return Some(lines.iter().map(event).collect());
            }
            if !self.is_current() {
                return None;
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                waited = timeout(WATCH_KEEP_ALIVE, self.grown.changed()) => match waited {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return None,
                    Err(_) => return Some(":\n\n".to_owned()),
                }
            }
        }
    }
}

fn event(line: &Line) -> String {
    let mut text = format!("id: {}\ndata: ", line.seq);
    // Text and numbers always encode, and JSON has no line breaks.
    let _ = write!(text, "{}\n\n", serde_json::to_string(line).unwrap_or_default());
    text
}

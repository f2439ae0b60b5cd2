//! One request over HTTP/2 and its response.

use super::UpstreamError;
use super::body::Watched;
use super::connections::Seat;
use super::interim::Hints;
use super::limits::HEADER_COUNT_MAX;
use crate::http2::{self, Ended, Received};
use atoll_core::http_cache::fields::remove_of_the_connection;
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinHandle;
use tracing::debug;

/// Sends a request and waits for the head of the response. The server has `wait` to take each part
/// of the request's body. Dropping this, or the response, resets the stream.
pub(super) async fn exchange(
    seat: Arc<Seat>,
    request: Request<Watched>,
    hints: &Hints,
    wait: Duration,
) -> Result<Response<Download>, UpstreamError> {
    let (head, body) = with_fields_of_this_hop(request);
    let is_held = head.headers().contains_key(EXPECT);
    let is_whole = body.is_end_stream();
    let sent = seat.sender().send_request(head, is_whole);
    let (mut response, stream) = sent.map_err(|error| kind(&error))?;
    let progress = body.progress();
    let upload = (!is_whole).then(|| Upload::begin(body, stream, (Arc::clone(&seat), wait)));
    let head = std::future::poll_fn(|context| poll_head(&mut response, hints, context)).await?;
    let (parts, stream) = head.into_parts();
    if parts.headers.len() > HEADER_COUNT_MAX {
        return Err(UpstreamError::Broken);
    }
    // A body that the server has not asked for is not wanted once it has answered.
    let upload = upload.filter(|_| !is_held || progress.has_begun());
    let body = Received::new(stream, &parts.headers);
    Ok(Response::from_parts(parts, Download { body, upload, seat }))
}

/// The head as HTTP/2 has it (RFC 9113 section 8.2.2), and the body.
fn with_fields_of_this_hop(request: Request<Watched>) -> (Request<()>, Watched) {
    let (mut parts, body) = request.into_parts();
    parts.version = Version::HTTP_2;
    // The target names it.
    parts.headers.remove(HOST);
    remove_of_the_connection(&mut parts.headers);
    if let Some(bytes) = body.size_hint().exact()
        && (bytes > 0 || ![Method::GET, Method::HEAD, Method::DELETE].contains(&parts.method))
    {
        parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| bytes.into());
    }
    (Request::from_parts(parts, ()), body)
}

/// The final response, after the interim ones were handed on.
fn poll_head(
    response: &mut ResponseFuture,
    hints: &Hints,
    context: &mut Context<'_>,
) -> Poll<Result<Response<RecvStream>, UpstreamError>> {
    loop {
        match response.poll_informational(context) {
            Poll::Ready(Some(Ok(interim))) => {
                // HTTP/2 has no such response (RFC 9113 section 8.6).
                if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Err(UpstreamError::Broken));
                }
                hints.take(interim.status(), interim.headers());
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(kind(&error))),
            Poll::Ready(None) => {
                return Pin::new(response).poll(context).map_err(|error| kind(&error));
            }
            Poll::Pending => return Poll::Pending,
        }
    }
}

fn kind(error: &h2::Error) -> UpstreamError {
    let is_refused = error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM);
    if error.is_remote() && is_refused {
        // `h2` tells so of streams beyond the last one that the server says it has looked at.
        return UpstreamError::Refused;
    }
    if error.is_io() || error.is_remote() {
        return UpstreamError::Closed;
    }
    UpstreamError::Broken
}

/// The body of a request on its way. Dropping this ends it.
#[derive(Debug)]
struct Upload(Option<JoinHandle<()>>);

impl Upload {
    fn begin(
        body: Watched,
        mut stream: SendStream<Bytes>,
        (seat, wait): (Arc<Seat>, Duration),
    ) -> Upload {
        let progress = body.progress();
        Upload(Some(tokio::spawn(async move {
            let sent = http2::send(body, &mut stream, wait, || progress.touch()).await;
            match sent {
                Ok(()) => {}
                // The response says more.
                Err(Ended::Peer(error)) => debug!(%error, "a body was not taken"),
                Err(Ended::Late) => stream.send_reset(Reason::CANCEL),
                Err(Ended::Body(error)) => {
                    debug!(error = &*error.into_inner(), "a body broke off");
                    stream.send_reset(Reason::CANCEL);
                }
            }
            drop(seat);
        })))
    }

    /// Lets it go on by itself. It ends in time, by the waits of both ends.
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// The body of a response. Dropping it before its end resets the stream.
#[derive(Debug)]
pub(super) struct Download {
    body: Received,
    upload: Option<Upload>,
    seat: Arc<Seat>,
}

impl Download {
    /// Lets no more requests go the same way.
    pub(super) fn retire(&self) {
        self.seat.retire();
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // A server may answer before it has all of the request, and still want the rest.
        if self.body.is_end_stream()
            && let Some(upload) = self.upload.take()
        {
            upload.let_go();
        }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! Connections over HTTP/2 (RFC 9113).
//!
//! Hyper's server has no way to send interim responses over HTTP/2, and waits without end for a client
//! that takes nothing of an answer. So this drives the `h2` that hyper is made of.

use super::interim::Interim;
use super::{Door, HEADER_BYTES_MAX, HEADER_WAIT, STREAM_COUNT_MAX, WRITE_WAIT};
use crate::http2::{self, Ended, Received};
use atoll_core::http_cache::fields::remove_of_the_connection;
use axum::body::Body;
use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, EXPECT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::debug;

/// Bytes of one request's body, and of all of a connection's, that a client may send ahead.
const WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of one answer that wait for the client.
const SEND_BYTES_MAX: usize = 400 * 1024;
/// Streams that a client may have us reset before its connection ends (CVE-2023-44487 and its like).
const RESETS_MAX: usize = 1_024;
/// Longest wait for the answer to a ping.
const PONG_WAIT: Duration = Duration::from_secs(20);

/// Serves a connection whose client has begun with the preface, until it ends or, once `stop` is
/// there, its requests have ended.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    service: impl Door,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = Builder::new();
    builder
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAM_COUNT_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_local_error_reset_streams(Some(RESETS_MAX));
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    let mut dead = pin!(dead(connection.ping_pong()));
    let mut is_stopping = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = &mut dead => return Err("it answers no ping".into()),
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        match accepted {
            None => return Ok(()),
            Some(accepted) => {
                let (request, respond) = accepted?;
                tokio::spawn(exchange(request, respond, service.clone()));
            }
        }
    }
}

/// Ends once the client answers no ping.
async fn dead(pings: Option<PingPong>) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(HEADER_WAIT).await;
        if !matches!(timeout(PONG_WAIT, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// One request and its answer. Dropping what sends the answer resets the stream.
async fn exchange(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    service: impl Door,
) {
    let (interim, mut hints) = Interim::over_http2();
    let waits = request
        .headers()
        .get(EXPECT)
        .is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let asks = waits.then(|| interim.clone());
    let (parts, stream) = request.into_parts();
    let body = Received::new(stream, &parts.headers);
    let mut request = Request::from_parts(parts, Body::new(Upload { body, asks }));
    request.extensions_mut().insert(interim);
    let answer = {
        let mut answer = pin!(service.oneshot(request));
        loop {
            tokio::select! {
                biased;
                Some(hint) = hints.recv() => hand_on(&mut respond, hint),
                Ok(answer) = &mut answer => break answer,
                _ = std::future::poll_fn(|context| respond.poll_reset(context)) => return,
            }
        }
    };
    // Those that came with it belong before it.
    while let Ok(hint) = hints.try_recv() {
        hand_on(&mut respond, hint);
    }
    if let Err(error) = send(answer, &mut respond).await {
        debug!(%error, "an answer over HTTP/2 ended early");
    }
}

fn hand_on(respond: &mut SendResponse<Bytes>, hint: Response<()>) {
    if let Err(error) = respond.send_informational(hint) {
        debug!(%error, "an interim response was not sent");
    }
}

async fn send(answer: Response<Body>, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (mut head, body) = answer.into_parts();
    complete(&mut head.headers, &body);
    let is_whole = body.is_end_stream();
    let head = Response::from_parts(head, ());
    let mut stream = match respond.send_response(head, is_whole) {
        Ok(stream) => stream,
        Err(error) => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Err(error);
        }
    };
    if is_whole {
        return Ok(());
    }
    match http2::send(body, &mut stream, WRITE_WAIT, || {}).await {
        Ok(()) => Ok(()),
        Err(Ended::Peer(error)) => Err(error),
        Err(Ended::Late) => Err(reset(&mut stream, Reason::CANCEL)),
        Err(Ended::Body(error)) => {
            debug!(error = &*error.into_inner(), "a body broke off");
            Err(reset(&mut stream, Reason::INTERNAL_ERROR))
        }
    }
}

fn reset(stream: &mut SendStream<Bytes>, reason: Reason) -> h2::Error {
    stream.send_reset(reason);
    reason.into()
}

/// The fields that this hop has, and none that HTTP/2 cannot have (RFC 9113 section 8.2.2).
fn complete(headers: &mut HeaderMap, body: &Body) {
    remove_of_the_connection(headers);
    if !headers.contains_key(DATE)
        && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        headers.insert(DATE, now);
    }
    if let (Some(bytes), false) = (body.size_hint().exact(), body.is_end_stream()) {
        headers.entry(CONTENT_LENGTH).or_insert_with(|| bytes.into());
    }
}

/// The body of a request. One that the client breaks off is an error.
#[derive(Debug)]
struct Upload {
    body: Received,
    /// The way to a client that waits to be asked for it.
    asks: Option<Interim>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(client) = self.asks.take() {
            client.send(StatusCode::CONTINUE, &HeaderMap::new());
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;

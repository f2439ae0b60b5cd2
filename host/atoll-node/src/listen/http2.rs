//! Connections over HTTP/2 (RFC 9113).
//!
//! Hyper's server has no way to send interim responses over HTTP/2, and waits without end for a client
//! that takes nothing of an answer. So this drives the `h2` that hyper is made of.

use super::interim::Interim;
use super::{Door, HEADER_BYTES_MAX, HEADER_WAIT, STREAM_COUNT_MAX, WRITE_WAIT};
use atoll_core::http_cache::fields::remove_of_the_connection;
use axum::body::Body;
use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, EXPECT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
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
    let bytes = request.headers().get(CONTENT_LENGTH).and_then(|bytes| bytes.to_str().ok());
    let left_bytes = bytes.and_then(|bytes| bytes.parse().ok());
    let waits = request
        .headers()
        .get(EXPECT)
        .is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let asks = waits.then(|| interim.clone());
    let mut request =
        request.map(|stream| Body::new(Upload { stream, left_bytes, is_data_over: false, asks }));
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
    match pipe(body, &mut stream).await {
        Ok(()) => Ok(()),
        Err(Ended::Client(error)) => Err(error),
        Err(Ended::Here(reason)) => {
            stream.send_reset(reason);
            Err(reason.into())
        }
    }
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

/// Why a body was not sent to its end.
enum Ended {
    /// The client has reset the stream, or its connection is gone.
    Client(h2::Error),
    /// What the client is told.
    Here(Reason),
}

impl From<h2::Error> for Ended {
    fn from(error: h2::Error) -> Ended {
        Ended::Client(error)
    }
}

/// Sends the body as it comes.
async fn pipe(mut body: Body, stream: &mut SendStream<Bytes>) -> Result<(), Ended> {
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            reset = reset(stream) => return Err(Ended::Client(reset?.into())),
        };
        match frame {
            None => {
                stream.send_data(Bytes::new(), true)?;
                return Ok(());
            }
            Some(Err(error)) => {
                debug!(error = &*error.into_inner(), "a body broke off");
                return Err(Ended::Here(Reason::INTERNAL_ERROR));
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let is_last = body.is_end_stream();
                    send_data(stream, data, is_last).await?;
                    if is_last {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        stream.send_trailers(trailers)?;
                        return Ok(());
                    }
                }
            },
        }
    }
}

/// Sends a piece as the client takes it, who has [`WRITE_WAIT`] for each part. No more is handed over
/// than there is room for: `h2` would keep it for as long as the client likes.
async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    is_last: bool,
) -> Result<(), Ended> {
    if data.is_empty() && is_last {
        stream.send_data(data, true)?;
        return Ok(());
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        match timeout(WRITE_WAIT, room(stream)).await {
            Ok(room) => room?,
            Err(_) => return Err(Ended::Here(Reason::CANCEL)),
        }
        let part = data.split_to(stream.capacity().min(data.len()));
        stream.send_data(part, is_last && data.is_empty())?;
    }
    Ok(())
}

/// Ends once the client takes more.
async fn room(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    while stream.capacity() == 0 {
        match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(Reason::CANCEL.into()),
        }
    }
    Ok(())
}

async fn reset(stream: &mut SendStream<Bytes>) -> Result<Reason, h2::Error> {
    std::future::poll_fn(|context| stream.poll_reset(context)).await
}

/// The body of a request. One that the client breaks off is an error.
#[derive(Debug)]
struct Upload {
    stream: RecvStream,
    /// What is to come, where the client has said it. `h2` sees to it that this is true.
    left_bytes: Option<u64>,
    is_data_over: bool,
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
        if !self.is_data_over {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    let bytes = data.len() as u64;
                    self.left_bytes = self.left_bytes.map(|left| left.saturating_sub(bytes));
                    // Whoever asks for the next piece has room for it.
                    let released = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(match released {
                        Ok(()) => Ok(Frame::data(data)),
                        Err(error) => Err(io::Error::other(error)),
                    }));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                None => self.is_data_over = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(context));
        let trailers = trailers.map(|trailers| trailers.map(Frame::trailers));
        Poll::Ready(trailers.map_err(io::Error::other).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left_bytes.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests;

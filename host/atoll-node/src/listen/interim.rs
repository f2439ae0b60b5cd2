//! Interim responses (1xx) on their way to a client.
//!
//! Hyper's server sends none but `100 Continue`. Over HTTP/1.1 these are written into the stream while
//! hyper has nothing of its own left to write, which is when it flushes the stream and at no other
//! time; over HTTP/2 the stream's own task sends them.

use bytes::{Buf as _, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// Most bytes that wait for a client to take them. An interim response that finds no room is left
/// out: it is a hint, and the final one says all that counts.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Most of them that wait for a stream of HTTP/2.
const WAITING_COUNT_MAX: usize = 8;

/// The way to a client for interim responses; an extension of requests over HTTP/1.1 and HTTP/2.
#[derive(Clone, Debug)]
pub(crate) enum Interim {
    Http1(Lines),
    Http2(mpsc::Sender<Response<()>>),
}

/// The bytes of those that wait for a connection over HTTP/1.1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: BytesMut,
    /// The connection's task, which writes.
    connection: Option<Waker>,
    /// Who waits until all is written.
    sender: Option<Waker>,
    is_gone: bool,
}

impl Interim {
    /// A way for one request over HTTP/2, and its other end.
    pub(super) fn over_http2() -> (Interim, mpsc::Receiver<Response<()>>) {
        let (sender, receiver) = mpsc::channel(WAITING_COUNT_MAX);
        (Interim::Http2(sender), receiver)
    }

    /// Hands over an interim response. The final one has to wait for [`Interim::sent`].
    pub(crate) fn send(&self, status: StatusCode, headers: &HeaderMap) {
        match self {
            Interim::Http1(lines) => lines.send(status, headers),
            Interim::Http2(sender) => {
                let mut response = Response::new(());
                *response.status_mut() = status;
                response.headers_mut().clone_from(headers);
                // One that finds no room is left out, as above.
                let _ = sender.try_send(response);
            }
        }
    }

    /// Ends once all of them are written, or the connection is gone.
    pub(crate) async fn sent(&self) {
        match self {
            Interim::Http1(lines) => lines.sent().await,
            // The task that sends the final response sends them first.
            Interim::Http2(_) => {}
        }
    }
}

impl Lines {
    fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let reason = status.canonical_reason().unwrap_or_default();
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
        for (name, value) in headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let mut state = self.state();
        if state.is_gone || state.waiting.len() + head.len() > WAITING_BYTES_MAX {
            return;
        }
        state.waiting.extend_from_slice(&head);
        if let Some(connection) = state.connection.take() {
            connection.wake();
        }
    }

    async fn sent(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.state();
            if state.is_gone || state.waiting.is_empty() {
                return Poll::Ready(());
            }
            state.sender = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's stream with interim responses in between.
#[derive(Debug)]
pub(super) struct WithInterim<S> {
    stream: S,
    lines: Lines,
}

impl<S: AsyncWrite + Unpin> WithInterim<S> {
    pub(super) fn new(stream: S) -> WithInterim<S> {
        WithInterim { stream, lines: Lines::default() }
    }

    /// The way into it.
    pub(super) fn interim(&self) -> Interim {
        Interim::Http1(self.lines.clone())
    }

    /// Writes what waits.
    fn poll_write_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lines.state();
        match &mut state.connection {
            Some(connection) => connection.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        while !state.waiting.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(context, &state.waiting);
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => state.waiting.advance(count),
            }
        }
        if let Some(sender) = state.sender.take() {
            sender.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WithInterim<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WithInterim<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_waiting(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> Drop for WithInterim<S> {
    fn drop(&mut self) {
        let mut state = self.lines.state();
        state.is_gone = true;
        if let Some(sender) = state.sender.take() {
            sender.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn hints() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append("link", HeaderValue::from_static("</a>"));
        headers.append("link", HeaderValue::from_static("</b>"));
        headers
    }

    #[tokio::test]
    async fn what_is_handed_over_is_written_at_the_next_flush_and_not_into_other_bytes() {
        let (near, mut far) = tokio::io::duplex(1_024);
        let mut near = WithInterim::new(near);
        let interim = near.interim();
        near.write_all(b"before|").await.expect("room");
        interim.send(StatusCode::EARLY_HINTS, &hints());
        near.write_all(b"before|").await.expect("room");
        near.flush().await.expect("room");
        interim.sent().await;
        near.write_all(b"after").await.expect("room");
        drop(near);
        let mut got = String::new();
        far.read_to_string(&mut got).await.expect("text");
        let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n";
        assert_eq!(got, format!("before|before|{hint}after"));
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_holds_a_bounded_number_of_bytes_and_nobody_waits_after_it()
    {
        let (near, _far) = tokio::io::duplex(8);
        let near = WithInterim::new(near);
        let interim = near.interim();
        for _ in 0..10_000 {
            interim.send(StatusCode::EARLY_HINTS, &hints());
        }
        let Interim::Http1(lines) = &interim else { panic!("{interim:?}") };
        assert!(lines.state().waiting.len() <= WAITING_BYTES_MAX);
        drop(near);
        interim.sent().await;
    }
}

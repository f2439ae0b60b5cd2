//! Bodies over streams of HTTP/2, as servers and clients send and take them.

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::timeout;

/// Why a body was not sent to its end.
#[derive(Debug)]
pub(crate) enum Ended<E> {
    /// The other end has reset the stream, or its connection is gone.
    Peer(h2::Error),
    /// The other end has taken nothing for too long.
    Late,
    /// The body broke off.
    Body(E),
}

impl<E> From<h2::Error> for Ended<E> {
    fn from(error: h2::Error) -> Ended<E> {
        Ended::Peer(error)
    }
}

/// Sends a body as it comes to an other end that has `wait` to take each part of it. Calls `taken`
/// for each part that was. Whoever calls this resets the stream where it fails.
pub(crate) async fn send<B>(
    mut body: B,
    stream: &mut SendStream<Bytes>,
    wait: Duration,
    mut taken: impl FnMut(),
) -> Result<(), Ended<B::Error>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            reset = reset(stream) => return Err(Ended::Peer(reset?.into())),
        };
        match frame {
            None => {
                stream.send_data(Bytes::new(), true)?;
                return Ok(());
            }
            Some(Err(error)) => return Err(Ended::Body(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let is_last = body.is_end_stream();
                    send_data(stream, data, is_last, wait, &mut taken).await?;
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

/// Sends a piece as it is taken. No more is handed over than there is room for: `h2` would keep it
/// for as long as the other end likes.
async fn send_data<E>(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    is_last: bool,
    wait: Duration,
    taken: &mut impl FnMut(),
) -> Result<(), Ended<E>> {
    if data.is_empty() && is_last {
        stream.send_data(data, true)?;
        return Ok(());
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        match timeout(wait, room(stream)).await {
            Ok(room) => room?,
            Err(_) => return Err(Ended::Late),
        }
        let part = data.split_to(stream.capacity().min(data.len()));
        stream.send_data(part, is_last && data.is_empty())?;
        taken();
    }
    Ok(())
}

/// Ends once the other end takes more.
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

/// A body that comes over a stream. One that the other end breaks off is an error.
#[derive(Debug)]
pub(crate) struct Received {
    stream: RecvStream,
    /// What is to come, where it was said. `h2` sees to it that this is true.
    left_bytes: Option<u64>,
    is_data_over: bool,
}

impl Received {
    /// The body of the message that has these fields.
    pub(crate) fn new(stream: RecvStream, headers: &HeaderMap) -> Received {
        let bytes = headers.get(CONTENT_LENGTH).and_then(|bytes| bytes.to_str().ok());
        let left_bytes = match stream.is_end_stream() {
            // An answer to HEAD tells a length as well.
            true => Some(0),
            false => bytes.and_then(|bytes| bytes.parse().ok()),
        };
        Received { stream, left_bytes, is_data_over: false }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.is_data_over {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    let bytes = data.len() as u64;
                    self.left_bytes = self.left_bytes.map(|left| left.saturating_sub(bytes));
                    // Whoever asks for the next piece has room for it.
                    let released = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(released.map(|()| Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.is_data_over = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(context));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left_bytes.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

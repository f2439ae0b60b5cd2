//! Bodies of requests that can be sent once more, as long as little of them has gone.

use super::body::hint_with;
use super::limits::KEPT_BYTES_MAX;
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

/// A body that is kept as it goes, up to [`KEPT_BYTES_MAX`].
#[derive(Debug)]
pub(super) struct Rewind(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rest: Body,
    /// What came before the rest; `None` once that was too much.
    kept: Option<Vec<Piece>>,
    kept_bytes: usize,
    /// How often it was begun.
    turn: u32,
}

#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// The body as one attempt sends it.
#[derive(Debug)]
struct Sent {
    state: Arc<Mutex<State>>,
    /// How many of the kept pieces it has sent.
    next: usize,
    turn: u32,
}

impl Rewind {
    pub(super) fn new(rest: Body) -> Rewind {
        let state = State { rest, kept: Some(Vec::new()), kept_bytes: 0, turn: 0 };
        Rewind(Arc::new(Mutex::new(state)))
    }

    /// The body from its beginning. `None` where too much of it has gone. What was handed out before
    /// fails from now on: two cannot wait for the same rest.
    pub(super) fn whole(&self) -> Option<Body> {
        let mut state = lock(&self.0);
        state.kept.as_ref()?;
        state.turn += 1;
        let turn = state.turn;
        drop(state);
        Some(Body::new(Sent { state: Arc::clone(&self.0), next: 0, turn }))
    }
}

impl State {
    /// The next frame of the rest, which is kept where there is room.
    fn poll_rest(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.rest).poll_frame(context));
        if let (Some(Ok(frame)), Some(kept)) = (&frame, &mut self.kept) {
            // Trailers are bounded as heads are. Many small pieces take up room as well.
            self.kept_bytes += frame.data_ref().map_or(0, Bytes::len) + size_of::<Piece>();
            let trailers = || frame.trailers_ref().cloned().map(Piece::Trailers);
            kept.extend(frame.data_ref().cloned().map(Piece::Data).or_else(trailers));
            if self.kept_bytes > KEPT_BYTES_MAX {
                self.kept = None;
            }
        }
        Poll::Ready(frame)
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let sent = &mut *self;
        let mut state = lock(&sent.state);
        if state.turn != sent.turn {
            let error = io::Error::other("the request is sent once more");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        if let Some(piece) = state.kept.as_ref().and_then(|kept| kept.get(sent.next)) {
            sent.next += 1;
            return Poll::Ready(Some(Ok(match piece.clone() {
                Piece::Data(data) => Frame::data(data),
                Piece::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        let frame = ready!(state.poll_rest(context));
        // What is kept has grown by it.
        sent.next += 1;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.state);
        let all = state.kept.as_ref().is_none_or(|kept| kept.len() <= self.next);
        all && state.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let state = lock(&self.state);
        let pieces = state.kept.iter().flat_map(|kept| kept.iter().skip(self.next));
        let before: u64 = pieces
            .map(|piece| match piece {
                Piece::Data(data) => data.len() as u64,
                Piece::Trailers(_) => 0,
            })
            .sum();
        hint_with(before, &state.rest.size_hint())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    /// A body of the frames that are sent.
    fn frames() -> (Rewind, mpsc::Sender<Frame<Bytes>>) {
        let (send, frames) = mpsc::channel(8);
        let frames = ReceiverStream::new(frames).map(Ok::<_, axum::Error>);
        (Rewind::new(Body::new(StreamBody::new(frames))), send)
    }

    async fn data(body: &mut Body) -> Bytes {
        let frame = body.frame().await.expect("a frame").expect("no error");
        frame.into_data().expect("data")
    }

    #[tokio::test]
    async fn what_has_gone_goes_again_and_then_the_rest_with_its_trailers() {
        let (rewind, send) = frames();
        let mut first = rewind.whole().expect("nothing has gone");
        send.send(Frame::data(Bytes::from("one "))).await.expect("room");
        assert_eq!(data(&mut first).await, "one ");
        let second = rewind.whole().expect("little has gone");
        first.frame().await.expect("a frame").expect_err("it is no longer its turn");
        send.send(Frame::data(Bytes::from("two"))).await.expect("room");
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
        send.send(Frame::trailers(trailers.clone())).await.expect("room");
        drop(send);
        let whole = second.collect().await.expect("no error");
        assert_eq!(whole.trailers(), Some(&trailers));
        assert_eq!(whole.to_bytes(), "one two");
        let third = rewind.whole().expect("little has gone");
        assert!(!third.is_end_stream());
        let whole = third.collect().await.expect("no error");
        assert_eq!(whole.trailers(), Some(&trailers));
        assert_eq!(whole.to_bytes(), "one two");
    }

    #[tokio::test]
    async fn the_length_is_that_of_the_whole_and_a_large_body_goes_once() {
        let rewind = Rewind::new(Body::from("1234"));
        let mut first = rewind.whole().expect("nothing has gone");
        assert_eq!(first.size_hint().exact(), Some(4));
        assert_eq!(data(&mut first).await, "1234");
        assert!(first.is_end_stream());
        assert_eq!(first.size_hint().exact(), Some(0));
        let second = rewind.whole().expect("little has gone");
        assert!(!second.is_end_stream());
        assert_eq!(second.size_hint().exact(), Some(4));
        let rewind = Rewind::new(Body::from(vec![0; KEPT_BYTES_MAX + 1]));
        let first = rewind.whole().expect("nothing has gone");
        assert_eq!(first.collect().await.expect("no error").to_bytes().len(), KEPT_BYTES_MAX + 1);
        assert!(rewind.whole().is_none());
    }

    #[tokio::test]
    async fn a_body_of_countless_small_pieces_is_not_kept() {
        let pieces = futures_util::stream::iter(std::iter::repeat_n(
            Ok::<_, std::convert::Infallible>("x"),
            KEPT_BYTES_MAX / 8,
        ));
        let rewind = Rewind::new(Body::from_stream(pieces));
        let first = rewind.whole().expect("nothing has gone");
        assert_eq!(first.collect().await.expect("no error").to_bytes().len(), KEPT_BYTES_MAX / 8);
        assert!(rewind.whole().is_none());
    }
}

//! Answers that somebody follows to their end.

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Who follows a body. It is dropped with it, at its end or before.
pub(crate) trait Follower: Send + Unpin + 'static {
    /// Sees what goes by: a frame, an error or, as `None`, the end. A reader may leave out the end where
    /// it knows the length.
    fn see(&mut self, _: Option<&Result<Frame<Bytes>, axum::Error>>) {}
}

/// A body that `follower` follows.
pub(crate) fn followed(body: Body, follower: impl Follower) -> Body {
    Body::new(Followed { body, follower })
}

struct Followed<F> {
    body: Body,
    follower: F,
}

impl<F: Follower> http_body::Body for Followed<F> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.follower.see(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

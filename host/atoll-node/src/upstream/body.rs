//! Bodies on their way to an upstream and back, and the clocks that run beside them.

use super::{Place, Times};
use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// When something of a request was last taken by its upstream.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    /// In ms since `started`.
    last_ms: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { started: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn touch(&self) {
        self.last_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Ends once the upstream has neither taken anything nor answered for too long.
    pub(super) async fn overdue(&self, times: Times) {
        loop {
            let last = self.started + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let deadline = last + times.connect + times.first_byte;
            if Instant::now() >= deadline {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

/// The body of a request, which says when a piece of it was taken.
#[derive(Debug)]
pub(super) struct Watched {
    body: Body,
    progress: Arc<Progress>,
}

impl Watched {
    pub(super) fn new(body: Body, progress: Arc<Progress>) -> Watched {
        Watched { body, progress }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.progress.touch();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a response ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the upstream paused for too long")]
    Stalled,
    #[error("the upstream ended the response too early")]
    Cut(#[from] hyper::Error),
}

/// The body of a response. It fails where the upstream pauses for too long.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    body: Incoming,
    wait: Duration,
    /// Runs while a piece is waited for.
    pause: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl ResponseBody {
    pub(super) fn new(body: Incoming, place: Place, wait: Duration) -> ResponseBody {
        ResponseBody { body, wait, pause: None, _place: place }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Cut)));
        }
        let wait = self.wait;
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(wait)));
        ready!(pause.as_mut().poll(context));
        Poll::Ready(Some(Err(BodyError::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

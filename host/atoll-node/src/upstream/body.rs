//! Bodies on their way to an upstream and back, and the clocks that run beside them.

use super::Times;
use super::exchange::Download;
use super::limits::CONTINUE_WAIT;
use super::server::Place;
use crate::trace::span::Span;
use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// When something of a request was last taken by its upstream.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    /// In ms since `started`.
    last_ms: AtomicU64,
    body: AtomicU8,
    has_begun: AtomicBool,
    /// Whether the body waits for the upstream to ask for it.
    is_held: AtomicBool,
    /// Told when the request has a connection.
    connected: Notify,
}

/// How the client does with the body of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Sending {
    /// What is missing is not for it to do.
    Fine = 0,
    /// It is waited for.
    Waited = 1,
    /// What it sent is no body, or it has gone.
    Broken = 2,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress {
            started: Instant::now(),
            last_ms: AtomicU64::new(0),
            body: AtomicU8::new(0),
            has_begun: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
            connected: Notify::new(),
        }
    }

    /// How the client does with the body.
    pub(super) fn sending(&self) -> Sending {
        match self.body.load(Ordering::Relaxed) {
            0 => Sending::Fine,
            1 => Sending::Waited,
            _ => Sending::Broken,
        }
    }

    /// Whether something of the body was asked for.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Notes that the upstream has taken something.
    pub(super) fn touch(&self) {
        self.last_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The request goes over a connection from now on.
    pub(super) fn note_connected(&self) {
        self.touch();
        self.connected.notify_one();
    }

    /// Ends once the upstream has neither taken anything nor answered for too long. A connection has
    /// a limit of its own; a request that waits for a place at one has both.
    pub(super) async fn overdue(&self, times: Times) {
        tokio::select! {
            () = self.connected.notified() => {}
            () = sleep_until(self.started + times.connect + times.first_byte) => return,
        }
        loop {
            let is_held = self.is_held.load(Ordering::Relaxed) && !self.has_begun();
            let wait = if is_held { CONTINUE_WAIT } else { Duration::ZERO } + times.first_byte;
            let last = self.started + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let deadline = last + wait;
            if Instant::now() >= deadline {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

/// What a body waits for before it is sent.
type Leave = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of a request, which says when a piece of it was taken.
pub(super) struct Watched {
    body: Body,
    progress: Arc<Progress>,
    leave: Option<Leave>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl Watched {
    pub(super) fn new(body: Body, progress: Arc<Progress>) -> Watched {
        Watched { body, progress, leave: None }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Sends nothing before the upstream has asked for it, or has let `CONTINUE_WAIT` pass: one
    /// that does not know of 100 waits for the body (RFC 9110 section 10.1.1).
    pub(super) fn held(mut self, asked_for: CancellationToken) -> Watched {
        self.progress.is_held.store(true, Ordering::Relaxed);
        self.leave = Some(Box::pin(async move {
            // Both mean that it is time.
            let _ = timeout(CONTINUE_WAIT, asked_for.cancelled()).await;
        }));
        self
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(leave) = &mut self.leave {
            ready!(leave.as_mut().poll(context));
            self.leave = None;
        }
        self.progress.has_begun.store(true, Ordering::Relaxed);
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let sending = match &frame {
            Poll::Pending => Sending::Waited,
            Poll::Ready(Some(Err(_))) => Sending::Broken,
            Poll::Ready(_) => Sending::Fine,
        };
        self.progress.body.store(sending as u8, Ordering::Relaxed);
        let frame = ready!(frame);
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

/// What is known of a length, where `before` bytes come before the rest.
pub(super) fn hint_with(before: u64, rest: &SizeHint) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower().saturating_add(before));
    if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(before)) {
        hint.set_upper(upper);
    }
    hint
}

/// Why a response ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the upstream paused for too long")]
    Stalled,
    #[error("the upstream ended the response too early")]
    Cut(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the handler ended the response too early")]
    Guest(axum::Error),
}

/// A body as it comes over a connection.
#[derive(Debug)]
pub(super) enum FromUpstream {
    Http1(Incoming),
    Http2(Box<Download>),
}

impl FromUpstream {
    pub(super) fn of_http2(body: Download) -> FromUpstream {
        FromUpstream::Http2(Box::new(body))
    }

    /// Lets no more requests go the same way.
    fn retire(&self) {
        match self {
            // Hyper ends it when its body is dropped.
            FromUpstream::Http1(_) => {}
            FromUpstream::Http2(body) => body.retire(),
        }
    }
}

impl http_body::Body for FromUpstream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            FromUpstream::Http1(body) => {
                Pin::new(body).poll_frame(context).map_err(|error| BodyError::Cut(error.into()))
            }
            FromUpstream::Http2(body) => Pin::new(body.as_mut())
                .poll_frame(context)
                .map_err(|error| BodyError::Cut(error.into())),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            FromUpstream::Http1(body) => body.is_end_stream(),
            FromUpstream::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            FromUpstream::Http1(body) => body.size_hint(),
            FromUpstream::Http2(body) => body.size_hint(),
        }
    }
}

/// The body of a response. It fails where the upstream pauses for too long.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    /// What is sent before it.
    before: VecDeque<Bytes>,
    body: Coming,
    /// Runs while a piece is waited for.
    pause: Option<Pin<Box<Sleep>>>,
}

/// From where it comes.
#[derive(Debug)]
enum Coming {
    Upstream {
        body: FromUpstream,
        wait: Duration,
        /// Until its end: the place at its server, and what is told of it in traces.
        _held: (Place, Option<Box<Span>>),
    },
    /// A handler, which has limits of its own.
    Guest(Body),
}

impl ResponseBody {
    pub(super) fn new(
        body: FromUpstream,
        held: (Place, Option<Box<Span>>),
        wait: Duration,
    ) -> ResponseBody {
        let body = Coming::Upstream { body, wait, _held: held };
        ResponseBody { before: VecDeque::new(), body, pause: None }
    }

    /// That of a handler's answer.
    pub(crate) fn of_guest(body: Body) -> ResponseBody {
        ResponseBody { before: VecDeque::new(), body: Coming::Guest(body), pause: None }
    }

    /// Puts `pieces` before what comes.
    pub(crate) fn preceded_by(mut self, pieces: Vec<Bytes>) -> ResponseBody {
        self.before = pieces.into();
        self
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = self.before.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let wait = match &mut self.body {
            Coming::Guest(body) => {
                return Pin::new(body).poll_frame(context).map_err(BodyError::Guest);
            }
            Coming::Upstream { body, wait, .. } => {
                if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
                    self.pause = None;
                    return Poll::Ready(frame);
                }
                *wait
            }
        };
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(wait)));
        ready!(pause.as_mut().poll(context));
        if let Coming::Upstream { body, .. } = &self.body {
            body.retire();
        }
        Poll::Ready(Some(Err(BodyError::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        let has_ended = match &self.body {
            Coming::Upstream { body, .. } => body.is_end_stream(),
            Coming::Guest(body) => body.is_end_stream(),
        };
        self.before.is_empty() && has_ended
    }

    fn size_hint(&self) -> SizeHint {
        let before: u64 = self.before.iter().map(|piece| piece.len() as u64).sum();
        let rest = match &self.body {
            Coming::Upstream { body, .. } => body.size_hint(),
            Coming::Guest(body) => body.size_hint(),
        };
        hint_with(before, &rest)
    }
}

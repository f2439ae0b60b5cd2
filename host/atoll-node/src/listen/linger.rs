//! Refusals that arrive: what is left of a refused body is read away behind the answer.
//!
//! Many clients send their whole body before they look at the answer. Were the connection closed
//! under them, all they would see is a broken pipe. The answer itself is sent at once, and a client
//! that asked first (`Expect: 100-continue`) has nothing to be read away.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, future, stream};
use http::header;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// After a body is refused, so many bytes of it are still read away that the client sees why: a
/// body of the largest value and a little more.
const REFUSED_BYTES_MAX: usize = 80 << 20;
/// Longest time for that.
const REFUSED_WAIT: Duration = Duration::from_secs(30);

/// A request's body that comes back when its reader drops it before the end.
struct Lent {
    body: Body,
    has_ended: bool,
    back: Option<oneshot::Sender<Body>>,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        // A chunked body does not say by itself that it has been read to its end.
        self.has_ended |= matches!(frame, Poll::Ready(None | Some(Err(_))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.has_ended || self.body.is_end_stream() {
            return;
        }
        if let Some(back) = self.back.take() {
            // Nobody may want it: then it ends here.
            let _ = back.send(mem::take(&mut self.body));
        }
    }
}

/// Reads away what a refused request still sends.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    linger(request, |request| next.run(request)).await
}

/// The same around `answer`.
pub(crate) async fn linger<F>(request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    if request.headers().contains_key(header::EXPECT) || request.body().is_end_stream() {
        return answer(request).await;
    }
    let (back, mut returned) = oneshot::channel();
    let request = request.map(|body| Body::new(Lent { body, has_ended: false, back: Some(back) }));
    let response = answer(request).await;
    let (status, left) = (response.status(), returned.try_recv());
    match left {
        Ok(left) if status.is_client_error() || status.is_server_error() => {
            response.map(|answer| behind(answer, left))
        }
        _ => response,
    }
}

/// `answer`, which ends once `left` has been read away or has had its time. Its length is no longer
/// announced, or it would be taken to end before.
fn behind(answer: Body, left: Body) -> Body {
    let drained = stream::once(timeout(REFUSED_WAIT, drain(left)));
    let nothing = drained.filter_map(|_| future::ready(None));
    Body::from_stream(answer.into_data_stream().chain(nothing))
}

async fn drain(mut left: Body) {
    let mut read_bytes = 0;
    while let Some(Ok(frame)) = left.frame().await {
        read_bytes += frame.data_ref().map_or(0, Bytes::len);
        if read_bytes > REFUSED_BYTES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::put;
    use http::{HeaderValue, StatusCode};
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::ServiceExt as _;

    /// Sends so many pieces of 1 MiB to a handler that refuses without reading; returns how many
    /// were read once the answer has ended.
    async fn pieces_read(piece_count: usize, expect: Option<&'static str>) -> usize {
        let read = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&read);
        let pieces = stream::iter(0..piece_count).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from(vec![0; 1 << 20]))
        });
        let mut request = Request::put("/").body(Body::from_stream(pieces)).expect("a request");
        if let Some(expect) = expect {
            request.headers_mut().insert(header::EXPECT, HeaderValue::from_static(expect));
        }
        let refuse = put(async || (StatusCode::PAYLOAD_TOO_LARGE, "no"));
        let router = Router::new().route("/", refuse).layer(from_fn(layer));
        let response = router.oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read.load(Ordering::Relaxed), 0, "the answer does not wait for the body");
        let body = axum::body::to_bytes(response.into_body(), 100).await.expect("an answer");
        assert_eq!(body, "no");
        read.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_refused_body_is_read_away_behind_the_answer_within_a_bound() {
        assert_eq!(pieces_read(65, None).await, 65);
        assert_eq!(pieces_read(1_000, None).await, (REFUSED_BYTES_MAX >> 20) + 1);
        assert_eq!(pieces_read(65, Some("100-continue")).await, 0, "it will not be sent");
    }

    #[tokio::test]
    async fn an_answer_to_a_body_that_was_read_announces_its_length() {
        let refuse =
            put(async |body: Bytes| (StatusCode::CONFLICT, format!("{} bytes", body.len())));
        let router = Router::new().route("/", refuse).layer(from_fn(layer));
        let pieces = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"abc"))]);
        for body in [Body::from("abc"), Body::from_stream(pieces)] {
            let request = Request::put("/").body(body).expect("a request");
            let response = router.clone().oneshot(request).await.expect("an answer");
            assert_eq!(response.body().size_hint().exact(), Some("3 bytes".len() as u64));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_body_that_never_ends_is_left() {
        let endless = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let body = behind(Body::from("no"), endless);
        let started = tokio::time::Instant::now();
        assert_eq!(axum::body::to_bytes(body, 100).await.expect("an answer"), "no");
        assert_eq!(started.elapsed().as_secs(), REFUSED_WAIT.as_secs());
    }
}

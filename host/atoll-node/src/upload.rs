//! Request bodies: gathered once into the buffer that is stored, within budgets of bytes and time.
//!
//! A body that announces its length is refused before a byte of it is read, or gets a buffer of
//! that size. One that does not (chunked) is taken as well and counted while it comes: a friendlier
//! answer than 411. Either way the bytes that are being received at once are bounded: small bodies
//! share one budget, larger ones another, so that a few slow large ones never shut out the small. A
//! request without a body needs neither.

mod limits;

use crate::problem::Problem;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use limits::{
    UPLOAD_BUDGET_WAIT, UPLOAD_GRACE, UPLOAD_LARGE_BUDGET_BYTES_MAX, UPLOAD_LARGE_BUDGET_BYTES_MIN,
    UPLOAD_RATE_MIN, UPLOAD_READ_WAIT, UPLOAD_SMALL_BUDGET_BYTES, UPLOAD_SMALL_BYTES_MAX,
};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// Budgets are counted in pieces of this many bytes.
const PIECE_BYTES: usize = 1_024;

/// The bodies that one door is receiving.
#[derive(Debug)]
pub(crate) struct Uploads {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// A whole body. Its place in the budget is kept until it is dropped: store it first.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl Uploads {
    /// Budgets for a store of so many bytes.
    pub(crate) fn new(memory_bytes_max: usize) -> Uploads {
        let large_bytes = (memory_bytes_max / 4)
            .clamp(UPLOAD_LARGE_BUDGET_BYTES_MIN, UPLOAD_LARGE_BUDGET_BYTES_MAX);
        Uploads {
            small: Arc::new(Semaphore::new(UPLOAD_SMALL_BUDGET_BYTES / PIECE_BYTES)),
            large: Arc::new(Semaphore::new(large_bytes / PIECE_BYTES)),
        }
    }

    /// Reads the whole of `body`, at most `bytes_max`.
    pub(crate) async fn gather(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        bytes_max: usize,
    ) -> Result<Gathered, Problem> {
        if body.is_end_stream() {
            return Ok(Gathered { bytes: Bytes::new(), _place: None });
        }
        check_coding(headers)?;
        let announced = announced_bytes(headers, &body);
        if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
            return Err(too_large(bytes_max));
        }
        // What is announced fits in memory: it is at most `bytes_max`.
        let announced = announced.map(|bytes| bytes as usize);
        let mut place = self.reserve(announced.unwrap_or(UPLOAD_SMALL_BYTES_MAX)).await?;
        let mut room = announced.unwrap_or(UPLOAD_SMALL_BYTES_MAX).min(bytes_max);
        let mut buffer = Vec::new();
        // A length that nobody announced is met by doubling.
        grow(&mut buffer, announced.unwrap_or_default())?;
        let mut pace = Pace::new();
        while let Some(data) = pace.next_data(&mut body, buffer.len()).await? {
            if buffer.len() + data.len() > room {
                if announced.is_some() || buffer.len() + data.len() > bytes_max {
                    return Err(too_large(bytes_max));
                }
                // Once let in, it can always end: it holds room for the longest there is.
                place = self.reserve(bytes_max).await?;
                room = bytes_max;
            }
            if announced.is_none() {
                let wanted = (buffer.len() + data.len()).next_power_of_two().min(bytes_max);
                grow(&mut buffer, wanted)?;
            }
            buffer.extend_from_slice(&data);
        }
        // Room that is not used would be kept with the value for as long as it lives.
        buffer.shrink_to_fit();
        Ok(Gathered { bytes: Bytes::from(buffer), _place: Some(place) })
    }

    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let lane = if bytes <= UPLOAD_SMALL_BYTES_MAX { &self.small } else { &self.large };
        let pieces = u32::try_from(bytes.div_ceil(PIECE_BYTES).max(1)).unwrap_or(u32::MAX);
        match timeout(UPLOAD_BUDGET_WAIT, Arc::clone(lane).acquire_many_owned(pieces)).await {
            Ok(place) => Ok(place.expect("the semaphore stays open")),
            Err(_) => {
                let detail = "too many bodies are being received at once; try again in a second";
                Err(Problem::busy("uploads-full", detail, 1))
            }
        }
    }
}

/// The body as it comes, for whoever reads it piece by piece. One that comes too slowly ends with an
/// error.
pub(crate) fn paced(headers: &HeaderMap, body: Body) -> Result<Body, Problem> {
    if body.is_end_stream() {
        return Ok(body);
    }
    check_coding(headers)?;
    let begun = Some((body, Pace::new(), Instant::now(), 0));
    let frames = futures_util::stream::unfold(begun, async |state| {
        let (mut body, mut pace, handed_over, received) = state?;
        // The time that the reader took is not the client's.
        pace.started += handed_over.elapsed();
        match pace.next_frame(&mut body, received).await {
            Ok(None) => None,
            Ok(Some(frame)) => {
                let received = received + frame.data_ref().map_or(0, Bytes::len);
                Some((Ok(frame), Some((body, pace, Instant::now(), received))))
            }
            Err(problem) => Some((Err(io::Error::other(problem.detail().to_owned())), None)),
        }
    });
    Ok(Body::new(StreamBody::new(frames)))
}

/// Refuses a body in a transfer coding that nobody here undoes (RFC 9112 section 6.1): it would be
/// taken for what it codes.
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let plain = |coding: &header::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if headers.get_all(header::TRANSFER_ENCODING).iter().all(plain) {
        return Ok(());
    }
    let detail = "the only transfer coding that is understood is chunked";
    Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "transfer-coding", detail))
}

/// The length that a request gives for its body, if it does.
pub(crate) fn announced_bytes(headers: &HeaderMap, body: &Body) -> Option<u64> {
    let header = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse().ok()).or_else(|| body.size_hint().exact())
}

/// Makes room for `capacity` bytes in all, or says that there is none, where `Vec` would abort.
fn grow(buffer: &mut Vec<u8>, capacity: usize) -> Result<(), Problem> {
    let more = capacity.saturating_sub(buffer.len());
    buffer.try_reserve_exact(more).map_err(|_| {
        Problem::busy("out-of-memory", "this machine has no memory for the body right now", 1)
    })
}

/// The refusal of a body over `bytes_max`.
fn too_large(bytes_max: usize) -> Problem {
    let detail = format!("the body exceeds the maximum of {bytes_max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
}

/// How fast a body has to come, so that nobody holds a buffer for ever.
struct Pace {
    started: Instant,
}

impl Pace {
    fn new() -> Pace {
        Pace { started: Instant::now() }
    }

    /// The next piece of data, or `None` at the end. `received` is what has come so far.
    async fn next_data(
        &mut self,
        body: &mut Body,
        received: usize,
    ) -> Result<Option<Bytes>, Problem> {
        // Trailers say nothing to who gathers a body.
        while let Some(frame) = self.next_frame(body, received).await? {
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The same for whoever passes trailers on.
    async fn next_frame(
        &mut self,
        body: &mut Body,
        received: usize,
    ) -> Result<Option<Frame<Bytes>>, Problem> {
        let earned = Duration::from_secs_f64(received as f64 / UPLOAD_RATE_MIN as f64);
        let all_by = self.started + UPLOAD_GRACE + earned;
        let by = all_by.min(Instant::now() + UPLOAD_READ_WAIT);
        let frame = timeout_at(by, body.frame()).await.map_err(|_| {
            let detail = "the body came too slowly";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail)
                .with_header(header::CONNECTION, header::HeaderValue::from_static("close"))
        })?;
        frame.transpose().map_err(|_| {
            let detail = "the body ended before its end or is malformed";
            Problem::bad_request("bad-body", detail)
        })
    }
}

#[cfg(test)]
mod tests;

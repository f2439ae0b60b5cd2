//! The two bodies of an exchange, piece by piece: nothing here holds a whole one.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use super::progress::Progress;
use crate::error::CallError;

/// The body of a standard handler's answer, as the guest writes it.
///
/// Ends with an error, which must not look like an end to the client, where the guest failed or
/// wrote more than it may.
pub struct AnswerBody {
    inner: WasiBody,
    /// What has come before anybody asked for it.
    held: VecDeque<Frame<Bytes>>,
    held_bytes: usize,
    /// Whether nothing comes after it, and how that ended.
    end: Option<Result<(), BrokenOff>>,
    progress: Arc<Progress>,
    bytes_left: usize,
    bytes_max: usize,
}

/// What is held at most, in bytes, and in pieces.
const HELD_BYTES_MAX: usize = 64 * 1024;
const HELD_COUNT_MAX: usize = 64;

/// Why a body broke off. The reason is with whoever was told of the call's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the handler ended before its answer did")]
pub struct BrokenOff;

impl AnswerBody {
    pub(super) fn new(inner: WasiBody, progress: Arc<Progress>, bytes_max: usize) -> AnswerBody {
        let (held, held_bytes, end) = (VecDeque::new(), 0, None);
        AnswerBody { inner, held, held_bytes, end, progress, bytes_left: bytes_max, bytes_max }
    }

    /// Takes what is there. Returns whether that made room for more, or was the end: whoever waits for
    /// either goes on.
    pub(super) fn hold(&mut self, context: &mut Context<'_>) -> bool {
        let mut has_moved = false;
        while self.end.is_none() {
            if self.held_bytes > HELD_BYTES_MAX || self.held.len() == HELD_COUNT_MAX {
                return false;
            }
            match self.poll_inner(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.held_bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.held.push_back(frame);
                    has_moved = true;
                }
                Poll::Ready(end) => {
                    self.end = Some(end.map_or(Ok(()), |broken| broken.map(drop)));
                    has_moved = true;
                }
                Poll::Pending => break,
            }
        }
        has_moved
    }

    /// Whether all of it has come.
    pub(super) fn is_whole(&self) -> bool {
        self.end == Some(Ok(()))
    }

    fn poll_inner(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.check_length(frame.is_none());
            self.progress.note_sent();
        }
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(self.take(frame)),
            Some(Err(_)) => Some(Err(BrokenOff)),
            None if self.progress.has_failed() => Some(Err(BrokenOff)),
            None => None,
        })
    }

    /// Refuses a body that has come to its end with another length than the guest said. The engine's
    /// crate breaks one off there that is longer.
    fn check_length(&self, is_whole: bool) {
        let Some(length) = self.progress.length() else { return };
        let bytes = self.bytes_max - self.bytes_left;
        if (!is_whole || bytes != length) && !self.progress.has_failed() {
            self.progress.refuse(CallError::BadResponse(format!(
                "its body was to have {length} bytes by its content-length, and ended after {bytes}, \
                 or was longer"
            )));
            self.progress.fail();
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BrokenOff> {
        self.progress.note();
        let Some(data) = frame.data_ref() else { return Ok(frame) };
        match self.bytes_left.checked_sub(data.len()) {
            Some(left) => {
                self.bytes_left = left;
                Ok(frame)
            }
            None => {
                let len = self.bytes_max - self.bytes_left + data.len();
                let bytes_max = self.bytes_max;
                self.progress.refuse(CallError::ResponseLimit { len, bytes_max });
                self.progress.fail();
                Err(BrokenOff)
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(frame) = self.held.pop_front() {
            self.held_bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Poll::Ready(Some(Ok(frame)));
        }
        match self.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => self.poll_inner(context),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held_bytes as u64;
        match self.end {
            // With trailers it has to be sent so that they can follow.
            Some(Ok(())) if self.held.back().is_none_or(Frame::is_data) => {
                SizeHint::with_exact(held)
            }
            Some(_) => SizeHint::default(),
            None => {
                let (inner, mut hint) = (self.inner.size_hint(), SizeHint::new());
                if let Some(upper) = inner.upper() {
                    hint.set_upper(upper.saturating_add(held));
                }
                hint.set_lower(inner.lower().saturating_add(held));
                hint
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_at_end = match self.end {
            Some(end) => end.is_ok(),
            None => self.inner.is_end_stream() && !self.progress.has_failed(),
        };
        is_at_end && self.held.is_empty()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.progress.note_sent();
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = formatter.debug_struct("AnswerBody");
        body.field("bytes_left", &self.bytes_left).finish_non_exhaustive()
    }
}

/// A request's body on its way to the guest, which has it until the call ends.
pub(super) struct RequestBody<B> {
    lent: Lent<B>,
    progress: Arc<Progress>,
}

/// The body itself, to be taken back. A guest that is used again may have kept its handle on it,
/// and its connection would wait for ever.
pub(super) struct Lent<B>(Arc<Mutex<Option<Pin<Box<B>>>>>);

impl<B> RequestBody<B> {
    pub(super) fn new(inner: B, progress: Arc<Progress>) -> (RequestBody<B>, Lent<B>) {
        let lent = Arc::new(Mutex::new(Some(Box::pin(inner))));
        (RequestBody { lent: Lent(Arc::clone(&lent)), progress }, Lent(lent))
    }
}

impl<B> Lent<B> {
    pub(super) fn take_back(&self) {
        let body = self.lock().take();
        drop(body);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pin<Box<B>>>> {
        // A body that panicked is not asked again by whoever saw that.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: fmt::Display,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match self.lent.lock().as_mut() {
            Some(body) => ready!(body.as_mut().poll_frame(context)),
            None => {
                let over = "the call that this body came with is over".to_owned();
                return Poll::Ready(Some(Err(Error::InternalError(Some(over)))));
            }
        };
        self.progress.note();
        Poll::Ready(
            frame.map(|frame| frame.map_err(|error| Error::InternalError(Some(error.to_string())))),
        )
    }

    fn size_hint(&self) -> SizeHint {
        self.lent.lock().as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }

    fn is_end_stream(&self) -> bool {
        self.lent.lock().as_ref().is_some_and(|body| body.is_end_stream())
    }
}

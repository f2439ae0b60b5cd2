//! Checks the head of what a standard handler answers: nothing that leaves here can break HTTP.

use std::fmt;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use wasmtime_wasi_http::WasiBody;

use super::body::AnswerBody;
use super::progress::Progress;
use crate::error::{CallError, quote};
use crate::limits::{HEADER_BYTES_MAX, HEADERS_MAX, Limits};
use crate::response::DROPPED;

/// Returns the answer if it can go out.
pub(super) fn check(
    answer: Result<Response<WasiBody>, impl fmt::Debug>,
    limits: &Limits,
    progress: &Arc<Progress>,
) -> Result<Response<AnswerBody>, CallError> {
    let answer = answer.map_err(|code| CallError::Answered(quote(&format!("{code:?}"))))?;
    let (mut head, mut body) = answer.into_parts();
    check_status(head.status)?;
    check_size(&head.headers)?;
    let bytes_max = limits.response_bytes;
    let mut length = announced(&head.headers);
    if let Some(len) = length.filter(|len| *len > bytes_max) {
        return Err(CallError::ResponseLimit { len, bytes_max });
    }
    // The length is the guest's word, which the engine's crate holds it to, and so are the names of
    // its trailers, without which HTTP/1.1 sends none; the other fields of the connection are not its
    // own.
    let own = [CONTENT_LENGTH, TRAILER];
    let is_dropped = |name: &HeaderName| DROPPED.contains(&name.as_str()) && !own.contains(name);
    // Most answers have none, and a look at what is there costs less than eight for what is not.
    let dropped: Vec<_> = head.headers.keys().filter(|name| is_dropped(name)).cloned().collect();
    for name in dropped {
        head.headers.remove(name);
    }
    if matches!(head.status.as_u16(), 204 | 205 | 304) {
        head.headers.remove(CONTENT_LENGTH);
        length = None;
        body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    }
    if let Some(bytes) = length {
        progress.note_length(bytes);
    }
    Ok(Response::from_parts(head, AnswerBody::new(body, Arc::clone(progress), bytes_max)))
}

fn check_status(status: StatusCode) -> Result<(), CallError> {
    if (200..=599).contains(&status.as_u16()) {
        return Ok(());
    }
    let status = status.as_u16();
    Err(CallError::BadResponse(format!("status {status} is not within 200 to 599")))
}

fn check_size(headers: &HeaderMap) -> Result<(), CallError> {
    if headers.len() > HEADERS_MAX {
        let count = headers.len();
        return Err(CallError::BadResponse(format!(
            "{count} header fields; at most {HEADERS_MAX} are allowed"
        )));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        return Err(CallError::BadResponse(format!(
            "{bytes} bytes of header fields; at most {HEADER_BYTES_MAX} are allowed"
        )));
    }
    Ok(())
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

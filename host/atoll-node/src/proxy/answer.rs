//! Answers from what is stored, or from what is just coming.

use super::fetch::Asked;
use super::shield::FetchedUs;
use crate::cache::body::{Reading, StoredBody};
use crate::cache::disk::file::Sending;
use crate::cache::fill::Fill;
use crate::cache::stored::Stored;
use crate::listen::files::Files;
use crate::problem::Problem;
use atoll_core::http::range::{self, Selection};
use atoll_core::http_cache::coding::{self, Coding};
use atoll_core::http_cache::freshness::Exchanged;
use atoll_core::http_cache::keys::ATOLL_KEYS;
use atoll_core::http_cache::partial::{self, Span, Wanted};
use atoll_core::http_cache::report::Report;
use atoll_core::http_cache::storing::Meta;
use atoll_core::http_cache::{precondition, reuse};
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// How a response is sent that may be sent with a content coding.
#[derive(Debug)]
pub(super) enum CodedAs {
    /// As it is.
    Itself,
    /// With this coding, and this body.
    Coding(Coding, StoredBody),
}

/// Whether what is stored can answer the request at all: a part answers only what lies in it.
pub(super) fn can_answer(stored: &Stored, asked: &Asked) -> bool {
    let Some(span) = stored.span else { return true };
    // RFC 9110 section 14.2: a Range means nothing to HEAD.
    let is_for_ranges = asked.parts.method == Method::GET;
    match asked.parts.headers.get(header::RANGE).filter(|_| is_for_ranges) {
        None => span.is_whole(),
        Some(range) => {
            let holds = precondition::if_range_holds(
                &asked.parts.headers,
                &stored.headers,
                stored.exchanged,
            );
            holds && span.select(range.as_bytes()) != Wanted::NotHeld
        }
    }
}

/// Answers with what is stored.
pub(super) fn from_stored(
    stored: &Stored,
    asked: &Asked,
    now_ms: u64,
    how: (Report, Option<CodedAs>),
) -> Response {
    let mut answer = with_stored(stored, asked, now_ms, how);
    if asked.is_for_a_node() && !stored.is_taken {
        answer.extensions_mut().insert(FetchedUs(stored.fetched_us));
    }
    answer
}

fn with_stored(
    stored: &Stored,
    asked: &Asked,
    now_ms: u64,
    (report, coded): (Report, Option<CodedAs>),
) -> Response {
    let mut headers = stored.headers.clone();
    if !stored.keys.is_empty() && !asked.is_for_a_node() {
        headers.remove(ATOLL_KEYS);
    }
    finish(&mut headers, &stored.meta, now_ms, report, Age::Always);
    if coded.is_some() {
        coding::vary_by_coding(&mut headers);
    }
    let coded = match coded {
        Some(CodedAs::Coding(coding, body)) => {
            coding::put_on(&mut headers, coding, body.bytes());
            Some(body)
        }
        _ => None,
    };
    if is_not_modified(asked, stored.status, &stored.headers, stored.exchanged) {
        return not_modified(headers);
    }
    if let Some(coded) = coded {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = headers;
        if asked.parts.method != Method::HEAD {
            *response.body_mut() = body(&coded, (0, coded.bytes()), asked);
        }
        return response;
    }
    let whole =
        Span { first: 0, last: stored.body_bytes.saturating_sub(1), total: stored.body_bytes };
    let held = stored.span.unwrap_or(whole);
    let chosen = choose(asked, stored.status, &stored.headers, (stored.exchanged, held));
    let (status, span) = match chosen {
        Chosen::All if stored.span.is_some() => {
            headers.remove(header::CONTENT_RANGE);
            (StatusCode::OK, None)
        }
        Chosen::All => (stored.status, None),
        Chosen::Part(span) => (StatusCode::PARTIAL_CONTENT, Some(span)),
        Chosen::Nothing => return unsatisfiable(held.total, headers),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Some(span) = span {
        headers.insert(header::CONTENT_RANGE, span.content_range());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(span.length()));
    }
    *response.headers_mut() = headers;
    if asked.parts.method != Method::HEAD {
        let (first, bytes) = match span {
            None => (0, stored.body_bytes),
            Some(span) => (span.first - held.first, span.length()),
        };
        *response.body_mut() = body(&stored.body, (first, bytes), asked);
    }
    response
}

/// Answers with what is coming. `None` where its beginning is no longer kept.
pub(super) fn from_fill(
    fill: &Arc<Fill>,
    asked: &Asked,
    now_ms: u64,
    how: (Report, bool),
) -> Option<Response> {
    let mut answer = with_fill(fill, asked, now_ms, how)?;
    answer.extensions_mut().insert(FetchedUs(fill.head.fetched_us));
    Some(answer)
}

fn with_fill(
    fill: &Arc<Fill>,
    asked: &Asked,
    now_ms: u64,
    (report, varies_by_coding): (Report, bool),
) -> Option<Response> {
    let reader = fill.reader()?;
    let mut headers = fill.head.headers.clone();
    if !fill.head.keys.is_empty() && !asked.is_for_a_node() {
        headers.remove(ATOLL_KEYS);
    }
    let age = if report.collapsed { Age::Always } else { Age::IfAny };
    if age == Age::IfAny {
        // The request that it was fetched for.
        add_own(&mut headers, &fill.head.own_fields);
    }
    finish(&mut headers, &fill.head.meta, now_ms, report, age);
    if varies_by_coding {
        coding::vary_by_coding(&mut headers);
    }
    if is_not_modified(asked, fill.head.status, &fill.head.headers, fill.head.exchanged) {
        return Some(not_modified(headers));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = fill.head.status;
    let whole = fill.head.length.filter(|length| fill.head.span.is_none() && *length > 0);
    let chosen = match whole {
        Some(total) => {
            let held = Span { first: 0, last: total - 1, total };
            choose(asked, fill.head.status, &fill.head.headers, (fill.head.exchanged, held))
        }
        // A part is what was asked for, and of what has no length yet no part can be named.
        None => Chosen::All,
    };
    let part = match chosen {
        Chosen::All => None,
        Chosen::Nothing => return Some(unsatisfiable(fill.head.length.unwrap_or(0), headers)),
        Chosen::Part(span) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            headers.insert(header::CONTENT_RANGE, span.content_range());
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(span.length()));
            Some((span.first, span.last))
        }
    };
    *response.headers_mut() = headers;
    *response.body_mut() = reader.into_body(part);
    Some(response)
}

/// What of a body is sent.
enum Chosen {
    All,
    Part(Span),
    Nothing,
}

fn choose(
    asked: &Asked,
    status: StatusCode,
    headers: &HeaderMap,
    (exchanged, held): (Exchanged, Span),
) -> Chosen {
    // RFC 9110 section 14.2: ranges are for GET and a 200.
    let is_for_ranges = asked.parts.method == Method::GET
        && [StatusCode::OK, StatusCode::PARTIAL_CONTENT].contains(&status);
    let Some(field) = asked.parts.headers.get(header::RANGE).filter(|_| is_for_ranges) else {
        return Chosen::All;
    };
    if !precondition::if_range_holds(&asked.parts.headers, headers, exchanged) {
        return Chosen::All;
    }
    match range::select(field.as_bytes(), held.total) {
        Selection::Whole => Chosen::All,
        Selection::Unsatisfiable => Chosen::Nothing,
        Selection::Part { first, last } => Chosen::Part(Span { first, last, total: held.total }),
    }
}

fn is_not_modified(
    asked: &Asked,
    status: StatusCode,
    headers: &HeaderMap,
    exchanged: Exchanged,
) -> bool {
    asked.is_conditional
        && precondition::is_not_modified(&asked.parts.headers, status, headers, exchanged)
}

/// 304, without the fields that are about a body (RFC 9110 section 15.4.5).
fn not_modified(mut headers: HeaderMap) -> Response {
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_RANGE,
    ] {
        headers.remove(name);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.headers_mut() = headers;
    response
}

fn unsatisfiable(total: u64, headers: HeaderMap) -> Response {
    let problem = Problem::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "range",
        format!("the response has {total} bytes, and none of those that were asked for"),
    );
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONTENT_RANGE, partial::unsatisfied(total));
    for name in [header::AGE, atoll_core::http_cache::report::CACHE_STATUS] {
        for value in headers.get_all(&name) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response
}

/// Adds fields that are for this request alone.
pub(super) fn add_own(headers: &mut HeaderMap, own_fields: &HeaderMap) {
    for name in own_fields.keys() {
        headers.remove(name);
        for value in own_fields.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// When Age is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    /// Always: the answer is one that another request had.
    Always,
    /// Where the upstream's answer had some.
    IfAny,
}

/// Adds what is different each time (RFC 9111 section 4, RFC 9211).
fn finish(headers: &mut HeaderMap, meta: &Meta, now_ms: u64, mut report: Report, age: Age) {
    let age_s = reuse::age_s(meta, now_ms);
    if age == Age::Always || age_s > 0 {
        headers.insert(header::AGE, HeaderValue::from(age_s));
    }
    report.ttl_s = Some(reuse::remaining_ms(meta, now_ms).div_euclid(1_000));
    report.append_to(headers);
}

/// `bytes` of what is stored, from `first` on.
fn body(stored: &StoredBody, (first, bytes): (u64, u64), asked: &Asked) -> Body {
    match stored {
        StoredBody::Pieces(held) if bytes == stored.bytes() => pieces(held.to_vec(), bytes),
        _ if bytes == 0 => Body::empty(),
        // From memory: it cannot fail.
        StoredBody::Pieces(_) => {
            pieces(stored.slice(first, first + bytes - 1).unwrap_or_default(), bytes)
        }
        StoredBody::File { file, .. } => match asked.parts.extensions.get::<Files>() {
            Some(files) => Body::new(files.body(Arc::clone(file), first, bytes)),
            None => Body::new(Reading { file: Arc::clone(file), offset: first, left: bytes }),
        },
        StoredBody::Disk(file) => {
            let way = asked.parts.extensions.get::<Files>().cloned();
            Body::new(Sending::new(file, (first, bytes), way))
        }
    }
}

/// A body of pieces that are there.
fn pieces(pieces: Vec<Bytes>, length: u64) -> Body {
    let mut pieces = pieces;
    match pieces.len() {
        0 => Body::empty(),
        1 => Body::from(pieces.remove(0)),
        _ => Body::new(Pieces { pieces: pieces.into_iter(), left: length }),
    }
}

struct Pieces {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.next();
        self.left -= piece.as_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

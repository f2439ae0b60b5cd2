//! Parts of a representation, put together (RFC 9111 section 3.4): only where a strong validator says
//! that they are of the same one.

use super::fetch::{Asked, Fetched};
use crate::cache::body::StoredBody;
use crate::cache::stored::{Ingredients, Stored};
use atoll_core::http_cache::freshness::Exchanged;
use atoll_core::http_cache::partial::Span;
use atoll_core::http_cache::{fields, validation};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::io;

/// Whether a request for all can be one for what `stored`, the beginning, lacks.
pub(super) fn lacks_the_rest(stored: &Stored, asked: &Asked) -> bool {
    let rest = stored.span.and_then(|span| span.rest());
    let wants_all = !asked.parts.headers.contains_key(header::RANGE);
    rest.is_some() && wants_all && validator(&stored.headers, stored.exchanged).is_some()
}

/// Asks for the rest of `part`, or for all of it where it has changed.
pub(super) fn ask_for_rest(part: &Stored, headers: &mut HeaderMap) {
    let rest = part.span.and_then(|span| span.rest());
    if let (Some(rest), Some(tag)) = (rest, validator(&part.headers, part.exchanged)) {
        headers.insert(header::RANGE, rest);
        headers.insert(header::IF_RANGE, tag.clone());
    }
}

/// The whole, where `fetched` is the rest of `part`; else `None`.
pub(super) fn completed(part: &Stored, fetched: Fetched) -> Option<Fetched> {
    let Fetched { response, exchanged, shielded_us } = fetched;
    let held = part.span?;
    let came = Span::of(response.headers()).filter(|span| span.first == held.last + 1)?;
    let is_rest = response.status() == StatusCode::PARTIAL_CONTENT && came.last + 1 == came.total;
    let is_same = are_of_one((&part.headers, part.exchanged), (response.headers(), exchanged));
    held.joined(&came).filter(|_| is_rest && is_same)?;
    let (mut parts, body) = response.into_parts();
    parts.status = StatusCode::OK;
    parts.headers = joined_headers(&part.headers, &parts.headers);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(came.total));
    let body = body.preceded_by(part.body.slice(0, held.last - held.first).ok()?);
    let response = http::Response::from_parts(parts, body);
    // A purge that is newer than either takes both.
    let shielded_us = shielded_us.map(|fetched_us| fetched_us.min(part.fetched_us));
    Some(Fetched { response, exchanged, shielded_us })
}

/// `newer`, a part, together with `older`, another one that is stored; `newer` alone where they do
/// not belong together or would be too long.
pub(super) fn combined(older: &Stored, newer: Ingredients, bytes_max: u64) -> Ingredients {
    let is_same = are_of_one((&older.headers, older.exchanged), (&newer.headers, newer.exchanged));
    let (Some(old), Some(new)) = (older.span, newer.span) else { return newer };
    let both = old.joined(&new).filter(|both| is_same && both.length() <= bytes_max);
    let Some(both) = both else { return newer };
    let Ok(pieces) = joined_pieces((older, old), (&newer, new)) else { return newer };
    let mut headers = joined_headers(&older.headers, &newer.headers);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(both.length()));
    let span = Some(both).filter(|both| !both.is_whole());
    if let Some(span) = span {
        headers.insert(header::CONTENT_RANGE, span.content_range());
    }
    Ingredients {
        status: if span.is_some() { newer.status } else { StatusCode::OK },
        headers,
        body: StoredBody::of(pieces),
        span,
        // A purge that is newer than either takes both.
        fetched_us: newer.fetched_us.min(older.fetched_us),
        ..newer
    }
}

fn joined_pieces(
    (older, old): (&Stored, Span),
    (newer, new): (&Ingredients, Span),
) -> io::Result<Vec<Bytes>> {
    let mut pieces = Vec::new();
    if old.first < new.first {
        pieces.extend(older.body.slice(0, new.first - 1 - old.first)?);
    }
    pieces.extend(newer.body.slice(0, new.length() - 1)?);
    if old.last > new.last {
        pieces.extend(older.body.slice(new.last + 1 - old.first, old.last - old.first)?);
    }
    Ok(pieces)
}

/// The newer fields, and the older ones that it does not have (RFC 9110 section 15.3.7.3).
fn joined_headers(older: &HeaderMap, newer: &HeaderMap) -> HeaderMap {
    let mut headers = older.clone();
    fields::update(&mut headers, newer);
    // Age is computed anew, from the newer one.
    headers.remove(header::AGE);
    if let Some(age) = newer.get(header::AGE) {
        headers.insert(header::AGE, age.clone());
    }
    headers.remove(header::CONTENT_RANGE);
    headers
}

fn are_of_one(older: (&HeaderMap, Exchanged), newer: (&HeaderMap, Exchanged)) -> bool {
    let older = validator(older.0, older.1);
    older.is_some() && older == validator(newer.0, newer.1)
}

fn validator(headers: &HeaderMap, exchanged: Exchanged) -> Option<&HeaderValue> {
    validation::strong_validator(headers, exchanged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_core::http_cache::storing::{Answered, Rules, describe};
    use atoll_core::http_cache::targeted;

    const TEXT: &[u8] = b"0123456789";

    /// The bytes from `first` to `last` of ten.
    fn part(first: u64, last: u64, tag: &str, fetched_us: u64) -> Ingredients {
        let exchanged = Exchanged { requested_ms: 0, responded_ms: 1_795_824_000_000 };
        let span = Span { first, last, total: 10 };
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, HeaderValue::try_from(tag).expect("a tag"));
        headers.insert(header::CONTENT_RANGE, span.content_range());
        headers.insert("x-from", HeaderValue::from(first));
        let status = StatusCode::PARTIAL_CONTENT;
        let (control, is_targeted) = targeted::control_of(&headers);
        let answered = Answered { status, headers: &headers };
        let rules = Rules::default();
        let meta = describe(answered, &control, is_targeted, (exchanged, &rules));
        let body = Bytes::from_static(&TEXT[first as usize..=last as usize]);
        Ingredients {
            key: "a/".into(),
            host_bytes: 1,
            route: 0,
            status,
            headers,
            meta,
            exchanged,
            body: StoredBody::of(vec![body]),
            span: Some(span),
            fetched_us,
        }
    }

    #[track_caller]
    fn check(older: Ingredients, newer: Ingredients, want: (u16, Option<(u64, u64)>)) {
        let both = Stored::new(combined(&Stored::new(older), newer, 10));
        let span = both.span.map(|span| (span.first, span.last));
        assert_eq!((both.status.as_u16(), span), want);
        let (first, last) = span.unwrap_or((0, 9));
        let body = both.body.slice(0, last - first).expect("memory").concat();
        assert_eq!(body, TEXT[first as usize..=last as usize]);
        assert_eq!(both.headers[header::ETAG], "\"a\"");
        assert_eq!(both.headers.contains_key(header::CONTENT_RANGE), span.is_some());
    }

    #[test]
    fn parts_that_touch_become_one_and_all_of_them_become_the_whole() {
        let a = "\"a\"";
        check(part(0, 3, a, 1), part(4, 6, a, 2), (206, Some((0, 6))));
        check(part(5, 8, a, 1), part(2, 6, a, 2), (206, Some((2, 8))));
        check(part(1, 8, a, 1), part(3, 4, a, 2), (206, Some((1, 8))));
        check(part(0, 6, a, 1), part(4, 9, a, 2), (200, None));
        check(part(4, 9, a, 1), part(0, 3, a, 2), (200, None));
    }

    #[test]
    fn parts_that_are_apart_or_may_be_of_another_are_not_joined() {
        let a = "\"a\"";
        check(part(0, 3, a, 1), part(5, 6, a, 2), (206, Some((5, 6))));
        check(part(0, 3, "\"b\"", 1), part(4, 6, a, 2), (206, Some((4, 6))));
        let weak = Stored::new(part(0, 3, "W/\"a\"", 1));
        let alone = combined(&weak, part(4, 6, "W/\"a\"", 2), 10);
        assert_eq!(alone.span.map(|span| span.first), Some(4));
        let long = combined(&Stored::new(part(0, 3, a, 1)), part(4, 6, a, 2), 6);
        assert_eq!(long.span.map(|span| span.first), Some(4), "it would be too long");
    }

    #[test]
    fn what_was_fetched_first_decides_which_purges_take_both() {
        let a = "\"a\"";
        let both = combined(&Stored::new(part(0, 3, a, 7)), part(4, 6, a, 9), 10);
        assert_eq!((both.fetched_us, &both.headers["x-from"]), (7, &HeaderValue::from(4)));
    }
}

//! Asking upstream whether what is stored is still right (RFC 9111 sections 4.3.1, 4.3.3 to 4.3.5).

use super::freshness::{self, Exchanged};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Fields that make a request conditional (RFC 9110 section 13.1).
pub const CONDITIONS: [HeaderName; 5] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
];

/// Turns a request into one that asks about what is stored: its own conditions are for the answer,
/// and are taken out.
pub fn ask_about(stored: &HeaderMap, request: &mut HeaderMap) {
    for name in &CONDITIONS {
        request.remove(name);
    }
    if let Some(tag) = stored.get(header::ETAG) {
        request.insert(header::IF_NONE_MATCH, tag.clone());
    }
    if let Some(modified) = stored.get(header::LAST_MODIFIED) {
        request.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Whether a 304 is about this stored response, the only one that was asked about (4.3.4).
///
/// One without validators is: servers need not repeat Last-Modified. A strong validator names what
/// has the very same: what is stored with a weak one may differ byte by byte.
pub fn is_about(stored: &HeaderMap, not_modified: &HeaderMap) -> bool {
    match (stored.get(header::ETAG), not_modified.get(header::ETAG)) {
        (Some(ours), Some(theirs)) if is_weak(theirs) => strip_weak(ours) == strip_weak(theirs),
        (Some(ours), Some(theirs)) => ours == theirs,
        // A validator that we do not have names something else.
        (None, Some(_)) => false,
        (_, None) => match not_modified.get(header::LAST_MODIFIED) {
            Some(theirs) => stored.get(header::LAST_MODIFIED).is_none_or(|ours| ours == theirs),
            None => true,
        },
    }
}

/// Whether a 200 to HEAD describes this stored response, so that it may be updated; if not, it is
/// out of date (4.3.5).
pub fn describes(stored: &HeaderMap, head: &HeaderMap) -> bool {
    let same = |name: HeaderName| match head.get(&name) {
        Some(theirs) => stored.get(&name) == Some(theirs),
        None => true,
    };
    // A length that was not stored was still counted by who calls.
    same(header::ETAG) && same(header::LAST_MODIFIED) && same(header::CONTENT_LENGTH)
}

/// Whether a full response to a request with these fields, which asked about a stored one or for
/// something newer, ends that one though it may not be stored itself (4.3.3): what is stored is not
/// suitable any more.
pub fn ends_stored(request: &HeaderMap, status: StatusCode) -> bool {
    // 5xx may count as no answer (4.3.3). These two are about the request, and not what it is for.
    let is_answer = !status.is_server_error()
        && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    let is_full = !status.is_informational()
        && !matches!(
            status,
            StatusCode::NOT_MODIFIED
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::RANGE_NOT_SATISFIABLE
        );
    // What is for one person's credentials says nothing of what others get.
    is_answer && is_full && !request.contains_key(header::AUTHORIZATION)
}

/// A validator that tells two representations apart byte by byte (RFC 9110 section 8.8).
pub fn strong_validator(headers: &HeaderMap, exchanged: Exchanged) -> Option<&HeaderValue> {
    if let Some(tag) = headers.get(header::ETAG) {
        return tag.as_bytes().starts_with(b"\"").then_some(tag);
    }
    strong_date(headers, exchanged)
}

/// Last-Modified where it tells two representations apart byte by byte: not where a tag is weak.
pub fn strong_date(headers: &HeaderMap, exchanged: Exchanged) -> Option<&HeaderValue> {
    if headers.get(header::ETAG).is_some_and(is_weak) {
        return None;
    }
    let modified_s = freshness::modified_s(headers, exchanged)?;
    let has_date = headers.contains_key(header::DATE);
    // 8.8.2.2: changed again within the same second, it would have the same date.
    let is_old = freshness::date_s(headers, exchanged) >= modified_s + 60;
    (has_date && is_old).then(|| headers.get(header::LAST_MODIFIED)).flatten()
}

fn is_weak(tag: &HeaderValue) -> bool {
    tag.as_bytes().starts_with(b"W/")
}

fn strip_weak(tag: &HeaderValue) -> &[u8] {
    tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;

    const TAG: (&str, &str) = ("etag", "\"a\"");
    const DATE: (&str, &str) = ("last-modified", "Fri, 27 Nov 2026 00:00:00 GMT");

    #[test]
    fn section_4_3_1_both_validators_are_sent_and_the_clients_conditions_are_not() {
        let mut request = headers(&[
            ("if-none-match", "\"theirs\""),
            ("if-modified-since", "x"),
            ("if-range", "\"r\""),
            ("accept", "a/b"),
        ]);
        ask_about(&headers(&[TAG, DATE]), &mut request);
        let want = headers(&[
            ("if-none-match", "\"a\""),
            ("if-modified-since", "Fri, 27 Nov 2026 00:00:00 GMT"),
            ("accept", "a/b"),
        ]);
        assert_eq!(request, want);
        ask_about(&headers(&[]), &mut request);
        assert_eq!(request, headers(&[("accept", "a/b")]));
    }

    #[test]
    fn section_4_3_4_a_304_updates_what_it_names_or_does_not_name() {
        let stored = headers(&[TAG, DATE]);
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[TAG], true),
            (&[("etag", "W/\"a\"")], true),
            (&[("etag", "\"b\"")], false),
            (&[DATE], true),
            (&[("last-modified", "Fri, 27 Nov 2026 00:00:01 GMT")], false),
            (&[], true),
        ];
        for (fields, want) in cases {
            assert_eq!(is_about(&stored, &headers(fields)), want, "{fields:?}");
        }
        assert!(!is_about(&headers(&[DATE]), &headers(&[TAG])));
    }

    #[test]
    fn section_4_3_4_a_strong_validator_updates_nothing_that_has_a_weak_one() {
        let weak = ("etag", "W/\"a\"");
        assert!(!is_about(&headers(&[weak]), &headers(&[TAG])));
        assert!(is_about(&headers(&[weak]), &headers(&[weak])));
        assert!(is_about(&headers(&[weak, DATE]), &headers(&[DATE])));
    }

    #[test]
    fn section_4_3_3_a_full_response_ends_what_is_stored_and_a_failure_does_not() {
        let none = headers(&[]);
        let ends = |status| ends_stored(&none, StatusCode::from_u16(status).expect("a status"));
        for status in [200, 203, 301, 302, 401, 403, 404, 410, 451] {
            assert!(ends(status), "{status}");
        }
        for status in [206, 304, 408, 416, 429, 500, 502, 503, 504, 599] {
            assert!(!ends(status), "{status}");
        }
        let credentials = headers(&[("authorization", "Basic x")]);
        assert!(!ends_stored(&credentials, StatusCode::OK));
    }

    #[test]
    fn section_4_3_5_head_describes_a_response_with_the_same_validators_and_length() {
        let stored = headers(&[TAG, DATE, ("content-length", "5")]);
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[], true),
            (&[TAG, DATE, ("content-length", "5")], true),
            (&[("content-length", "6")], false),
            (&[("etag", "\"b\"")], false),
            (&[("last-modified", "x")], false),
            (&[("x-new", "y")], true),
        ];
        for (fields, want) in cases {
            assert_eq!(describes(&stored, &headers(fields)), want, "{fields:?}");
        }
    }

    #[test]
    fn rfc_9110_section_8_8_what_is_a_strong_validator() {
        let now = Exchanged { requested_ms: 0, responded_ms: 1_795_824_000_000 };
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[TAG], true),
            (&[("etag", "W/\"a\"")], false),
            (&[("etag", "W/\"a\""), DATE, ("date", "Sat, 28 Nov 2026 00:00:00 GMT")], false),
            (&[DATE, ("date", "Sat, 28 Nov 2026 00:00:00 GMT")], true),
            (&[DATE, ("date", "Fri, 27 Nov 2026 00:00:59 GMT")], false),
            (&[DATE], false),
        ];
        for (fields, want) in cases {
            assert_eq!(strong_validator(&headers(fields), now).is_some(), want, "{fields:?}");
        }
    }
}

//! A client's own conditions, decided by what is stored (RFC 9111 section 4.3.2).

use super::freshness::{self, Exchanged};
use super::{date, validation};
use crate::http::conditional::TagList;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Whether a request needs its upstream whatever is stored: If-Match and If-Unmodified-Since are for
/// the origin server (4.3.2).
pub fn is_for_the_upstream(request: &HeaderMap) -> bool {
    request.contains_key(header::IF_MATCH) || request.contains_key(header::IF_UNMODIFIED_SINCE)
}

/// Whether the client has what is stored already, so that 304 is the answer.
pub fn is_not_modified(
    request: &HeaderMap,
    status: StatusCode,
    stored: &HeaderMap,
    exchanged: Exchanged,
) -> bool {
    // RFC 9110 section 13.2.1: conditions are about what would be a 200.
    if !status.is_success() {
        return false;
    }
    if request.contains_key(header::IF_NONE_MATCH) {
        let lines = request.get_all(header::IF_NONE_MATCH).iter().map(|line| line.as_bytes());
        return match TagList::parse(lines) {
            Ok(TagList::Any) => true,
            Ok(TagList::Tags(tags)) => {
                let ours = stored.get(header::ETAG).map(opaque);
                tags.iter().any(|tag| Some(&*tag.opaque) == ours)
            }
            Err(_) => false,
        };
    }
    let now_s = exchanged.responded_ms / 1_000;
    let mut lines = request.get_all(header::IF_MODIFIED_SINCE).iter();
    let since = lines.next().filter(|_| lines.next().is_none());
    let Some(since_s) = since.and_then(|line| date::parse(line.as_bytes(), now_s)) else {
        return false;
    };
    // Without Last-Modified, Date stands in for it, or else the time of arrival.
    let modified_s = freshness::modified_s(stored, exchanged)
        .unwrap_or_else(|| freshness::date_s(stored, exchanged));
    modified_s <= since_s
}

/// Whether If-Range, where there is one, names what is stored (RFC 9110 section 13.1.5).
pub fn if_range_holds(request: &HeaderMap, stored: &HeaderMap, exchanged: Exchanged) -> bool {
    let Some(condition) = request.get(header::IF_RANGE) else { return true };
    let validator = if is_tag(condition) {
        validation::strong_validator(stored, exchanged)
    } else {
        // One that has a weak tag as well is said to be no more than alike.
        validation::strong_date(stored, exchanged)
    };
    validator.is_some_and(|validator| condition.as_bytes().trim_ascii() == validator.as_bytes())
}

/// Whether If-Range has a tag, and no date.
fn is_tag(condition: &HeaderValue) -> bool {
    condition.as_bytes().contains(&b'"')
}

/// What stands between the quotes; all of it where there are none.
fn opaque(tag: &HeaderValue) -> &[u8] {
    let tag = tag.as_bytes();
    let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
    tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\"")).unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;

    const AT: Exchanged = Exchanged { requested_ms: 0, responded_ms: 1_795_824_000_000 };
    const MODIFIED: (&str, &str) = ("last-modified", "Fri, 27 Nov 2026 00:00:00 GMT");
    const DATE: (&str, &str) = ("date", "Sat, 28 Nov 2026 00:00:00 GMT");

    type Fields<'a> = &'a [(&'static str, &'static str)];

    #[track_caller]
    fn check(request: Fields<'_>, stored: Fields<'_>, want: bool) {
        let found = is_not_modified(&headers(request), StatusCode::OK, &headers(stored), AT);
        assert_eq!(found, want, "{request:?} {stored:?}");
    }

    #[test]
    fn section_4_3_2_if_none_match_is_compared_weakly_with_what_is_stored() {
        let stored = [("etag", "\"abcdef\"")];
        for tags in [
            "\"abcdef\"",
            "W/\"abcdef\"",
            "\"1\", \"abcdef\", \"2\"",
            "\"1\", \"2\", \"abcdef\"",
            "*",
        ] {
            check(&[("if-none-match", tags)], &stored, true);
            check(&[("if-none-match", tags)], &[("etag", "W/\"abcdef\"")], true);
        }
        for tags in ["\"1\"", "abcdef", "\"ABCDEF\"", ""] {
            check(&[("if-none-match", tags)], &stored, false);
        }
        check(&[("if-none-match", "\"a\"")], &[], false);
    }

    #[test]
    fn section_4_3_2_if_none_match_goes_before_if_modified_since() {
        let late = ("if-modified-since", "Sat, 28 Nov 2026 00:00:00 GMT");
        let stored = [("etag", "\"a\""), MODIFIED];
        check(&[("if-none-match", "\"b\""), late], &stored, false);
        check(&[("if-none-match", "\"a\""), ("if-modified-since", "x")], &stored, true);
    }

    #[test]
    fn section_4_3_2_if_modified_since_falls_back_to_date_and_arrival() {
        let since = |date| ("if-modified-since", date);
        check(&[since("Fri, 27 Nov 2026 00:00:00 GMT")], &[MODIFIED], true);
        check(&[since("Thu, 26 Nov 2026 23:59:59 GMT")], &[MODIFIED], false);
        check(&[since("Fri, 27 Nov 2026 00:00:00 GMT")], &[DATE], false);
        check(&[since("Sat, 28 Nov 2026 00:00:00 GMT")], &[DATE], true);
        check(&[since("Sat, 28 Nov 2026 00:00:00 GMT")], &[], true);
        check(&[since("yesterday")], &[MODIFIED], false);
        let twice = since("Sat, 28 Nov 2026 00:00:00 GMT");
        check(&[twice, twice], &[MODIFIED], false);
    }

    #[test]
    fn rfc_9110_section_13_2_1_conditions_are_ignored_for_what_is_no_success() {
        let request = headers(&[("if-none-match", "*")]);
        let stored = headers(&[("etag", "\"a\"")]);
        assert!(!is_not_modified(&request, StatusCode::NOT_FOUND, &stored, AT));
    }

    #[test]
    fn rfc_9110_section_13_1_5_if_range_takes_strong_validators_only() {
        let check = |condition: Fields<'_>, stored: Fields<'_>, want: bool| {
            let found = if_range_holds(&headers(condition), &headers(stored), AT);
            assert_eq!(found, want, "{condition:?} {stored:?}");
        };
        check(&[], &[], true);
        check(&[("if-range", "\"a\"")], &[("etag", "\"a\"")], true);
        check(&[("if-range", "W/\"a\"")], &[("etag", "W/\"a\"")], false);
        check(&[("if-range", "\"b\"")], &[("etag", "\"a\"")], false);
        check(&[("if-range", "\"a\"")], &[], false);
        check(&[("if-range", MODIFIED.1)], &[MODIFIED, DATE], true);
        check(&[("if-range", MODIFIED.1)], &[MODIFIED], false);
        let (strong, weak) = (("etag", "\"a\""), ("etag", "W/\"a\""));
        check(&[("if-range", MODIFIED.1)], &[strong, MODIFIED, DATE], true);
        check(&[("if-range", DATE.1)], &[strong, MODIFIED, DATE], false);
        check(&[("if-range", MODIFIED.1)], &[weak, MODIFIED, DATE], false);
        check(&[("if-range", "\"a\"")], &[strong, MODIFIED, DATE], true);
    }

    #[test]
    fn section_4_3_2_conditions_for_the_origin_server_are_left_to_it() {
        assert!(is_for_the_upstream(&headers(&[("if-match", "\"a\"")])));
        assert!(is_for_the_upstream(&headers(&[("if-unmodified-since", "x")])));
        assert!(!is_for_the_upstream(&headers(&[("if-none-match", "\"a\"")])));
    }
}

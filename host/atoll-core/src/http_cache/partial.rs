//! Parts of a representation: answers from them, and how they are put together (RFC 9111 sections
//! 3.3 and 3.4, RFC 9110 section 14).

use crate::http::range::{self, Selection};
use http::{HeaderMap, HeaderValue, header};

/// Bytes of a representation: `first <= last < total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last one.
    pub last: u64,
    /// Length of the whole representation.
    pub total: u64,
}

/// What of a stored part a Range asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it is stored.
    Held(Span),
    /// Some of it is not, or it is no single range.
    NotHeld,
    /// Nothing of it exists.
    Unsatisfiable,
}

impl Span {
    /// Reads Content-Range. `None` where it gives no total or is malformed.
    pub fn of(headers: &HeaderMap) -> Option<Span> {
        let mut lines = headers.get_all(header::CONTENT_RANGE).iter();
        let line = lines.next().filter(|_| lines.next().is_none())?.to_str().ok()?;
        let (unit, rest) = line.trim().split_once(' ')?;
        unit.eq_ignore_ascii_case("bytes").then_some(())?;
        let (range, total) = rest.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u64>().ok()).flatten()
        };
        let span = Span { first: number(first)?, last: number(last)?, total: number(total)? };
        (span.first <= span.last && span.last < span.total).then_some(span)
    }

    /// Number of bytes.
    pub fn length(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.first == 0 && self.last + 1 == self.total
    }

    /// The value of Content-Range for these bytes.
    pub fn content_range(&self) -> HeaderValue {
        let text = format!("bytes {}-{}/{}", self.first, self.last, self.total);
        HeaderValue::try_from(text).expect("digits and spaces are a value")
    }

    /// What `field`, the value of Range, asks for of these bytes.
    pub fn select(&self, field: &[u8]) -> Wanted {
        match range::select(field, self.total) {
            Selection::Whole => Wanted::NotHeld,
            Selection::Unsatisfiable => Wanted::Unsatisfiable,
            Selection::Part { first, last } if first >= self.first && last <= self.last => {
                Wanted::Held(Span { first, last, total: self.total })
            }
            Selection::Part { .. } => Wanted::NotHeld,
        }
    }

    /// The bytes of both, where they touch or overlap and are of the same length in all: whoever
    /// asks has compared strong validators (3.4).
    pub fn joined(&self, other: &Span) -> Option<Span> {
        let (low, high) = if self.first <= other.first { (self, other) } else { (other, self) };
        let touches = high.first <= low.last + 1;
        (touches && self.total == other.total).then(|| Span {
            first: low.first,
            last: low.last.max(high.last),
            total: self.total,
        })
    }

    /// The value of Range that asks for what is missing behind these bytes, if that is all that is.
    pub fn rest(&self) -> Option<HeaderValue> {
        let lacks_the_end = self.first == 0 && self.last + 1 < self.total;
        lacks_the_end.then(|| {
            let text = format!("bytes={}-", self.last + 1);
            HeaderValue::try_from(text).expect("digits are a value")
        })
    }
}

/// The value of Content-Range in a 416.
pub fn unsatisfied(total: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes */{total}")).expect("digits are a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, last: u64, total: u64) -> Span {
        Span { first, last, total }
    }

    #[test]
    fn rfc_9110_section_14_4_content_range() {
        let check = |value: &'static str, want: Option<Span>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_static(value));
            assert_eq!(Span::of(&headers), want, "{value}");
        };
        check("bytes 4-9/10", Some(span(4, 9, 10)));
        check("Bytes 0-0/1", Some(span(0, 0, 1)));
        for bad in [
            "bytes 4-9/*",
            "bytes */10",
            "bytes 9-4/10",
            "bytes 4-10/10",
            "items 4-9/10",
            "bytes 4-9",
            "bytes +4-9/10",
            "bytes 4-9/99999999999999999999999",
            "",
        ] {
            check(bad, None);
        }
        let mut twice = HeaderMap::new();
        twice.append(header::CONTENT_RANGE, HeaderValue::from_static("bytes 0-1/9"));
        twice.append(header::CONTENT_RANGE, HeaderValue::from_static("bytes 2-3/9"));
        assert_eq!(Span::of(&twice), None);
    }

    #[test]
    fn section_3_3_a_stored_part_answers_what_lies_in_it() {
        let part = span(4, 9, 10);
        let check = |field: &str, want: Wanted| {
            assert_eq!(part.select(field.as_bytes()), want, "{field}");
        };
        check("bytes=-5", Wanted::Held(span(5, 9, 10)));
        check("bytes=6-8", Wanted::Held(span(6, 8, 10)));
        check("bytes=6-", Wanted::Held(span(6, 9, 10)));
        check("bytes=-1", Wanted::Held(span(9, 9, 10)));
        check("bytes=3-8", Wanted::NotHeld);
        check("bytes=0-", Wanted::NotHeld);
        check("bytes=4-5, 6-7", Wanted::NotHeld);
        check("bytes=10-", Wanted::Unsatisfiable);
    }

    #[test]
    fn section_3_4_parts_that_touch_are_joined() {
        assert_eq!(span(0, 4, 10).joined(&span(5, 9, 10)), Some(span(0, 9, 10)));
        assert_eq!(span(5, 9, 10).joined(&span(0, 6, 10)), Some(span(0, 9, 10)));
        assert_eq!(span(0, 9, 10).joined(&span(3, 4, 10)), Some(span(0, 9, 10)));
        assert_eq!(span(0, 4, 10).joined(&span(6, 9, 10)), None);
        assert_eq!(span(0, 4, 10).joined(&span(5, 9, 11)), None);
        assert!(span(0, 9, 10).is_whole() && !span(1, 9, 10).is_whole());
    }

    #[test]
    fn section_3_4_what_is_missing_at_the_end_is_asked_for() {
        assert_eq!(span(0, 4, 10).rest(), Some(HeaderValue::from_static("bytes=5-")));
        assert_eq!(span(1, 4, 10).rest(), None);
        assert_eq!(span(0, 9, 10).rest(), None);
        assert_eq!(span(4, 9, 10).content_range(), HeaderValue::from_static("bytes 4-9/10"));
    }
}

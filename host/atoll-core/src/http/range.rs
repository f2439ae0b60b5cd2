//! Byte ranges: which part of a value a request asks for.
//!
//! Source: RFC 9110 section 14. Of several ranges at once the whole is answered, which 14.2 allows:
//! a multipart answer costs more than it saves, and overlapping ranges are an old way to attack.

/// What to answer to a Range field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 200: the field is absent, unknown, malformed or names several ranges.
    Whole,
    /// 206: these bytes, both ends included. `first <= last < length`.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// 416: nothing of it exists.
    Unsatisfiable,
}

/// Selects from `length` bytes what `field`, the value of Range, asks for.
pub fn select(field: &[u8], length: u64) -> Selection {
    parse(field, length).unwrap_or(Selection::Whole)
}

/// `None` is a field to ignore.
fn parse(field: &[u8], length: u64) -> Option<Selection> {
    let equals = memchr::memchr(b'=', field)?;
    let (unit, set) = (field[..equals].trim_ascii(), &field[equals + 1..]);
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut members =
        set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    let member = members.next()?;
    if members.next().is_some() {
        return None;
    }
    let dash = memchr::memchr(b'-', member)?;
    let (first, last) = (&member[..dash], &member[dash + 1..]);
    if first.is_empty() {
        return Some(suffix(number(last)?, length));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    if first >= length {
        return Some(Selection::Unsatisfiable);
    }
    Some(Selection::Part { first, last: last.min(length - 1) })
}

/// The last `count` bytes.
fn suffix(count: u64, length: u64) -> Selection {
    match (count, length) {
        (0, _) => Selection::Unsatisfiable,
        // Satisfiable by 14.1.2, but there is no Content-Range that could say so.
        (_, 0) => Selection::Whole,
        _ => Selection::Part { first: length.saturating_sub(count), last: length - 1 },
    }
}

/// A number of any length; one that does not fit is beyond every value anyway.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0_u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &str, length: u64, want: Selection) {
        assert_eq!(select(field.as_bytes(), length), want, "{field} of {length}");
    }

    fn part(first: u64, last: u64) -> Selection {
        Selection::Part { first, last }
    }

    #[test]
    fn section_14_1_2_the_examples_of_the_rfc() {
        check("bytes=0-499", 10_000, part(0, 499));
        check("bytes=500-999", 10_000, part(500, 999));
        check("bytes=-500", 10_000, part(9_500, 9_999));
        check("bytes=9500-", 10_000, part(9_500, 9_999));
        check("bytes=0-0", 10_000, part(0, 0));
        check("bytes= 0-999", 10_000, part(0, 999));
        check("bytes=0-0,-1", 10_000, Selection::Whole);
        check("bytes= 0-999, 4500-5499, -1000", 10_000, Selection::Whole);
    }

    #[test]
    fn section_14_1_2_an_end_past_the_value_is_its_end() {
        check("bytes=5-100", 10, part(5, 9));
        check("bytes=-100", 10, part(0, 9));
        check("bytes=9-99999999999999999999999", 10, part(9, 9));
        check("bytes=0-,", 10, part(0, 9));
    }

    #[test]
    fn section_14_1_2_a_range_of_nothing_is_unsatisfiable() {
        check("bytes=10-", 10, Selection::Unsatisfiable);
        check("bytes=10-20", 10, Selection::Unsatisfiable);
        check("bytes=-0", 10, Selection::Unsatisfiable);
        check("bytes=0-", 0, Selection::Unsatisfiable);
        check("bytes=99999999999999999999999-", 10, Selection::Unsatisfiable);
        check("bytes=-1", 0, Selection::Whole);
    }

    #[test]
    fn section_14_2_what_is_malformed_or_in_another_unit_is_ignored() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=1 -2",
            "items=0-1",
            "=0-1",
            "bytes 0-1",
        ] {
            check(field, 10, Selection::Whole);
        }
        check("Bytes=1-2", 10, part(1, 2));
    }

    proptest::proptest! {
        #[test]
        fn a_part_lies_within_the_value(
            field in "bytes=[0-9]{0,3}-[0-9]{0,3}",
            length in 0_u64..1_000,
        ) {
            if let Selection::Part { first, last } = select(field.as_bytes(), length) {
                proptest::prop_assert!(first <= last && last < length);
            }
        }

        #[test]
        fn any_bytes_select_something(
            field in proptest::collection::vec(0_u8.., 0..64),
            length in 0_u64..,
        ) {
            let _ = select(&field, length);
        }
    }
}

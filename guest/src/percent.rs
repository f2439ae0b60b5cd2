//! Percent-decoding of paths and queries.

use std::borrow::Cow;

/// Decodes `%41` to `A`. What is not an escape stays as it is, and bytes that are not UTF-8 become
/// U+FFFD.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(owned(decode_bytes(text)))
}

/// Decodes one name or value of a query, where `+` is a space.
pub(crate) fn decode_query(text: &str) -> String {
    owned(decode_bytes(&text.replace('+', " ")))
}

fn decode_bytes(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match tail {
            [high, low, after @ ..] if *first == b'%' => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            _ => decoded.push(*first),
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn owned(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(decode(text), want);
    }

    #[test]
    fn escapes_are_decoded_once() {
        check("plain", "plain");
        check("a%20b", "a b");
        check("%C3%a9", "é");
        check("%2541", "%41");
    }

    #[test]
    fn what_is_no_escape_stays() {
        check("100%", "100%");
        check("%4", "%4");
        check("%zz%41", "%zzA");
        check("a+b", "a+b");
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced() {
        check("%ff", "\u{fffd}");
    }

    #[test]
    fn a_plus_in_a_query_is_a_space() {
        assert_eq!(decode_query("a+b%2Bc"), "a b+c");
    }
}

//! Where the body of a response ends, as its fields say it: only what says one thing goes on.

use http::{HeaderMap, HeaderValue, header};

/// The fields contradict one another, or name a transfer coding that nobody here undoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

/// Leaves of the fields of a response, as an upstream sent it, at most one length.
///
/// A length beside a transfer coding is removed (RFC 9112 section 6.3), a list of equal lengths
/// becomes one (RFC 9110 section 8.6). The only coding that is understood is `chunked`, once: what
/// has another one is not the content that its other fields describe.
///
/// # Errors
///
/// The response is not to be used.
pub fn settle_length(headers: &mut HeaderMap) -> Result<(), Unclear> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        let mut codings = members(headers, header::TRANSFER_ENCODING);
        let is_plain = codings.next().is_some_and(|it| it.eq_ignore_ascii_case(b"chunked"))
            && codings.next().is_none();
        drop(codings);
        headers.remove(header::CONTENT_LENGTH);
        return if is_plain { Ok(()) } else { Err(Unclear) };
    }
    let mut lengths = members(headers, header::CONTENT_LENGTH);
    let Some(first) = lengths.next() else { return Ok(()) };
    let length = number(first).ok_or(Unclear)?;
    let (mut is_one, mut is_same) = (true, true);
    for other in lengths {
        (is_one, is_same) = (false, is_same && number(other) == Some(length));
    }
    if !is_same {
        return Err(Unclear);
    }
    if !is_one {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

fn members(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

fn number(text: &[u8]) -> Option<u64> {
    let is_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'f> = &'f [(&'static str, &'static str)];

    fn headers(fields: Fields<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[track_caller]
    fn check(fields: Fields<'_>, want: Result<Option<&str>, Unclear>) {
        let mut headers = headers(fields);
        let settled = settle_length(&mut headers);
        let length = || {
            assert!(headers.get_all("content-length").iter().count() <= 1);
            headers.get("content-length").and_then(|length| length.to_str().ok())
        };
        assert_eq!(settled.map(|()| length()), want, "{fields:?}");
    }

    #[test]
    fn rfc_9112_section_6_3_a_length_beside_a_transfer_coding_is_removed() {
        let chunked = ("transfer-encoding", "chunked");
        check(&[chunked, ("content-length", "2")], Ok(None));
        check(&[("content-length", "2, 3"), ("transfer-encoding", " Chunked ")], Ok(None));
        check(&[chunked], Ok(None));
    }

    #[test]
    fn rfc_9110_section_8_6_equal_lengths_are_one_and_others_are_refused() {
        let line = |value| ("content-length", value);
        check(&[], Ok(None));
        check(&[line("3")], Ok(Some("3")));
        check(&[line("0")], Ok(Some("0")));
        check(&[line("3, 3")], Ok(Some("3")));
        check(&[line("3"), line("03,3")], Ok(Some("3")));
        for bad in ["3, 4", "3,", "", "+3", "-3", "0x3", "3 3", "18446744073709551616"] {
            check(&[line(bad)], Err(Unclear));
        }
        check(&[line("3"), line("4")], Err(Unclear));
    }

    #[test]
    fn rfc_9112_section_6_1_no_transfer_coding_but_chunked_is_taken_for_none() {
        let line = |value| ("transfer-encoding", value);
        for bad in ["gzip, chunked", "gzip", "chunked, gzip", "chunked, chunked", "identity", ""] {
            check(&[line(bad), ("content-length", "3")], Err(Unclear));
        }
        check(&[line("gzip"), line("chunked")], Err(Unclear));
        check(&[line("chunked"), line("chunked")], Err(Unclear));
    }
}

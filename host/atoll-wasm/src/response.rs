//! Checks what a guest answered: nothing that leaves here can break HTTP.

use bytes::Bytes;

use crate::error::{CallError, quote};
use crate::host::Response;
use crate::limits::{HEADER_BYTES_MAX, HEADERS_MAX, Limits};

/// Fields that frame a message or concern one connection only. The node sets them; a handler that
/// copies the fields of another response has them without meaning to, so they are dropped rather
/// than refused.
pub(crate) const DROPPED: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Returns the answer if it can go out.
pub(crate) fn check(
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    limits: &Limits,
) -> Result<Response, CallError> {
    if !(200..=599).contains(&status) {
        return Err(CallError::BadResponse(format!("status {status} is not within 200 to 599")));
    }
    if body.len() > limits.response_bytes {
        let bytes_max = limits.response_bytes;
        return Err(CallError::ResponseLimit { len: body.len(), bytes_max });
    }
    let headers = check_headers(headers)?;
    let has_body = !matches!(status, 204 | 205 | 304);
    Ok(Response { status, headers, body: if has_body { body } else { Bytes::new() } })
}

pub(crate) fn check_headers(
    mut headers: Vec<(String, Vec<u8>)>,
) -> Result<Vec<(String, Vec<u8>)>, CallError> {
    if headers.len() > HEADERS_MAX {
        let count = headers.len();
        return Err(CallError::BadResponse(format!(
            "{count} header fields; at most {HEADERS_MAX} are allowed"
        )));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        return Err(CallError::BadResponse(format!(
            "{bytes} bytes of header fields; at most {HEADER_BYTES_MAX} are allowed"
        )));
    }
    for (name, value) in &mut headers {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(CallError::BadResponse(format!("`{}` is no header name", quote(name))));
        }
        name.make_ascii_lowercase();
        if !value.iter().copied().all(is_field_byte) {
            return Err(CallError::BadResponse(format!(
                "the value of `{}` has a control character",
                quote(name)
            )));
        }
    }
    headers.retain(|(name, _)| !DROPPED.contains(&name.as_str()));
    Ok(headers)
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110, 5.5: visible characters, space, tab, and bytes above 127.
fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(
        status: u16,
        headers: &[(&str, &[u8])],
        body: &'static [u8],
    ) -> Result<Response, CallError> {
        let headers = headers.iter().map(|field| (field.0.to_owned(), field.1.to_vec())).collect();
        let limits = Limits { response_bytes: 8, ..Limits::default() };
        check(status, headers, Bytes::from_static(body), &limits)
    }

    #[track_caller]
    fn check_kind(answer: Result<Response, CallError>, want: &str) {
        assert_eq!(answer.map_err(|error| error.kind()).expect_err("must be refused"), want);
    }

    #[test]
    fn a_status_that_is_no_final_one_is_refused() {
        for status in [0, 99, 100, 101, 199, 600, 65_535] {
            check_kind(answer(status, &[], b""), "bad-response");
        }
        for status in [200, 418, 599] {
            assert_eq!(answer(status, &[], b"body").unwrap().status, status);
        }
    }

    #[test]
    fn a_header_that_could_inject_another_is_refused() {
        check_kind(answer(200, &[("x", b"a\r\nset-cookie: b")], b""), "bad-response");
        check_kind(answer(200, &[("x", b"a\nb")], b""), "bad-response");
        check_kind(answer(200, &[("x", b"a\0")], b""), "bad-response");
        check_kind(answer(200, &[("x: y", b"a")], b""), "bad-response");
        check_kind(answer(200, &[("", b"a")], b""), "bad-response");
        check_kind(answer(200, &[("é", b"a")], b""), "bad-response");
    }

    #[test]
    fn names_are_lowered_and_any_text_is_a_value() {
        let headers = answer(200, &[("X-Name", "Jörg\t1".as_bytes())], b"").unwrap().headers;
        assert_eq!(headers, [("x-name".to_owned(), "Jörg\t1".into())]);
    }

    #[test]
    fn fields_of_the_connection_are_dropped_in_any_case() {
        let fields: [(&str, &[u8]); 3] =
            [("Transfer-Encoding", b"chunked"), ("Content-Length", b"999"), ("etag", b"\"1\"")];
        assert_eq!(
            answer(200, &fields, b"body").unwrap().headers,
            [("etag".to_owned(), b"\"1\"".into())]
        );
    }

    #[test]
    fn too_much_is_refused() {
        check_kind(answer(200, &[], b"123456789"), "response-limit");
        assert!(answer(200, &[], b"12345678").is_ok());
        check_kind(answer(200, &vec![("x", b"".as_slice()); HEADERS_MAX + 1], b""), "bad-response");
        check_kind(answer(200, &[("x", &vec![b'a'; HEADER_BYTES_MAX])], b""), "bad-response");
    }

    #[test]
    fn a_status_without_a_body_loses_it() {
        assert_eq!(answer(304, &[], b"body").unwrap().body, Bytes::new());
        assert_eq!(answer(204, &[], b"body").unwrap().body, Bytes::new());
    }
}

//! Whatever is sent, the answer is one of those that are promised, and nothing panics.

use super::*;
use http::{HeaderName, HeaderValue, Uri};
use proptest::collection::vec;
use proptest::prelude::*;

/// Pieces that mean something somewhere, so that random requests get past the first check.
const PIECES: &[&str] = &[
    "/",
    "v1",
    "kv",
    "/v1/kv/",
    "b",
    "b:batch",
    ":batch",
    "_sys",
    "cluster",
    "metrics",
    "livez",
    "%",
    "%2F",
    "%ff",
    "%00",
    "..",
    "?",
    "&",
    "=",
    "watch=",
    "ttl=",
    "expires_at=",
    "prefix=",
    "limit=",
    "cursor=",
    "delimiter=",
    "1",
    "0.5",
    "99999999999999999999",
    "YQ",
    "k",
    "+",
    "#",
];

const NAMES: &[&str] = &[
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "accept",
    "content-type",
    "content-length",
    "atoll-meta",
    "cache-tag",
    "last-event-id",
    "host",
    "origin",
    "sec-fetch-site",
    "authorization",
    "expect",
];

const VALUES: &[&str] = &[
    "*",
    "\"a\"",
    "W/\"a\"",
    ",",
    "bytes=0-",
    "bytes=-1",
    "bytes=5-1,2",
    "localhost",
    "0",
    "99999999999999999999",
    "application/x-ndjson",
    "{}",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "null",
    "Bearer x",
    "100-continue",
];

const BODIES: &[&str] = &[
    "{\"op\":\"put\",\"key\":\"k\",\"value\":\"v\",\"ttl\":",
    "{\"op\":\"get\",\"key\":\"k\"}",
    "\n",
    "{\"incr\":1}",
    "{\"incr\":9223372036854775807}",
    "{\"expire\":1e300}",
    "{\"persist\":true}",
    "1",
    "}",
    "[[[[[[[[",
    "\u{0}",
    "9223372036854775807",
    "é",
];

fn joined(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(pieces).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..most).prop_map(|pieces| pieces.concat())
}

fn method() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["GET", "HEAD", "PUT", "PATCH", "DELETE", "POST", "OPTIONS", "FOO"][..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn any_request_gets_an_answer(
        method in method(),
        tail in joined(PIECES, 12),
        root in prop::sample::select(&["/", "/v1/kv/b/", "/v1/kv/b", "/v1/kv/b:batch", "/v1/kv/b?"][..]),
        headers in vec((prop::sample::select(NAMES), joined(VALUES, 3)), 0..4),
        body in joined(BODIES, 8),
    ) {
        thread_local! {
            static DOOR: (tokio::runtime::Runtime, Door) = (
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
                Door::with("memory_max = \"1MiB\""),
            );
        }
        let Ok(uri) = format!("{root}{tail}").parse::<Uri>() else { return Ok(()) };
        let mut request = Request::builder().method(method).uri(uri).body(Body::from(body)).expect("one");
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                request.headers_mut().append(HeaderName::from_static(name), value);
            }
        }
        DOOR.with(|(runtime, door)| runtime.block_on(async {
            let response = door.send(request).await;
            let status = response.status().as_u16();
            prop_assert!(status < 500 || status == 503 || status == 507, "{status}");
            let is_stream = response.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
            if !is_stream {
                let answer = read(response).await;
                if status >= 400 && method != "HEAD" {
                    door.check(&answer, status);
                }
            }
            Ok(())
        }))?;
    }
}

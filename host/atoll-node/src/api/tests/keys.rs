//! One key: write, read, conditionals, ranges, lifetimes, counters, and what is refused.

use super::*;
use atoll_core::clock::Now;
use atoll_core::entry::Deadline;
use atoll_core::key::BucketName;
use atoll_core::limits::VALUE_BYTES_MAX;
use atoll_core::store::edit::{Edit, NewValue};
use http_body::{Body as _, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

const KEY: &str = "/v1/kv/b/k";

#[tokio::test]
async fn what_was_written_is_read_with_all_that_travels_with_it() {
    let door = Door::new();
    let headers =
        [("content-type", "text/plain"), ("atoll-meta", "{\"a\":1}"), ("cache-tag", "x,y")];
    let put = door.ask("PUT /v1/kv/b/k?expires_at=9999999999.5", &headers, "hello").await;
    door.check(&put, 201);
    let got = door.get(KEY).await;
    door.check(&got, 200);
    assert_eq!(&got.body[..], b"hello");
    for (name, want) in [
        ("etag", put.header("etag")),
        ("content-type", "text/plain"),
        ("atoll-meta", "{\"a\":1}"),
        ("cache-tag", "x, y"),
        ("atoll-expires-at", "9999999999.5"),
        ("cache-control", "no-cache"),
        ("accept-ranges", "bytes"),
        ("content-length", "5"),
    ] {
        assert_eq!(got.header(name), want, "{name}");
    }
    httpdate::parse_http_date(got.header("last-modified")).expect("a date");

    let head = door.ask("HEAD /v1/kv/b/k", &[], "").await;
    door.check(&head, 200);
    assert_eq!(head.body.len(), 0);
    assert_eq!(head.headers, got.headers);

    door.check(&door.put(KEY, "again").await, 204);
    let got = door.get(KEY).await;
    assert_eq!(got.header("content-type"), "application/octet-stream");
    assert!(!got.headers.contains_key("atoll-expires-at"), "a new version has its own lifetime");
    assert_ne!(got.header("etag"), put.header("etag"));

    door.check(&door.ask("DELETE /v1/kv/b/k", &[], "").await, 204);
    door.check(&door.get(KEY).await, 404);
    door.check(&door.ask("DELETE /v1/kv/b/k", &[], "").await, 204);
    door.check(&door.ask("DELETE /v1/kv/unknown/k", &[], "").await, 204);
    door.check(&door.get("/v1/kv/unknown/k").await, 404);
}

#[tokio::test]
async fn a_key_is_its_bytes_however_they_are_spelt() {
    let door = Door::new();
    door.check(&door.put("/v1/kv/b/a/b%00%ff", "1").await, 201);
    door.check(&door.put("/v1/kv/b/a%2fb%00%FF", "2").await, 204);
    door.check(&door.put("/v1/kv/b/a//b", "3").await, 201);
    door.check(&door.put("/v1/kv/b/a%252Fb", "4").await, 201);
    assert_eq!(door.get("/v1/kv/b/a/b%00%ff").await.text(), "2");
    assert_eq!(door.get("/v1/kv/b/a%2f%2fb").await.text(), "3");
    assert_eq!(door.get("/v1/kv/b/a%252Fb").await.text(), "4");
    door.check(&door.get("/v1/kv/b/a/b").await, 404);
}

#[tokio::test]
async fn a_write_can_depend_on_what_is_there() {
    let door = Door::new();
    let ask = |request: &'static str, header: &'static str, value: String| {
        let door = &door;
        async move { door.ask(request, &[(header, &value)], "v").await }
    };
    let star = || "*".to_owned();
    door.check(&ask("PUT /v1/kv/b/k", "if-match", star()).await, 412);
    assert!(door.node.store().buckets().iter().all(|bucket| bucket.name().as_str() != "b"));
    let put = ask("PUT /v1/kv/b/k", "if-none-match", star()).await;
    door.check(&put, 201);
    door.check(&ask("PUT /v1/kv/b/k", "if-none-match", star()).await, 412);
    let first = put.header("etag").to_owned();
    door.check(&ask("PUT /v1/kv/b/k", "if-none-match", first.clone()).await, 412);
    let put = ask("PUT /v1/kv/b/k", "if-match", first.clone()).await;
    door.check(&put, 204);
    let second = put.header("etag").to_owned();
    for request in ["PUT /v1/kv/b/k", "DELETE /v1/kv/b/k"] {
        door.check(&ask(request, "if-match", first.clone()).await, 412);
        door.check(&ask(request, "if-match", format!("W/{second}")).await, 412);
        door.check(&ask(request, "if-match", "unquoted".to_owned()).await, 400);
    }
    let patch = door.ask("PATCH /v1/kv/b/k", &[("if-match", &first)], r#"{"persist":true}"#).await;
    door.check(&patch, 412);
    door.check(&ask("DELETE /v1/kv/b/k", "if-match", second.clone()).await, 204);
    door.check(&ask("DELETE /v1/kv/b/k", "if-match", second).await, 412);
}

#[tokio::test]
async fn a_read_can_ask_for_what_is_new() {
    let door = Door::new();
    door.put(KEY, "v").await;
    let got = door.get(KEY).await;
    let (tag, date) = (got.header("etag").to_owned(), got.header("last-modified").to_owned());
    let rows = [
        ("if-none-match", tag.clone(), 304),
        ("if-none-match", format!("\"x\", W/{tag}"), 304),
        ("if-none-match", "\"x\"".to_owned(), 200),
        ("if-match", tag.clone(), 200),
        ("if-match", "\"x\"".to_owned(), 412),
        ("if-modified-since", date.clone(), 304),
        ("if-modified-since", "Thu, 01 Jan 1970 00:00:01 GMT".to_owned(), 200),
        ("if-modified-since", "yesterday".to_owned(), 200),
        ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:01 GMT".to_owned(), 412),
        ("if-unmodified-since", date, 200),
    ];
    for (header, value, want) in rows {
        let answer = door.ask("GET /v1/kv/b/k", &[(header, &value)], "").await;
        door.check(&answer, want);
        if want == 304 {
            assert_eq!(answer.header("etag"), tag);
            assert!(answer.body.is_empty() && !answer.headers.contains_key("content-type"));
        }
    }
    let absent = door.ask("GET /v1/kv/b/none", &[("if-match", "*")], "").await;
    door.check(&absent, 404);
}

#[tokio::test]
async fn a_part_of_a_value_can_be_read() {
    let door = Door::new();
    door.put(KEY, "0123456789").await;
    let tag = door.get(KEY).await.header("etag").to_owned();
    let rows = [
        ("bytes=2-4", "", 206, "234"),
        ("bytes=-3", "", 206, "789"),
        ("bytes=8-100", "", 206, "89"),
        ("bytes=2-4", &tag, 206, "234"),
        ("bytes=2-4", "\"other\"", 200, "0123456789"),
        ("bytes=0-1,4-5", "", 200, "0123456789"),
        ("lines=0-1", "", 200, "0123456789"),
    ];
    for (range, if_range, want, body) in rows {
        let mut headers = vec![("range", range)];
        headers.extend((!if_range.is_empty()).then_some(("if-range", if_range)));
        let answer = door.ask("GET /v1/kv/b/k", &headers, "").await;
        door.check(&answer, want);
        assert_eq!(answer.text(), body, "{range}");
        assert_eq!(answer.header("content-length"), body.len().to_string());
    }
    let part = door.ask("GET /v1/kv/b/k", &[("range", "bytes=2-4")], "").await;
    assert_eq!(part.header("content-range"), "bytes 2-4/10");
    let none = door.ask("GET /v1/kv/b/k", &[("range", "bytes=10-")], "").await;
    door.check(&none, 416);
    assert_eq!(none.header("content-range"), "bytes */10");
    let head = door.ask("HEAD /v1/kv/b/k", &[("range", "bytes=2-4")], "").await;
    door.check(&head, 200);
}

#[tokio::test]
async fn a_lifetime_can_be_given_moved_and_lifted() {
    let door = Door::new();
    let put = door.put("/v1/kv/b/k?ttl=100.25", "v").await;
    door.check(&put, 201);
    let at: f64 = put.header("atoll-expires-at").parse().expect("seconds");
    let now = door.node.now().millis() as f64 / 1_000.0;
    assert!((now + 90.0..=now + 100.25).contains(&at), "{at}");
    let tag = put.header("etag").to_owned();

    let patched = door.ask("PATCH /v1/kv/b/k", &[], r#"{"expire":500}"#).await;
    door.check(&patched, 200);
    assert!(patched.json()["expires_at"].as_f64() > Some(at), "{patched:?}");
    assert_eq!(patched.header("etag"), tag, "the value has not changed");
    let patched = door.ask("PATCH /v1/kv/b/k", &[], r#"{"persist":true}"#).await;
    door.check(&patched, 200);
    assert_eq!(patched.json()["expires_at"], serde_json::Value::Null);
    let got = door.get(KEY).await;
    assert!(!got.headers.contains_key("atoll-expires-at"));
    assert_eq!(got.header("etag"), tag);
    for key in ["PATCH /v1/kv/b/none", "PATCH /v1/kv/unknown/none"] {
        door.check(&door.ask(key, &[], r#"{"expire":5}"#).await, 404);
    }
}

#[tokio::test]
async fn a_counter_counts_and_text_does_not() {
    let door = Door::new();
    let patch = |key: &'static str, body: &'static str| {
        let door = &door;
        async move { door.ask(&format!("PATCH /v1/kv/b/{key}"), &[], body).await }
    };
    for want in 1..=3 {
        let answer = patch("n", r#"{"incr":1}"#).await;
        door.check(&answer, 200);
        assert_eq!(answer.json()["value"], want);
    }
    assert_eq!(door.get("/v1/kv/b/n").await.text(), "3");
    door.put("/v1/kv/b/n", "40").await;
    assert_eq!(patch("n", r#"{"incr":2}"#).await.json()["value"], 42);
    let before = door.get("/v1/kv/b/n").await.header("etag").to_owned();
    patch("n", r#"{"incr":0}"#).await;
    assert_ne!(door.get("/v1/kv/b/n").await.header("etag"), before, "each count is a version");

    patch("fresh", r#"{"incr":5,"ttl":60}"#).await;
    assert!(door.get("/v1/kv/b/fresh").await.headers.contains_key("atoll-expires-at"));
    let ended = patch("fresh", r#"{"expire":120}"#).await;
    door.check(&ended, 200);
    assert_eq!(ended.header("etag"), door.get("/v1/kv/b/fresh").await.header("etag"));

    door.put("/v1/kv/b/text", "forty").await;
    let answer = patch("text", r#"{"incr":1}"#).await;
    door.check(&answer, 409);
    assert_eq!(answer.code(), "not-an-integer");
    door.put("/v1/kv/b/big", "9223372036854775807").await;
    let answer = patch("big", r#"{"incr":1}"#).await;
    door.check(&answer, 409);
    assert_eq!(answer.code(), "overflow");
    assert_eq!(door.get("/v1/kv/b/big").await.text(), "9223372036854775807");
    door.check(&patch("n", "{").await, 400);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let door = Door::new();
    for (request, headers, want, code) in [
        ("PUT /v1/kv/b/", [("x", "x")], 400, "bad-key"),
        ("PUT /v1/kv/b/%zz", [("x", "x")], 400, "bad-escape"),
        ("PUT /v1/kv/.b/k", [("x", "x")], 400, "bad-bucket"),
        ("PUT /v1/kv/_sys/k", [("x", "x")], 403, "bucket-closed"),
        ("GET /v1/kv/_sys/k", [("x", "x")], 403, "bucket-closed"),
        ("PUT /v1/kv/b/k?ttl=0", [("x", "x")], 400, "bad-lifetime"),
        ("PUT /v1/kv/b/k?expires_at=1", [("x", "x")], 400, "bad-lifetime"),
        ("PUT /v1/kv/b/k?tll=1", [("x", "x")], 400, "unknown-parameter"),
        ("PUT /v1/kv/b/k?ttl=1&ttl=2", [("x", "x")], 400, "repeated-parameter"),
        ("PUT /v1/kv/b/k", [("atoll-meta", "{")], 400, "bad-meta"),
        ("PUT /v1/kv/b/k", [("cache-tag", "1,2,3,4,5,6,7,8,9")], 400, "bad-tags"),
        ("PUT /v1/kv/b/k", [("if-match", "x")], 400, "bad-precondition"),
        ("GET /v1/kv/b/k?x=1", [("x", "x")], 400, "unknown-parameter"),
    ] {
        let answer = door.ask(request, &headers, "v").await;
        door.check(&answer, want);
        assert_eq!(answer.code(), code, "{request}");
    }
    assert!(door.node.store().buckets().iter().all(|bucket| bucket.stats().key_count == 0));
}

/// A body that must not be read.
struct Untouchable;

impl http_body::Body for Untouchable {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("the body was read");
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[tokio::test]
async fn what_can_be_refused_is_refused_before_the_body_is_read() {
    let door = Door::with("memory_max = \"1MiB\"\napi_token = \"t\"");
    let length = (VALUE_BYTES_MAX + 1).to_string();
    let auth = ("authorization", "Bearer t");
    for (request, mut headers, want) in [
        ("PUT /v1/kv/b/k", vec![auth, ("content-length", &length)], 413),
        ("PUT /v1/kv/b/k", vec![("content-length", "5")], 401),
        ("PUT /v1/kv/b/k?ttl=x", vec![auth, ("content-length", "5")], 400),
        ("PUT /v1/kv/b/k", vec![auth, ("content-length", "5"), ("if-match", "*")], 412),
        ("PUT /v1/kv/b/k", vec![auth, ("content-length", "9000000")], 507),
        ("PATCH /v1/kv/b/k", vec![auth, ("content-length", "100000")], 413),
        ("POST /v1/kv/b:batch", vec![auth, ("content-length", "99999999")], 413),
    ] {
        // Whoever asks first need not send what is refused.
        headers.push(("expect", "100-continue"));
        let request = build(request, &headers, Body::new(Untouchable));
        door.check(&read(door.send(request).await).await, want);
    }
}

#[tokio::test]
async fn a_value_of_the_maximum_goes_in_and_out_without_a_copy() {
    let door = Door::new();
    let value = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    let put = door.ask("PUT /v1/kv/b/k", &[], value.clone()).await;
    door.check(&put, 201);
    let mut places = Vec::new();
    for _ in 0..2 {
        let response = door.send(build("GET /v1/kv/b/k", &[], Body::empty())).await;
        assert_eq!(response.body().size_hint().exact(), Some(VALUE_BYTES_MAX as u64));
        let got = read(response).await.body;
        assert!(got == value);
        places.push(got.as_ptr());
    }
    assert_eq!(places[0], places[1], "both readers were given the same bytes");
    // Announced by nobody, counted while it comes.
    let chunks = (0..65).map(|_| Ok::<_, Infallible>(Bytes::from(vec![7; 1 << 20])));
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    door.check(&door.ask("PUT /v1/kv/b/k", &[], body).await, 413);
    assert_eq!(door.get(KEY).await.header("etag"), put.header("etag"));
}

#[tokio::test]
async fn a_full_node_refuses_writes_and_still_reads() {
    let door = Door::with("memory_max = \"64KiB\"");
    let small = door.put(KEY, "v").await;
    door.check(&small, 201);
    let answer = door.ask("PUT /v1/kv/b/large", &[], vec![0; 70_000]).await;
    door.check(&answer, 507);
    assert_eq!(answer.code(), "memory-full");
    door.check(&door.get(KEY).await, 200);
    door.check(&door.ask("DELETE /v1/kv/b/k", &[], "").await, 204);
}

#[tokio::test]
async fn a_node_holds_so_many_buckets_and_no_more() {
    let door = Door::new();
    let mut answer = None;
    for n in 0..atoll_core::limits::BUCKET_COUNT_MAX {
        answer = Some(door.put(&format!("/v1/kv/bucket-{n}/k"), "v").await);
    }
    let answer = answer.expect("there was a last one");
    door.check(&answer, 507);
    assert_eq!(answer.code(), "too-many-buckets");
}

#[tokio::test]
async fn a_write_ahead_of_this_clock_counts_as_made_now() {
    let door = Door::new();
    door.check(&door.put(KEY, "before").await, 201);
    let bucket =
        door.node.store().find_bucket(&BucketName::new("b").expect("a name")).expect("a bucket");
    let now_ms = door.node.now().millis();
    let ahead = Now::from_millis(now_ms + 3_600_000);
    let edit = Edit::set(NewValue::Shared(Bytes::from_static(b"ahead")), Deadline::NEVER);
    door.node.store().write(&bucket, b"k", ahead, |_| (edit, ())).expect("room");
    let soon = UNIX_EPOCH + Duration::from_millis(now_ms + 60_000);
    let headers = [("if-unmodified-since", &*httpdate::fmt_http_date(soon))];
    door.check(&door.ask(&format!("PUT {KEY}"), &headers, "after").await, 204);
}

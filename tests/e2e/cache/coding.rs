//! Stored responses with a content coding: who gets which, and what is said of it.

use super::origin::{Act, Message, Origin, ask, node_before, response};
use crate::node::{TestNode, wait_until};
use std::io::Read as _;

const TAG: (&str, &str) = ("ETag", "\"a\"");

fn text() -> String {
    (0..3_000).map(|number| format!("<p>line {number}</p>\n")).collect()
}

fn origin() -> Origin {
    Origin::start(|request, _| {
        let fresh = match request.path() {
            "/fixed" => "max-age=60, no-transform",
            _ => "max-age=60",
        };
        let kind = if request.path() == "/image" { "image/png" } else { "text/html" };
        let fields = [TAG, ("Cache-Control", fresh), ("Content-Type", kind)];
        let text = if request.path() == "/short" { "short".to_owned() } else { text() };
        Act::Send(response(200, &fields, &text))
    })
}

fn decoded(answer: &Message) -> String {
    let mut text = String::new();
    let body = &answer.body[..];
    match answer.field("content-encoding").as_str() {
        "zstd" => text = String::from_utf8(zstd::decode_all(body).expect("zstd")).expect("text"),
        "br" => drop(brotli::Decompressor::new(body, 4_096).read_to_string(&mut text)),
        "gzip" => drop(flate2::read::GzDecoder::new(body).read_to_string(&mut text)),
        other => assert_eq!(other, ""),
    }
    if answer.field("content-encoding").is_empty() { answer.text() } else { text }
}

fn get(node: &TestNode, path: &str, accept: &str) -> Message {
    ask(node, "GET", path, &[("Accept-Encoding", accept)])
}

#[test]
fn each_client_gets_the_coding_that_it_prefers_once_it_has_been_made() {
    let origin = origin();
    let node = node_before(&origin, "compress = true");
    let first = get(&node, "/a", "gzip, br, zstd");
    assert_eq!((first.text(), first.field("content-encoding")), (text(), String::new()));
    assert_eq!(first.field("vary"), "Accept-Encoding");
    let cases = [("gzip, br, zstd", "zstd"), ("gzip, br", "br"), ("gzip;q=0.1", "gzip")];
    for (accept, want) in cases {
        let answer = wait_until("the coding is made", || {
            let answer = get(&node, "/a", accept);
            assert_eq!(decoded(&answer), text());
            (answer.field("content-encoding") == want).then_some(answer)
        });
        assert!(answer.body.len() < text().len() / 4, "{want}: {} bytes", answer.body.len());
        assert_eq!(answer.field("content-length"), answer.body.len().to_string());
        assert_eq!(
            (answer.field("etag"), answer.field("vary")),
            ("W/\"a\"".into(), "Accept-Encoding".into())
        );
        assert!(answer.field("cache-status").contains("hit"), "{answer:?}");
        let head = ask(&node, "HEAD", "/a", &[("Accept-Encoding", accept)]);
        assert_eq!(head.field("content-length"), answer.field("content-length"));
        let known = [("Accept-Encoding", accept), ("If-None-Match", "W/\"a\"")];
        assert_eq!(ask(&node, "GET", "/a", &known).status(), 304);
        // A part is one of the body as it is, which has the strong tag.
        let part = [("Accept-Encoding", accept), ("Range", "bytes=0-2"), ("If-Range", "\"a\"")];
        let answer = ask(&node, "GET", "/a", &part);
        assert_eq!((answer.status(), answer.text().as_str()), (206, "<p>"));
        assert_eq!(
            (answer.field("etag"), answer.field("content-encoding")),
            ("\"a\"".into(), String::new())
        );
        let fixed = [("Accept-Encoding", accept), ("Cache-Control", "no-transform")];
        assert_eq!(ask(&node, "GET", "/a", &fixed).text(), text());
    }
    for accept in ["identity", "", "zstd;q=0", "deflate"] {
        let answer = get(&node, "/a", accept);
        assert_eq!((answer.text(), answer.field("etag")), (text(), "\"a\"".to_owned()), "{accept}");
    }
    assert_eq!(origin.seen("/a").len(), 1);
}

#[test]
fn what_must_stay_as_it_is_and_what_is_not_worth_it_has_no_coding() {
    let origin = origin();
    let node = node_before(&origin, "compress = true");
    for path in ["/fixed", "/image"] {
        for _ in 0..3 {
            let answer = get(&node, path, "zstd");
            assert_eq!((answer.text(), answer.field("vary").as_str()), (text(), ""), "{path}");
        }
    }
    // One that is made shows that there was time for those that are not.
    wait_until("the coding is made", || {
        assert_eq!(get(&node, "/short", "zstd").text(), "short");
        (get(&node, "/a", "zstd").field("content-encoding") == "zstd").then_some(())
    });
    assert_eq!(get(&node, "/image", "zstd").field("content-encoding"), "");
    let plain = node_before(&origin, "");
    for _ in 0..3 {
        let answer = get(&plain, "/a", "zstd");
        assert_eq!((answer.text(), answer.field("vary").as_str()), (text(), ""));
    }
}

//! What HEAD gets, and what it leaves behind.

use super::origin::{Act, Message, Origin, ask, node_before, response};
use crate::node::{PATIENCE, TestNode};
use std::time::{Duration, Instant};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
/// Two minutes old when it comes.
const OLD: (&str, &str) = ("Age", "120");

/// A response to HEAD: its length is that of `body`, which does not follow.
fn head(fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut bytes = response(200, fields, body);
    bytes.truncate(bytes.len() - body.len());
    bytes
}

/// Waits until the upstream has seen so many requests for `/a`.
fn wait_for(origin: &Origin, count: usize) -> Vec<Message> {
    let started = Instant::now();
    while origin.seen("/a").len() < count {
        assert!(started.elapsed() < PATIENCE, "{:?}", origin.seen("/a"));
        std::thread::sleep(Duration::from_millis(10));
    }
    origin.seen("/a")
}

/// Asks until the answer is another one than `old`.
fn wait_for_other(node: &TestNode, old: &str) -> Message {
    let started = Instant::now();
    loop {
        let answer = ask(node, "GET", "/a", &[("Cache-Control", "only-if-cached")]);
        if answer.text() != old {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{answer:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_page_that_is_fetched_behind_a_head_is_fetched_with_its_body() {
    let origin = Origin::start(|request, count| {
        let stale = ("Cache-Control", "max-age=60, stale-while-revalidate=3600");
        match (request.start.starts_with("HEAD"), count) {
            (true, _) => Act::Send(head(&[FRESH], "new page")),
            (_, 0) => Act::Send(response(200, &[stale, OLD], "old page")),
            _ => Act::Send(response(200, &[FRESH], "new page")),
        }
    });
    let node = node_before(&origin, "");
    assert_eq!(ask(&node, "GET", "/a", &[]).text(), "old page");
    let answer = ask(&node, "HEAD", "/a", &[]);
    assert_eq!((answer.status(), answer.field("content-length").as_str()), (200, "8"));
    let seen = wait_for(&origin, 2);
    assert!(seen[1].start.starts_with("GET"), "{:?}", seen[1]);
    let answer = wait_for_other(&node, "old page");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "new page"));
}

#[test]
fn what_a_head_brings_for_one_client_is_for_nobody_else() {
    let origin = Origin::start(|request, _| {
        let control = match request.path() {
            "/private" | "/private/alice" => "private, max-age=600",
            "/no-store" => "no-store",
            _ => "max-age=600",
        };
        let etag = ("ETag", "\"a\"");
        let fields = [("Cache-Control", control), etag, ("X-User", "alice")];
        let is_head = request.start.starts_with("HEAD");
        match request.field("if-none-match").as_str() {
            _ if is_head => Act::Send(head(&fields, "page")),
            "" => Act::Send(response(200, &[("Cache-Control", "max-age=60"), etag, OLD], "page")),
            _ => Act::Send(response(304, &[("Cache-Control", "max-age=60"), etag], "")),
        }
    });
    let node = node_before(&origin, "");
    let alice = [("Authorization", "alice")];
    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("/private/alice", &alice),
        ("/credentials", &alice),
        ("/private", &[]),
        ("/no-store", &[]),
    ];
    for (path, request) in cases {
        ask(&node, "GET", path, &[]);
        let answer = ask(&node, "HEAD", path, request);
        assert_eq!(answer.field("x-user"), "alice", "{path}: it is answered itself");
        let answer = ask(&node, "GET", path, &[]);
        assert_eq!((answer.text().as_str(), answer.field("x-user").as_str()), ("page", ""));
        assert_ne!(answer.field("cache-control"), "private, max-age=600", "{path}");
    }
    // Where it may be stored it is taken over.
    ask(&node, "GET", "/all", &[]);
    ask(&node, "HEAD", "/all", &[]);
    let answer = ask(&node, "GET", "/all", &[]);
    assert_eq!(answer.field("x-user"), "alice");
    assert!(answer.field("cache-status").contains("hit"), "{answer:?}");
}

#[test]
fn a_head_says_a_length_where_it_is_known_and_no_other() {
    let origin = Origin::start(|request, _| {
        let is_head = request.start.starts_with("HEAD");
        let whole = "0123456789".repeat(10);
        let etag = ("ETag", "\"a\"");
        match (request.path(), request.field("range").as_str()) {
            ("/part", _) if is_head => Act::Send(head(&[FRESH, etag], &whole)),
            ("/part", "bytes=0-9") => {
                let range = ("Content-Range", "bytes 0-9/100");
                Act::Send(response(206, &[FRESH, etag, range], "0123456789"))
            }
            _ => {
                let body = if is_head { "" } else { "5\r\nhello\r\n0\r\n\r\n" };
                let chunked = "Cache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n";
                Act::Send(format!("HTTP/1.1 200 OK\r\n{chunked}\r\n{body}").into_bytes())
            }
        }
    });
    let node = node_before(&origin, "");
    let answer = ask(&node, "HEAD", "/chunked", &[]);
    assert_eq!((answer.status(), answer.field("content-length").as_str()), (200, ""));
    assert_eq!(ask(&node, "GET", "/chunked", &[]).text(), "hello");
    assert_eq!(ask(&node, "HEAD", "/chunked", &[]).field("content-length"), "5");
    assert_eq!(ask(&node, "GET", "/part", &[("Range", "bytes=0-9")]).status(), 206);
    let answer = ask(&node, "HEAD", "/part", &[("Range", "bytes=0-5")]);
    assert_eq!((answer.status(), answer.field("content-length").as_str()), (200, "100"));
    assert_eq!(origin.seen("/part")[1].field("range"), "", "a Range means nothing to HEAD");
}

#[test]
fn a_head_that_finds_a_page_makes_none_of_what_says_that_there_is_none() {
    let origin = Origin::start(|request, count| match (request.start.starts_with("HEAD"), count) {
        (true, _) => Act::Send(head(&[FRESH], "page")),
        (_, 0) => {
            let stale = ("Cache-Control", "max-age=60, stale-if-error=60");
            Act::Send(response(404, &[stale, OLD], "none"))
        }
        _ => Act::Send(response(200, &[FRESH], "page")),
    });
    let node = node_before(&origin, "");
    assert_eq!(ask(&node, "GET", "/a", &[]).status(), 404);
    assert_eq!(ask(&node, "HEAD", "/a", &[]).status(), 200);
    let answer = ask(&node, "GET", "/a", &[]);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "page"));
}

#[test]
fn what_is_stored_stands_in_for_a_head_as_it_does_for_a_get() {
    let stale = ("Cache-Control", "max-age=60, stale-if-error=3600");
    let origin = Origin::start(move |request, count| match (count, request.path()) {
        (0, "/strict") => {
            let strict = ("Cache-Control", "max-age=60, must-revalidate");
            Act::Send(response(200, &[strict, OLD, ("ETag", "\"a\"")], "page"))
        }
        (0, _) => Act::Send(response(200, &[stale, OLD], "page")),
        (1, "/busy") => Act::Send(response(503, &[], "")),
        _ => Act::SendAndClose(Vec::new()),
    });
    let node = node_before(&origin, "");
    for (path, status) in [("/busy", 200), ("/down", 200), ("/strict", 504)] {
        assert_eq!(ask(&node, "GET", path, &[]).text(), "page");
        let answer = ask(&node, "HEAD", path, &[]);
        assert_eq!(answer.status(), status, "{path}: {answer:?}");
        assert!(status != 200 || answer.field("content-length") == "4", "{answer:?}");
        assert_eq!(ask(&node, "GET", path, &[]).status(), status, "{path}");
    }
}

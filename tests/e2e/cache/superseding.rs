//! What a response makes of the one that is stored, where it may not be stored itself.

use super::origin::{Act, Origin, ask, node_before, response};
use crate::node::{PATIENCE, TestNode, wait_until};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

type Fields<'a> = &'a [(&'a str, &'a str)];

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
/// Two minutes old when it comes.
const OLD: (&str, &str) = ("Age", "120");

#[test]
fn a_416_is_for_who_has_asked_for_the_range_and_for_nobody_else() {
    let origin = Origin::start(|request, _| match request.field("range").as_str() {
        "bytes=999-" => Act::Send(response(416, &[FRESH, ("Content-Range", "bytes */4")], "none")),
        _ => Act::Send(response(200, &[FRESH], "page")),
    });
    let node = node_before(&origin, "");
    let range = [("Range", "bytes=999-")];
    assert_eq!(ask(&node, "GET", "/a", &range).status(), 416);
    for _ in 0..2 {
        let answer = ask(&node, "GET", "/a", &[]);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "page"));
    }
    let answer = ask(&node, "GET", "/a", &range);
    assert_eq!((answer.status(), answer.field("content-range").as_str()), (416, "bytes */4"));
    assert_eq!(origin.seen("/a").len(), 2, "the page is stored, and says what it lacks");
}

#[test]
fn what_a_304_brings_for_one_client_is_for_nobody_else() {
    let origin = Origin::start(|request, _| {
        let user = request.field("authorization");
        let control = match (request.path(), user.as_str()) {
            ("/public", _) => "public, max-age=600",
            ("/private", "alice") => "private, max-age=600",
            _ => "max-age=600",
        };
        let (etag, user) = (("ETag", "\"a\""), ("X-User", &*user));
        let stale = ("Cache-Control", "max-age=60");
        match request.field("if-none-match").as_str() {
            "" => Act::Send(response(200, &[stale, etag, OLD, ("X-User", "nobody")], "page")),
            _ => Act::Send(response(304, &[("Cache-Control", control), etag, user], "")),
        }
    });
    let node = node_before(&origin, "");
    for (path, want) in [("/credentials", ""), ("/private", ""), ("/public", "alice")] {
        assert_eq!(ask(&node, "GET", path, &[]).field("x-user"), "nobody");
        let answer = ask(&node, "GET", path, &[("Authorization", "alice")]);
        assert_eq!((answer.text().as_str(), answer.field("x-user").as_str()), ("page", "alice"));
        // As the upstream answers who asks next; where it was allowed, as it has answered alice.
        let answer = ask(&node, "GET", path, &[]);
        assert_eq!((answer.text().as_str(), answer.field("x-user").as_str()), ("page", want));
        let seen = origin.seen(path);
        assert_eq!(seen.len(), if want.is_empty() { 3 } else { 2 }, "{path}");
        assert!(seen[1..].iter().all(|seen| seen.field("if-none-match") == "\"a\""), "{seen:?}");
    }
}

const STALE: (&str, &str) = ("Cache-Control", "max-age=60");
const ETAG: (&str, &str) = ("ETag", "\"a\"");
const NO_STORE: (&str, &str) = ("Cache-Control", "no-store");

#[test]
fn what_is_gone_does_not_come_back_when_the_upstream_does_not_answer() {
    let origin = Origin::start(|request, count| match (count, request.path()) {
        (0, _) => Act::Send(response(200, &[STALE, ETAG, OLD], "page")),
        (1, "/private") => {
            Act::Send(response(200, &[("Cache-Control", "private, max-age=9")], "yours"))
        }
        (1, "/long") => Act::Send(response(200, &[FRESH], &"x".repeat(5_000))),
        (1, "/fails") => Act::Send(response(500, &[], "fails")),
        (1, _) => Act::Send(response(410, &[NO_STORE], "gone")),
        _ => Act::SendAndClose(Vec::new()),
    });
    let node = node_before(&origin, "object_max = \"4KiB\"");
    let cases =
        [("/gone", 410, 502), ("/private", 200, 502), ("/long", 200, 502), ("/fails", 500, 200)];
    for (path, second, third) in cases {
        assert_eq!(ask(&node, "GET", path, &[]).text(), "page");
        assert_eq!(ask(&node, "GET", path, &[]).status(), second, "{path}");
        let answer = ask(&node, "GET", path, &[]);
        assert_eq!(answer.status(), third, "{path}: {answer:?}");
        assert_eq!(origin.seen(path)[1].field("if-none-match"), "\"a\"");
    }
}

#[test]
fn what_is_gone_is_seen_to_be_while_what_is_stored_may_be_used_stale() {
    let stale = ("Cache-Control", "max-age=60, stale-while-revalidate=3600");
    let origin =
        Origin::start(move |request, count| match (count, request.field("foo").as_str()) {
            (_, "2") => Act::Send(response(200, &[FRESH, ("Vary", "Foo")], "another page")),
            (0 | 1, _) => Act::Send(response(200, &[stale, OLD, ("Vary", "Foo")], "page")),
            _ => Act::Send(response(410, &[NO_STORE, ("Vary", "Foo")], "gone")),
        });
    let node = node_before(&origin, "");
    assert_eq!(ask(&node, "GET", "/a", &[("Foo", "2")]).text(), "another page");
    assert_eq!(ask(&node, "GET", "/a", &[("Foo", "1")]).text(), "page");
    wait_until("it is gone", || {
        (ask(&node, "GET", "/a", &[("Foo", "1")]).status() == 410).then_some(())
    });
}

#[test]
fn an_upstream_that_fails_ends_nothing_that_may_stand_in() {
    let stale = ("Cache-Control", "max-age=60, stale-if-error=3600");
    let origin = Origin::start(move |_, count| match count {
        0 => Act::Send(response(200, &[stale, OLD], "page")),
        1 => Act::Send(response(503, &[], "busy")),
        2 => Act::Send(response(429, &[], "too many")),
        _ => Act::SendAndClose(Vec::new()),
    });
    let node = node_before(&origin, "");
    for (status, text) in [(200, "page"), (200, "page"), (429, "too many"), (200, "page")] {
        let answer = ask(&node, "GET", "/a", &[]);
        assert_eq!((answer.status(), answer.text().as_str()), (status, text), "{answer:?}");
    }
}

/// Sends a request and reads until the first bytes of the body are there.
fn begin(node: &TestNode, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(node.gateway).expect("the gateway is open");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let text = format!("GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
    client.write_all(text.as_bytes()).expect("it is taken");
    let mut came = Vec::new();
    while !came.ends_with(b"\r\n\r\nfirst") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("more is to come");
        came.push(byte[0]);
    }
    client
}

#[test]
fn who_comes_while_a_body_does_gets_only_what_may_be_used_without_asking() {
    let origin = Origin::start(|request, count| {
        let fields: &[(&str, &str)] = match request.path() {
            "/no-cache" => &[("Cache-Control", "no-cache"), ETAG],
            "/stale" => &[("Cache-Control", "max-age=60, must-revalidate"), OLD, ETAG],
            _ => &[FRESH],
        };
        let first = response(200, fields, "first, and more");
        let (head, more) = first.split_at(first.len() - ", and more".len());
        match count {
            0 => Act::SlowlyAfter(head.to_vec(), more.to_vec(), Duration::from_secs(2)),
            _ => Act::Send(response(200, &[FRESH], "second")),
        }
    });
    let node = node_before(&origin, "");
    let asks = [("Cache-Control", "no-cache")];
    let cases: [(&str, Fields<'_>, &str); 4] = [
        ("/no-cache", &[], "second"),
        ("/stale", &[], "second"),
        ("/asked", &asks, "second"),
        ("/fresh", &[], "first, and more"),
    ];
    for (path, fields, want) in cases {
        let mut client = begin(&node, path);
        let answer = ask(&node, "GET", path, fields);
        assert_eq!(answer.text(), want, "{path}: {answer:?}");
        let mut rest = String::new();
        client.read_to_string(&mut rest).expect("the rest");
        assert_eq!(rest, ", and more", "{path}");
        let count = if want == "second" { 2 } else { 1 };
        assert_eq!(origin.seen(path).len(), count, "{path}");
        // Whatever ended later: what was asked for later stays.
        assert_eq!(ask(&node, "GET", path, &[]).text(), want, "{path}");
    }
}

#[test]
fn fields_for_one_client_reach_that_one_and_no_other() {
    let origin = Origin::start(|request, _| {
        let private = ("Cache-Control", "max-age=60, private=\"X-Me\"");
        let (me, cookie) = (("X-Me", "bob"), ("Set-Cookie", "a=1"));
        match (request.path(), request.field("if-none-match").as_str()) {
            ("/new", _) => Act::Send(response(200, &[private, me], "page")),
            (_, "") => Act::Send(response(200, &[STALE, OLD, ETAG], "page")),
            _ => Act::Send(response(304, &[private, ETAG, me, cookie], "")),
        }
    });
    let node = node_before(&origin, "");
    ask(&node, "GET", "/renewed", &[]);
    for (path, cookie) in [("/new", ""), ("/renewed", "a=1")] {
        let answer = ask(&node, "GET", path, &[]);
        let found = (answer.field("x-me"), answer.field("set-cookie"), answer.text());
        assert_eq!(found, ("bob".into(), cookie.into(), "page".into()), "{path}");
        let answer = ask(&node, "GET", path, &[]);
        assert!(answer.field("cache-status").contains("hit"), "{answer:?}");
        assert_eq!((answer.field("x-me"), answer.field("set-cookie")), Default::default());
    }
}

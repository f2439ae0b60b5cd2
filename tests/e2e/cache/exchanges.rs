//! Two or three requests for one URL each: which of them the upstream sees.
//!
//! The behaviours are those that public test suites of shared caches look for. Staleness comes from
//! Age and Date, so that nothing waits.

use super::origin::{Act, Message, Origin, ask, ask_with_body, node_before, response};
use crate::node::TestNode;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

type Fields<'a> = &'a [(&'a str, &'a str)];

const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const FUTURE: &str = "Thu, 18 Aug 2050 02:01:18 GMT";
const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

/// What becomes of the second request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// The upstream does not see it.
    Cached,
    /// It sees it, without a condition.
    Fetched,
    /// It is asked whether what is stored is right.
    Validated,
}
use Want::{Cached, Fetched, Validated};

/// First request, status and fields of its response, second request, and what becomes of it.
type Case<'a> = (&'a str, Fields<'a>, u16, Fields<'a>, Fields<'a>, Want);

const NONE: Fields<'static> = &[];

const CASES: &[Case<'static>] = &[
    ("max-age", NONE, 200, &[FRESH], NONE, Cached),
    ("nothing", NONE, 200, NONE, NONE, Fetched),
    ("expires", NONE, 200, &[("Expires", FUTURE)], NONE, Cached),
    ("expires-past", NONE, 200, &[("Expires", LONG_AGO)], NONE, Fetched),
    ("expires-0", NONE, 200, &[("Expires", "0")], NONE, Fetched),
    ("max-age-over-expires", NONE, 200, &[FRESH, ("Expires", "0")], NONE, Cached),
    ("age", NONE, 200, &[FRESH, ("Age", "7200")], NONE, Fetched),
    ("slow-date", NONE, 200, &[FRESH, ("Date", LONG_AGO)], NONE, Fetched),
    ("s-maxage", NONE, 200, &[("Cache-Control", "max-age=0, s-maxage=60")], NONE, Cached),
    ("s-maxage-0", NONE, 200, &[("Cache-Control", "max-age=60, s-maxage=0")], NONE, Fetched),
    ("no-store", NONE, 200, &[("Cache-Control", "max-age=60, No-Store")], NONE, Fetched),
    ("private", NONE, 200, &[("Cache-Control", "PRIVATE, max-age=60")], NONE, Fetched),
    ("two-lines", NONE, 200, &[FRESH, ("Cache-Control", "no-store")], NONE, Fetched),
    (
        "no-cache",
        NONE,
        200,
        &[("Cache-Control", "no-cache, max-age=60"), ("ETag", "\"a\"")],
        NONE,
        Validated,
    ),
    (
        "stale-etag",
        NONE,
        200,
        &[("Cache-Control", "max-age=0"), ("ETag", "W/\"a\"")],
        NONE,
        Validated,
    ),
    (
        "stale-lm",
        NONE,
        200,
        &[("Cache-Control", "max-age=0"), ("Last-Modified", LONG_AGO)],
        NONE,
        Validated,
    ),
    ("heuristic", NONE, 200, &[("Last-Modified", LONG_AGO)], NONE, Cached),
    ("status-299", NONE, 299, &[FRESH], NONE, Cached),
    ("status-404", NONE, 404, &[FRESH], NONE, Cached),
    ("status-503", NONE, 503, &[FRESH], NONE, Cached),
    ("status-599", NONE, 599, &[FRESH], NONE, Cached),
    ("status-999", NONE, 999, &[FRESH], NONE, Cached),
    ("status-204", NONE, 204, &[FRESH], NONE, Cached),
    ("authorization", &[("Authorization", "x")], 200, &[FRESH], NONE, Fetched),
    (
        "authorization-public",
        &[("Authorization", "x")],
        200,
        &[("Cache-Control", "public, max-age=60")],
        NONE,
        Cached,
    ),
    ("cookie", NONE, 200, &[FRESH], &[("Cookie", "a=b")], Cached),
    ("set-cookie", NONE, 200, &[FRESH, ("Set-Cookie", "a=b")], NONE, Fetched),
    ("vary", &[("Foo", "1")], 200, &[FRESH, ("Vary", "Foo")], &[("Foo", "1")], Cached),
    ("vary-other", &[("Foo", "1")], 200, &[FRESH, ("Vary", "Foo")], &[("Foo", "2")], Fetched),
    ("vary-absent", &[("Foo", "1")], 200, &[FRESH, ("Vary", "Foo")], NONE, Fetched),
    (
        "vary-spaces",
        &[("A-IM", "1,2")],
        200,
        &[FRESH, ("Vary", "A-IM")],
        &[("A-IM", "1, 2")],
        Cached,
    ),
    (
        "vary-two-lines",
        &[("A", "1")],
        200,
        &[FRESH, ("Vary", "B"), ("Vary", "A")],
        &[("A", "2")],
        Fetched,
    ),
    ("vary-star", NONE, 200, &[FRESH, ("Vary", "*")], NONE, Fetched),
    ("vary-by-client", NONE, 200, &[FRESH, ("Vary", "X-Forwarded-For")], NONE, Fetched),
    (
        "asked-no-cache",
        NONE,
        200,
        &[FRESH, ("ETag", "\"a\"")],
        &[("Cache-Control", "no-cache")],
        Validated,
    ),
    ("asked-pragma", NONE, 200, &[FRESH, ("ETag", "\"a\"")], &[("Pragma", "no-cache")], Validated),
    (
        "asked-max-age",
        NONE,
        200,
        &[FRESH, ("Age", "1800")],
        &[("Cache-Control", "max-age=600")],
        Fetched,
    ),
    (
        "asked-min-fresh",
        NONE,
        200,
        &[FRESH, ("Age", "3000")],
        &[("Cache-Control", "min-fresh=1000")],
        Fetched,
    ),
    (
        "asked-max-stale",
        NONE,
        200,
        &[FRESH, ("Age", "3700"), ("ETag", "\"a\"")],
        &[("Cache-Control", "max-stale=1000")],
        Cached,
    ),
    ("asked-no-store", &[("Cache-Control", "no-store")], 200, &[FRESH], NONE, Fetched),
    (
        "cdn",
        NONE,
        200,
        &[("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")],
        NONE,
        Cached,
    ),
    (
        "cdn-broken",
        NONE,
        200,
        &[("CDN-Cache-Control", "max-age= 60"), ("Cache-Control", "no-store")],
        NONE,
        Fetched,
    ),
    (
        "atoll-over-cdn",
        NONE,
        200,
        &[("CDN-Cache-Control", "max-age=60"), ("Atoll-Cache-Control", "no-store")],
        NONE,
        Fetched,
    ),
    (
        "must-understand",
        NONE,
        200,
        &[("Cache-Control", "no-store, must-understand, max-age=60")],
        NONE,
        Cached,
    ),
    ("broken-quote", NONE, 200, &[("Cache-Control", "max-age=60, x=\"a, no-store")], NONE, Fetched),
];

#[test]
fn the_upstream_sees_what_it_has_to_and_nothing_else() {
    let origin = Origin::start(|request, count| {
        let case = CASES.iter().find(|case| request.path() == format!("/{}", case.0));
        let (_, _, status, fields, _, _) = case.expect("a case");
        if !request.field("if-none-match").is_empty()
            || !request.field("if-modified-since").is_empty()
        {
            return Act::Send(response(304, fields, ""));
        }
        Act::Send(response(
            *status,
            fields,
            if *status == 204 { "" } else { ["a", "b"][count.min(1)] },
        ))
    });
    let node = node_before(&origin, "");
    for (name, first, status, _, second, want) in CASES {
        let path = format!("/{name}");
        let answer = ask(&node, "GET", &path, first);
        assert_eq!(answer.status(), *status, "{name}: {answer:?}");
        let answer = ask(&node, "GET", &path, second);
        assert_eq!(answer.status(), *status, "{name}: {answer:?}");
        let seen = origin.seen(&path);
        let is_conditional = |request: &Message| {
            !request.field("if-none-match").is_empty()
                || !request.field("if-modified-since").is_empty()
        };
        let found = match seen.get(1) {
            None => Cached,
            Some(request) if is_conditional(request) => Validated,
            Some(_) => Fetched,
        };
        assert_eq!(found, *want, "{name}: {answer:?}");
        let body = match (status, want) {
            (204, _) => "",
            (_, Fetched) => "b",
            _ => "a",
        };
        assert_eq!(answer.text(), body, "{name}");
        let report = answer.field("cache-status");
        assert_eq!(report.contains("; hit"), found == Cached, "{name}: {report}");
        assert!(found != Cached || !answer.field("age").is_empty(), "{name}: a hit has an age");
    }
}

#[test]
fn what_is_stored_answers_heads_conditions_and_ranges() {
    let fields = [
        FRESH,
        ("ETag", "\"v\""),
        ("Last-Modified", LONG_AGO),
        ("X-Kept", "1"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Link", "<a>"),
        ("Link", "<b>"),
    ];
    let origin = Origin::start(move |_, _| Act::Send(response(200, &fields, "0123456789")));
    let node = node_before(&origin, "");
    assert_eq!(ask(&node, "GET", "/a", &[]).text(), "0123456789");
    let check = |method: &str, fields: Fields<'_>, status: u16, body: &str| {
        let answer = ask(&node, method, "/a", fields);
        assert_eq!((answer.status(), answer.text().as_str()), (status, body), "{fields:?}");
        answer
    };
    let whole = check("GET", &[], 200, "0123456789");
    assert_eq!(whole.field("link"), "<a>, <b>", "no line is lost");
    assert_eq!((whole.field("x-kept").as_str(), whole.field("x-hop").as_str()), ("1", ""));
    assert!(!whole.field("age").is_empty() && whole.field("content-length") == "10", "{whole:?}");
    let head = check("HEAD", &[], 200, "");
    assert_eq!(head.field("content-length"), "10");
    let not_modified = check("GET", &[("If-None-Match", "\"x\", W/\"v\"")], 304, "");
    assert_eq!(not_modified.field("etag"), "\"v\"");
    check("GET", &[("If-None-Match", "\"x\"")], 200, "0123456789");
    check("GET", &[("If-Modified-Since", LONG_AGO)], 304, "");
    let part = check("GET", &[("Range", "bytes=2-4")], 206, "234");
    assert_eq!(part.field("content-range"), "bytes 2-4/10");
    check("GET", &[("Range", "bytes=-3")], 206, "789");
    check("GET", &[("Range", "bytes=8-"), ("If-Range", "\"v\"")], 206, "89");
    check("GET", &[("Range", "bytes=8-"), ("If-Range", "\"x\"")], 200, "0123456789");
    check("GET", &[("Range", "bytes=0-1,4-5")], 200, "0123456789");
    let none = ask(&node, "GET", "/a", &[("Range", "bytes=10-")]);
    assert_eq!((none.status(), none.field("content-range").as_str()), (416, "bytes */10"));
    assert_eq!(origin.seen("/a").len(), 1);
}

#[test]
fn a_stored_part_answers_the_parts_that_lie_in_it() {
    let origin = Origin::start(|request, _| {
        let part = [FRESH, ("Content-Range", "bytes 5-9/10")];
        if request.field("range") == "bytes=-5" {
            Act::Send(response(206, &part, "56789"))
        } else {
            Act::Send(response(200, &[FRESH], "0123456789"))
        }
    });
    let node = node_before(&origin, "");
    for (range, want) in [("bytes=-5", "56789"), ("bytes=6-8", "678"), ("bytes=-1", "9")] {
        let answer = ask(&node, "GET", "/part", &[("Range", range)]);
        assert_eq!((answer.status(), answer.text().as_str()), (206, want), "{range}");
    }
    assert_eq!(origin.seen("/part").len(), 1);
    assert_eq!(ask(&node, "GET", "/part", &[]).text(), "0123456789", "a part is not the whole");
    assert_eq!(ask(&node, "GET", "/part", &[("Range", "bytes=0-1")]).text(), "01");
    assert_eq!(origin.seen("/part").len(), 2);
}

/// An upstream with ten bytes, of which it sends what it is asked for.
fn in_parts(tag: &'static str) -> Origin {
    Origin::start(move |request, _| {
        let range = request.field("range");
        let ends = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
        let (first, last): (usize, usize) = match ends {
            Some((first, last)) => (first.parse().expect("a number"), last.parse().unwrap_or(9)),
            None => return Act::Send(response(200, &[FRESH, ("ETag", tag)], "0123456789")),
        };
        let held = format!("bytes {first}-{last}/10");
        let fields = [FRESH, ("ETag", tag), ("Content-Range", &held)];
        Act::Send(response(206, &fields, &"0123456789"[first..=last]))
    })
}

#[track_caller]
fn check_part(node: &TestNode, range: &str, want: (u16, &str)) {
    let asked = [("Range", range)];
    let answer = ask(node, "GET", "/part", if range.is_empty() { &[] } else { &asked });
    assert_eq!((answer.status(), answer.text().as_str()), want, "{range}");
}

#[test]
fn parts_are_put_together_and_the_rest_alone_is_asked_for() {
    let origin = in_parts("\"a\"");
    let node = node_before(&origin, "");
    check_part(&node, "bytes=0-3", (206, "0123"));
    check_part(&node, "bytes=3-6", (206, "3456"));
    check_part(&node, "bytes=1-5", (206, "12345"));
    assert_eq!(origin.seen("/part").len(), 2, "both parts have what the third asks for");
    check_part(&node, "", (200, "0123456789"));
    let seen = origin.seen("/part");
    let last = seen.last().expect("three requests");
    assert_eq!((seen.len(), last.field("range").as_str()), (3, "bytes=7-"));
    assert_eq!(last.field("if-range"), "\"a\"");
    check_part(&node, "", (200, "0123456789"));
    check_part(&node, "bytes=8-", (206, "89"));
    assert_eq!(origin.seen("/part").len(), 3);
}

#[test]
fn parts_are_left_alone_where_nothing_says_that_they_are_of_the_same() {
    let origin = in_parts("W/\"a\"");
    let node = node_before(&origin, "");
    check_part(&node, "bytes=0-3", (206, "0123"));
    check_part(&node, "bytes=4-6", (206, "456"));
    check_part(&node, "bytes=1-5", (206, "12345"));
    check_part(&node, "", (200, "0123456789"));
    let seen = origin.seen("/part");
    assert_eq!((seen.len(), seen[3].field("range").as_str()), (4, ""));
    // Between the parts it has changed: all of it is sent, and the old part is forgotten.
    let origin = Origin::start(|request, count| match (count, request.field("range").as_str()) {
        (0, _) => {
            let fields = [FRESH, ("ETag", "\"a\""), ("Content-Range", "bytes 0-3/10")];
            Act::Send(response(206, &fields, "0123"))
        }
        // What a server that ignores If-Range does.
        (1, "bytes=4-") => {
            let fields = [FRESH, ("ETag", "\"b\""), ("Content-Range", "bytes 4-9/10")];
            Act::Send(response(206, &fields, "efghij"))
        }
        _ => Act::Send(response(200, &[FRESH, ("ETag", "\"b\"")], "abcdefghij")),
    });
    let node = node_before(&origin, "");
    check_part(&node, "bytes=0-3", (206, "0123"));
    check_part(&node, "", (200, "abcdefghij"));
    check_part(&node, "bytes=0-3", (206, "abcd"));
    assert_eq!(origin.seen("/part").len(), 3);
}

#[test]
fn a_304_and_a_head_bring_what_is_stored_up_to_date() {
    let origin = Origin::start(|request, count| {
        let fields = |value, age| [("Cache-Control", age), ("ETag", "\"a\""), ("X-Test", value)];
        match (request.start.starts_with("HEAD"), count) {
            (true, _) => Act::Send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: \"a\"\r\n\
                Cache-Control: max-age=60\r\nX-Test: head\r\n\r\n"
                    .to_vec(),
            ),
            (_, 0) => Act::Send(response(200, &fields("old", "max-age=0"), "body")),
            _ => Act::Send(response(304, &fields("new", "max-age=60"), "")),
        }
    });
    let node = node_before(&origin, "");
    let test = |path: &str, method: &str| {
        assert_eq!(ask(&node, "GET", path, &[]).field("x-test"), "old");
        ask(&node, method, path, &[]);
        let answer = ask(&node, "GET", path, &[]);
        assert_eq!(answer.text(), "body");
        assert!(answer.field("cache-status").contains("; hit"), "{answer:?}");
        answer.field("x-test")
    };
    assert_eq!(test("/304", "GET"), "new");
    assert_eq!(test("/head", "HEAD"), "head");
}

#[test]
fn a_write_that_succeeds_makes_invalid_what_it_may_have_changed() {
    let origin = Origin::start(|request, _| {
        let fields = [
            FRESH,
            ("Location", "/location"),
            ("Content-Location", "content-location"),
            ("Cache-Groups", "\"g\""),
        ];
        let group = [("Cache-Group-Invalidation", "\"g\"")];
        match request.start.split(' ').next() {
            Some("GET") => Act::Send(response(200, &fields, "x")),
            Some("PUT") => Act::Send(response(500, &fields, "x")),
            Some("PATCH") => Act::Send(response(200, &group, "x")),
            _ => Act::Send(response(201, &fields, "x")),
        }
    });
    let node = node_before(&origin, "");
    let paths = ["/target", "/location", "/content-location", "/other"];
    let counts = || {
        paths.map(|path| {
            ask(&node, "GET", path, &[]);
            origin.seen(path).iter().filter(|seen| seen.start.starts_with("GET")).count()
        })
    };
    assert_eq!(counts(), [1, 1, 1, 1]);
    ask_with_body(&node, ("PUT", "/target"), &[], "abc");
    assert_eq!(counts(), [1, 1, 1, 1], "it failed");
    ask_with_body(&node, ("M-SEARCH", "/target"), &[], "abc");
    assert_eq!(counts(), [2, 2, 2, 1]);
    ask_with_body(&node, ("PATCH", "/elsewhere"), &[], "abc");
    assert_eq!(counts(), [3, 3, 3, 2], "a group of the origin");
}

#[test]
fn what_asks_for_nothing_new_is_answered_with_504_and_the_key_has_the_query() {
    let origin = Origin::start(|_, count| Act::Send(response(200, &[FRESH], &count.to_string())));
    let node = node_before(&origin, "ignore_query = [\"utm_*\"]\nsort_query = true");
    let only = [("Cache-Control", "only-if-cached")];
    assert_eq!(ask(&node, "GET", "/a?x=1", &only).status(), 504);
    ask(&node, "GET", "/a?x=1&y=2", &[]);
    assert_eq!(ask(&node, "GET", "/a?y=2&utm_source=z&x=1", &only).status(), 200);
    assert_eq!(ask(&node, "GET", "/a?x=2", &only).status(), 504);
    assert_eq!(origin.seen("/a?x=1&y=2")[0].path(), "/a?x=1&y=2", "passed on unchanged");
}

#[test]
fn fields_that_are_not_in_the_key_do_not_reach_an_upstream_whose_answer_is_stored() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[FRESH], "x")));
    let node = node_before(&origin, "");
    let poison = [
        ("X-Forwarded-Host", "evil"),
        ("X-Original-URL", "/evil"),
        ("Forwarded", "host=e"),
        ("X-HTTP-Method-Override", "PUT"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Fine", "1"),
    ];
    ask(&node, "GET", "/a", &poison);
    let seen = &origin.seen("/a")[0];
    assert_eq!(seen.field("x-forwarded-host"), "example.com");
    assert_eq!(seen.field("x-forwarded-proto"), "http");
    for gone in ["x-original-url", "forwarded", "x-http-method-override"] {
        assert_eq!(seen.field(gone), "", "{gone}");
    }
    assert_eq!((seen.field("x-fine").as_str(), seen.field("host").as_str()), ("1", "example.com"));
    assert_eq!(seen.field("via"), "1.1 atoll");
}

#[test]
fn the_response_to_a_post_answers_for_get_where_it_says_so() {
    let origin = Origin::start(|request, count| {
        let here = [FRESH, ("Content-Location", "/form?a=1")];
        match (request.start.split(' ').next(), count) {
            (Some("POST"), 0) => Act::Send(response(200, &here, "posted")),
            (Some("POST"), _) => {
                let broken = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\
                    Content-Location: /form?a=1\r\nContent-Length: 9\r\n\r\n1234";
                Act::SendAndClose(broken.to_vec())
            }
            _ => Act::Send(response(200, &[FRESH], "asked for")),
        }
    });
    let node = node_before(&origin, "");
    let post = || ask_with_body(&node, ("POST", "/form?a=1"), &[], "x");
    assert_eq!(post().text(), "posted");
    let answer = ask(&node, "GET", "/form?a=1", &[]);
    assert_eq!((answer.text().as_str(), origin.seen("/form?a=1").len()), ("posted", 1));
    // Each of them goes to the upstream, and makes invalid what was there before.
    assert!(!post().is_whole);
    let answer = ask(&node, "GET", "/form?a=1", &[]);
    assert_eq!((answer.text().as_str(), origin.seen("/form?a=1").len()), ("asked for", 3));
}

#[test]
fn a_large_body_is_the_same_for_every_client_in_whole_and_in_part() {
    let text: String = (0..400_000).map(|number| format!("{number:07}\n")).collect();
    let sent = text.clone();
    let origin =
        Origin::start(move |_, _| Act::Send(response(200, &[FRESH, ("ETag", "\"a\"")], &sent)));
    let node = node_before(&origin, "");
    for _ in 0..3 {
        assert!(ask(&node, "GET", "/large", &[]).text() == text);
    }
    for (range, first, last) in
        [("bytes=0-0", 0, 0), ("bytes=1000001-2999999", 1_000_001, 2_999_999)]
    {
        let answer = ask(&node, "GET", "/large", &[("Range", range)]);
        assert_eq!(answer.status(), 206);
        assert!(answer.text() == text[first..=last], "{range}");
    }
    // Over a connection that is kept, one answer begins where the other ends.
    let mut client = TcpStream::connect(node.gateway).expect("the gateway is open");
    let request = "GET /large HTTP/1.1\r\nHost: example.com\r\n";
    let last = format!("{request}Connection: close\r\n\r\n");
    let wanted = format!("{request}\r\n{request}Range: bytes=8-15\r\n\r\n{last}");
    client.write_all(wanted.as_bytes()).expect("it is taken");
    let mut got = String::new();
    client.read_to_string(&mut got).expect("all of it");
    assert_eq!(got.matches("HTTP/1.1 20").count(), 3);
    assert!(got.ends_with(&format!("\r\n\r\n{text}")));
    assert!(got.contains("\r\n\r\n0000001\nHTTP/1.1 200"), "the part between two wholes");
    // These have no such way: HTTP/1.0, and HTTP/2, which has frames around what it sends.
    let mut old = TcpStream::connect(node.gateway).expect("the gateway is open");
    old.write_all(b"GET /large HTTP/1.0\r\nHost: example.com\r\n\r\n").expect("it is taken");
    let mut got = String::new();
    old.read_to_string(&mut got).expect("all of it");
    assert!(got.ends_with(&format!("\r\n\r\n{text}")));
    let url = format!("http://{}/large", node.gateway);
    let host = "Host: example.com";
    let got = crate::tools::run("curl", &["-sS", "--http2-prior-knowledge", "-H", host, &url]);
    assert!(got == text, "{} bytes over HTTP/2", got.len());
    assert_eq!(origin.seen("/large").len(), 1);
}

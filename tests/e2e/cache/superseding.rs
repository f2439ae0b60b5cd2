//! What a response makes of the one that is stored, where it may not be stored itself.

use super::origin::{Act, Origin, ask, node_before, response};

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

//! What a response makes of the one that is stored, where it may not be stored itself.

use super::origin::{Act, Origin, ask, node_before, response};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

#[test]
fn a_416_is_for_who_has_asked_for_the_range_and_for_nobody_else() {
    let origin = Origin::start(|request, _| match request.field("range").as_str() {
        "bytes=999-" => {
            Act::Send(response(416, &[FRESH, ("Content-Range", "bytes */4")], "none"))
        }
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

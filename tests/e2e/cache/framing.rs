//! Responses of an upstream that say in two ways where they end, or in a coding that nobody undoes.

use super::origin::{Act, Message, Origin, ask, node_before};

/// Head and body of what the upstream answers, by path.
const CASES: [(&str, &str, &str); 5] = [
    ("/short", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("/long", "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("/equal", "Content-Length: 3, 3\r\n", "abc"),
    ("/coded", "Transfer-Encoding: gzip, chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("/unequal", "Content-Length: 3, 4\r\n", "abcd"),
];

fn check(answer: &Message, path: &str) {
    if path == "/coded" || path == "/unequal" {
        assert_eq!(answer.status(), 502, "{path}: {answer:?}");
        assert!(answer.text().contains("upstream-bad-response"), "{path}: {answer:?}");
        return;
    }
    assert!(answer.is_whole, "{path}: {answer:?}");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "abc"), "{path}");
    assert!(["", "3"].contains(&answer.field("content-length").as_str()), "{path}: {answer:?}");
}

#[test]
fn a_response_whose_fields_contradict_one_another_is_put_right_or_refused() {
    let origin = Origin::start(|request, _| {
        let case = CASES.iter().find(|(path, _, _)| *path == request.path());
        let (_, fields, body) = case.expect("a path of the test");
        let control = if request.field("x-passed") == "1" { "no-store" } else { "max-age=60" };
        let head = format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\n{fields}\r\n");
        let body = if request.start.starts_with("HEAD") { "" } else { body };
        Act::Send(format!("{head}{body}").into_bytes())
    });
    let node = node_before(&origin, "");
    for (path, _, _) in CASES {
        // What is passed on, and what is stored: for the first client and for the next.
        check(&ask(&node, "GET", path, &[("X-Passed", "1")]), path);
        check(&ask(&node, "GET", path, &[]), path);
        check(&ask(&node, "GET", path, &[]), path);
    }
    let head = ask(&node, "HEAD", "/coded", &[]);
    assert_eq!(head.status(), 502, "{head:?}");
}

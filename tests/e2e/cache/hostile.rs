//! Clients and upstreams at their worst, on routes to upstreams.

use super::origin::{Act, Message, Origin, ask, node_before, response};
use crate::node::{Ends, PATIENCE, TestNode};
use crate::pace::Pace;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

/// Sends bytes and returns what comes until the connection ends, or nothing comes for two seconds.
fn raw(node: &TestNode, bytes: &[u8]) -> String {
    exchange(node, bytes, QUIET)
}

/// The same where something is sure to come, however busy the machine is.
fn answer_to(node: &TestNode, bytes: &[u8]) -> String {
    exchange(node, bytes, PATIENCE)
}

/// After which nothing more is expected.
const QUIET: Duration = Duration::from_secs(2);

fn exchange(node: &TestNode, bytes: &[u8], first_wait: Duration) -> String {
    let mut client = TcpStream::connect(node.gateway).expect("the gateway is open");
    let wait = |client: &TcpStream, wait| {
        client.set_read_timeout(Some(wait)).expect("a time-out can be set");
    };
    wait(&client, first_wait);
    // The node may have ended the connection before it has all of it.
    let _ = client.write_all(bytes);
    let mut answer = vec![0];
    match client.read(&mut answer) {
        Ok(1) => wait(&client, QUIET),
        _ => return String::new(),
    }
    let _ = client.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a POST that has another request in its body, if it is read in a certain way.
#[track_caller]
fn check_hides_nothing(node: &TestNode, origin: &Origin, fields: &str, body: &str) {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let text = format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}{hidden}");
    let answer = raw(node, text.as_bytes());
    let statuses: Vec<&str> =
        answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert!(origin.seen("/hidden").is_empty(), "{fields:?} {body:?}: {statuses:?}");
    assert!(statuses.iter().all(|status| status.starts_with('4')), "{fields:?} {statuses:?}");
}

#[test]
fn nothing_hides_in_a_request_whose_end_is_not_clear() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "x")));
    let node = node_before(&origin, "");
    let lengths = [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
        "Content-Length:\r\n 5\r\n",
    ];
    for fields in lengths {
        check_hides_nothing(&node, &origin, fields, "abcde");
    }
    let chunked = "Transfer-Encoding: chunked\r\n";
    for fields in [
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
    ] {
        check_hides_nothing(&node, &origin, fields, "0\r\n\r\n");
    }
    for body in [
        "5x\r\nabcde\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "0x5\r\nabcde\r\n0\r\n\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        "5\r\nabcde0\r\n\r\n",
        "5\r\nabcdef\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabcde\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "5;\na\r\nabcde\r\n0\r\n\r\n",
    ] {
        check_hides_nothing(&node, &origin, chunked, body);
    }
    assert_eq!(ask(&node, "GET", "/b", &[]).text(), "x", "the node goes on");
}

#[test]
fn a_request_with_both_lengths_is_one_request_and_ends_its_connection() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "x")));
    let node = node_before(&origin, "");
    let text = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = raw(&node, text.as_bytes());
    assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{answer}");
    assert!(origin.seen("/hidden").is_empty(), "{answer}");
    for seen in origin.seen("/a") {
        assert_eq!(seen.field("content-length"), "", "{seen:?}");
    }
}

#[test]
fn lines_that_end_in_a_bare_line_feed_reach_the_upstream_as_they_should_be_or_not_at_all() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "x")));
    let node = node_before(&origin, "");
    let answer =
        raw(&node, b"GET /a HTTP/1.1\nHost: a\nX-Test: 1\n\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    // RFC 9112 section 2.2 lets us take it for the end of a line; the upstream never sees it.
    for path in ["/a", "/b"] {
        assert!(origin.seen(path).len() <= 1, "{answer}");
    }
    for bad in ["X-Test: a\rGET /hidden HTTP/1.1\r\n", "X-Test: a\0b\r\n", "X-Te\rst: a\r\n"] {
        let answer =
            answer_to(&node, format!("GET /c HTTP/1.1\r\nHost: a\r\n{bad}\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400"), "{bad:?}: {answer}");
    }
    assert!(origin.seen("/hidden").is_empty() && origin.seen("/c").is_empty());
}

#[test]
fn a_response_whose_end_is_not_clear_is_refused_or_cut_and_not_stored() {
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";
    let cases = [
        ("/lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", "abcde"),
        ("/list", "Content-Length: 5, 6\r\n", "abcde"),
        ("/sign", "Content-Length: +5\r\n", "abcde"),
        ("/chunk", "Transfer-Encoding: chunked\r\n", "5x\r\nabcde\r\n0\r\n\r\n"),
        ("/feed", "Transfer-Encoding: chunked\r\n", "5\nabcde\r\n0\r\n\r\n"),
        ("/long", "Transfer-Encoding: chunked\r\n", "5\r\nabcdef\r\n0\r\n\r\n"),
        ("/return", "X-Test: a\rX-Hidden: b\r\nContent-Length: 5\r\n", "abcde"),
        ("/nul", "X-Test: a\0b\r\nContent-Length: 5\r\n", "abcde"),
    ];
    let origin = Origin::start(move |request, count| {
        let case = cases.iter().find(|(path, _, _)| *path == request.path());
        match case {
            Some((_, fields, body)) if count == 0 => {
                Act::SendAndClose(format!("{head}{fields}\r\n{body}").into_bytes())
            }
            _ => Act::Send(response(200, &[FRESH], "good")),
        }
    });
    let node = node_before(&origin, "");
    for (path, _, _) in cases {
        let answer = ask(&node, "GET", path, &[]);
        let is_refused = answer.status() == 502 && answer.text().contains("upstream-");
        assert!(is_refused || !answer.is_whole, "{path}: {answer:?}");
        assert_eq!(answer.field("x-hidden"), "");
        assert_eq!(ask(&node, "GET", path, &[]).text(), "good", "{path} was stored");
    }
}

#[test]
fn floods_of_fields_are_refused_in_both_directions() {
    let origin = Origin::start(|request, count| {
        let many = (0..300).map(|number| format!("X-{number}: 1\r\n")).collect::<String>();
        let long = format!("X-Long: {}\r\n", "a".repeat(1 << 20));
        let flood = if request.path() == "/many" { many } else { long };
        match (request.path(), count) {
            ("/many" | "/long", 0) => Act::SendAndClose(
                format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{flood}Content-Length: 1\r\n\r\nx")
                    .into_bytes(),
            ),
            _ => Act::Send(response(200, &[FRESH], "good")),
        }
    });
    let node = node_before(&origin, "");
    for path in ["/many", "/long"] {
        let answer = ask(&node, "GET", path, &[]);
        assert_eq!(answer.status(), 502, "{path}: {answer:?}");
        assert_eq!(ask(&node, "GET", path, &[]).text(), "good", "{path}");
    }
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "a".repeat(100 * 1024));
    for flood in [many, long] {
        let answer =
            answer_to(&node, format!("GET /a HTTP/1.1\r\nHost: a\r\n{flood}\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 431"), "{}", &answer[..answer.len().min(100)]);
    }
    // Fields without an end: the node hangs up long before it has all of them.
    let mut client = TcpStream::connect(node.gateway).expect("the gateway is open");
    client.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n").expect("it is taken");
    let line = format!("X-A: {}\r\n", "a".repeat(1_000));
    let sent = (0..100_000).take_while(|_| client.write_all(line.as_bytes()).is_ok()).count();
    assert!(sent < 20_000, "{sent} lines were taken");
    assert!(origin.seen("/a").is_empty());
}

#[test]
fn a_flood_of_ranges_is_one_response_and_one_request() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[FRESH], &"x".repeat(10_000))));
    let node = node_before(&origin, "");
    let ranges = vec!["0-"; 2_000].join(",");
    for _ in 0..2 {
        let answer = ask(&node, "GET", "/a", &[("Range", &format!("bytes={ranges}"))]);
        assert_eq!((answer.status(), answer.body.len()), (200, 10_000));
    }
    let seen = origin.seen("/a");
    assert_eq!((seen.len(), seen[0].field("range").as_str()), (1, ""));
    for bad in ["bytes=9-0", "bytes=-", "bytes=a-b", "bytes=0-1-2", "lines=0-1"] {
        let answer = ask(&node, "GET", "/a", &[("Range", bad)]);
        assert_eq!((answer.status(), answer.body.len()), (200, 10_000), "{bad}");
    }
    let answer = ask(&node, "GET", "/a", &[("Range", "bytes=20000-")]);
    assert_eq!((answer.status(), answer.field("content-range").as_str()), (416, "bytes */10000"));
}

#[test]
fn a_client_that_does_not_read_holds_up_neither_others_nor_what_is_stored() {
    let bytes = 8 << 20;
    let origin = Origin::start(move |_, _| Act::Send(response(200, &[FRESH], &"x".repeat(bytes))));
    let node = node_before(&origin, "");
    let mut pace = Pace::default();
    pace.of(|| assert_eq!(ask(&node, "GET", "/b", &[]).body.len(), bytes));
    let mut stalled = TcpStream::connect(node.gateway).expect("the gateway is open");
    stalled.write_all(b"GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n").expect("it is taken");
    let started = Instant::now();
    for _ in 0..2 {
        assert_eq!(ask(&node, "GET", "/a", &[]).body.len(), bytes);
    }
    let (took, bar) = (started.elapsed(), pace.bar(Duration::from_secs(15), 10));
    assert!(took < bar, "{took:?}, held against {bar:?}");
    assert_eq!(origin.seen("/a").len(), 1);
    drop(stalled);
}

#[test]
fn a_client_that_stops_in_the_middle_of_its_body_is_answered_in_time() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "x")));
    let node = node_before(&origin, "connect_ms = 300\nfirst_byte_ms = 700");
    let mut pace = Pace::default();
    for _ in 0..3 {
        pace.of(|| node.http("GET", node.api, "/livez", b""));
    }
    let started = Instant::now();
    let answer =
        answer_to(&node, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabcde");
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-timeout"), "{answer}");
    let (took, bar) = (started.elapsed(), pace.bar(Duration::from_secs(10), 500));
    assert!(took < bar, "{took:?}, held against {bar:?}");
    assert!(origin.seen("/a").iter().all(|seen: &Message| !seen.is_whole));
}

#[test]
fn an_upstream_that_sends_a_byte_at_a_time_holds_up_nobody_else() {
    let are_others_answered = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&are_others_answered);
    let origin = Origin::start(move |request, _| match request.path() {
        // For longer than any pause may last, and until the others have their answers.
        "/slow" => Act::Drip(80, Arc::clone(&told)),
        _ => Act::Send(response(200, &[FRESH], "quick")),
    });
    let node = node_before(&origin, "between_bytes_ms = 3000");
    std::thread::scope(|scope| {
        let slow: Vec<_> =
            (0..20).map(|_| scope.spawn(|| ask(&node, "GET", "/slow", &[]))).collect();
        let ends = Ends(&are_others_answered);
        for number in 0..20 {
            assert_eq!(ask(&node, "GET", &format!("/quick/{number}"), &[]).text(), "quick");
        }
        drop(ends);
        for slow in slow {
            let answer = slow.join().expect("no panic");
            assert!(answer.is_whole && answer.body.len() >= 80, "{} bytes", answer.body.len());
        }
    });
    assert_eq!(origin.seen("/slow").len(), 1);
}

#[test]
fn no_client_can_have_an_upstream_left_alone() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "x")));
    // Two names for the same: of one address alone none is left alone.
    let port = origin.address.port();
    let more = "[[route]]\npath = \"/two/*\"\nconnect_ms = 600\nfirst_byte_ms = 200\n";
    let upstream = format!("upstream = [\"http://127.0.0.1:{port}\", \"http://localhost:{port}\"]");
    let node = node_before(&origin, &format!("{more}{upstream}"));
    let head = "POST /two/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for _ in 0..8 {
        let answer = answer_to(&node, format!("{head}5x\r\nabcde\r\n0\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("bad-body"), "{answer}");
        let answer = answer_to(&node, format!("{head}5\r\nab").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert!(!node.log().contains("left alone"), "{}", node.log());
}

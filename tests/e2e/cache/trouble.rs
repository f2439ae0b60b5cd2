//! The cache with many clients at once, and with upstreams that fail.

use super::origin::{Act, Origin, ask, ask_with_body, node_before, response};
use crate::node::wait_until;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

#[test]
fn a_thousand_clients_for_one_cold_key_are_one_request_and_follow_its_body() {
    let origin = Origin::start(|_, _| {
        let head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 20\r\n\r\n";
        let pieces = vec![head.to_vec(), b"0123456789".to_vec(), b"abcdefghij".to_vec()];
        Act::Slowly(pieces, Duration::from_millis(400))
    });
    // A socket for each client, and one for its other end in the node.
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit of open files can be raised");
    let node = node_before(&origin, "");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let clients = (0..1_000).map(|_| scope.spawn(|| ask(&node, "GET", "/cold", &[])));
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    let odd = answers.iter().find(|answer| answer.text() != "0123456789abcdefghij");
    assert!(odd.is_none(), "{odd:?}");
    assert_eq!(origin.seen("/cold").len(), 1);
    let metrics = node.http("GET", node.api, "/metrics", b"").text().to_owned();
    assert!(metrics.contains("atoll_upstream_requests_total{route=\"/*\"} 1\n"), "{metrics}");
}

#[test]
fn what_cannot_be_shared_releases_those_who_wait_at_once() {
    let came = AtomicUsize::new(0);
    let origin = Origin::start(move |_, count| {
        came.fetch_add(1, Ordering::SeqCst);
        // One after the other they would never all be here.
        if count > 0 {
            wait_until("all others ask at once", || {
                (came.load(Ordering::SeqCst) == 20).then_some(())
            });
        }
        let answer = response(200, &[("Cache-Control", "private")], &count.to_string());
        Act::Slowly(vec![answer], Duration::from_millis(500))
    });
    let node = node_before(&origin, "");
    let mut bodies: Vec<String> = std::thread::scope(|scope| {
        let clients = (0..20).map(|_| scope.spawn(|| ask(&node, "GET", "/private", &[]).text()));
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 20, "each has an answer of its own");
}

#[test]
fn a_response_that_breaks_off_is_never_stored_and_its_readers_are_told() {
    let origin = Origin::start(|request, count| match (request.path(), count) {
        (_, 1..) => Act::Send(response(200, &[FRESH], "whole")),
        ("/length", 0) => Act::SendAndClose(
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n01234"
                .to_vec(),
        ),
        _ => Act::SendAndClose(
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n\
              5\r\n01234\r\n"
                .to_vec(),
        ),
    });
    let node = node_before(&origin, "");
    for path in ["/length", "/chunked"] {
        let answer = ask(&node, "GET", path, &[]);
        assert!(!answer.is_whole, "{path}: {answer:?}");
        assert_eq!(ask(&node, "GET", path, &[]).text(), "whole", "{path}");
        assert_eq!(origin.seen(path).len(), 2);
    }
}

#[test]
fn stale_stands_in_for_an_upstream_that_fails_where_it_may() {
    let cases = [
        ("/plain", "max-age=0", 200, 500),
        ("/if-error", "max-age=0, stale-if-error=60", 200, 200),
        ("/must-revalidate", "max-age=0, must-revalidate, stale-if-error=60", 504, 500),
        ("/s-maxage", "s-maxage=0", 504, 500),
    ];
    let control = move |path: &str| {
        let path = path.split('?').next().unwrap_or_default().to_owned();
        cases.iter().find(|case| case.0 == path).expect("a case").1
    };
    let origin = Origin::start(move |request, count| {
        let fields = [("Cache-Control", control(request.path())), ("ETag", "\"a\"")];
        match (request.path().ends_with("?closed"), count) {
            (_, 0) => Act::Send(response(200, &fields, "stored")),
            (true, _) => Act::SendAndClose(Vec::new()),
            (false, _) => Act::Send(response(500, &[], "error")),
        }
    });
    let node = node_before(&origin, "");
    for (path, _, closed, error) in cases {
        for (query, want) in [("?closed", closed), ("?error", error)] {
            let url = format!("{path}{query}");
            assert_eq!(ask(&node, "GET", &url, &[]).text(), "stored");
            let answer = ask(&node, "GET", &url, &[]);
            assert_eq!(answer.status(), want, "{url}: {answer:?}");
        }
    }
}

#[test]
fn stale_is_served_at_once_while_it_is_validated() {
    let (go, may_answer) = channel();
    let may_answer = Mutex::new(may_answer);
    let origin = Origin::start(move |_, count| {
        let fields = [("Cache-Control", "max-age=0, stale-while-revalidate=60"), ("ETag", "\"a\"")];
        if count == 0 {
            return Act::Send(response(200, &fields, "old"));
        }
        may_answer.lock().expect("no panic").recv().expect("the test goes on");
        Act::Send(response(200, &[FRESH, ("ETag", "\"b\"")], "new"))
    });
    let node = node_before(&origin, "");
    assert_eq!(ask(&node, "GET", "/a", &[]).text(), "old");
    for _ in 0..5 {
        let answer = ask(&node, "GET", "/a", &[]);
        assert_eq!(answer.text(), "old");
        assert!(answer.field("cache-status").contains("; hit; ttl="), "{answer:?}");
    }
    go.send(()).expect("the upstream waits");
    wait_until("the new one", || (ask(&node, "GET", "/a", &[]).text() == "new").then_some(()));
    assert_eq!(origin.seen("/a").len(), 2, "one validation for all");
}

#[test]
fn a_connection_that_was_kept_too_long_costs_an_idempotent_request_nothing() {
    let origin = Origin::start(|_, count| {
        // It says nothing of closing: the next request finds out.
        Act::SendAndClose(response(200, &[], &count.to_string()))
    });
    let node = node_before(&origin, "");
    for want in ["0", "1", "2"] {
        let answer = ask(&node, "GET", "/a", &[]);
        assert_eq!((answer.status(), answer.text().as_str()), (200, want));
    }
}

#[test]
fn bodies_go_both_ways_and_what_cannot_be_reached_is_told() {
    let origin = Origin::start(|request, _| Act::Send(response(200, &[], &request.text())));
    let node = node_before(&origin, "");
    let body = "x".repeat(3 << 20);
    let answer = ask_with_body(&node, ("POST", "/echo"), &[], &body);
    assert!(answer.text() == body, "{} bytes", answer.body.len());
    let nowhere = Origin::start(|_, _| Act::SendAndClose(Vec::new()));
    let node = node_before(&nowhere, "connect_ms = 500");
    let answer = ask(&node, "GET", "/", &[]);
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.field("content-type"), "application/problem+json");
}

#[test]
fn a_body_that_is_too_long_is_passed_on_whole_and_not_stored() {
    let origin = Origin::start(|request, _| {
        let body = "y".repeat(4 << 20);
        if request.path() == "/length" {
            return Act::Send(response(200, &[FRESH], &body));
        }
        let head =
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks: String =
            (0..64).map(|_| format!("10000\r\n{}\r\n", &body[..0x10000])).collect();
        Act::Send(format!("{head}{chunks}0\r\n\r\n").into_bytes())
    });
    let node = node_before(&origin, "object_max = \"1MiB\"");
    for path in ["/length", "/chunked"] {
        for count in 1..=2 {
            let answer = ask(&node, "GET", path, &[]);
            assert!(answer.is_whole && answer.body.len() == 4 << 20, "{} bytes", answer.body.len());
            assert_eq!(origin.seen(path).len(), count, "{path}");
        }
    }
}

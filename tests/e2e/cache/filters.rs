//! Filters: what their hooks do, what becomes of requests when they fail, and which version it was.

use super::origin::{Act, Message, Origin, ask, node_before, response};
use crate::api::atoll;
use crate::node::{ATOLL, TestNode, wait_until};
use crate::tools::run;
use std::time::Duration;

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
const MOBILE: (&str, &str) = ("User-Agent", "Mobile 1");
const BETA: (&str, &str) = ("Cookie", "a=b; beta=1");

pub(super) fn deployed(node: &TestNode, guest: &str, arguments: &[&str]) -> (bool, String) {
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let path = guests.path(guest).display().to_string();
    let (success, stdout, stderr) = atoll(node, &[&["deploy", &path], arguments].concat());
    (success, stdout + &stderr)
}

#[track_caller]
fn deploy(node: &TestNode, guest: &str, arguments: &[&str]) {
    let (success, said) = deployed(node, guest, arguments);
    assert!(success, "{said}");
}

fn is_hit(answer: &Message) -> bool {
    answer.field("cache-status").contains("; hit")
}

/// Two upstreams that tell their names, and what a route to the first says to have the example filter
/// choose between them.
pub(super) fn around_edge() -> (Origin, Origin, String) {
    let named = |name: &'static str| {
        Origin::start(move |request, count| {
            let text = format!("{name} {count}");
            Act::Send(match request.path() {
                "/gone" => response(404, &[], &text),
                "/cookie" => response(200, &[FRESH, ("Set-Cookie", "a=b")], &text),
                _ => response(200, &[FRESH, ("Vary", "Cookie"), ("Server", "x")], &text),
            })
        })
    };
    let (plain, beta) = (named("plain"), named("beta"));
    let route = format!(
        "filter = \"edge\"\nset_cookie = \"store\"\nupstreams = {{ beta = \"http://{}\" }}",
        beta.address
    );
    (plain, beta, route)
}

/// A node with that route.
fn edge() -> (TestNode, Origin, Origin) {
    let (plain, beta, route) = around_edge();
    (node_before(&plain, &route), plain, beta)
}

#[test]
fn hooks_answer_change_choose_and_say_what_is_kept() {
    let (node, plain, beta) = edge();
    let missing = ask(&node, "GET", "/a", &[]);
    assert_eq!(missing.status(), 503);
    assert!(missing.text().contains("filter-missing"), "{missing:?}");
    let (_, said) = deployed(&node, "edge", &[]);
    assert!(said.contains("atoll:edge/filter") && said.contains("filter = \"edge\""), "{said}");
    // Cookies make no variants, because the filter takes them out before the cache looks.
    for (number, cookie) in ["a=1", "a=2", "c=d"].into_iter().enumerate() {
        let answer = ask(&node, "GET", "/a", &[("Cookie", cookie), ("X-Request-Id", cookie)]);
        // The next may come while the response of the one before is still being put away.
        let is_shared = is_hit(&answer) || answer.field("cache-status").contains("collapsed");
        assert_eq!((answer.text().as_str(), is_shared), ("plain 0", number > 0), "{cookie}");
        assert_eq!(
            (answer.field("server"), answer.field("x-request-id")),
            ("".into(), cookie.into())
        );
        assert_eq!(answer.field("atoll-keys"), "");
    }
    assert_eq!(plain.seen("/a")[0].field("cookie"), "");
    node.resp_client().command(&["SET", "blocked:/wp-admin", "1"]);
    assert_eq!(ask(&node, "GET", "/wp-admin", &[]).status(), 403);
    assert!(plain.seen("/wp-admin").is_empty());
    for _ in 0..2 {
        assert_eq!(ask(&node, "GET", "/a", &[BETA]).text(), "beta 0");
        assert_eq!(ask(&node, "GET", "/a", &[MOBILE]).text(), "plain 1");
        assert_eq!(ask(&node, "GET", "/a", &[MOBILE, BETA]).text(), "beta 1");
        assert_eq!(ask(&node, "GET", "/gone", &[]).text(), "plain 0", "kept although it says not");
    }
    assert_eq!((plain.seen("/a").len(), beta.seen("/a").len()), (2, 2));
    let status = ask(&node, "GET", "/gone", &[]).field("cache-status");
    let ttl_s = status.split("; hit; ttl=").nth(1).and_then(|ttl| ttl.parse::<u64>().ok());
    assert!(ttl_s.is_some_and(|ttl_s| ttl_s < 60), "a minute, and it counts: {status}");
    let api = node.api.to_string();
    let told = run(ATOLL, &["cache", "--api", &api, "inspect", "http://example.com/a"]);
    assert_eq!(told.lines().filter(|line| line.contains(": 200, ")).count(), 4, "{told}");
    assert!(told.contains("  key with upstream=beta, mobile\n"), "{told}");
    assert!(told.contains("  made from _sys/handler/edge\n"), "{told}");
    for count in 0..3 {
        assert_eq!(ask(&node, "GET", "/cookie", &[]).text(), format!("plain {count}"));
    }
}

#[test]
fn purges_and_unsafe_methods_take_every_part_of_a_url() {
    let (node, _plain, _beta) = edge();
    deploy(&node, "edge", &[]);
    let all = |path: &str| {
        [&[][..], &[MOBILE], &[BETA], &[MOBILE, BETA]].map(|fields| ask(&node, "GET", path, fields))
    };
    let hits = |path: &str| all(path).map(|answer| is_hit(&answer));
    assert_eq!((hits("/shop/a"), hits("/b")), ([false; 4], [false; 4]));
    assert_eq!((hits("/shop/a"), hits("/b")), ([true; 4], [true; 4]));
    let purge = |order: &str| {
        assert_eq!(node.http("POST", node.api, "/v1/purge", order.as_bytes()).status, 200);
    };
    purge(r#"{"urls": ["http://example.com/shop/a"]}"#);
    assert_eq!((hits("/shop/a"), hits("/b")), ([false; 4], [true; 4]));
    purge(r#"{"tags": ["shop"]}"#);
    assert_eq!((hits("/shop/a"), hits("/b")), ([false; 4], [true; 4]));
    assert_eq!(ask(&node, "POST", "/b", &[]).status(), 200);
    assert_eq!((hits("/shop/a"), hits("/b")), ([true; 4], [false; 4]));
    assert_eq!(hits("/b"), [true; 4]);
}

/// A node whose route has the filter that misbehaves.
fn hostile(arguments: &[&str]) -> (TestNode, Origin) {
    let origin = Origin::start(|_, count| Act::Send(response(200, &[FRESH], &count.to_string())));
    let node = node_before(&origin, "filter = \"hostile\"");
    deploy(&node, "hostile-filter", &[&["--name", "hostile"], arguments].concat());
    (node, origin)
}

/// Those of time are far apart: on a busy machine a guest that computes waits for its turns.
const LIMITS: [&str; 6] = ["--cpu-ms", "200", "--wall-ms", "60000", "--memory-mib", "32"];

const HARM: [(&str, &str, u16, &str); 19] = [
    ("on-request", "panic", 502, "filter-trap"),
    ("on-request", "loop", 504, "filter-cpu-limit"),
    ("on-request", "memory", 502, "filter-memory-limit"),
    ("on-request", "bad-path", 502, "filter-bad-answer"),
    ("on-request", "bad-query", 502, "filter-bad-answer"),
    ("on-request", "long-path", 502, "filter-bad-answer"),
    ("on-request", "no-upstream", 502, "filter-bad-answer"),
    ("on-request", "bad-header", 502, "filter-bad-answer"),
    ("on-request", "bad-name", 502, "filter-bad-answer"),
    ("on-request", "answer-bad-status", 502, "filter-bad-answer"),
    ("on-request", "big", 502, "filter-response-limit"),
    ("cache-key", "panic", 502, "filter-trap"),
    ("cache-key", "long", 502, "filter-bad-answer"),
    ("cache-key", "many", 502, "filter-bad-answer"),
    ("on-response", "loop", 504, "filter-cpu-limit"),
    ("on-response", "bad-header", 502, "filter-bad-answer"),
    ("on-response", "bad-tag", 502, "filter-bad-answer"),
    ("on-response", "headers", 502, "filter-bad-answer"),
    ("on-deliver", "bad-header", 502, "filter-bad-answer"),
];

#[test]
fn a_filter_that_fails_ends_its_request_with_an_error_of_its_own() {
    let (node, _origin) = hostile(&LIMITS);
    for (number, (hook, what, status, code)) in HARM.into_iter().enumerate() {
        let path = format!("/{number}");
        let answer = ask(&node, "GET", &path, &[("X-Hook", hook), ("X-Do", what)]);
        assert_eq!(answer.status(), status, "{hook} {what}: {answer:?}");
        assert!(answer.text().contains(code), "{hook} {what}: {answer:?}");
        let answer = ask(&node, "GET", &path, &[]);
        assert_eq!(answer.status(), 200, "{hook} {what} harms the next: {answer:?}");
    }
    // What frames a message is not for a filter.
    for hook in ["on-request", "on-response", "on-deliver"] {
        let answer = ask(&node, "GET", "/frame", &[("X-Hook", hook), ("X-Do", "frame")]);
        assert_eq!((answer.status(), answer.is_whole), (200, true), "{hook}: {answer:?}");
    }
    for _ in 0..2 {
        let answer = ask(&node, "GET", "/k", &[("X-Hook", "cache-key"), ("X-Do", "control")]);
        assert_eq!(answer.text(), "0", "strange parts are parts");
    }
    let metrics = node.http("GET", node.api, "/metrics", b"");
    let row = "atoll_handler_requests_total{handler=\"hostile\",release=\"live\",outcome=\"cpu-limit\"} 2";
    assert!(metrics.text().contains(row), "{}", metrics.text());
}

#[test]
fn a_filter_that_may_be_passed_by_leaves_nothing_in_the_cache_when_it_fails() {
    let (node, origin) = hostile(&[&LIMITS[..], &["--on-failure", "pass"]].concat());
    for (number, (hook, what, ..)) in HARM.into_iter().enumerate() {
        let path = format!("/{number}");
        let answer = ask(&node, "GET", &path, &[("X-Hook", hook), ("X-Do", what)]);
        assert_eq!(answer.status(), 200, "{hook} {what}: {answer:?}");
        let is_kept = is_hit(&ask(&node, "GET", &path, &[]));
        // Where only the delivery failed, what was stored is as it should be.
        assert_eq!(is_kept, hook == "on-deliver", "{hook} {what}");
    }
    let never = [("X-Hook", "on-response"), ("X-Do", "never")];
    for count in 0..3 {
        assert_eq!(ask(&node, "GET", "/never", &never).text(), count.to_string());
    }
    assert_eq!(origin.seen("/never").len(), 3);
}

#[test]
fn a_request_keeps_its_version_and_a_new_one_makes_stale_what_the_old_one_changed() {
    let origin = Origin::start(|request, _| {
        let answer = response(200, &[FRESH, ("ETag", "\"a\"")], "x");
        let wait = if request.path() == "/slow" { 1_500 } else { 0 };
        Act::Slowly(vec![answer], Duration::from_millis(wait))
    });
    let node = node_before(&origin, "filter = \"hostile\"");
    let deploy = |version: &str| {
        let config = format!("version={version}");
        deploy(&node, "hostile-filter", &["--name", "hostile", "--config", &config]);
    };
    deploy("1");
    let version = |path: &str| ask(&node, "GET", path, &[]).field("x-version");
    assert_eq!((version("/a"), version("/a")), ("1".into(), "1".into()));
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| version("/slow"));
        wait_until("it is upstream", || (origin.seen("/slow").len() == 1).then_some(()));
        deploy("2");
        for _ in 0..3 {
            assert_eq!(version("/a"), "2", "no old answer behind a deployment");
        }
        assert_eq!(slow.join().expect("no panic"), "1", "all hooks are of one version");
    });
    assert_eq!(version("/slow"), "2", "what the old one has changed is asked for anew");
    assert!(is_hit(&ask(&node, "GET", "/a", &[])));
}

#[test]
fn what_is_no_filter_or_would_be_both_is_refused() {
    let node = TestNode::start();
    let (success, said) = deployed(&node, "edge", &["--route", "/*"]);
    assert!(!success && said.contains("a filter has no routes of its own"), "{said}");
    let (success, said) = deployed(&node, "edge", &["--reuse", "10"]);
    assert!(!success && said.contains("no --reuse"), "{said}");
    let (success, said) = deployed(&node, "hello", &[]);
    assert!(!success && said.contains("a handler has 1 to 32 routes"), "{said}");
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "x")));
    let node = node_before(&origin, "filter = \"hello\"");
    deploy(&node, "hello", &["--route", "/hello"]);
    let answer = ask(&node, "GET", "/a", &[]);
    assert!(answer.text().contains("filter-missing"), "a handler is no filter: {answer:?}");
}

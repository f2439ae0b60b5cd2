//! Standard components, run unmodified: of the world `wasi:http/proxy` in Rust, and as other
//! people's tools make them of JavaScript, Python and C.

mod c;
mod logs;
mod reuse;
mod service;
mod together;
pub(crate) mod tools;

use crate::api::atoll;
use crate::node::{Answer, PATIENCE, TestNode};
use crate::tools::output;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

#[track_caller]
fn deploy(node: &TestNode, component: &Path, arguments: &[&str]) {
    let path = component.display().to_string();
    let (success, stdout, stderr) = atoll(node, &[&["deploy", &path], arguments].concat());
    assert!(success, "{stdout}{stderr}");
    assert!(stdout.contains("wasi:http/proxy"), "{stdout}");
}

/// A node with the Rust handler at `/s/*`.
fn node_with_standard(arguments: &[&str]) -> TestNode {
    let node = TestNode::start_with(&["--log", "info"]);
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    deploy(&node, &guests.path("standard"), &[&["--route", "/s/*"], arguments].concat());
    node
}

fn get(node: &TestNode, path: &str) -> Answer {
    node.http("GET", node.gateway, path, b"")
}

#[track_caller]
fn check(node: &TestNode, path: &str, want: &str) {
    let answer = get(node, path);
    assert_eq!((answer.status, answer.text()), (200, want), "{path}");
}

#[test]
fn a_standard_handler_shares_the_store_and_sees_its_settings_and_nothing_else() {
    let node = node_with_standard(&["--config", "greeting=hello"]);
    check(&node, "/s/hello", "hello from the standard\n");
    check(&node, "/s/store", "everything works");
    let mut redis = node.resp_client();
    assert_eq!(redis.command(&["GET", "s:a"]), "$3");
    assert_eq!(redis.command(&["INCRBY", "s:n", "40"]), ":42");
    let want = r#"Ok(Some("hello")) of Ok([("greeting", "hello")])"#;
    check(&node, "/s/config?greeting", want);
    let want = "environment [] arguments [] folders 0 now true random true";
    check(&node, "/s/surroundings", want);
    check(&node, "/s/log", "logged");
    node.wait_for_log("cart: nearly full");
    node.wait_for_log("a line");
    node.wait_for_log("kv:other=r is not granted");
}

#[test]
fn a_handler_sends_requests_to_the_hosts_that_it_was_granted_alone() {
    let upstream = TestNode::start();
    upstream.http("PUT", upstream.api, "/v1/kv/default/a", b"from upstream");
    let grant = format!("http:{}", upstream.api);
    let node = node_with_standard(&["--grant", "kv:default=r", "--grant", &grant]);
    let url = |address| format!("/s/fetch?{address}/v1/kv/default/a");
    check(&node, &url(upstream.api), "200 from upstream");
    let denied = get(&node, &url(upstream.gateway));
    assert!(denied.text().contains("HttpRequestDenied"), "{}", denied.text());
    node.wait_for_log(&format!("http:{} is not granted", upstream.gateway));
    let (address, stopped) = (upstream.api, upstream);
    drop(stopped);
    let refused = get(&node, &url(address));
    assert!(refused.text().contains("ConnectionRefused"), "{}", refused.text());
}

#[test]
fn a_standard_handler_that_misbehaves_ends_its_own_request_and_nothing_else() {
    // Far apart: on a busy machine a guest that computes waits for its turns.
    let limits = ["--cpu-ms", "300", "--wall-ms", "100000", "--memory-mib", "16"];
    let node = node_with_standard(&limits);
    let soon = ["--name", "soon", "--route", "/soon/*", "--wall-ms", "1500"];
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    deploy(&node, &guests.path("standard"), &soon);
    let cases = [
        ("/s/silence", 500, "handler-no-answer"),
        ("/s/panic", 502, "handler-trap"),
        ("/s/loop", 504, "handler-cpu-limit"),
        ("/soon/sleep", 504, "handler-wall-limit"),
        ("/s/exit", 502, "handler-trap"),
        ("/s/error", 502, "handler-error"),
        ("/s/headers", 502, "handler-bad-response"),
    ];
    for (path, status, code) in cases {
        let answer = get(&node, path);
        assert_eq!((answer.status, &answer.json()["code"]), (status, &code.into()), "{path}");
        check(&node, "/s/hello", "hello from the standard\n");
    }
    check_does_not_look_whole(&node, "/s/halfway", "the first half");
    check_does_not_look_whole(&node, "/s/short", "ten bytes.");
    let came = check_does_not_look_whole(&node, "/soon/stall", "and then nothing");
    assert_eq!(came, "and then nothing", "it was sent before the guest waited");
    // Most of them fail before anything was sent: then the client is told why.
    for path in ["/s/halfway", "/s/short"] {
        let url = format!("http://{}{path}", node.gateway);
        let status = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", &url];
        assert!((0..50).any(|_| output("curl", &status).stdout == b"502"), "{path} is not told");
    }
    node.wait_for_log("its body was to have 20 bytes by its content-length");
    let url = format!("http://{}/s/big", node.gateway);
    let curl = output("curl", &["--silent", "--max-time", "20", &url]);
    assert!(!curl.status.success() && curl.stdout.len() <= 16 << 20, "{}", curl.stdout.len());
    for kind in ["no-answer", "trap", "cpu-limit", "wall-limit", "error", "response-limit"] {
        node.wait_for_log(&format!("kind=\"{kind}\""));
    }
    check(&node, "/s/hello", "hello from the standard\n");
}

/// A guest that fails after the head of its answer: what was sent breaks off, and is a problem where
/// nothing was sent yet.
#[track_caller]
fn check_does_not_look_whole(node: &TestNode, path: &str, written: &str) -> String {
    let url = format!("http://{}{path}", node.gateway);
    let curl = output("curl", &["--silent", "--fail", "--max-time", "20", &url]);
    assert!(!curl.status.success(), "{path} looks whole");
    let came = String::from_utf8_lossy(&curl.stdout).into_owned();
    assert!(written.starts_with(&came), "{path}: {came:?}");
    came
}

#[test]
fn a_place_is_taken_until_the_guest_has_ended() {
    let node = node_with_standard(&["--concurrency", "1", "--wall-ms", "5000"]);
    check_place_is_taken(&node, "and then nothing");
}

/// While the one that stalls after `first` has the only place, no other gets one.
#[track_caller]
fn check_place_is_taken(node: &TestNode, first: &str) {
    let mut stream = TcpStream::connect(node.gateway).expect("the gateway is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream.write_all(b"GET /s/stall HTTP/1.1\r\nhost: a\r\n\r\n").expect("the node reads");
    let mut came = Vec::new();
    read_until(&mut stream, &mut came, first);
    assert_eq!(get(node, "/s/hello").status, 503, "the stalled one takes the only place");
    crate::node::wait_until("the place is free", || {
        (get(node, "/s/hello").status == 200).then_some(())
    });
    came.clear();
    let ended = stream.read_to_end(&mut came);
    assert!(ended.is_err() || !came.ends_with(b"0\r\n\r\n"), "it must not look whole: {came:?}");
}

/// Sends a piece, waits until it has come back, sends the next.
#[track_caller]
fn check_streams_both_ways(node: &TestNode, path: &str) {
    let mut stream = TcpStream::connect(node.gateway).expect("the gateway is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("the node reads");
    let mut came = Vec::new();
    for piece in ["first", "second", "third"] {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        stream.write_all(chunk.as_bytes()).expect("the node reads");
        read_until(&mut stream, &mut came, piece);
    }
    stream.write_all(b"0\r\n\r\n").expect("the node reads");
    read_until(&mut stream, &mut came, "0\r\n\r\n");
}

fn read_until(stream: &mut TcpStream, came: &mut Vec<u8>, want: &str) {
    let mut buffer = [0; 4_096];
    while !String::from_utf8_lossy(came).contains(want) {
        let count = stream.read(&mut buffer).expect("more comes");
        assert!(count > 0, "it ended before {want:?}: {}", String::from_utf8_lossy(came));
        came.extend_from_slice(&buffer[..count]);
    }
}

/// More than any buffer on its way, and back the same.
#[track_caller]
fn check_large_pipe(node: &TestNode, path: &str) {
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 7) as u8).collect();
    let answer = node.http("POST", node.gateway, path, &body);
    assert!(answer.status == 200 && answer.body == body, "{}", answer.status);
}

#[test]
fn bodies_stream_both_ways_and_nobody_holds_them() {
    let node = node_with_standard(&["--memory-mib", "16"]);
    check_streams_both_ways(&node, "/s/pipe");
    check_large_pipe(&node, "/s/pipe");
}

/// What the handlers in JavaScript and Python have in common.
#[track_caller]
fn check_interpreter(node: &TestNode, language: &str) {
    check(node, "/x/hello", &format!("hello from {language}\n"));

    let url = format!("http://{}/x/echo?a=b", node.gateway);
    let echo = output("curl", &["--silent", "-H", "X-Note: c d", "-d", "the body", &url]);
    let echo: serde_json::Value = serde_json::from_slice(&echo.stdout).expect("JSON");
    assert_eq!(echo["method"].as_str().expect("a method").to_uppercase(), "POST");
    assert!(echo["url"].as_str().expect("a target").ends_with("/x/echo?a=b"), "{echo}");
    assert_eq!((&echo["headers"]["x-note"], &echo["body"]), (&"c d".into(), &"the body".into()));

    let began = Instant::now();
    let pieces: String = (0..5).map(|number| format!("piece {number}\n")).collect();
    check(node, "/x/stream", &pieces);
    assert!(began.elapsed() >= Duration::from_millis(450), "100 ms lie between its pieces");
    check_streams_both_ways(node, "/x/pipe");
    check_large_pipe(node, "/x/pipe");

    let kv = |method, body: &str| node.http(method, node.gateway, "/x/kv/k", body.as_bytes());
    let mut redis = node.resp_client();
    assert_eq!(get(node, "/x/kv/k").status, 404);
    assert_eq!(kv("PUT", "value").status, 200);
    assert_eq!(redis.command(&["GET", "k"]), "$value");
    assert_eq!(kv("DELETE", "").status, 200);
    assert_eq!(redis.command(&["SET", "k", "40"]), "+OK");
    assert_eq!(kv("POST", "2").text(), "42\n");
    let many = get(node, "/x/many").json();
    let want = r#"{"pairs": [["m:1", "one"], null, ["m:2", "two"]], "listed": ["m:1", "m:2"]}"#;
    assert_eq!(many, serde_json::from_str::<serde_json::Value>(want).expect("JSON"));
    assert_eq!(get(node, "/x/kv/k?bucket=other").status, 500);
    node.wait_for_log("kv:other=r is not granted");

    assert_eq!(get(node, "/x/log").status, 200);
    node.wait_for_log("said on stdout");
    node.wait_for_log("said on stderr");
    let stopped = get(node, "/x/loop");
    assert_eq!((stopped.status, &stopped.json()["code"]), (504, &"handler-cpu-limit".into()));
    check(node, "/x/hello", &format!("hello from {language}\n"));
}

/// More time than by default: neither this engine nor its machine is fast in tests, and who computes
/// waits for its turns.
const ROUTE: [&str; 6] = ["--route", "/x/*", "--cpu-ms", "2000", "--wall-ms", "60000"];

#[test]
fn a_handler_in_javascript_runs_unmodified() {
    let component = tools::javascript();
    let node = TestNode::start_with(&["--log", "info"]);
    deploy(&node, &component, &ROUTE);
    check_interpreter(&node, "JavaScript");
}

#[test]
fn a_handler_in_python_runs_unmodified() {
    let component = tools::python();
    let node = TestNode::start_with(&["--log", "info"]);
    deploy(&node, &component, &ROUTE);
    check_interpreter(&node, "Python");
}

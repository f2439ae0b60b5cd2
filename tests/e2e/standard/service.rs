//! Components of the world `wasi:http/service`, WASI 0.3: on the second engine, with all that the
//! others have.

use super::{
    Answer, check, check_does_not_look_whole, check_large_pipe, check_place_is_taken,
    check_streams_both_ways, get, read_until,
};
use crate::api::atoll;
use crate::node::{PATIENCE, TestNode, wait_until};
use crate::tools::output;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A node with the handler at `/s/*`.
pub(super) fn node_with_service(arguments: &[&str]) -> TestNode {
    let node = TestNode::start_with(&["--log", "info"]);
    deploy(&node, arguments);
    node
}

pub(super) fn deploy(node: &TestNode, arguments: &[&str]) {
    deploy_at(node, &[&["--route", "/s/*"], arguments].concat());
}

/// The same at another route.
fn deploy_at(node: &TestNode, arguments: &[&str]) {
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let component = guests.path("service").display().to_string();
    let arguments = [&["deploy", &component], arguments].concat();
    let (success, stdout, stderr) = atoll(node, &arguments);
    assert!(success, "{stdout}{stderr}");
    assert!(stdout.contains("wasi:http/service"), "{stdout}");
}

#[test]
fn a_handler_of_0_3_answers_shares_the_store_and_sees_nothing_else() {
    let node = node_with_service(&["--config", "greeting=hello"]);
    check(&node, "/s/hello", "hello from 0.3\n");
    let url = format!("http://{}/s/echo?a=b", node.gateway);
    let echo = output("curl", &["--silent", "-H", "X-Note: c d", "-d", "the body", &url]);
    let want = format!("POST {} /s/echo?a=b note=c d body=the body\n", node.gateway);
    assert_eq!(String::from_utf8_lossy(&echo.stdout), want);
    check(&node, "/s/kv?k", r#"written 2 Err("Error::AccessDenied")"#);
    let mut redis = node.resp_client();
    assert_eq!(redis.command(&["GET", "k"]), "$written");
    assert_eq!(redis.command(&["INCRBY", "count", "40"]), ":42");
    node.wait_for_log("kv:other=r is not granted");
    let want = r#"Ok(Some("hello")) of Ok([("greeting", "hello")])"#;
    check(&node, "/s/config?greeting", want);
    let want =
        "environment [] arguments [] folders 0 socket false now true random true ticking true";
    check(&node, "/s/surroundings", want);
    check(&node, "/s/log", "Ok(())");
    node.wait_for_log("cart: nearly full");
    node.wait_for_log("a line");
    assert_eq!(get(&node, "/s/empty").status, 204);
    let row =
        "atoll_handler_requests_total{handler=\"service\",release=\"live\",outcome=\"answered\"} 7";
    let figures = || node.http("GET", node.api, "/metrics", b"").text().contains(row);
    wait_until("each was counted", || figures().then_some(()));
}

#[test]
fn bodies_and_trailers_stream_both_ways() {
    let node = node_with_service(&["--memory-mib", "16"]);
    check_streams_both_ways(&node, "/s/pass");
    check_large_pipe(&node, "/s/pass");
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 7) as u8).collect();
    let answer = node.http("POST", node.gateway, "/s/upper", &body);
    assert!(answer.status == 200 && answer.body == body.to_ascii_uppercase(), "{}", answer.status);
    let began = Instant::now();
    let pieces: String = (0..5).map(|number| format!("piece {number}\n")).collect();
    check(&node, "/s/stream", &pieces);
    assert!(began.elapsed() >= Duration::from_millis(350), "100 ms lie between its pieces");

    check_trailers(&node, "GET /s/trailers HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n");
    // Its own, back from the guest.
    let head = "POST /s/pass HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-sum\r\n";
    let body = "transfer-encoding: chunked\r\n\r\n7\r\na body\n\r\n0\r\nx-sum: 42\r\n\r\n";
    check_trailers(&node, &format!("{head}{body}"));
}

#[track_caller]
fn check_trailers(node: &TestNode, request: &str) {
    let mut stream = TcpStream::connect(node.gateway).expect("the gateway is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream.write_all(request.as_bytes()).expect("the node reads");
    let mut came = Vec::new();
    read_until(&mut stream, &mut came, "a body\n");
    read_until(&mut stream, &mut came, "0\r\nx-sum: 42\r\n\r\n");
}

#[test]
fn requests_go_to_the_hosts_that_were_granted_alone() {
    let upstream = TestNode::start();
    upstream.http("PUT", upstream.api, "/v1/kv/default/a", b"from upstream");
    let grant = format!("http:{}", upstream.api);
    let node = node_with_service(&["--grant", "kv:default=r", "--grant", &grant]);
    let url = |name, address| format!("/s/{name}?{address}/v1/kv/default/a");
    check(&node, &url("fetch", upstream.api), "200 from upstream");
    let sent = vec![b'x'; 300_000];
    let posted = node.http("POST", node.gateway, &url("post", upstream.api), &sent);
    assert!(posted.text().starts_with("20"), "{}", posted.text());
    let kept = upstream.http("GET", upstream.api, "/v1/kv/default/a", b"");
    assert_eq!(kept.body.len(), sent.len());
    let denied = get(&node, &url("fetch", upstream.gateway));
    assert!(denied.text().contains("HttpRequestDenied"), "{}", denied.text());
    node.wait_for_log(&format!("http:{} is not granted", upstream.gateway));
}

#[track_caller]
fn check_problem(node: &TestNode, path: &str, status: u16, code: &str) {
    let answer: Answer = get(node, path);
    assert_eq!((answer.status, &answer.json()["code"]), (status, &code.into()), "{path}");
    check(node, "/s/hello", "hello from 0.3\n");
}

#[test]
fn a_handler_of_0_3_that_misbehaves_ends_its_own_request_and_nothing_else() {
    // Far apart: on a busy machine a guest that computes waits for its turns.
    let limits = ["--cpu-ms", "250", "--wall-ms", "100000", "--memory-mib", "16"];
    let node = node_with_service(&limits);
    let soon = ["--name", "soon", "--route", "/soon/*", "--wall-ms", "3000"];
    deploy_at(&node, &soon);
    check_problem(&node, "/soon/never", 504, "handler-wall-limit");
    check_problem(&node, "/soon/sleep", 504, "handler-wall-limit");
    check_problem(&node, "/s/loop", 504, "handler-cpu-limit");
    check_problem(&node, "/s/memory", 502, "handler-memory-limit");
    check_problem(&node, "/s/panic", 502, "handler-trap");
    check_problem(&node, "/s/error", 502, "handler-error");
    check_problem(&node, "/s/status", 502, "handler-bad-response");
    check_problem(&node, "/s/headers", 502, "handler-bad-response");
    check_problem(&node, "/s/announce", 502, "handler-response-limit");
    for path in ["/s/halfway", "/s/short", "/soon/stall", "/soon/keep-body", "/s/loop-later"] {
        check_does_not_look_whole(&node, path, "ten bytes.");
    }
    let url = format!("http://{}/s/big", node.gateway);
    let curl = output("curl", &["--silent", "--max-time", "20", &url]);
    assert!(!curl.status.success() && curl.stdout.len() <= 16 << 20, "{}", curl.stdout.len());
    node.wait_for_log("its body was to have 20 bytes by its content-length");
    for kind in ["trap", "cpu-limit", "wall-limit", "memory-limit", "error", "response-limit"] {
        node.wait_for_log(&format!("kind=\"{kind}\""));
    }
    check(&node, "/s/hello", "hello from 0.3\n");
}

#[test]
fn an_instance_is_fresh_each_time_unless_reuse_was_asked_for() {
    let node = node_with_service(&["--wall-ms", "5000"]);
    for _ in 0..3 {
        check(&node, "/s/count", "1\n");
    }
    deploy(&node, &["--wall-ms", "5000", "--reuse", "1000"]);
    // The next request may come while the last one's answer is on its way: then it has another.
    let count = || get(&node, "/s/count").text().trim().parse::<u32>().expect("a number");
    wait_until("an instance has answered five", || (count() >= 5).then_some(()));
    let url = format!("http://{}/s/keep-body", node.gateway);
    assert!(!output("curl", &["--silent", "--max-time", "20", &url]).status.success());
    let panicked = get(&node, "/s/panic");
    assert_eq!(panicked.json()["code"], "handler-trap");
    check(&node, "/s/hello", "hello from 0.3\n");
}

#[test]
fn a_place_is_taken_until_a_handler_of_0_3_has_ended() {
    let node = node_with_service(&["--concurrency", "1", "--wall-ms", "5000"]);
    check_place_is_taken(&node, "ten bytes.");
}

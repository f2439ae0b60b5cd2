//! `atoll:edge/fetch`: what a handler may ask of others, how often, how long, how much.

use crate::api::atoll;
use crate::node::{Answer, TestNode};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// A node with the hostile handler at `/h/*`, which may reach these addresses.
fn node_reaching(hosts: &[SocketAddr], arguments: &[&str]) -> TestNode {
    let node = TestNode::start_with(&["--log", "info"]);
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let component = guests.path("hostile").display().to_string();
    let mut typed =
        vec!["deploy", &component, "--name", "h", "--route", "/h/*", "--grant", "kv:default=rw"];
    let grants: Vec<String> = hosts.iter().map(|host| format!("http:{host}")).collect();
    typed.extend(grants.iter().flat_map(|grant| ["--grant", grant.as_str()]));
    typed.extend(arguments);
    let (success, stdout, stderr) = atoll(&node, &typed);
    assert!(success, "{stdout}{stderr}");
    node
}

fn get(node: &TestNode, path: &str) -> Answer {
    node.http("GET", node.gateway, path, b"")
}

#[track_caller]
fn check(node: &TestNode, path: &str, want: &str) {
    let answer = get(node, path);
    assert!(answer.text().contains(want), "{path}: {} {}", answer.status, answer.text());
}

#[test]
fn a_granted_host_answers_and_another_is_denied_by_name() {
    let upstream = TestNode::start();
    let node = node_reaching(&[upstream.api], &[]);
    let key = format!("http://{}/v1/kv/default/a", upstream.api);
    let put = node.http("POST", node.gateway, &format!("/h/fetch?method=PUT&url={key}"), b"body");
    assert_eq!(put.status, 201, "{}", put.text());
    let answer = get(&node, &format!("/h/fetch?url={key}"));
    assert_eq!((answer.status, answer.text()), (200, "body"));
    assert!(!answer.header("etag").is_empty(), "its fields come along");
    assert_eq!(get(&node, &format!("/h/fetch?url={key}-none")).status, 404, "that is an answer");

    let denied = format!("/h/fetch?url=http://{}/", upstream.gateway);
    let want = format!(
        "http:{0} is not granted; deploy the handler with --grant http:{0}",
        upstream.gateway
    );
    check(&node, &denied, &format!("fetch: denied: {want}"));
    node.wait_for_log(&format!("fetch: {want}"));
    check(&node, "/h/fetch?url=file:///etc/passwd", "the URL is none");
    check(&node, "/h/fetch?url=/v1/kv", "not absolute");
    check(&node, &format!("/h/fetch?url=gopher://{}/", upstream.api), "neither http nor https");
    check(&node, &format!("/h/fetch?url=http://user@{}/", upstream.api), "names no host");
    check(&node, &format!("/h/fetch?method=CONNECT&url={key}"), "a tunnel is no request");
    let (address, stopped) = (upstream.api, upstream);
    drop(stopped);
    check(&node, &format!("/h/fetch?url=http://{address}/"), "connection refused");
}

#[test]
fn requests_of_one_call_are_counted_and_answers_are_bounded() {
    let upstream = TestNode::start();
    let node = node_reaching(&[upstream.api], &["--cpu-ms", "2000"]);
    upstream.http("PUT", upstream.api, "/v1/kv/default/fits", &vec![b'x'; 8 << 20]);
    upstream.http("PUT", upstream.api, "/v1/kv/default/big", &vec![b'x'; (8 << 20) + 1]);
    let key = |key: &str| format!("url=http://{}/v1/kv/default/{key}", upstream.api);
    check(&node, &format!("/h/fetches?{}", key("none")), "64, then fetch: too many");
    node.wait_for_log("fetch: more than 64 requests in one call");
    check(&node, &format!("/h/fetches?{}", key("none")), "64, then fetch: too many");
    assert_eq!(get(&node, &format!("/h/fetch?{}", key("fits"))).body.len(), 8 << 20);
    check(
        &node,
        &format!("/h/fetch?{}", key("big")),
        "too large: the answer's body has more than 8388608",
    );
}

#[test]
fn a_host_that_never_answers_costs_time_and_no_processor() {
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let node = node_reaching(&[address], &["--cpu-ms", "50", "--wall-ms", "1500"]);
    let began = Instant::now();
    let slow = std::thread::scope(|scope| {
        // Others compute meanwhile: that is not this handler's time.
        scope.spawn(|| (0..4).for_each(|_| drop(get(&node, "/h/loop"))));
        get(&node, &format!("/h/fetch?ms=700&url=http://{address}/"))
    });
    assert_eq!(slow.text(), "fetch: timed out: no answer in time\n");
    assert!(began.elapsed() >= Duration::from_millis(700));
    let endless = get(&node, &format!("/h/fetch?url=http://{address}/"));
    assert_eq!((endless.status, &endless.json()["code"]), (504, &"handler-wall-limit".into()));
    check(&node, "/h/", "hostile");
}

//! `atoll:edge/fetch`: what a handler may ask of others, how often, how long, how much; and
//! `atoll:edge/cache`: one asks while the others wait.

use crate::api::atoll;
use crate::node::{Answer, TestNode, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    check(&node, &format!("/h/fetch?url=http://user@{}/", upstream.api), "a name and a password");
    check(&node, &format!("/h/fetch?method=CONNECT&url={key}"), "a tunnel is no request");
    let (address, stopped) = (upstream.api, upstream);
    drop(stopped);
    check(&node, &format!("/h/fetch?url=http://{address}/"), "connection refused");
}

#[test]
fn requests_of_one_call_are_counted_and_answers_are_bounded() {
    let upstream = TestNode::start();
    let node = node_reaching(&[upstream.api], &["--cpu-ms", "2000", "--wall-ms", "60000"]);
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
    // Far apart: on a busy machine a guest waits for its turns.
    let node = node_reaching(&[address], &["--cpu-ms", "50", "--wall-ms", "5000"]);
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

/// Two hosts, neither of which answers its first request before both have one.
fn hosts_that_wait_for_one_another() -> [SocketAddr; 2] {
    let both = Arc::new(AtomicUsize::new(0));
    [(); 2].map(|()| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let both = Arc::clone(&both);
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("it is asked");
            both.fetch_add(1, Ordering::SeqCst);
            wait_until("both are asked", || (both.load(Ordering::SeqCst) == 2).then_some(()));
            answer_slowly(stream, &AtomicUsize::new(1));
        });
        address
    })
}

/// A host that takes half a second for each answer, fails the first time, and counts.
fn slow_host() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || answer_slowly(stream, &counter));
        }
    });
    (address, asked)
}

fn answer_slowly(mut stream: TcpStream, asked: &AtomicUsize) {
    let mut head = Vec::new();
    let mut buffer = [0; 1_024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => head.extend_from_slice(&buffer[..count]),
        }
    }
    let count = asked.fetch_add(1, Ordering::Relaxed) + 1;
    std::thread::sleep(Duration::from_millis(500));
    let status = if count == 1 { "500 No" } else { "200 OK" };
    let body = format!("made {count}");
    let length = body.len();
    // Whoever asked may have gone.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
}

#[test]
fn several_slow_hosts_are_asked_at_once() {
    let (slow, asked) = slow_host();
    let [a, b] = hosts_that_wait_for_one_another();
    let node = node_reaching(&[a, b, slow], &[]);
    let path = format!("/h/together?url=http://{a}/&url=http://127.0.0.1:1/&url=http://{b}/");
    let answer = get(&node, &path);
    let (denied, body) = ("http:127.0.0.1:1 is not granted", answer.text());
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[2]), (3, "made 2", "made 2"), "{body}");
    assert!(lines[1].contains(denied), "{body}");
    let many = get(&node, &format!("/h/together?times=40&url=http://{slow}/"));
    assert_eq!(many.text().lines().filter(|line| line.starts_with("made")).count(), 40);
    assert_eq!(asked.load(Ordering::Relaxed), 40);
    let too_many = get(&node, &format!("/h/together?times=65&url=http://{slow}/"));
    assert_eq!(too_many.text(), "fetch: too many: more than 64 at once\n".repeat(65));
    assert_eq!(asked.load(Ordering::Relaxed), 40, "none of them is sent");
}

#[test]
fn answers_that_come_at_once_are_bounded_together() {
    let upstream = TestNode::start();
    let node = node_reaching(&[upstream.api], &["--cpu-ms", "2000", "--wall-ms", "60000"]);
    upstream.http("PUT", upstream.api, "/v1/kv/default/big", &vec![b'x'; 8 << 20]);
    let url = format!("url=http://{}/v1/kv/default/big", upstream.api);
    let four = get(&node, &format!("/h/together?times=4&{url}"));
    assert_eq!(four.text(), "8388608 bytes\n".repeat(4));
    let five = get(&node, &format!("/h/together?times=5&{url}"));
    let refused = "fetch: too large: the bodies together have more than 33554432 bytes";
    assert!(five.text().lines().any(|line| line == refused), "{}", five.text());
}

#[test]
fn one_request_fills_while_the_others_wait_and_the_next_takes_over_from_one_that_dies() {
    let (address, asked) = slow_host();
    let node = node_reaching(&[address], &[]);
    let path = format!("/h/fill?url=http://{address}/");
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..12)
            .map(|_| {
                scope.spawn(|| {
                    let answer = get(&node, &path);
                    (answer.status, answer.text().to_owned())
                })
            })
            .collect();
        asking.into_iter().map(|asking| asking.join().expect("it is answered")).collect()
    });
    let dead = answers.iter().filter(|(status, _)| *status == 502).count();
    let filled = answers.iter().filter(|answer| **answer == (200, "made 2".to_owned())).count();
    assert_eq!((dead, filled), (1, 11), "{answers:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 2, "the first failed, the second was for all");
    assert_eq!(node.resp_client().command(&["GET", "filled"]), "$made 2");
    check(&node, "/h/fills", "kv: invalid: this call has the turn to fill fills already");
    check(&node, "/h/fills", "this call has the turn");
}

#[test]
fn a_handler_that_may_not_write_fills_nothing_and_holds_up_nobody() {
    let (address, asked) = slow_host();
    asked.store(1, Ordering::Relaxed);
    let grant = format!("http:{address}");
    let node = TestNode::start();
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let component = guests.path("hostile").display().to_string();
    let deploy = ["deploy", &component, "--name", "r", "--route", "/h/*", "--grant", &grant];
    let (success, _, stderr) = atoll(&node, &[&deploy[..], &["--grant", "kv:default=r"]].concat());
    assert!(success, "{stderr}");
    let path = format!("/h/fill?url=http://{address}/");
    for _ in 0..2 {
        check(&node, &path, "kv:default/filled=w is not granted");
    }
    assert_eq!(node.resp_client().command(&["EXISTS", "filled"]), ":0");
}

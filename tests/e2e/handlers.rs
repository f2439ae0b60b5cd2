//! Handlers: deployed, called, replaced, removed, and what one that misbehaves can do.

use crate::api::atoll;
use crate::node::{Answer, Ends, TestNode};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The path of a built handler.
fn component(name: &str) -> String {
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    guests.path(name).display().to_string()
}

#[track_caller]
fn deploy(node: &TestNode, name: &str, arguments: &[&str]) -> String {
    let path = component(name);
    let (success, stdout, stderr) = atoll(node, &[&["deploy", &path], arguments].concat());
    assert!(success, "{stdout}{stderr}");
    stdout
}

#[track_caller]
fn check_refused(node: &TestNode, arguments: &[&str], want: &str) {
    let (success, stdout, stderr) = atoll(node, &[&["deploy"], arguments].concat());
    assert!(!success, "{arguments:?} should be refused: {stdout}");
    assert!(stderr.contains(want), "{stderr:?} should contain {want:?}");
}

fn get(node: &TestNode, path: &str) -> Answer {
    node.http("GET", node.gateway, path, b"")
}

#[test]
fn a_handler_is_live_as_soon_as_it_is_deployed_and_shares_the_store() {
    let node = TestNode::start();
    assert_eq!(get(&node, "/counter/apples").json()["code"], "no-route");
    let told = deploy(&node, "counter", &["--name", "counter", "--route", "/counter/*"]);
    assert!(told.contains("/counter/*") && told.contains("kv:default=rw"), "{told}");
    assert_eq!(get(&node, "/counter/apples").text(), "apples: 1\n");
    assert_eq!(get(&node, "/counter/apples").text(), "apples: 2\n");
    let mut redis = node.resp_client();
    assert_eq!(redis.command(&["GET", "counter:apples"]), "$2");
    assert_eq!(redis.command(&["INCRBY", "counter:apples", "40"]), ":42");
    assert_eq!(get(&node, "/counter/apples").text(), "apples: 43\n");
    let read = node.http("GET", node.api, "/v1/kv/default/counter:apples", b"");
    assert_eq!(read.text(), "43");
    assert!(
        node.http("GET", node.api, "/", b"").text().contains("/counter/*"),
        "the page shows it"
    );
    let (_, listed, _) = atoll(&node, &["handlers"]);
    assert!(listed.contains("counter") && listed.contains("/counter/*"), "{listed}");
    let (success, _, stderr) = atoll(&node, &["remove", "counter"]);
    assert!(success, "{stderr}");
    assert_eq!(get(&node, "/counter/apples").status, 404);
    assert_eq!(redis.command(&["GET", "counter:apples"]), "$43", "its keys stay");
    let (success, _, stderr) = atoll(&node, &["remove", "counter"]);
    assert!(!success && stderr.contains("counter"), "{stderr}");
}

#[test]
fn a_deployment_that_cannot_work_is_refused_before_anything_changes() {
    let node = TestNode::start();
    deploy(&node, "hello", &["--name", "hello", "--route", "/hello/*"]);
    let hello = component("hello");
    let counter = component("counter");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("the file is written");
        path.display().to_string()
    };
    let text = file("text.wasm", b"not wasm at all");
    let module = file("module.wasm", b"\0asm\x01\0\0\0");
    let cut = std::fs::read(&hello).expect("it was built");
    let cut = file("cut.wasm", &cut[..cut.len() / 2]);
    let new = |path: &'static str| ["--name", "new", "--route", path];
    let with = |file: &str, rest: &[&str]| -> Vec<String> {
        std::iter::once(file).chain(rest.iter().copied()).map(str::to_owned).collect()
    };
    let check = |arguments: Vec<String>, want: &str| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        check_refused(&node, &arguments, want);
    };
    check(with(&text, &new("/new")), "not a WebAssembly file");
    check(with(&module, &new("/new")), "not a component");
    check(with(&cut, &new("/new")), "not a component that this node can run");
    check(with("/nonexistent.wasm", &new("/new")), "/nonexistent.wasm");
    check(with(&hello, &new("new")), "write e.g. /counter/*");
    check(with(&hello, &new("/hello/*")), "taken by handler hello");
    check(with(&hello, &["--name", "New", "--route", "/new"]), "a-z, 0-9 and -");
    check(
        with(&counter, &[&new("/new")[..], &["--grant", "none"]].concat()),
        "--grant kv:BUCKET=rw",
    );
    check(with(&hello, &[&new("/new")[..], &["--grant", "kv:_sys=rw"]].concat()), "kv:BUCKET=rw");
    check(with(&hello, &[&new("/new")[..], &["--cpu-ms", "0"]].concat()), "cpu_ms");
    assert_eq!(get(&node, "/new").status, 404);
    assert_eq!(get(&node, "/hello/x").status, 200, "what was live still is");
}

#[test]
fn a_handler_reaches_only_what_it_was_granted() {
    let node = TestNode::start();
    let grant = ["--name", "counter", "--route", "/counter/*", "--grant", "kv:other=rw"];
    deploy(&node, "counter", &grant);
    let denied = get(&node, "/counter/apples");
    assert_eq!(denied.status, 500);
    assert_eq!(denied.text(), "internal error\n", "why is the log's business, not the caller's");
    assert_eq!(node.resp_client().command(&["DBSIZE"]), ":0");
}

#[test]
fn a_handler_that_misbehaves_ends_its_own_request_and_nothing_else() {
    let node = TestNode::start();
    deploy(&node, "hello", &["--name", "hello", "--route", "/hello/*"]);
    deploy(
        &node,
        "hostile",
        &[
            &["--name", "hostile", "--route", "/hostile/*", "--memory-mib", "48"][..],
            // Far apart: on a busy machine a guest that computes waits for its turns.
            &["--cpu-ms", "500", "--wall-ms", "60000"],
        ]
        .concat(),
    );
    let before = node.resident_bytes();
    let cases = [
        ("loop", 504, "handler-cpu-limit"),
        ("clock", 504, "handler-cpu-limit"),
        ("panic", 502, "handler-trap"),
        ("recursion", 502, "handler-trap"),
        ("memory", 502, "handler-memory-limit"),
        ("garbage-status", 502, "handler-bad-response"),
        ("garbage-header", 502, "handler-bad-response"),
        ("garbage-name", 502, "handler-bad-response"),
        ("headers", 502, "handler-bad-response"),
        ("big", 502, "handler-response-limit"),
        ("random", 502, "handler-trap"),
    ];
    for (path, status, code) in cases {
        let answer = get(&node, &format!("/hostile/{path}"));
        assert_eq!((answer.status, &answer.json()["code"]), (status, &code.into()), "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(get(&node, "/hello/x").status, 200, "after {path}");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    get(&node, "/hostile/loop");
                }
            });
        }
        let _ends = Ends(&stop);
        for _ in 0..20 {
            assert_eq!(get(&node, "/hello/x").status, 200);
            assert_eq!(node.resp_client().command(&["PING"]), "+PONG");
        }
    });
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes more");
}

#[test]
fn the_example_of_the_store_may_do_all_that_it_was_granted() {
    let node = TestNode::start();
    deploy(&node, "hostile", &["--name", "hostile", "--route", "/hostile/*"]);
    let answer = get(&node, "/hostile/store");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn no_request_is_lost_while_a_handler_is_replaced() {
    let node = TestNode::start();
    deploy(&node, "counter", &["--name", "counter", "--route", "/counter/*"]);
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let answer = get(&node, "/counter/swap");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _ends = Ends(&done);
        for _ in 0..5 {
            deploy(&node, "counter", &["--name", "counter", "--route", "/counter/*"]);
        }
    });
    let counted = node.resp_client().command(&["GET", "counter:swap"]);
    assert_eq!(counted, format!("${}", asked.load(Ordering::Relaxed)));
    let (_, listed, _) = atoll(&node, &["handlers"]);
    assert!(listed.contains('6'), "the sixth version is live: {listed}");
}

#[test]
fn a_handler_sees_the_request_as_it_was_sent() {
    let node = TestNode::start();
    deploy(&node, "redirects", &["--name", "redirects", "--route", "/go/*"]);
    node.resp_client().command(&["SET", "redirect:/go/docs", "https://example.com/docs"]);
    let answer = get(&node, "/go/docs?page=2");
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, "https://example.com/docs?page=2")
    );
    assert_eq!(get(&node, "/go/nowhere").status, 404);
    let large = vec![0; (8 << 20) + 1];
    assert_eq!(node.http("POST", node.gateway, "/go/x", &large).status, 413);
}

//! The examples do what they say, and the hostile handler harms nobody: real guests, built from
//! source, over a store in memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cost;
mod host;
mod together;

use atoll_wasm::component::{Component, Handler};
use atoll_wasm::engine::{Engine, EngineConfig};
use atoll_wasm::error::CallError;
use atoll_wasm::host::{Level, Request, Response};
use atoll_wasm::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX, Limits};
use tokio::runtime::{Builder, Runtime};

use host::Memory;

/// More processor time than by default: this host is not optimised, and copies a body of 17 MiB
/// byte by byte.
const LIMITS: Limits =
    Limits { cpu_ms: 500, wall_ms: 60_000, memory_bytes: 64 << 20, response_bytes: 16 << 20 };

/// A handler with its engine, and the store that its calls share.
struct Guest {
    handler: Handler<Memory>,
    wants_store: bool,
    store: Memory,
    runtime: Runtime,
}

impl Guest {
    fn new(name: &str) -> Guest {
        let engine =
            Engine::new(EngineConfig { instances_max: 4, ..EngineConfig::default() }).unwrap();
        let wasm = std::fs::read(atoll_guests::build().unwrap().path(name)).unwrap();
        let component = engine.compile(&wasm).unwrap();
        let wants_store = component.store_import().is_some();
        let Component::Edge(handler) = component else { panic!("{name} is of another world") };
        Guest {
            handler,
            wants_store,
            store: Memory::default(),
            runtime: Builder::new_current_thread().enable_time().build().unwrap(),
        }
    }

    fn get(&self, target: &str) -> Result<Response, CallError> {
        self.runtime.block_on(self.handler.call(self.store.clone(), request(target), &LIMITS))
    }

    #[track_caller]
    fn check(&self, target: &str, want_status: u16, want_body: &str) {
        let response = self.get(target).unwrap();
        let body = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!((response.status, body.as_str()), (want_status, want_body));
    }

    #[track_caller]
    fn check_error(&self, target: &str, want_kind: &str) {
        let error = self.get(target).unwrap_err();
        assert_eq!(error.kind(), want_kind, "{error}");
    }
}

fn request(target: &str) -> Request<'_> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Request {
        method: "GET",
        scheme: "http",
        path,
        query,
        authority: Some("localhost:8080"),
        headers: &[("accept", b"*/*"), ("user-agent", b"test")],
        body: b"",
        client_address: Some("127.0.0.1"),
    }
}

#[test]
fn hello_greets_by_name() {
    let hello = Guest::new("hello");
    hello.check("/hello", 200, "Hello, world!\n");
    hello.check("/hello?name=J%C3%B6rg+M", 200, "Hello, Jörg M!\n");
    let response = hello.get("/").unwrap();
    assert_eq!(
        response.headers,
        [("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec())]
    );
    assert!(!hello.wants_store, "an example that needs no grant");
}

#[test]
fn counter_counts_each_name_in_the_store() {
    let counter = Guest::new("counter");
    counter.check("/counter/apples", 200, "apples: 1\n");
    counter.check("/counter/apples", 200, "apples: 2\n");
    counter.check("/counter/pears", 200, "pears: 1\n");
    assert_eq!(counter.store.text("counter:apples").as_deref(), Some("2"));
    counter.check("/counter/", 400, "which counter? try /counter/apples\n");
    assert!(counter.wants_store);
}

#[test]
fn an_error_of_the_store_is_logged_and_not_shown() {
    let counter = Guest::new("counter");
    counter.store.put("counter:apples", "not a number");
    counter.check("/counter/apples", 500, "internal error\n");
    let lines = counter.store.lines();
    assert_eq!(lines, [(Level::Error, "kv: the key holds a value of another kind".to_owned())]);
}

#[test]
fn redirects_follow_the_table() {
    let redirects = Guest::new("redirects");
    redirects.check("/old", 404, "not found\n");
    redirects.store.put("redirect:/old", "https://example.com/new");
    let response = redirects.get("/old?a=1").unwrap();
    assert_eq!(response.status, 302);
    assert_eq!(
        response.headers[0],
        ("location".to_owned(), b"https://example.com/new?a=1".to_vec())
    );
}

#[test]
fn everything_that_the_store_offers_works_through_the_sdk() {
    Guest::new("hostile").check("/store", 200, "ok\n");
}

#[test]
fn misbehaviour_ends_its_own_call_and_says_which() {
    let hostile = Guest::new("hostile");
    hostile.check_error("/loop", "cpu-limit");
    hostile.check_error("/clock", "cpu-limit");
    hostile.check_error("/panic", "trap");
    hostile.check_error("/recursion", "trap");
    hostile.check_error("/memory", "memory-limit");
    hostile.check_error("/garbage-status", "bad-response");
    hostile.check_error("/garbage-header", "bad-response");
    hostile.check_error("/garbage-name", "bad-response");
    hostile.check_error("/headers", "bad-response");
    hostile.check_error("/big", "response-limit");
    hostile.check_error("/random", "trap");
    hostile.check("/ungranted", 403, "kv: denied: kv:_sys\n");
    hostile.check("/", 200, "hostile\n");
}

#[test]
fn a_panic_is_in_the_log_with_its_place() {
    let hostile = Guest::new("hostile");
    hostile.check_error("/panic", "trap");
    let lines = hostile.store.lines();
    let (level, line) = &lines[0];
    assert_eq!(*level, Level::Error);
    assert!(line.contains("as the path asked") && line.contains("src/lib.rs"), "{line}");
}

#[test]
fn the_log_of_a_call_is_bounded() {
    let hostile = Guest::new("hostile");
    hostile.check("/logs", 200, "logged\n");
    let lines = hostile.store.lines();
    assert_eq!(lines.len(), LOG_LINES_MAX as usize);
    assert!(lines.iter().all(|line| line.1.len() <= LOG_LINE_BYTES_MAX));
    assert_eq!(lines.last().unwrap().0, Level::Warn);
}

#[test]
fn the_handles_of_a_call_are_bounded() {
    let want = "256 buckets, then kv: unavailable: 256 buckets are open\n";
    Guest::new("hostile").check("/handles", 200, want);
}

//! A filter that misbehaves: the field `x-hook` of a request names the hook, and `x-do` what it does
//! there. For tests of the limits, never for use.
#![allow(clippy::panic, reason = "misbehaving is what this is for")]

use std::hint::black_box;

use atoll_guest::filter::{Filter, RequestHead, ResponseHead, filter};
use atoll_guest::{Response, config, secret};

struct Hostile;

#[filter]
impl Filter for Hostile {
    fn on_request(request: &mut RequestHead) -> Option<Response> {
        match wish(request, "on-request")?.as_str() {
            "bad-path" => request.set_path("no path"),
            "bad-query" => request.set_query(Some("a#b c".to_owned())),
            "long-path" => request.set_path(format!("/{}", "x".repeat(100_000))),
            "no-upstream" => request.use_upstream("nowhere"),
            "frame" => {
                request.set_header("content-length", "7");
                request.set_header("host", "other.com");
                request.set_header("transfer-encoding", "chunked");
            }
            "bad-header" => request.set_header("x-a", "b\r\nx-c: d"),
            "bad-name" => request.set_header("x a", "b"),
            "big" => return Some(Response::bytes(vec![0; 17 << 20])),
            "secret" => return Some(tell(request.header("x-name").unwrap_or_default())),
            "answer-bad-status" => return Some(Response::new(99)),
            what => harm(what),
        }
        None
    }

    fn cache_key(request: &RequestHead) -> Vec<String> {
        match wish(request, "cache-key").as_deref() {
            None => Vec::new(),
            Some("long") => vec!["x".repeat(100_000)],
            Some("many") => vec![String::new(); 100_000],
            Some("control") => vec!["a\u{1}b\0".to_owned()],
            Some(what) => {
                harm(what);
                Vec::new()
            }
        }
    }

    fn on_response(request: &RequestHead, response: &mut ResponseHead) {
        if let Some(version) = config::get("version") {
            response.set_header("x-version", version);
        }
        match wish(request, "on-response").as_deref() {
            None => {}
            Some("frame") => {
                response.set_header("content-length", "1");
                response.set_header("transfer-encoding", "chunked");
                response.set_header("age", "0");
            }
            Some("bad-header") => response.set_header("x-a", "b\nc"),
            Some("bad-tag") => response.tag("a, b"),
            Some("headers") => (0..10_000).for_each(|_| response.add_header("x-a", "b")),
            Some("never") => response.never_store(),
            Some(what) => harm(what),
        }
    }

    fn on_deliver(request: &RequestHead, response: &mut ResponseHead) {
        match wish(request, "on-deliver").as_deref() {
            None => {}
            Some("frame") => response.set_header("content-length", "1"),
            Some("bad-header") => response.set_header("x-a", "b\0"),
            Some(what) => harm(what),
        }
    }
}

fn wish(request: &RequestHead, hook: &str) -> Option<String> {
    (request.header("x-hook")? == hook)
        .then(|| request.header("x-do").unwrap_or_default().to_owned())
}

fn tell(name: &str) -> Response {
    match secret::text(name) {
        Ok(Some(value)) => Response::text(value),
        Ok(None) => Response::text("there is none\n").status(404),
        Err(error) => Response::text(format!("{error}\n")).status(403),
    }
}

fn harm(what: &str) {
    match what {
        "panic" => panic!("as the request asked"),
        "loop" => {
            let mut turns: u64 = 0;
            loop {
                turns = black_box(turns.wrapping_add(1));
            }
        }
        "memory" => {
            let mut held = Vec::new();
            loop {
                held.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        _ => {}
    }
}

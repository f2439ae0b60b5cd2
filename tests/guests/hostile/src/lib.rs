//! A handler that misbehaves as its path says: for tests of the limits, never for use. On `/store`
//! it behaves, and tries everything that the store can do.
#![allow(unconditional_recursion, clippy::panic, reason = "misbehaving is what this is for")]

mod cached;
mod errands;
mod store;

use std::hint::black_box;

use atoll_guest::{Request, Response, clock, handler, kv, log, random, secret};

#[handler]
fn handle(request: Request) -> Response {
    match request.path_segments().last().as_deref() {
        Some("loop") => spin(),
        Some("clock") => spin_in_host_calls(),
        Some("panic") => panic!("as the path asked"),
        Some("recursion") => Response::text(recurse(1).to_string()),
        Some("memory") => hoard(),
        Some("garbage-status") => Response::new(1_000),
        Some("garbage-header") => Response::text("").header("x-note", "a\r\nset-cookie: stolen=1"),
        Some("garbage-name") => Response::text("").header("no name", "at all"),
        Some("headers") => many_headers(),
        Some("big") => Response::bytes(vec![0; 17 << 20]),
        Some("logs") => flood_the_log(),
        Some("random") => Response::bytes(random::bytes(1 << 20)),
        Some("handles") => hoard_handles(),
        Some("cached") => cached::answer(&request),
        Some("fetch") => errands::one(&request),
        Some("together") => errands::together(&request),
        Some("fill") => errands::fill(&request),
        Some("fills") => errands::fill_within_a_fill(),
        Some("fetches") => errands::many(&request),
        Some("store") => store::try_everything(),
        Some("secret") => read_secret(&request.query("name").unwrap_or_default()),
        Some("trace") => {
            let field = |name| request.header(name).unwrap_or("none");
            Response::text(format!("{} {}", field("traceparent"), field("tracestate")))
        }
        Some("ungranted") => open_what_was_not_granted(),
        _ => Response::text("hostile\n"),
    }
}

fn spin() -> Response {
    let mut turns: u64 = 0;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn spin_in_host_calls() -> Response {
    loop {
        black_box(clock::now_ms());
    }
}

fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1)) + 1)
}

fn hoard() -> Response {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; 1 << 20]));
    }
}

fn many_headers() -> Response {
    (0..100_000).fold(Response::text(""), |response, _| response.append_header("x", "y"))
}

fn flood_the_log() -> Response {
    for line in 0..1_000 {
        log::info(format!("line {line}: {}", "x".repeat(10_000)));
    }
    Response::text("logged\n")
}

fn hoard_handles() -> Response {
    let mut held = Vec::new();
    loop {
        match kv::open("default") {
            Ok(bucket) => held.push(bucket),
            Err(error) => return Response::text(format!("{} buckets, then {error}\n", held.len())),
        }
    }
}

fn read_secret(name: &str) -> Response {
    match secret::text(name) {
        Ok(Some(value)) => Response::text(value),
        Ok(None) => Response::text("there is none\n").status(404),
        Err(error) => Response::text(format!("{error}\n")).status(403),
    }
}

fn open_what_was_not_granted() -> Response {
    match kv::open("_sys") {
        Ok(_) => Response::text("opened\n"),
        Err(error) => Response::text(format!("{error}\n")).status(403),
    }
}

//! A handler of the standard world `wasi:http/proxy`, which does what its path says: for tests.
//!
//! It knows nothing of this node. Some paths misbehave.
#![allow(clippy::panic, reason = "misbehaving is what some of it is for")]

mod bindings;
mod store;

use std::sync::atomic::{AtomicU32, Ordering};

use bindings::wasi::config::store as config;
use bindings::wasi::logging::logging::{self, Level};
use wasip2::cli::{environment, exit, stdout};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::filesystem::preopens;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;
use wasip2::random::random;

struct Standard;

wasip2::http::proxy::export!(Standard with_types_in wasip2);

impl wasip2::exports::http::incoming_handler::Guest for Standard {
    fn handle(request: IncomingRequest, place: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path.rsplit('/').next().unwrap_or_default() {
            "silence" => {}
            "panic" => panic!("as the path asked"),
            "loop" => loop {
                std::hint::black_box(0);
            },
            "sleep" => monotonic_clock::subscribe_duration(60_000_000_000).block(),
            "exit" => exit::exit(Err(())),
            "error" => ResponseOutparam::set(place, Err(ErrorCode::DestinationUnavailable)),
            "headers" => many_headers(place),
            "pipe" => pipe(&request, place),
            "halfway" => {
                let body = begin(place, &[]);
                write(&body, b"the first half");
                panic!("after the first half");
            }
            "short" => {
                let body = begin(place, &[("content-length", "20")]);
                write(&body, b"ten bytes.");
                drop(OutgoingBody::finish(body, None));
            }
            "big" => flood(begin(place, &[])),
            "stall" => {
                let body = begin(place, &[]);
                write(&body, b"and then nothing");
                monotonic_clock::subscribe_duration(60_000_000_000).block();
            }
            "surroundings" => answer(place, &surroundings()),
            "config" => answer(place, &settings(query)),
            "log" => {
                logging::log(Level::Warn, "cart", "nearly full");
                let line = b"a line\n";
                stdout::get_stdout().blocking_write_and_flush(line).expect("it is taken");
                answer(place, "logged");
            }
            "count" => answer(place, &format!("{}\n", count())),
            "keep-body" => {
                let body = begin(place, &[]);
                write(&body, b"and no end");
                std::mem::forget(body);
            }
            "keep-request" => {
                let incoming = request.consume().expect("it is asked for once");
                std::mem::forget(incoming);
                std::mem::forget(request);
                answer(place, &format!("{}\n", count()));
            }
            "unended-line" => {
                let line = format!("request {} without its end", count());
                stdout::get_stdout().blocking_write_and_flush(line.as_bytes()).expect("taken");
                answer(place, "printed\n");
            }
            "store" => answer(place, &store::try_everything()),
            "fetch" => answer(place, &fetch(query)),
            _ => answer(place, "hello from the standard\n"),
        }
    }
}

/// How many requests this instance has counted.
fn count() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed) + 1
}

fn begin(place: ResponseOutparam, fields: &[(&str, &str)]) -> OutgoingBody {
    let headers = Fields::new();
    for (name, value) in fields {
        headers.append(name, value.as_bytes()).expect("a field of HTTP");
    }
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("it is asked for once");
    ResponseOutparam::set(place, Ok(response));
    body
}

fn write(body: &OutgoingBody, bytes: &[u8]) {
    let stream = body.write().expect("it is asked for once");
    for piece in bytes.chunks(4_096) {
        stream.blocking_write_and_flush(piece).expect("the caller reads");
    }
}

fn answer(place: ResponseOutparam, text: &str) {
    let body = begin(place, &[("content-type", "text/plain")]);
    write(&body, text.as_bytes());
    OutgoingBody::finish(body, None).expect("all was written");
}

/// The request's body as the answer's, piece by piece.
fn pipe(request: &IncomingRequest, place: ResponseOutparam) {
    let incoming = request.consume().expect("it is asked for once");
    let from = incoming.stream().expect("it is asked for once");
    let body = begin(place, &[]);
    let to = body.write().expect("it is asked for once");
    loop {
        match to.blocking_splice(&from, 65_536) {
            Ok(_) => {}
            Err(StreamError::Closed) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    drop((from, to));
    drop(IncomingBody::finish(incoming));
    OutgoingBody::finish(body, None).expect("all was written");
}

fn many_headers(place: ResponseOutparam) {
    let fields: Vec<(String, String)> =
        (0..200).map(|number| (format!("x-{number}"), "value".to_owned())).collect();
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    drop(begin(place, &fields));
}

fn flood(body: OutgoingBody) {
    let stream = body.write().expect("it is asked for once");
    let piece = [b'x'; 4_096];
    while stream.blocking_write_and_flush(&piece).is_ok() {}
}

/// What a guest can find out of the machine: nothing but the time and dice.
fn surroundings() -> String {
    let is_now = wall_clock::now().seconds > 1_700_000_000;
    let dice = random::get_random_bytes(16);
    let are_random = dice.len() == 16 && dice.iter().any(|&die| die != dice[0]);
    format!(
        "environment {:?} arguments {:?} folders {} now {is_now} random {are_random}",
        environment::get_environment(),
        environment::get_arguments(),
        preopens::get_directories().len(),
    )
}

fn settings(key: &str) -> String {
    format!("{:?} of {:?}", config::get(key), config::get_all())
}

/// Asks `AUTHORITY/PATH` by plain HTTP and returns what it answers.
fn fetch(url: &str) -> String {
    let (authority, path) = url.split_once('/').unwrap_or((url, ""));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("it is known");
    request.set_authority(Some(authority)).expect("it is one");
    request.set_path_with_query(Some(&format!("/{path}"))).expect("it is one");
    let future = match outgoing_handler::handle(request, None) {
        Ok(future) => future,
        Err(error) => return format!("{error:?}"),
    };
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => {
            let status = response.status();
            let body = response.consume().expect("it is asked for once");
            let stream = body.stream().expect("it is asked for once");
            let mut bytes = Vec::new();
            while let Ok(piece) = stream.blocking_read(65_536) {
                bytes.extend(piece);
            }
            format!("{status} {}", String::from_utf8_lossy(&bytes))
        }
        other => format!("{other:?}"),
    }
}

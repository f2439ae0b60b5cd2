//! A handler of the standard world `wasi:http/service`, which does what its path says: for tests.
//!
//! It knows nothing of this node. Some paths misbehave.
#![allow(clippy::panic, reason = "misbehaving is what some of it is for")]

mod bindings;
mod body;
mod misbehave;
mod together;

use std::sync::atomic::{AtomicU32, Ordering};

use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::{atomics, store};
use bindings::wasi::logging::logging::{self, Level};
use wasip3::cli::{environment, stdout};
use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::filesystem::preopens;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};
use wasip3::random::random;
use wasip3::sockets::types::{IpAddressFamily, TcpSocket};
use wasip3::wit_bindgen::spawn_local;
use wasip3::{wit_future, wit_stream};

use body::{begin, read_whole};

struct Service;

wasip3::http::service::export!(Service);

impl wasip3::exports::http::handler::Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let name = path.rsplit('/').next().unwrap_or_default();
        Ok(match name {
            "hello" => answer("hello from 0.3\n"),
            "echo" => echo(request).await,
            "pass" => body::pass(request),
            "upper" => body::upper(request),
            "stream" => body::slow_pieces(),
            "trailers" => body::with_trailers(),
            "empty" => body::empty(204),
            "kv" => answer(&key_value(query)),
            "config" => answer(&format!("{:?} of {:?}", config::get(query), config::get_all())),
            "surroundings" => answer(&surroundings()),
            "log" => log().await,
            "count" => answer(&format!("{}\n", count())),
            "once" => {
                assert_eq!(count(), 1, "it answers its first request alone");
                answer("once\n")
            }
            "fetch" => answer(&fetch(query).await),
            "post" => answer(&post(query, request).await),
            _ => match misbehave::as_asked(name).await {
                Some(answer) => answer?,
                None => match together::as_asked(name, query).await {
                    Some(text) => answer(&text),
                    None => answer("hello from 0.3\n"),
                },
            },
        })
    }
}

/// How many requests this instance has counted.
fn count() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed) + 1
}

fn answer(text: &str) -> Response {
    let (response, mut to, trailers) = begin(&[("content-type", "text/plain")]);
    let bytes = text.as_bytes().to_vec();
    spawn_local(async move {
        to.write_all(bytes).await;
        drop(to);
        drop(trailers.write(Ok(None)).await);
    });
    response
}

async fn echo(request: Request) -> Response {
    let method = request.get_method();
    let method = method_name(&method);
    let target = request.get_path_with_query().unwrap_or_default();
    let authority = request.get_authority().unwrap_or_default();
    let notes = request.get_headers().get("x-note");
    let note = notes.first().map(|note| String::from_utf8_lossy(note).into_owned());
    let body = read_whole(request).await;
    let note = note.unwrap_or_default();
    answer(&format!("{method} {authority} {target} note={note} body={body}\n"))
}

fn method_name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Other(name) => name,
        _ => "another",
    }
}

/// Sets a key, reads it, counts, and asks for a bucket that was not granted.
fn key_value(key: &str) -> String {
    let said = |error: store::Error| format!("{error:?}");
    let tried = || -> Result<String, String> {
        let bucket = store::open("").map_err(said)?;
        bucket.set(key, b"written").map_err(said)?;
        let value = bucket.get(key).map_err(said)?.unwrap_or_default();
        let count = atomics::increment(&bucket, "count", 2).map_err(said)?;
        let other = store::open("other").map(drop).map_err(said);
        Ok(format!("{} {count} {other:?}", String::from_utf8_lossy(&value)))
    };
    tried().unwrap_or_else(|error| error)
}

/// What a guest can find out of the machine: nothing but the time and dice.
fn surroundings() -> String {
    let is_now = system_clock::now().seconds > 1_700_000_000;
    let dice = random::get_random_bytes(16);
    let are_random = dice.len() == 16 && dice.iter().any(|&die| die != dice[0]);
    let is_ticking = monotonic_clock::now() > 0;
    let has_socket = TcpSocket::create(IpAddressFamily::Ipv4).is_ok();
    format!(
        "environment {:?} arguments {:?} folders {} socket {has_socket} now {is_now} \
         random {are_random} ticking {is_ticking}",
        environment::get_environment(),
        environment::get_arguments(),
        preopens::get_directories().len(),
    )
}

async fn log() -> Response {
    logging::log(Level::Warn, "cart", "nearly full");
    let (mut to, from) = wit_stream::new::<u8>();
    let written = stdout::write_via_stream(from);
    to.write_all(b"a line\n".to_vec()).await;
    drop(to);
    answer(&format!("{:?}", written.await))
}

/// Asks `AUTHORITY/PATH` by plain HTTP and returns what it answers.
async fn fetch(url: &str) -> String {
    let (trailers, trailers_from) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (request, _sent) = Request::new(Fields::new(), None, trailers_from, None);
    send(url, request).await
}

/// Sends the body on, as it comes, and returns what is answered.
async fn post(url: &str, request: Request) -> String {
    let (done, result) = wit_future::new(|| Ok(()));
    drop(done);
    let (body, trailers) = Request::consume_body(request, result);
    let (request, _sent) = Request::new(Fields::new(), Some(body), trailers, None);
    request.set_method(&Method::Put).expect("a method");
    send(url, request).await
}

async fn send(url: &str, request: Request) -> String {
    let (authority, path) = url.split_once('/').unwrap_or((url, ""));
    request.set_scheme(Some(&Scheme::Http)).expect("it is known");
    request.set_authority(Some(authority)).expect("it is one");
    request.set_path_with_query(Some(&format!("/{path}"))).expect("it is one");
    match client::send(request).await {
        Ok(response) => {
            let status = response.get_status_code();
            let (done, result) = wit_future::new(|| Ok(()));
            drop(done);
            let (body, _trailers) = Response::consume_body(response, result);
            format!("{status} {}", String::from_utf8_lossy(&body.collect().await))
        }
        Err(error) => format!("{error:?}"),
    }
}

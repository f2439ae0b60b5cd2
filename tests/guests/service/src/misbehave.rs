//! What a guest may do and should not.

use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{ErrorCode, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::wit_future;

use crate::body::{begin, empty};

const A_MINUTE_NS: u64 = 60_000_000_000;

/// Misbehaves in the way of this name. `None` if it knows no such way.
pub(crate) async fn as_asked(name: &str) -> Option<Result<Response, ErrorCode>> {
    match name {
        "panic" => panic!("as the path asked"),
        "loop" => loop {
            std::hint::black_box(0);
        },
        "never" => {
            // Somebody has to be waited for: without that the executor gives up.
            let (_held, never) = wit_future::new(|| Ok(()));
            let _: Result<(), ErrorCode> = never.await;
        }
        "sleep" => monotonic_clock::wait_for(A_MINUTE_NS).await,
        "memory" => fill_memory(),
        "error" => return Some(Err(ErrorCode::DestinationUnavailable)),
        "status" => return Some(Ok(empty(199))),
        "headers" => return Some(Ok(many_headers())),
        "big" => return Some(Ok(flood())),
        "announce" => return Some(Ok(begin(&[("content-length", "999999999")]).0)),
        "halfway" | "short" | "stall" | "keep-body" | "loop-later" => {
            return Some(Ok(break_off(name.to_owned())));
        }
        _ => return None,
    }
    Some(Ok(empty(200)))
}

fn fill_memory() {
    let mut held = Vec::new();
    for _ in 0..1_000 {
        held.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&held);
    }
}

fn many_headers() -> Response {
    let fields: Vec<(String, String)> =
        (0..200).map(|number| (format!("x-{number}"), "value".to_owned())).collect();
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    begin(&fields).0
}

fn flood() -> Response {
    let (response, mut to, _end) = begin(&[]);
    spawn_local(async move { while to.write_all(vec![b'x'; 4_096]).await.is_empty() {} });
    response
}

/// Answers, writes a piece, and does not go on as it should.
fn break_off(how: String) -> Response {
    let fields: &[(&str, &str)] = if how == "short" { &[("content-length", "20")] } else { &[] };
    let (response, mut to, end) = begin(fields);
    spawn_local(async move {
        to.write_all(b"ten bytes.".to_vec()).await;
        match how.as_str() {
            "halfway" => panic!("after the first half"),
            "stall" => monotonic_clock::wait_for(A_MINUTE_NS).await,
            "loop-later" => loop {
                std::hint::black_box(0);
            },
            "keep-body" => {
                std::mem::forget((to, end));
                return;
            }
            _ => {}
        }
        drop(to);
        drop(end.write(Ok(None)).await);
    });
    response
}

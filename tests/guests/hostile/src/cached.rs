//! Answers that a cache may keep as the query says, each with how often it was asked for.

use std::hint::black_box;

use atoll_guest::{Request, Response, clock, kv};

/// `control`, `keys`, `tag`, `vary` become fields; `spin` is a time in ms; `status` is the status,
/// and `trap` a panic, from the second request on.
pub(crate) fn answer(request: &Request) -> Response {
    let key = format!("asked:{}", request.query("id").unwrap_or_default());
    let count = kv::open("default").and_then(|bucket| bucket.increment(&key, 1));
    let Ok(count) = count else { return Response::text("no count").status(500) };
    if let Some(ms) = request.query("spin").and_then(|ms| ms.parse::<u64>().ok()) {
        let until = clock::now_ms() + ms;
        while clock::now_ms() < until {
            black_box(until);
        }
    }
    if count > 1 && request.query("trap").is_some() {
        panic!("as the query asked");
    }
    let status = request.query("status").and_then(|status| status.parse().ok());
    let status = status.filter(|_| count > 1).unwrap_or(200);
    let mut response = Response::text(count.to_string()).status(status);
    let fields = [
        ("control", "cache-control"),
        ("keys", "atoll-keys"),
        ("tag", "cache-tag"),
        ("vary", "vary"),
    ];
    for (parameter, name) in fields {
        if let Some(value) = request.query(parameter) {
            response = response.header(name, value);
        }
    }
    response
}

//! A rate limit that holds on all nodes together: so many requests a minute for each client.
//!
//! A window is one counter, the key `limit:CLIENT:MINUTE` of the bucket `default`. Increments made on
//! several nodes at once all count, a moment later on each: a client that spreads its requests over
//! the nodes gains at most what it can send in that moment. The counters end by themselves.
//! `--config per_minute=100` sets the limit, 60 without it.

use std::time::Duration;

use atoll_guest::{Request, Response, clock, config, handler, kv};

const WINDOW_MS: u64 = 60_000;
const PER_MINUTE: i64 = 60;

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    let client = request.client_address().unwrap_or("unknown");
    let limit = config::get("per_minute").and_then(|text| text.parse().ok()).unwrap_or(PER_MINUTE);
    let now_ms = clock::now_ms();
    let key = format!("limit:{client}:{}", now_ms / WINDOW_MS);
    // Twice the window: another node's clock may be a little behind.
    let lifetime = Duration::from_millis(2 * WINDOW_MS);
    let used = kv::open("default")?.increment_within(&key, 1, lifetime)?;
    let reset_s = (WINDOW_MS - now_ms % WINDOW_MS).div_ceil(1_000);
    let response = if used > limit {
        Response::text("too many requests\n").status(429).header("retry-after", reset_s.to_string())
    } else {
        Response::text("come in\n")
    };
    Ok(response
        .header("ratelimit-limit", limit.to_string())
        .header("ratelimit-remaining", (limit - used).max(0).to_string())
        .header("ratelimit-reset", reset_s.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;

    fn ask(node: &Node, client: &str) -> u16 {
        node.run(handle, Request::new("GET", "/").with_client_address(client)).status_code()
    }

    #[test]
    fn a_client_has_its_requests_and_a_new_minute_brings_new_ones() {
        let node = Node::start().with_config("per_minute", "3");
        assert_eq!([0; 5].map(|_| ask(&node, "192.0.2.1")), [200, 200, 200, 429, 429]);
        assert_eq!(ask(&node, "192.0.2.2"), 200, "another client has its own");
        node.advance(Duration::from_millis(WINDOW_MS));
        assert_eq!(ask(&node, "192.0.2.1"), 200);
    }

    #[test]
    fn what_other_nodes_have_counted_counts() {
        let node = Node::start().with_config("per_minute", "3");
        let key = format!("limit:192.0.2.1:{}", node.now_ms() / WINDOW_MS);
        node.bucket("default").increment(&key, 3).expect("as if replicated");
        assert_eq!(ask(&node, "192.0.2.1"), 429);
    }

    #[test]
    fn the_client_is_told_when_to_come_back() {
        let node = Node::start().with_config("per_minute", "0");
        node.advance(Duration::from_millis(WINDOW_MS - 1_500));
        let response = node.run(handle, Request::new("GET", "/"));
        assert_eq!(response.header_value("retry-after"), Some(&b"2"[..]));
        assert_eq!(response.header_value("ratelimit-remaining"), Some(&b"0"[..]));
    }
}

//! Writes of keys that were answered: on their node, no page that was made from them is fresh any more.

use super::origin::{Act, Message, Origin, ask, node_before, response};
use crate::node::{TestNode, wait_until};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

fn hit(node: &TestNode) -> Message {
    wait_until("a hit", || {
        let answer = ask(node, "GET", "/page", &[]);
        answer.field("cache-status").contains("; hit").then_some(answer)
    })
}

#[test]
fn no_page_is_served_behind_an_answered_write_of_its_key_nor_made_fresh_by_a_bare_head() {
    let origin = Origin::start(|request, count| {
        let fields = [FRESH, ("Atoll-Keys", "default/news")];
        let fields = if request.start.starts_with("HEAD") { &fields[..1] } else { &fields };
        Act::Send(response(200, fields, &count.to_string()))
    });
    let node = node_before(&origin, "");
    let mut redis = node.resp_client();
    for round in 0..60 {
        let before = hit(&node);
        match round % 3 {
            0 => drop(node.http("PUT", node.api, "/v1/kv/default/news", b"x")),
            1 => drop(redis.command(&["SET", "news", &round.to_string()])),
            _ => drop(node.http("DELETE", node.api, "/v1/kv/default/news", b"")),
        }
        if round % 2 == 1 {
            assert_eq!(ask(&node, "HEAD", "/page", &[]).status(), 200);
        }
        let after = ask(&node, "GET", "/page", &[]);
        assert_ne!(after.text(), before.text(), "round {round}: {after:?}");
    }
}

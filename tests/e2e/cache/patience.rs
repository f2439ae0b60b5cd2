//! How long an upstream may take for what.

use super::origin::{Act, Origin, ask, node_before, response};
use std::time::{Duration, Instant};

#[test]
fn the_wait_for_a_response_does_not_count_that_for_a_connection() {
    let origin = Origin::start(|_, _| {
        Act::Slowly(vec![Vec::new(), response(200, &[], "late")], Duration::from_secs(100))
    });
    let node = node_before(&origin, "connect_ms = 600000\nfirst_byte_ms = 300");
    let began = Instant::now();
    for method in ["GET", "POST"] {
        let answer = ask(&node, method, "/a", &[]);
        assert_eq!(answer.status(), 504, "{answer:?}");
        assert!(answer.text().contains("upstream-timeout"), "{answer:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
}

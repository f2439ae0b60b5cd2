//! The node in memory does what a real one does: the claims that the handler `hostile` checks on a
//! node, checked off Wasm.

#[path = "../../tests/guests/hostile/src/store.rs"]
mod store;

use atoll_guest::Request;
use atoll_guest::testing::Node;

#[test]
fn every_claim_about_the_store_holds_in_memory_too() {
    let answer = Node::start().run(|_| store::try_everything(), Request::new("GET", "/store"));
    assert_eq!((answer.status_code(), answer.body_text()), (200, "ok\n"));
}

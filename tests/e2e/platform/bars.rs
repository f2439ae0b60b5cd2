//! What must hold while a handler is deployed over and over.

use super::{component, get, ok};
use crate::node::{Ends, TestNode};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Deployments one after the other.
const DEPLOYMENTS: usize = 200;
/// Every so many bring a component that the node has never seen, and must compile.
const NEW_EVERY: usize = 10;

#[test]
fn two_hundred_deployments_under_load_fail_not_one_request() {
    let node = TestNode::start();
    let [hello, standard] =
        ["hello", "standard"].map(|name| std::fs::read(component(name)).expect("it was built"));
    let deploy = |number: usize| {
        let kind = if number.is_multiple_of(2) { &hello } else { &standard };
        let component = match number.is_multiple_of(NEW_EVERY) {
            true => atoll_guests::with_note(kind, &number.to_string()),
            false => kind.clone(),
        };
        let mut path =
            "/v1/handlers/page?route=/page/*&grant=kv:default=rw&config=number=".to_owned();
        write!(path, "{number}").expect("text can be written");
        let answer = node.http("PUT", node.api, &path, &component);
        assert!(answer.status < 300, "{}", answer.text());
        assert_eq!(answer.json()["version"], number + 1);
    };
    deploy(0);
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let answer = get(&node, "/page/x");
                    let is_one = ["Hello, world!\n", "hello from the standard\n"];
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert!(is_one.contains(&answer.text()), "{}", answer.text());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also where a deployment fails: the others would wait for ever.
        let _ends = Ends(&done);
        (1..DEPLOYMENTS).for_each(deploy);
    });
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > DEPLOYMENTS, "{asked} requests came meanwhile");
    assert!(ok(&node, &["handlers"]).contains(&DEPLOYMENTS.to_string()));
}

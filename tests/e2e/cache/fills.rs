//! Many long bodies at once: what they take of memory together.

use super::origin::{Act, Origin, ask, response};
use crate::node::{Ends, TestNode, wait_until};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const BYTES: usize = 6 << 20;
const COUNT: usize = 12;

fn figure(node: &TestNode, name: &str) -> u64 {
    node.figure(name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn bodies_that_come_at_once_share_a_budget_and_each_is_answered_whole() {
    let origin = Origin::start(|_, _| {
        let whole = response(200, &[("Cache-Control", "max-age=3600")], &"x".repeat(BYTES));
        let pieces = whole.chunks(whole.len() / 12 + 1).map(<[u8]>::to_vec).collect();
        Act::Slowly(pieces, Duration::from_millis(60))
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "cache_memory = \"512MiB\"\ncache_fill_memory = \"8MiB\"\n[[route]]\npath = \"/*\"\n\
         upstream = \"http://{}\"\ncache = true\n",
        origin.address
    );
    std::fs::write(file.path(), text).expect("the file is written");
    let node = TestNode::start_with(&["--config", file.path().to_str().expect("a path")]);
    let (highest, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                highest.fetch_max(figure(&node, "atoll_cache_fill_bytes"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let (node, _ends) = (&node, Ends(&is_over));
        let asked: Vec<_> = (0..COUNT)
            .map(|number| scope.spawn(move || ask(node, "GET", &format!("/{number}"), &[])))
            .collect();
        for answer in asked {
            let answer = answer.join().expect("no panic");
            assert!(answer.is_whole && answer.body.len() == BYTES, "{}", answer.start);
        }
    });
    let highest = highest.into_inner();
    // What comes with one read of each connection goes on top of the budget and the windows.
    assert!((1 << 20..16 << 20).contains(&highest), "{highest} bytes at most");
    assert!(figure(&node, "atoll_cache_fills_given_up_total") > 0);
    wait_until("everything is given back", || {
        (figure(&node, "atoll_cache_fill_bytes") == 0).then_some(())
    });
    assert_eq!(ask(&node, "GET", "/alone", &[]).body.len(), BYTES);
    wait_until("there is room for one", || {
        let again = ask(&node, "GET", "/alone", &[]);
        again.field("cache-status").starts_with("Atoll; hit").then_some(())
    });
    assert_eq!(origin.seen("/alone").len(), 1);
}

#[test]
fn a_body_for_which_there_is_no_room_is_not_said_to_be_stored() {
    let origin = Origin::start(|request, _| {
        let bytes = if request.path() == "/long" { BYTES } else { BYTES / 12 };
        Act::Send(response(200, &[("Cache-Control", "max-age=3600")], &"x".repeat(bytes)))
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "cache_memory = \"4MiB\"\n[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\n\
         cache = true\n",
        origin.address
    );
    std::fs::write(file.path(), text).expect("the file is written");
    let node = TestNode::start_with(&["--config", file.path().to_str().expect("a path")]);
    for _ in 0..2 {
        let answer = ask(&node, "GET", "/long", &[]);
        assert_eq!((answer.status(), answer.body.len()), (200, BYTES));
        let status = answer.field("cache-status");
        assert!(!status.contains("stored"), "{status}");
    }
    assert_eq!(origin.seen("/long").len(), 2);
    assert!(ask(&node, "GET", "/short", &[]).field("cache-status").contains("stored"));
    assert!(ask(&node, "GET", "/short", &[]).field("cache-status").contains("; hit"));
}

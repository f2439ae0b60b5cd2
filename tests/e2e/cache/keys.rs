//! Pages that name the keys they were made from, and what writes of those keys do to them.

use super::origin::{Act, Message, Origin, ask, node_before, response};
use crate::api::atoll;
use crate::node::{ATOLL, TestNode, wait_until};
use crate::tools::run;
use std::time::{Duration, Instant};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
const KEYS: (&str, &str) = ("Atoll-Keys", "default/news:1, \"2/a%20b\"");

/// Answers with how often it was asked.
fn counting(fields: &'static [(&str, &str)]) -> Origin {
    Origin::start(move |_, count| Act::Send(response(200, fields, &count.to_string())))
}

fn is_hit(answer: &Message) -> bool {
    answer.field("cache-status").contains("; hit")
}

/// Asks until the answer is a hit: the first response that names keys makes the node listen.
fn settle(node: &TestNode, path: &str) -> String {
    wait_until("a hit", || {
        let answer = ask(node, "GET", path, &[]);
        assert_eq!((answer.status(), answer.field("atoll-keys")), (200, String::new()));
        is_hit(&answer).then(|| answer.text())
    })
}

#[test]
fn a_write_of_a_key_through_any_door_makes_its_pages_stale_and_no_others() {
    let origin = counting(&[FRESH, KEYS]);
    let node = node_before(&origin, "");
    let write = |what: &str| {
        let mut redis = node.resp_client();
        match what {
            "PUT" => drop(node.http("PUT", node.api, "/v1/kv/default/news:1", b"x")),
            "DELETE" => drop(node.http("DELETE", node.api, "/v1/kv/default/news:1", b"")),
            "flush" => drop(redis.command(&["FLUSHDB"])),
            "other database" => {
                redis.command(&["SELECT", "2"]);
                redis.command(&["SET", "a b", "1"]);
            }
            redis_command => {
                let words: Vec<&str> = redis_command.split(' ').collect();
                redis.command(&words);
            }
        }
    };
    let mut before = settle(&node, "/a");
    let writes = [
        "PUT",
        "DELETE",
        "SET news:1 1",
        "INCR news:1",
        "EXPIRE news:1 100",
        "flush",
        "other database",
    ];
    for what in writes {
        for other in ["SET news:2 x", "SET news:1:a x"] {
            write(other);
        }
        write(what);
        let after = wait_until("it is stale", || {
            let answer = ask(&node, "GET", "/a", &[]);
            (answer.text() != before).then_some(answer)
        });
        assert!(after.field("cache-status").contains("fwd=stale"), "{what}: {after:?}");
        before = settle(&node, "/a");
        assert_eq!(before, after.text(), "{what}: one fetch, and the new one is fresh");
    }
    write("SET news:2 x");
    // The write behind it shows that the first was looked at.
    write("SET news:1 x");
    wait_until("it is stale", || (!is_hit(&ask(&node, "GET", "/a", &[]))).then_some(()));
    let api = node.api.to_string();
    let told = run(ATOLL, &["cache", "--api", &api, "inspect", "http://example.com/a"]);
    assert!(told.ends_with("  made from default/news:1, 2/a b\n"), "{told}");
}

#[test]
fn what_was_being_fetched_when_its_key_was_written_is_stale_when_it_comes() {
    let origin = Origin::start(|request, count| {
        let answer = response(200, &[FRESH, KEYS], &count.to_string());
        let is_slow = request.path() == "/slow" && count == 0;
        Act::Slowly(vec![answer], Duration::from_millis(if is_slow { 500 } else { 0 }))
    });
    let node = node_before(&origin, "");
    let warm = settle(&node, "/warm");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(&node, "GET", "/slow", &[]).text());
        wait_until("the first request", || (origin.seen("/slow").len() == 1).then_some(()));
        node.http("PUT", node.api, "/v1/kv/default/news:1", b"x");
        // The cache learns of it a moment later.
        wait_until("it is known", || {
            (ask(&node, "GET", "/warm", &[]).text() != warm).then_some(())
        });
        let joined = ask(&node, "GET", "/slow", &[]).text();
        assert_eq!(joined, "1", "it asked after the write");
        assert_eq!(first.join().expect("no panic"), "0", "it asked before");
    });
    assert_eq!(settle(&node, "/slow"), "1");
    assert_eq!(origin.seen("/slow").len(), 2);
}

#[test]
fn a_page_is_no_fresher_than_the_deadline_of_its_keys() {
    let origin = counting(&[FRESH, KEYS]);
    let node = node_before(&origin, "");
    settle(&node, "/a");
    let before = wait_until("one with the deadline", || {
        node.resp_client().command(&["SET", "news:1", "x", "PX", "2500"]);
        // On a busy machine it may have passed before a page has it: then it is written again.
        let written = Instant::now();
        while written.elapsed() < Duration::from_millis(2_500) {
            let answer = ask(&node, "GET", "/a", &[]);
            let status = answer.field("cache-status");
            let ttl = status.split("ttl=").nth(1).and_then(|rest| rest.split(';').next());
            let ttl_s = ttl.and_then(|ttl| ttl.parse::<i64>().ok());
            if is_hit(&answer) && ttl_s.is_some_and(|ttl_s| ttl_s <= 2) {
                return Some(answer.text());
            }
        }
        None
    });
    wait_until("the deadline", || (ask(&node, "GET", "/a", &[]).text() != before).then_some(()));
    assert_ne!(settle(&node, "/a"), before, "without a deadline it is fresh for long again");
}

#[test]
fn a_page_that_does_not_say_what_it_is_made_of_is_not_stored() {
    let many = vec!["a/b"; 65].join(", ");
    let origin = Origin::start(move |request, count| {
        let keys = match request.path() {
            "/many" => many.as_str(),
            "/bad" => "default",
            _ => "(a/b)",
        };
        let fields = [FRESH, ("Atoll-Keys", keys)];
        Act::Send(response(200, &fields, &count.to_string()))
    });
    let node = node_before(&origin, "");
    for path in ["/many", "/bad", "/list"] {
        for count in 0..3 {
            let answer = ask(&node, "GET", path, &[]);
            assert_eq!(answer.text(), count.to_string(), "{path}");
            assert_eq!(answer.field("atoll-keys"), "");
            assert!(answer.field("cache-status").contains("bad-atoll-keys"), "{answer:?}");
        }
    }
}

#[test]
fn a_write_on_another_node_makes_pages_stale_here_even_where_it_comes_by_a_sync() {
    let origin = counting(&[FRESH, KEYS]);
    let (file, other) = (tempfile::NamedTempFile::new().expect("a file"), TestNode::start());
    let text = format!(
        "[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\ncache = true\n",
        origin.address
    );
    std::fs::write(file.path(), text).expect("it is written");
    let peer = other.peers().to_string();
    let config = file.path().to_str().expect("a path");
    let flags = ["--config", config, "--peer", &peer, "--name", "here"];
    let node = TestNode::start_with(&flags);
    wait_until("they are linked", || {
        other.http("PUT", other.api, "/v1/kv/default/probe", b"x");
        (node.http("GET", node.api, "/v1/kv/default/probe", b"").status == 200).then_some(())
    });
    for number in 0..10 {
        let before = settle(&node, "/a");
        other.http("PUT", other.api, "/v1/kv/default/news:1", number.to_string().as_bytes());
        wait_until("it is stale", || (ask(&node, "GET", "/a", &[]).text() != before).then_some(()));
    }
    // A third node, which was alone, comes with a write that nobody is sent as an op.
    let third = TestNode::start_with(&["--name", "third"]);
    third.http("PUT", third.api, "/v1/kv/default/news:1", b"third");
    let before = settle(&node, "/a");
    let body = format!(r#"{{"add": "{}"}}"#, third.peers());
    let added = node.http("POST", node.api, "/v1/cluster/peers", body.as_bytes());
    assert!(added.status < 300, "{added:?}");
    wait_until("it is stale", || (ask(&node, "GET", "/a", &[]).text() != before).then_some(()));
    assert_eq!(node.http("GET", node.api, "/v1/kv/default/news:1", b"").text(), "third");
    drop(settle(&node, "/a"));
}

#[test]
fn a_backup_that_is_restored_into_a_running_node_makes_pages_stale() {
    let other = TestNode::start();
    other.http("PUT", other.api, "/v1/kv/default/news:1", b"saved");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("atoll.bak").display().to_string();
    let (success, _, stderr) = atoll(&other, &["backup", &file]);
    assert!(success, "{stderr}");
    let origin = counting(&[FRESH, KEYS]);
    let node = node_before(&origin, "");
    let before = settle(&node, "/a");
    let (success, _, stderr) = atoll(&node, &["restore", &file]);
    assert!(success, "{stderr}");
    wait_until("it is stale", || (ask(&node, "GET", "/a", &[]).text() != before).then_some(()));
    drop(settle(&node, "/a"));
}

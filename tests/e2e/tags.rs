//! Keys with tags: they end where one of their tags is purged, on every node, and nothing else does.

use crate::api::atoll;
use crate::cluster::{Cluster, Shape};
use crate::node::{TestNode, wait_until};
use std::time::Duration;

/// Longer than it takes a node to look whether tags were purged elsewhere.
const A_LOOK: Duration = Duration::from_millis(3_500);

fn put(node: &TestNode, key: &str, tags: &str) {
    let url = format!("http://{}/v1/kv/default/{key}", node.api);
    let answer = ureq::put(url).header("cache-tag", tags).send("x").expect("it is written");
    assert!(answer.status().is_success(), "{answer:?}");
}

fn holds(node: &TestNode, key: &str) -> bool {
    node.http("GET", node.api, &format!("/v1/kv/default/{key}"), b"").status == 200
}

fn purge(node: &TestNode, order: &str) {
    let answer = node.http("POST", node.api, "/v1/purge", order.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[track_caller]
fn wait_gone(node: &TestNode, key: &str) {
    wait_until("the key is gone", || (!holds(node, key)).then_some(()));
}

#[test]
fn a_purge_of_a_tag_ends_the_keys_that_have_it_on_every_node() {
    let cluster = Cluster::start(Shape::Line(2));
    let (here, there) = (cluster.node(0), cluster.node(1));
    put(here, "both", "a, b");
    put(here, "one", "b");
    put(here, "other", "c");
    here.http("PUT", here.api, "/v1/kv/default/plain", b"x");
    cluster.wait_for(1, &["EXISTS", "both", "one", "other", "plain"], ":4");
    purge(there, r#"{"tags": ["b"], "soft": true}"#);
    purge(there, r#"{"urls": ["/b"], "tags": ["B", "x"]}"#);
    assert_eq!(cluster.command(1, &["EXISTS", "both", "one", "other", "plain"]), ":4");
    purge(there, r#"{"tags": ["b"]}"#);
    let exists = ["EXISTS", "both", "one"];
    assert_eq!(cluster.command(1, &exists), ":0", "at once where it was purged");
    cluster.wait_for(0, &exists, ":0");
    assert!(!holds(here, "both") && holds(here, "other") && holds(here, "plain"));
    // What is written afterwards stays, with the same tag and on any node.
    put(here, "one", "b");
    put(there, "two", "b");
    std::thread::sleep(A_LOOK);
    for index in [0, 1] {
        cluster.wait_for(index, &["EXISTS", "one", "two", "other", "plain"], ":4");
    }
    assert_eq!(cluster.converge().len(), 4);
}

#[test]
fn a_handler_ends_the_keys_of_a_tag_that_it_may_purge() {
    let cluster = Cluster::start(Shape::Line(2));
    let (here, there) = (cluster.node(0), cluster.node(1));
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let path = guests.path("newsroom").display().to_string();
    let deploy = ["deploy", &path, "--route", "/news/*", "--grant", "purge:tag=c"];
    let (success, _, stderr) = atoll(here, &[&deploy[..], &["--grant", "kv:default=rw"]].concat());
    assert!(success, "{stderr}");
    // More than one look takes.
    let items: Vec<String> = (0..3_000)
        .map(|number| format!(r#"{{"op":"put","key":"k{number}","value":"x","tags":["c"]}}"#))
        .collect();
    for items in items.chunks(500) {
        let batch = items.join("\n");
        let done = here.http("POST", here.api, "/v1/kv/default:batch", batch.as_bytes());
        assert_eq!(done.status, 200, "{}", done.text());
    }
    put(here, "kept", "d");
    cluster.wait_for(1, &["DBSIZE"], ":3001");
    let answer = here.http("POST", here.gateway, "/news/purge", b"tag c");
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert!(!holds(here, "k0") && !holds(here, "k2999"), "before the handler has answered");
    wait_until("they are gone on the other node", || {
        (there.resp_client().list(&["KEYS", "*"]) == ["$kept"]).then_some(())
    });
    assert_eq!(cluster.converge().len(), 1);
}

#[test]
fn a_key_that_was_written_on_the_other_side_of_a_cut_ends_when_it_heals() {
    let mut cluster = Cluster::start(Shape::Pair);
    cluster.cut(0, 1);
    cluster.wait_unlinked(0, 1);
    put(cluster.node(1), "before", "a");
    purge(cluster.node(0), r#"{"tags": ["a"]}"#);
    put(cluster.node(1), "after", "a");
    assert!(holds(cluster.node(1), "before"), "it has not heard of the purge");
    cluster.heal();
    for index in [0, 1] {
        let node = cluster.node(index);
        wait_until("it has come", || holds(node, "after").then_some(()));
        wait_gone(node, "before");
    }
    std::thread::sleep(A_LOOK);
    let content = cluster.converge();
    assert_eq!(content.keys().collect::<Vec<_>>(), ["after"]);
    // A purge outlives the node that knew of it first.
    cluster.cut(0, 1);
    cluster.wait_unlinked(0, 1);
    purge(cluster.node(0), r#"{"tags": ["late"]}"#);
    cluster.heal();
    cluster.wait_linked();
    cluster.kill(0);
    put(cluster.node(1), "now", "late");
    std::thread::sleep(A_LOOK);
    assert!(holds(cluster.node(1), "now"), "it was written after the purge");
}

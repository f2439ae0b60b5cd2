//! Handlers that take back what caches hold: on every node, as far as granted, so often.

use crate::api::atoll;
use crate::cluster::{Cluster, Shape};
use crate::node::{Answer, TestNode, wait_until};

const ARTICLES: [&str; 2] = ["kv:default/article:=rw", "purge:tag=article-*"];

/// Deploys the example of a newsroom; returns what is printed.
fn deploy(node: &TestNode, grants: &[&str]) -> Result<String, String> {
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let path = guests.path("newsroom").display().to_string();
    let mut typed = vec!["deploy", &path, "--route", "/news/*", "--cache", "--wait", "all"];
    typed.extend(grants.iter().flat_map(|grant| ["--grant", grant]));
    let (success, stdout, stderr) = atoll(node, &typed);
    if success { Ok(stdout) } else { Err(stderr) }
}

fn get(node: &TestNode, path: &str) -> Answer {
    node.http("GET", node.gateway, path, b"")
}

fn purge(node: &TestNode, query: &str, lines: &str) -> (u16, String) {
    let path = format!("/news/purge{query}");
    let answer = node.http("POST", node.gateway, &path, lines.as_bytes());
    (answer.status, answer.text().to_owned())
}

/// Asks until the answer comes from the cache.
#[track_caller]
fn wait_for_hit(node: &TestNode, path: &str) {
    wait_until("a hit", || get(node, path).header("cache-status").contains("; hit").then_some(()));
}

#[test]
fn what_a_handler_publishes_is_read_on_every_node_and_not_what_was_kept() {
    let cluster = Cluster::start(Shape::Line(2));
    let (here, there) = (cluster.node(0), cluster.node(1));
    let told = deploy(here, &ARTICLES).expect("it is deployed");
    assert!(told.contains("purge:tag=article-*"), "{told}");
    for node in [here, there] {
        assert_eq!(get(node, "/news/today").status, 404);
        wait_for_hit(node, "/news/today");
    }
    for text in ["it rains", "the sun shines", "it rains again"] {
        assert_eq!(here.http("PUT", here.gateway, "/news/today", text.as_bytes()).status, 204);
        assert_eq!(get(here, "/news/today").text(), text, "at once where it was published");
        wait_until("it is there as well", || {
            (get(there, "/news/today").text() == text).then_some(())
        });
        for node in [here, there] {
            wait_for_hit(node, "/news/today");
            assert_eq!(get(node, "/news/today").text(), text);
        }
    }
    here.wait_for_log("purged");
}

#[test]
fn a_purge_is_granted_in_part_or_denied_by_name_and_bounded() {
    let node = TestNode::start();
    let refused = deploy(&node, &["kv:default/article:=rw"]).expect_err("nothing may be purged");
    assert!(refused.contains("no purge is granted; deploy it with --grant purge"), "{refused}");
    let refused = deploy(&node, &["purge:host=a/b"]).expect_err("that is no grant");
    assert!(refused.contains("purge:prefix=HOST/PATH or purge:tag=TAG"), "{refused}");
    deploy(&node, &ARTICLES).expect("it is deployed");
    let denied = |grant: &str| {
        let told = format!(
            "purge: denied: {grant} is not granted; deploy the handler with --grant {grant}\n"
        );
        (403, told)
    };
    assert_eq!(purge(&node, "", "tag article-1\nall"), denied("purge"));
    assert_eq!(purge(&node, "", "url HTTP://A.example/b?c"), denied("purge:prefix=a.example/b?c"));
    assert_eq!(purge(&node, "", "host a.example"), denied("purge:host=a.example"));
    let unknown = purge(&node, "", "url a b");
    assert!(unknown.1.contains("\"a b\" is no URL: write http://HOST/PATH"), "{unknown:?}");
    let lines = |count: usize| vec!["tag article-1"; count].join("\n");
    assert_eq!(purge(&node, "", &lines(64)).0, 204);
    let told = "purge: too many: one call may purge 64 names, not more\n";
    assert_eq!(purge(&node, "", &lines(65)), (503, told.to_owned()));

    deploy(&node, &["kv:default=rw", "purge"]).expect("it is deployed");
    let kinds = [
        "all".to_owned(),
        "url /news/1".to_owned(),
        format!("prefix http://{}/news/", node.gateway),
        format!("host {}", node.gateway),
        "tag article-1".to_owned(),
    ];
    for kind in &kinds {
        wait_for_hit(&node, "/news/1");
        assert_eq!(purge(&node, "", kind).0, 204, "{kind}");
        let status = get(&node, "/news/1").header("cache-status").to_owned();
        assert!(status.contains("fwd=uri-miss"), "{kind}: {status}");
    }
    wait_for_hit(&node, "/news/1");
    node.http("PUT", node.api, "/v1/kv/default/article:1", b"new");
    assert_eq!(purge(&node, "?soft", "all").0, 204);
    assert_eq!(get(&node, "/news/1").status, 404, "it is used while it is validated");
    wait_until("the new one", || (get(&node, "/news/1").text() == "new").then_some(()));
}

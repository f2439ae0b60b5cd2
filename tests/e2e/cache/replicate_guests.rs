//! What nodes share of routes with a filter, and of what handlers answer: which version has made it.

use super::filters::{around_edge, deployed};
use super::origin::{Act, Message, Origin, ask, response};
use super::replicate::{check_shared, count, own_status, purge, settle, trio_with};
use crate::api::atoll;
use crate::node::{TestNode, wait_until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
const MOBILE: (&str, &str) = ("User-Agent", "Mobile 1");
const BETA: (&str, &str) = ("Cookie", "beta=1");

/// Deploys through a node, and waits until each runs it.
#[track_caller]
fn deploy(node: &TestNode, guest: &str, arguments: &[&str]) {
    let (success, said) = deployed(node, guest, &[arguments, &["--wait", "all"]].concat());
    assert!(success, "{said}");
}

#[track_caller]
fn check_own(answer: &Message, want: &str) {
    let status = own_status(answer);
    assert!(status.contains("fwd=") && !status.contains("detail=replicated"), "{status}");
    assert_eq!(answer.text(), want);
}

#[test]
fn a_filter_says_what_nodes_share_and_under_which_keys_and_tags() {
    let (plain, beta, more) = around_edge();
    let nodes = trio_with(&plain, &more, &[]);
    let [one, two, three] = &nodes;
    deploy(one, "edge", &[]);
    let kinds: [&[(&str, &str)]; 4] = [&[], &[MOBILE], &[BETA], &[MOBILE, BETA]];
    for path in ["/shop/a", "/b", "/gone"] {
        let fetched = kinds.map(|fields| ask(one, "GET", path, fields));
        settle(one, 2);
        for node in [two, three] {
            for (fields, fetched) in kinds.iter().zip(&fetched) {
                check_shared(node, path, fields, fetched);
                assert_eq!(ask(node, "GET", path, fields).field("server"), "", "as it was changed");
            }
        }
        assert_eq!((plain.seen(path).len(), beta.seen(path).len()), (2, 2), "{path}");
    }
    // It says how long: no node keeps longer what it had from another.
    let status = own_status(&ask(two, "GET", "/gone", &[]));
    let ttl_s: u64 = status.split("ttl=").nth(1).and_then(|ttl| ttl.parse().ok()).expect(&status);
    assert!(ttl_s < 60, "{status}");
    // What it keeps out of the cache is nobody else's.
    for (number, node) in nodes.iter().enumerate() {
        check_own(&ask(node, "GET", "/cookie", &[]), &format!("plain {number}"));
    }
    assert_eq!(purge(three, r#"{"tags": ["shop"]}"#), Some(2));
    let asked = || plain.seen("/shop/a").len() + beta.seen("/shop/a").len();
    for node in &nodes {
        wait_until("what the filter has tagged is gone", || {
            let texts = kinds.map(|fields| ask(node, "GET", "/shop/a", fields).text());
            texts.iter().all(|text| !text.ends_with('0')).then_some(())
        });
    }
    assert!(asked() > 4);
    // A write through one node takes every part of the URL on all.
    assert_eq!(ask(two, "POST", "/b", &[]).status(), 200);
    for node in &nodes {
        wait_until("every part is gone", || {
            let texts = kinds.map(|fields| ask(node, "GET", "/b", fields).text());
            let is_old = |text: &String| text == "plain 0" || text == "beta 0";
            (!texts.iter().any(is_old)).then_some(())
        });
    }
    assert_eq!((count(two, "unlike"), count(three, "unlike")), (0, 0));
}

/// Asks each node again and again until `ends`. Once it has answered with a version, it answers with no
/// earlier one. Returns how many answers there were.
fn follow(
    nodes: &[TestNode; 3],
    ends: &AtomicBool,
    version: impl Fn(&TestNode) -> u64 + Sync,
) -> u64 {
    std::thread::scope(|scope| {
        let follow = |node| {
            let (mut latest, mut answers) = (0, 0);
            while !ends.load(Ordering::SeqCst) {
                let found = version(node);
                assert!(found >= latest, "{found} after {latest}");
                (latest, answers) = (found, answers + 1);
            }
            answers
        };
        let readers = nodes.each_ref().map(|node| scope.spawn(move || follow(node)));
        readers.into_iter().map(|reader| reader.join().expect("no panic")).sum()
    })
}

#[test]
fn a_new_version_of_a_filter_takes_back_what_the_old_one_has_changed_on_every_node() {
    let origin = Origin::start(|_, _| {
        Act::Slowly(vec![response(200, &[FRESH], "x")], Duration::from_millis(5))
    });
    let nodes = trio_with(&origin, "filter = \"hostile\"", &[]);
    let deploy = |node: &TestNode, version: u64| {
        let config = format!("version={version}");
        deploy(node, "hostile-filter", &["--name", "hostile", "--config", &config]);
    };
    deploy(&nodes[0], 1);
    let version = |node: &TestNode| -> u64 {
        wait_until("an answer", || {
            let answer = ask(node, "GET", "/a", &[]);
            // On a busy machine a filter may take longer than it may.
            let is_late = [503, 504].contains(&answer.status());
            let version = answer.field("x-version").parse();
            assert!(is_late || version.is_ok(), "{answer:?}");
            version.ok()
        })
    };
    let ends = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        let readers = scope.spawn(|| follow(&nodes, &ends, version));
        for number in 2..=6 {
            deploy(&nodes[number as usize % 3], number);
            for node in &nodes {
                assert_eq!(version(node), number, "no old answer behind a deployment");
            }
        }
        ends.store(true, Ordering::SeqCst);
        readers.join().expect("no panic")
    });
    let (asked, taken): (usize, u64) =
        (origin.seen("/a").len(), nodes.iter().map(|node| count(node, "taken")).sum());
    println!("{answers} answers of 6 versions, {asked} requests, {taken} taken");
    assert!(asked as u64 * 2 < answers, "{asked} requests for {answers} answers");
    // And what the last one has made is shared like any other.
    let fetched = ask(&nodes[0], "GET", "/b", &[]);
    settle(&nodes[0], 2);
    check_shared(&nodes[1], "/b", &[], &fetched);
    check_shared(&nodes[2], "/b", &[], &fetched);
    assert_eq!(fetched.field("x-version"), "6");
}

#[test]
fn what_a_handler_has_answered_on_one_node_the_others_use_until_a_key_or_the_handler_changes() {
    // No route of theirs shares: the handler's record alone says so.
    let one = TestNode::start_with(&["--name", "one"]);
    let peers = [&one].map(|node| node.peers().to_string());
    let two = TestNode::start_with(&["--name", "two", "--peer", &peers[0]]);
    let peers = [&one, &two].map(|node| node.peers().to_string());
    let flags = ["--name", "three", "--peer", &peers[0], "--peer", &peers[1]];
    let nodes = [one, two, TestNode::start_with(&flags)];
    nodes.iter().for_each(|node| settle(node, 2));
    let [one, two, three] = &nodes;
    let deploy = |node: &TestNode, guest: &str| {
        let sharing = ["--name", "page", "--route", "/cached", "--cache", "--replicate"];
        deploy(node, guest, &sharing);
    };
    deploy(one, "hostile");
    let path =
        |id: u64| format!("/cached?id={id}&control=max-age%3D60&keys=default/news:1&tag=page");
    // The first page that names a key makes a node listen.
    nodes.iter().for_each(|node| drop(ask(node, "GET", &path(0), &[])));
    let fetched = ask(one, "GET", &path(1), &[]);
    assert_eq!(fetched.text(), "1");
    settle(one, 2);
    check_shared(two, &path(1), &[], &fetched);
    check_shared(three, &path(1), &[], &fetched);
    assert_eq!(ask(two, "GET", &path(1), &[]).field("atoll-keys"), "", "it is for caches");
    let private = "/cached?id=7&control=private,max-age%3D60";
    check_own(&ask(one, "GET", private, &[]), "1");
    settle(one, 2);
    check_own(&ask(two, "GET", private, &[]), "2");
    // Its counter tells the calls on all nodes together.
    let all_beyond = |id: u64, count: u64| {
        for node in &nodes {
            wait_until("it is called again", || {
                let text = ask(node, "GET", &path(id), &[]).text();
                (text.parse::<u64>().is_ok_and(|calls| calls > count)).then_some(())
            });
        }
        ask(one, "GET", &path(id), &[]).text().parse::<u64>().expect("a count")
    };
    assert!(three.http("PUT", three.api, "/v1/kv/default/news:1", b"x").status < 300);
    let calls = all_beyond(1, 1);
    assert_eq!(purge(two, r#"{"tags": ["page"]}"#), Some(2));
    let calls = all_beyond(1, calls);
    assert_eq!(ask(three, "POST", &path(1), &[]).status(), 200);
    all_beyond(1, calls + 1);
    for round in 0..3 {
        deploy(&nodes[round % 3], "hello");
        for node in &nodes {
            let text = ask(node, "GET", &path(1), &[]).text();
            assert!(text.starts_with("Hello"), "no old answer behind a deployment: {text}");
        }
        deploy(&nodes[(round + 1) % 3], "hostile");
        for node in &nodes {
            let text = ask(node, "GET", &path(1), &[]).text();
            assert!(text.parse::<u64>().is_ok(), "{text}");
        }
    }
    let (success, _, stderr) = atoll(one, &["remove", "page"]);
    assert!(success, "{stderr}");
    for node in &nodes {
        wait_until("it is gone", || {
            (ask(node, "GET", &path(1), &[]).status() == 404).then_some(())
        });
    }
}

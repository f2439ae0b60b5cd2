//! Routes whose responses are shared: what one node has fetched, the others use.

use super::origin::{Act, Message, Origin, ask, response};
use crate::node::{TestNode, wait_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

/// A node with one route to `origin` that shares, linked with `others`.
pub(super) fn node(origin: &Origin, name: &str, others: &[&TestNode], flags: &[&str]) -> TestNode {
    node_with((origin, ""), name, others, flags)
}

/// The same with more lines for the route.
fn node_with(
    (origin, more): (&Origin, &str),
    name: &str,
    others: &[&TestNode],
    flags: &[&str],
) -> TestNode {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = format!(
        "[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\ncache = true\nreplicate = true\n{more}\n",
        origin.address
    );
    std::fs::write(file.path(), text).expect("the file is written");
    let config = file.path().to_str().expect("a path").to_owned();
    let peers: Vec<String> = others.iter().map(|node| node.peers().to_string()).collect();
    let mut all = vec!["--config", &config, "--name", name];
    all.extend(peers.iter().flat_map(|peer| ["--peer", peer.as_str()]));
    all.extend(flags);
    TestNode::start_with(&all)
}

fn trio(origin: &Origin, flags: &[&str]) -> [TestNode; 3] {
    trio_with(origin, "", flags)
}

/// Three linked nodes, with more lines for the route.
pub(super) fn trio_with(origin: &Origin, more: &str, flags: &[&str]) -> [TestNode; 3] {
    let one = node_with((origin, more), "one", &[], flags);
    let two = node_with((origin, more), "two", &[&one], flags);
    let three = node_with((origin, more), "three", &[&one, &two], flags);
    let nodes = [one, two, three];
    nodes.iter().for_each(|node| settle(node, 2));
    nodes
}

/// Waits until so many others have what `node` has written.
pub(super) fn settle(node: &TestNode, count: usize) {
    wait_until("the others have it", || {
        purge(node, r#"{"tags": ["none"]}"#).filter(|confirmed| *confirmed == count)
    });
}

/// Returns how many other nodes have confirmed it, if all have.
pub(super) fn purge(node: &TestNode, order: &str) -> Option<usize> {
    let path = "/v1/purge?wait=all&timeout=2000";
    let answer = node.http("POST", node.api, path, order.as_bytes());
    assert!(answer.status < 300, "{}", answer.text());
    let done = answer.json();
    (answer.status == 200).then(|| done["confirmed"].as_array().map_or(0, Vec::len))
}

pub(super) fn own_status(answer: &Message) -> String {
    answer.field("cache-status").rsplit(", ").next().unwrap_or_default().to_owned()
}

/// How often `outcome` was counted on a node, of all routes.
pub(super) fn count(node: &TestNode, outcome: &str) -> u64 {
    let metrics = node.http("GET", node.api, "/metrics", b"");
    let name = "atoll_cache_replicated_total{";
    let lines = metrics.text().lines().filter(|line| line.starts_with(name));
    let lines = lines.filter(|line| line.contains(&format!("outcome=\"{outcome}\"")));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[track_caller]
pub(super) fn check_shared(node: &TestNode, path: &str, fields: &[(&str, &str)], want: &Message) {
    let answer = ask(node, "GET", path, fields);
    assert_eq!((answer.status(), &answer.body), (want.status(), &want.body), "{path}");
    let status = own_status(&answer);
    assert!(status.starts_with("Atoll; hit") && status.ends_with("detail=replicated"), "{status}");
    let again = own_status(&ask(node, "GET", path, fields));
    assert!(again.starts_with("Atoll; hit") && !again.contains("detail"), "{again}");
}

#[test]
fn what_one_node_has_fetched_costs_the_others_no_request() {
    let origin = Origin::start(|request, count| {
        let language = request.field("accept-language");
        let text = format!("{language} {count}");
        let (long, longer) = ("x".repeat(1 << 20), "x".repeat((1 << 20) + 1));
        let fields = [FRESH, ("Vary", "Accept-Language"), ("ETag", "\"1\""), ("Age", "100")];
        Act::Send(match request.path() {
            "/none" => response(404, &[FRESH], "there is none"),
            "/long" => response(200, &[FRESH], &long),
            "/longer" => response(200, &[FRESH], &longer),
            "/private" => response(200, &[("Cache-Control", "private, max-age=60")], "mine"),
            "/cookie" => response(200, &[FRESH, ("Set-Cookie", "a=b")], "mine"),
            "/allowed" => response(200, &[("Cache-Control", "public, max-age=60")], "ours"),
            _ => response(200, &fields, &text),
        })
    });
    let nodes = trio(&origin, &[]);
    let [one, two, three] = &nodes;
    let english = ask(one, "GET", "/a", &[("Accept-Language", "en")]);
    let german = ask(two, "GET", "/a", &[("Accept-Language", "de")]);
    let none = ask(one, "GET", "/none", &[]);
    let long = ask(one, "GET", "/long", &[]);
    let allowed = ask(one, "GET", "/allowed", &[("Authorization", "Basic YTpi")]);
    for path in ["/longer", "/private", "/cookie"] {
        ask(one, "GET", path, &[]);
    }
    // What is long goes out behind its answer.
    wait_until("all is shared", || (count(one, "written") == 4).then_some(()));
    ask(one, "GET", "/credentials", &[("Authorization", "Basic YTpi")]);
    settle(one, 2);
    settle(two, 2);
    check_shared(two, "/a", &[("Accept-Language", "en")], &english);
    check_shared(three, "/a", &[("Accept-Language", "en")], &english);
    check_shared(three, "/a", &[("Accept-Language", "de")], &german);
    check_shared(one, "/a", &[("Accept-Language", "de")], &german);
    check_shared(two, "/none", &[], &none);
    check_shared(three, "/long", &[], &long);
    check_shared(two, "/allowed", &[], &allowed);
    assert_eq!(origin.seen("/a").len(), 2);
    for path in ["/none", "/long", "/allowed"] {
        assert_eq!(origin.seen(path).len(), 1, "{path}");
    }
    let answer = ask(two, "GET", "/a", &[("Accept-Language", "en"), ("If-None-Match", "\"1\"")]);
    assert_eq!(answer.status(), 304);
    let age: u64 = answer.field("age").parse().expect("a number");
    assert!((100..200).contains(&age), "{age} s: it was old when it came");
    // What is not for others, or too long, each node fetches itself.
    for path in ["/longer", "/private", "/cookie", "/credentials"] {
        let status = own_status(&ask(two, "GET", path, &[]));
        assert!(status.contains("fwd=uri-miss"), "{path}: {status}");
        assert_eq!(origin.seen(path).len(), 2, "{path}");
    }
    assert_eq!((count(two, "taken"), count(two, "full")), (3, 0));
    // A HEAD is answered from it as well.
    let head = ask(two, "HEAD", "/long", &[]);
    assert_eq!(head.field("content-length"), (1 << 20).to_string());
    assert_eq!(origin.seen("/long").len(), 1);
}

#[test]
fn one_node_asks_about_what_is_stale_and_the_others_use_the_answer() {
    let origin = Origin::start(|request, count| {
        let fields = [("Cache-Control", "max-age=1"), ("ETag", "\"same\"")];
        if request.field("if-none-match") == "\"same\"" {
            let number = count.to_string();
            let fields = [("Cache-Control", "max-age=600"), ("ETag", "\"same\""), ("X-N", &number)];
            Act::Send(response(304, &fields, ""))
        } else {
            Act::Send(response(200, &fields, "text"))
        }
    });
    let nodes = trio(&origin, &[]);
    ask(&nodes[0], "GET", "/a", &[]);
    settle(&nodes[0], 2);
    nodes.iter().for_each(|node| assert_eq!(ask(node, "GET", "/a", &[]).text(), "text"));
    assert_eq!(origin.seen("/a").len(), 1);
    wait_until("it is stale", || {
        own_status(&ask(&nodes[1], "GET", "/a", &[])).contains("fwd=stale").then_some(())
    });
    settle(&nodes[1], 2);
    for node in &nodes {
        let answer = ask(node, "GET", "/a", &[]);
        assert!(own_status(&answer).starts_with("Atoll; hit"), "{answer:?}");
        assert_eq!((answer.text().as_str(), answer.field("x-n").as_str()), ("text", "1"));
    }
    assert_eq!(origin.seen("/a").len(), 2);
}

/// An upstream that answers with the present version, slowly where the path says so.
fn versions() -> (Origin, Arc<AtomicU64>) {
    let version = Arc::new(AtomicU64::new(0));
    let current = Arc::clone(&version);
    let origin = Origin::start(move |request, _| {
        let text = current.load(Ordering::SeqCst).to_string();
        let fields = [FRESH, ("Cache-Tag", "page"), ("Cache-Groups", "\"g\"")];
        let answer = response(200, &fields, &text);
        match request.start.split(' ').next() {
            Some("POST") if request.path().starts_with("/group") => {
                Act::Send(response(204, &[("Cache-Group-Invalidation", "\"g\"")], ""))
            }
            Some("POST") => Act::Send(response(204, &[], "")),
            _ if request.path().starts_with("/slow") => {
                Act::Slowly(vec![answer], Duration::from_millis(400))
            }
            _ => Act::Send(answer),
        }
    });
    (origin, version)
}

#[test]
fn what_was_under_way_on_one_node_when_another_purged_it_is_served_nowhere_after() {
    let (origin, version) = versions();
    let nodes = trio(&origin, &[]);
    for round in 0..6_u64 {
        let path = format!("/slow/{round}");
        version.store(2 * round, Ordering::SeqCst);
        let (fetching, purging) = (&nodes[round as usize % 3], &nodes[(round as usize + 1) % 3]);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| ask(fetching, "GET", &path, &[]).text());
            wait_until("the first request", || (origin.seen(&path).len() == 1).then_some(()));
            version.store(2 * round + 1, Ordering::SeqCst);
            assert_eq!(purge(purging, r#"{"tags": ["page"]}"#), Some(2));
            let got = first.join().expect("no panic");
            assert_eq!(got, (2 * round).to_string(), "it was asked for before");
        });
        settle(fetching, 2);
        for node in [purging, fetching, &nodes[(round as usize + 2) % 3]] {
            assert_eq!(ask(node, "GET", &path, &[]).text(), (2 * round + 1).to_string());
            settle(node, 2);
        }
        assert!(origin.seen(&path).len() <= 4, "{} requests", origin.seen(&path).len());
    }
}

#[test]
fn a_write_through_one_node_takes_what_all_have() {
    let (origin, version) = versions();
    let nodes = trio(&origin, &[]);
    let all = |path: &str| nodes.each_ref().map(|node| ask(node, "GET", path, &[]).text());
    ask(&nodes[0], "GET", "/page", &[]);
    ask(&nodes[0], "GET", "/other", &[]);
    settle(&nodes[0], 2);
    assert_eq!((all("/page"), all("/other")), (["0"; 3].map(String::from), all("/page")));
    assert_eq!(origin.seen("/page").len(), 1);
    version.store(1, Ordering::SeqCst);
    assert_eq!(ask(&nodes[1], "POST", "/page", &[]).status(), 204);
    wait_until("all have the new one", || (all("/page") == ["1"; 3]).then_some(()));
    assert_eq!(all("/other"), ["0"; 3], "another URL is as it was");
    version.store(2, Ordering::SeqCst);
    assert_eq!(ask(&nodes[2], "POST", "/group", &[]).status(), 204);
    wait_until("all of the group", || {
        (all("/page") == ["2"; 3] && all("/other") == ["2"; 3]).then_some(())
    });
}

#[test]
fn a_node_that_joins_or_was_cut_off_uses_what_the_others_have_and_nothing_that_was_purged() {
    let (origin, version) = versions();
    let nodes = trio(&origin, &[]);
    let text = |node: &TestNode, path: &str| ask(node, "GET", path, &[]).text();
    assert_eq!(text(&nodes[0], "/a"), "0");
    assert_eq!(text(&nodes[0], "/b"), "0");
    settle(&nodes[0], 2);
    assert_eq!((text(&nodes[2], "/a"), text(&nodes[2], "/b")), ("0".into(), "0".into()));
    // Cut off while it is purged.
    nodes[2].signal("STOP");
    version.store(1, Ordering::SeqCst);
    purge(&nodes[0], r#"{"urls": ["/a"]}"#);
    wait_until("it is purged on the other", || (text(&nodes[1], "/a") == "1").then_some(()));
    let asked = origin.seen("/a").len();
    nodes[2].signal("CONT");
    wait_until("the purge comes", || (text(&nodes[2], "/a") == "1").then_some(()));
    assert_eq!(text(&nodes[2], "/a"), "1");
    assert!(origin.seen("/a").len() <= asked + 1, "the purge and the new one come apart");
    // One that joins has the purge and what was fetched since from the others. What was fetched in the
    // moment of the purge may be too old to be taken, and never is it what was before.
    assert_eq!(text(&nodes[1], "/since"), "1");
    settle(&nodes[1], 2);
    version.store(2, Ordering::SeqCst);
    let asked = (origin.seen("/since").len(), origin.seen("/b").len());
    let four = node(&origin, "four", &[&nodes[0], &nodes[1]], &[]);
    wait_until("it has what the others have", || {
        (four.http("GET", four.api, "/readyz", b"").status == 200).then_some(())
    });
    settle(&four, 2);
    assert_eq!(text(&four, "/b"), "0");
    assert_eq!((text(&four, "/since"), origin.seen("/since").len()), ("1".into(), asked.0));
    assert_ne!(text(&four, "/a"), "0");
    assert_eq!(origin.seen("/b").len(), asked.1);
    // And again, as another process of that name.
    drop(four);
    let four = node(&origin, "four", &[&nodes[0], &nodes[1]], &[]);
    wait_until("it has what the others have", || {
        (four.http("GET", four.api, "/readyz", b"").status == 200).then_some(())
    });
    assert_eq!((text(&four, "/b"), origin.seen("/b").len()), ("0".into(), asked.1));
}

#[test]
fn a_write_of_a_key_makes_stale_what_nodes_share() {
    let origin = Origin::start(|_, count| {
        let fields = [FRESH, ("Atoll-Keys", "default/news")];
        Act::Send(response(200, &fields, &count.to_string()))
    });
    let nodes = trio(&origin, &[]);
    let text = |node: &TestNode| ask(node, "GET", "/made", &[]).text();
    // The first page that names a key makes a node listen, and is stale itself.
    for node in &nodes {
        wait_until("a hit", || {
            own_status(&ask(node, "GET", "/made", &[])).starts_with("Atoll; hit").then_some(())
        });
    }
    let asked = origin.seen("/made").len();
    for round in 0..6_usize {
        let writer = &nodes[round % 3];
        assert!(writer.http("PUT", writer.api, "/v1/kv/default/news", b"x").status < 300);
        settle(writer, 2);
        let before = origin.seen("/made").len();
        let fetching = &nodes[(round + 1) % 3];
        let new = wait_until("it is stale", || {
            Some(text(fetching)).filter(|text| text.parse() == Ok(before))
        });
        settle(fetching, 2);
        let number = |text: &str| text.parse::<usize>().expect("a number");
        for node in &nodes {
            // Its store has the write; its cache learns of it a moment later.
            wait_until("it is stale here as well", || {
                (number(&text(node)) >= number(&new)).then_some(())
            });
        }
    }
    // One for each round, and one now and then where a node had it before its cache knew of the write.
    let asked = origin.seen("/made").len() - asked;
    assert!((6..=10).contains(&asked), "{asked} requests for 6 writes seen by 3 nodes");
}

#[test]
fn records_take_no_more_room_than_they_may_and_answers_do_not_suffer() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[FRESH], &"x".repeat(60_000))));
    let nodes = trio(&origin, &["--cache-replicated", "256KiB"]);
    for number in 0..20 {
        let answer = ask(&nodes[0], "GET", &format!("/{number}"), &[]);
        assert_eq!((answer.status(), answer.body.len()), (200, 60_000));
    }
    let (written, full) = wait_until("all are seen to", || {
        let counts = (count(&nodes[0], "written"), count(&nodes[0], "full"));
        (counts.0 + counts.1 == 20).then_some(counts)
    });
    assert!((3..=4).contains(&written), "{written} and {full}");
    settle(&nodes[0], 2);
    for number in 0..20 {
        assert_eq!(ask(&nodes[1], "GET", &format!("/{number}"), &[]).body.len(), 60_000);
    }
    assert_eq!(count(&nodes[1], "taken"), written);
}

#[test]
fn a_route_of_the_api_shares_and_one_that_changes_does_not_use_what_it_was() {
    let (origin, version) = versions();
    let one = TestNode::start_with(&["--name", "one"]);
    let peer = one.peers().to_string();
    let two = TestNode::start_with(&["--name", "two", "--peer", &peer]);
    settle(&one, 1);
    let route = |more: &str| {
        let text = format!(
            "{{\"path\": \"/*\", \"upstream\": \"http://{}\", \"cache\": true, \
             \"replicate\": true{more}}}",
            origin.address
        );
        let status = one.http("PUT", one.api, "/v1/routes/all", text.as_bytes()).status;
        assert!(status < 300, "{status}");
        settle(&one, 1);
        let shown = two.http("GET", two.api, "/v1/routes/all", b"").json();
        assert!(shown["error"].is_null(), "{shown}");
    };
    route("");
    assert_eq!(ask(&one, "GET", "/a", &[]).text(), "0");
    settle(&one, 1);
    check_shared(&two, "/a", &[], &ask(&one, "GET", "/a", &[]));
    assert_eq!(origin.seen("/a").len(), 1);
    version.store(1, Ordering::SeqCst);
    route(", \"request_headers\": {\"set\": {\"X-New\": \"1\"}}");
    assert_eq!(ask(&two, "GET", "/a", &[]).text(), "1", "another route makes other responses");
}

#[test]
fn a_replica_uses_what_masters_have_fetched_and_writes_nothing() {
    let (origin, version) = versions();
    let master = node(&origin, "master", &[], &[]);
    let replica = node(&origin, "replica", &[&master], &["--role", "replica"]);
    settle(&master, 1);
    let fetched = ask(&master, "GET", "/a", &[]);
    settle(&master, 1);
    check_shared(&replica, "/a", &[], &fetched);
    // What it fetches or changes itself stays with it, and it says so.
    assert_eq!(ask(&replica, "GET", "/b", &[]).text(), "0");
    assert_eq!(count(&replica, "written"), 0);
    version.store(1, Ordering::SeqCst);
    assert_eq!(ask(&replica, "POST", "/a", &[]).status(), 204);
    assert_eq!(ask(&replica, "GET", "/a", &[]).text(), "1", "nor does it take what was before");
    assert_eq!(ask(&master, "GET", "/a", &[]).text(), "0");
    replica.wait_for_log("invalid on this node alone");
}

#[test]
fn what_one_node_finds_gone_no_node_has_any_more() {
    let origin = Origin::start(|_, count| match count {
        0 => Act::Send(response(200, &[FRESH, ("ETag", "\"a\"")], "page")),
        _ => Act::Send(response(410, &[("Cache-Control", "no-store")], "gone")),
    });
    let nodes = trio(&origin, &[]);
    assert_eq!(ask(&nodes[0], "GET", "/a", &[]).text(), "page");
    settle(&nodes[0], 2);
    assert_eq!(ask(&nodes[1], "GET", "/a", &[]).text(), "page");
    assert_eq!(origin.seen("/a").len(), 1);
    assert_eq!(ask(&nodes[1], "GET", "/a", &[("Cache-Control", "no-cache")]).status(), 410);
    assert_eq!(origin.seen("/a")[1].field("if-none-match"), "\"a\"");
    settle(&nodes[1], 2);
    for node in &nodes {
        assert_eq!(ask(node, "GET", "/a", &[]).status(), 410);
    }
}

//! Whom a node is linked with: lists of masters that change while it runs, and what a node serves
//! that few of them are left to.

use crate::cluster::{Cluster, Shape, name};
use crate::node::{TestNode, wait_until};

fn start(name: &str) -> TestNode {
    TestNode::start_with(&["--name", name])
}

fn command(node: &TestNode, arguments: &[&str]) -> String {
    node.resp_client().command(arguments)
}

#[track_caller]
fn wait_for(node: &TestNode, arguments: &[&str], want: &str) {
    wait_until(&format!("{arguments:?} is {want}"), || {
        (command(node, arguments) == want).then_some(())
    });
}

/// REPLICAOF on `node` with the place of `other`.
#[track_caller]
fn replicaof(node: &TestNode, words: &[&str], other: &TestNode) {
    let (host, port) = (other.peers().ip().to_string(), other.peers().port().to_string());
    let command_words = [&["REPLICAOF"], words, &[&host, &port]].concat();
    assert_eq!(command(node, &command_words), "+OK");
}

/// Waits until `node` says that it is linked with these and no others.
#[track_caller]
fn wait_linked_with(node: &TestNode, names: &[&str]) {
    wait_until(&format!("it is linked with {names:?}"), || {
        let view = node.http("GET", node.api, "/v1/cluster", b"").json();
        let links = view["replication"]["links"].as_array()?.clone();
        let linked: Vec<&str> = links.iter().filter_map(|link| link["node"].as_str()).collect();
        (linked == names).then_some(())
    });
}

/// The masters that INFO names, as `host:port`.
fn masters(node: &TestNode) -> Vec<String> {
    let info = command(node, &["INFO", "replication"]);
    let value = |name: String| {
        info.lines().find_map(|line| Some(line.strip_prefix(&name)?.trim_end().to_owned()))
    };
    // The first has no number.
    let prefixes = std::iter::once("master".to_owned()).chain((1..).map(|n| format!("master_{n}")));
    let master = |prefix: String| {
        let port = value(format!("{prefix}_port:"))?;
        Some(format!("{}:{port}", value(format!("{prefix}_host:"))?))
    };
    prefixes.map_while(master).collect()
}

#[test]
fn masters_are_added_taken_away_one_by_one_and_all_at_once() {
    let (node, one, other) = (start("n0"), start("n1"), start("n2"));
    let (one_at, other_at) = (one.peers().to_string(), other.peers().to_string());
    replicaof(&node, &[], &one);
    replicaof(&node, &[], &other);
    wait_linked_with(&node, &["n1", "n2"]);
    assert_eq!(masters(&node), [&*one_at, &other_at]);
    assert_eq!(command(&one, &["SET", "k", "by-one"]), "+OK");
    wait_for(&other, &["GET", "k"], "$by-one");

    replicaof(&node, &["REMOVE"], &one);
    wait_linked_with(&node, &["n2"]);
    wait_linked_with(&one, &[]);
    assert_eq!(masters(&node), [&*other_at]);
    assert_eq!(command(&node, &["SET", "k", "without-one"]), "+OK");
    wait_for(&other, &["GET", "k"], "$without-one");
    assert_eq!(command(&one, &["GET", "k"]), "$by-one");

    replicaof(&node, &[], &one);
    wait_for(&one, &["GET", "k"], "$without-one");
    assert_eq!(masters(&node).len(), 2);

    assert_eq!(command(&node, &["REPLICAOF", "NO", "ONE"]), "+OK");
    wait_linked_with(&node, &[]);
    wait_linked_with(&one, &[]);
    wait_linked_with(&other, &[]);
    assert_eq!(masters(&node), [""; 0]);
    assert!(command(&node, &["INFO", "replication"]).contains("role:master"));
    assert_eq!(command(&node, &["SET", "k", "alone"]), "+OK");

    replicaof(&node, &[], &other);
    wait_for(&other, &["GET", "k"], "$alone");
    assert_eq!(command(&one, &["GET", "k"]), "$without-one");
}

#[test]
fn a_node_that_serves_nothing_stale_needs_a_majority() {
    let flags = |_| vec!["--serve-stale".to_owned(), "no".to_owned()];
    let cluster = Cluster::start_with(Shape::Mesh(4), flags);
    assert_eq!(cluster.command(0, &["SET", "k", "v"]), "+OK");
    for node in cluster.up() {
        cluster.wait_for(node, &["GET", "k"], "$v");
    }
    cluster.cut(0, 3);
    cluster.wait_unlinked(0, 3);
    let quorum = || cluster.view(0)["replication"]["quorum"].clone();
    assert_eq!((&quorum()["reached"], &quorum()["nodes"]), (&3.into(), &4.into()));
    assert_eq!(cluster.command(0, &["GET", "k"]), "$v", "three of four are a majority");
    assert_eq!(cluster.command(0, &["SET", "k", "w"]), "+OK");

    cluster.cut(0, 2);
    cluster.wait_unlinked(0, 2);
    let down = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    cluster.wait_for(0, &["GET", "k"], down);
    assert_eq!(cluster.command(0, &["SET", "k", "x"]), down);
    let node = cluster.node(0);
    assert_eq!(node.http("GET", node.api, "/v1/kv/default/k", b"").status, 503);
    for node in 1..4 {
        cluster.wait_for(node, &["GET", "k"], "$w");
    }
    cluster.heal();
    cluster.wait_for(0, &["GET", "k"], "$w");
}

#[test]
fn after_a_restart_of_the_peer_writes_are_in_the_right_database() {
    let mut cluster = Cluster::start(Shape::Pair);
    let mut client = cluster.client(0);
    assert_eq!(client.command(&["SELECT", "3"]), "+OK");
    assert_eq!(client.command(&["SET", "k", "three"]), "+OK");
    assert_eq!(client.command(&["WAIT", "1", "60000"]), ":1");
    cluster.kill(1);
    cluster.start_node(1);
    cluster.wait_linked();
    let mut peer = cluster.client(1);
    assert_eq!(peer.command(&["SELECT", "5"]), "+OK");
    assert_eq!(peer.command(&["SET", "k", "five"]), "+OK");
    // A connection from before the restart, still in its database.
    assert_eq!(client.command(&["SET", "l", "three"]), "+OK");
    let want = [(0, &[][..]), (3, &[("k", "$three"), ("l", "$three")]), (5, &[("k", "$five")])];
    for (database, want) in want {
        for node in cluster.up() {
            let what = format!("database {database} of {}", name(node));
            wait_until(&what, || {
                let content = cluster.content(node, database);
                let held = content.iter().map(|(key, (value, _))| (&**key, &**value));
                held.eq(want.iter().copied()).then_some(())
            });
        }
    }
}

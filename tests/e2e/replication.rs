//! What one node says of others that are not there: WAIT, REPLICAOF, roles, refusals, status.

use crate::cluster::{Cluster, Shape};
use crate::node::{ATOLL, TestNode, wait_until};
use crate::tools::{output, run};
use std::time::{Duration, Instant};

/// Nobody listens there: the port of a TCP service that has no business here.
const DEAD: (&str, &str) = ("127.0.0.1", "1");

fn info(node: &TestNode) -> String {
    node.resp_client().command(&["INFO", "replication"])
}

#[track_caller]
fn check_info(node: &TestNode, want: &[&str]) {
    let text = info(node);
    for line in want {
        assert!(text.lines().any(|got| got.trim_start_matches('$') == *line), "{line} in {text}");
    }
}

#[test]
fn a_wait_for_nobody_ends_in_time() {
    let node = TestNode::start();
    let mut client = node.resp_client();
    assert_eq!(client.command(&["SET", "k", "v"]), "+OK");
    let begun = Instant::now();
    assert_eq!(client.command(&["WAIT", "1", "200"]), ":0");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    let put = node.http("PUT", node.api, "/v1/kv/default/k?wait=1&timeout=100", b"w");
    assert_eq!((put.status, put.header("atoll-replicas")), (202, "0"));
    let session = put.header("atoll-session").to_owned();
    let (origin, seq) = session.split_once(':').expect("ORIGIN:SEQ");
    assert!(origin.len() == 36 && seq.parse::<u64>().is_ok_and(|seq| seq >= 2), "{session}");
}

#[test]
fn a_peer_that_is_not_there_shows_as_down_until_it_is_taken_away() {
    let node = TestNode::start();
    check_info(&node, &["# Replication", "role:master", "connected_slaves:0"]);
    let mut client = node.resp_client();
    assert_eq!(client.command(&["REPLICAOF", DEAD.0, DEAD.1]), "+OK");
    assert_eq!(client.command(&["REPLICAOF", "localhost", DEAD.1]), "+OK");
    check_info(
        &node,
        &[
            "role:active-replica",
            "master_global_link_status:down",
            "master_host:127.0.0.1",
            "master_port:1",
            "master_link_status:down",
            "master_1_host:localhost",
            "master_1_link_status:down",
        ],
    );
    let cluster = node.http("GET", node.api, "/v1/cluster", b"").json();
    assert_eq!(cluster["replication"]["quorum"]["has_quorum"], false);
    assert_eq!(cluster["replication"]["peers"][0]["endpoint"], "127.0.0.1:1");
    let body = br#"{"remove": "localhost:1"}"#;
    assert_eq!(node.http("POST", node.api, "/v1/cluster/peers", body).status, 200);
    assert!(!info(&node).contains("master_1_host"));
    assert_eq!(client.command(&["REPLICAOF", "REMOVE", DEAD.0, DEAD.1]), "+OK");
    let unknown = client.command(&["REPLICAOF", "REMOVE", DEAD.0, DEAD.1]);
    assert_eq!(unknown, "-ERR 127.0.0.1:1 is none of this node's peers");
    check_info(&node, &["role:master"]);
}

#[test]
fn a_replica_refuses_writes_at_every_door() {
    let node = TestNode::start_with(&["--role", "replica"]);
    let mut client = node.resp_client();
    let want = "-READONLY You can't write against a read only replica.";
    assert_eq!(client.command(&["SET", "k", "v"]), want);
    assert_eq!(client.command(&["GET", "k"]), "$-1");
    let put = node.http("PUT", node.api, "/v1/kv/default/k", b"v");
    assert_eq!((put.status, put.json()["code"].as_str()), (403, Some("read-only-replica")));
    check_info(&node, &["role:slave", "slave_read_only:1"]);
}

#[test]
fn who_serves_nothing_stale_refuses_without_its_peers() {
    let peer = format!("{}:{}", DEAD.0, DEAD.1);
    let node = TestNode::start_with(&["--serve-stale", "no", "--peer", &peer]);
    let mut client = node.resp_client();
    let want = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    assert_eq!(client.command(&["GET", "k"]), want);
    // It waits a few seconds for its peers before it goes without them.
    for code in ["joining", "cut-off"] {
        wait_until(&format!("the node says that it is {code}"), || {
            let ready = node.http("GET", node.api, "/readyz", b"");
            assert_eq!(ready.status, 503);
            (ready.json()["code"] == code).then_some(())
        });
    }
    assert_eq!(client.command(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]), "+OK");
    assert_eq!(client.command(&["GET", "k"]), "$-1");
    assert_eq!(node.http("GET", node.api, "/readyz", b"").status, 200);
}

#[test]
fn status_tells_a_person_what_is_wrong() {
    let peer = format!("{}:{}", DEAD.0, DEAD.1);
    let node = TestNode::start_with(&["--peer", &peer]);
    let api = format!("http://{}", node.api);
    let shown = wait_until("the node has given up waiting for its peer", || {
        let shown = run(ATOLL, &["status", "--api", &api]);
        shown.contains("test  ready").then_some(shown)
    });
    for part in ["test  ready", "1 of 2 configured nodes reached", "not linked", "127.0.0.1:1"] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colours are for terminals");
    let json = run(ATOLL, &["status", "--api", &api, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["replication"]["peers"][0]["endpoint"], "127.0.0.1:1");
}

#[test]
fn a_node_that_will_not_come_back_is_let_go_by_all() {
    let mut cluster = Cluster::start(Shape::Mesh(3));
    assert_eq!(cluster.command(2, &["SET", "k", "v"]), "+OK");
    cluster.converge();
    let api = format!("http://{}", cluster.node(0).api);
    let forget = ["cluster", "forget", "n2", "--api", &api];
    let refused = |arguments: &[&str], why: &str| {
        let output = output(ATOLL, arguments);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.contains(why), "{words}");
    };
    refused(&forget, "n2 is linked with this node and so alive");
    refused(&["cluster", "forget", "n7", "--api", &api], "known are n1, n2");
    refused(&["cluster", "forget", "n0", "--api", &api], "is this node itself");
    let alive = Instant::now();
    cluster.kill(2);
    wait_until("the link is gone", || {
        let links = cluster.view(0)["replication"]["links"].as_array().map(Vec::len);
        (links == Some(1)).then_some(())
    });
    // On a busy machine it may have been silent for long enough by now.
    if alive.elapsed() < Duration::from_secs(5) {
        refused(&forget, "wait 10 s");
    }
    let said = wait_until("the node has been silent for long enough", || {
        let output = output(ATOLL, &forget);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert_eq!(said, "forgot n2\n");
    for node in 0..2 {
        wait_until("nothing is kept for it any more", || {
            let view = cluster.view(node);
            let replication = &view["replication"];
            let members = replication["members"].as_array().map_or(0, Vec::len);
            let age_ms = replication["floor_age_ms"].as_u64();
            (members == 2 && age_ms.is_some_and(|age_ms| age_ms < 9_000)).then_some(())
        });
    }
    refused(&forget, "known are n1");
    assert_eq!(cluster.command(0, &["GET", "k"]), "$v", "what it wrote stays");
}

#[test]
fn a_node_that_has_caught_up_compares_what_it_has() {
    let flags = |_| vec!["--log-max".to_owned(), "64KiB".to_owned()];
    let mut cluster = Cluster::start_with(Shape::Pair, flags);
    cluster.kill(1);
    let value = "v".repeat(200);
    let mut client = cluster.client(0);
    for number in 0..3_000 {
        client.send_command(&["SET", &format!("k{number}"), &value]);
        assert_eq!(client.reply(), "+OK");
    }
    cluster.start_node(1);
    cluster.converge();
    // The log does not reach.
    wait_until("a sync is counted", || (cluster.sum("syncs_received") > 0).then_some(()));
    let audit = wait_until("it has compared", || {
        let audit = cluster.view(1)["replication"]["audit"].clone();
        audit.is_object().then_some(audit)
    });
    assert_eq!((audit["node"].as_str(), audit["divergent_keys"].as_u64()), (Some("n0"), Some(0)));
    let info = cluster.command(1, &["INFO", "replication"]);
    assert!(info.contains("atoll_audits:1") && info.contains("atoll_divergent_keys:0"), "{info}");
    let shown = run(ATOLL, &["status", "--api", &format!("http://{}", cluster.node(1).api)]);
    assert!(shown.contains("compared with n0 ") && shown.contains("no key differs"), "{shown}");
    assert!(cluster.metric(1, "atoll_audit_age_seconds") < 30.0);
    assert!(cluster.metric(1, "atoll_audits_total") >= 1.0);
}

//! What the API shows of other nodes, and whom it can be told to link with.

use super::*;
use crate::replication::endpoint::Endpoint;
use crate::replication::peers::{DialNote, DialState};
use atoll_core::replica::status::{Counts, LinkStatus, MemberStatus, Role, Status};
use uuid::Uuid;

/// Linked with `porto<1>`, which is a replica; `faro` does not answer.
fn feed(door: &Door) {
    let (node, replication) = (&door.node, door.node.replication());
    let (own, porto) = (node.store().origin(), Uuid::from_u128(2));
    for (host, state, name) in [
        ("porto", DialState::Up, Some("porto<1>")),
        ("faro", DialState::Failed("no <route>".to_owned()), None),
    ] {
        let endpoint = Endpoint::new(host, 7_400).expect("an endpoint");
        replication.add_peer(endpoint.clone()).expect("there is room");
        let (target, node) = (endpoint.to_string(), name.map(str::to_owned));
        replication.note_dial(&endpoint, DialNote { target, state, node, now_ms: 5 });
    }
    let link = LinkStatus {
        name: "porto<1>".to_owned(),
        origin: porto,
        role: Role::Replica,
        address: "10.0.0.2:7400".to_owned(),
        since_ms: 5,
        lag_ms: 250,
        behind: 7,
        rtt_us: 1_500,
        skew_ms: -20,
        sent_bytes: 1_000,
        received_bytes: 2_000,
        ..LinkStatus::default()
    };
    let member = |name: &str, origin, linked| MemberStatus {
        name: name.to_owned(),
        origin,
        own_seq: 9,
        seq: 8,
        linked,
        ..MemberStatus::default()
    };
    replication.publish_status(Status {
        name: node.name().to_owned(),
        cluster: "shop<1>".to_owned(),
        origin: own,
        floor_age_ms: 1_500,
        skew_ms: 3,
        links: vec![link],
        members: vec![member("self", own, false), member("porto<1>", porto, true)],
        counts: Counts { divergence_total: 3, ops_received: 11, ..Counts::default() },
        ..Status::default()
    });
}

#[tokio::test]
async fn the_cluster_is_shown_as_this_node_sees_it() {
    let door = Door::new();
    feed(&door);
    door.put("/v1/kv/b/k", "v").await;
    let answer = door.get("/v1/cluster").await;
    door.check(&answer, 200);
    let status = &answer.json()["replication"];
    for (path, want) in [
        ("/cluster", serde_json::json!("shop<1>")),
        ("/role", "master".into()),
        ("/readiness", "ready".into()),
        ("/seq", 1.into()),
        ("/floor_age_ms", 1_500.into()),
        ("/quorum/nodes", 3.into()),
        ("/quorum/reached", 2.into()),
        ("/quorum/has_quorum", true.into()),
        ("/peers/0/endpoint", "porto:7400".into()),
        ("/peers/0/state", "up".into()),
        ("/peers/0/node", "porto<1>".into()),
        ("/peers/1/state", "failed".into()),
        ("/peers/1/reason", "no <route>".into()),
        ("/links/0/node", "porto<1>".into()),
        ("/links/0/role", "replica".into()),
        ("/links/0/lag_ms", 250.into()),
        ("/links/0/skew_ms", (-20).into()),
        ("/members/0/is_self", true.into()),
        ("/members/1/is_self", false.into()),
        ("/members/1/own_seq", 9.into()),
        ("/counts/divergence_total", 3.into()),
        ("/counts/ops_received", 11.into()),
    ] {
        assert_eq!(status.pointer(path), Some(&want), "{path} in {status:#}");
    }
    assert!(answer.json()["now_ms"].as_u64().is_some_and(|now_ms| now_ms > 0));
}

#[tokio::test]
async fn the_page_shows_links_and_what_is_wrong_and_escapes_all_of_it() {
    let door = Door::new();
    let alone = door.get("/").await;
    assert!(alone.text().contains("Linked with nobody"), "{}", alone.text());
    feed(&door);
    let page = door.get("/").await;
    door.check(&page, 200);
    for part in [
        "of the cluster shop&lt;1&gt;",
        "2 of 3 nodes reached",
        "3 keys differed",
        "<td>porto&lt;1&gt; (replica)</td>",
        "<td class=\"n\">250 ms</td>",
        "<td>faro:7400</td><td>failed</td>",
        "no &lt;route&gt;",
        "this node",
    ] {
        assert!(page.text().contains(part), "no {part} in {}", page.text());
    }
    for raw in ["porto<1>", "shop<1>", "no <route>", "Linked with nobody"] {
        assert!(!page.text().contains(raw), "{raw} in {}", page.text());
    }
}

#[tokio::test]
async fn figures_say_how_each_link_stands_in_base_units() {
    let door = Door::new();
    let before = door.get("/metrics").await;
    assert!(!before.text().contains("atoll_link_lag_seconds"), "no link, no figure");
    assert!(before.text().contains("atoll_readiness{state=\"ready\"} 1"), "{}", before.text());
    feed(&door);
    let answer = door.get("/metrics").await;
    door.check(&answer, 200);
    for line in [
        "atoll_link_lag_seconds{peer=\"porto<1>\"} 0.25",
        "atoll_link_behind_ops{peer=\"porto<1>\"} 7.0",
        "atoll_link_round_trip_seconds{peer=\"porto<1>\"} 0.0015",
        "atoll_link_clock_skew_seconds{peer=\"porto<1>\"} -0.02",
        "atoll_link_sent_bytes_total{peer=\"porto<1>\"} 1000",
        "atoll_link_received_bytes_total{peer=\"porto<1>\"} 2000",
        "atoll_peer_links{endpoint=\"porto:7400\"} 1.0",
        "atoll_peer_links{endpoint=\"faro:7400\"} 0.0",
        "atoll_links 1",
        "atoll_members 2",
        "atoll_quorum 1",
        "atoll_floor_age_seconds 1.5",
        "atoll_clock_skew_seconds 0.003",
        "atoll_divergence_total 3",
        "atoll_ops_received_total 11",
        "atoll_waiters 0",
        "atoll_subscribers 0",
    ] {
        assert!(answer.text().lines().any(|got| got == line), "no {line} in {}", answer.text());
    }
}

#[tokio::test]
async fn peers_are_added_and_removed_over_http() {
    let door = Door::new();
    let post = |body: &'static str| {
        let door = &door;
        async move { door.ask("POST /v1/cluster/peers", &[], body).await }
    };
    let added = post("{\"add\":\"Porto:7400\"}").await;
    door.check(&added, 200);
    assert_eq!(added.json()["peers"][0]["endpoint"], "porto:7400");
    assert_eq!(added.json()["peers"][0]["state"], "connecting");
    door.check(&post("{\"add\":\"dns:app.internal:7400\"}").await, 200);
    let list = door.get("/v1/cluster/peers").await;
    assert_eq!(list.json()["peers"].as_array().map(Vec::len), Some(2));
    let removed = post("{\"remove\":\"porto:7400\"}").await;
    assert_eq!(removed.json()["peers"][0]["endpoint"], "dns:app.internal:7400");
    let unknown = post("{\"remove\":\"porto:7400\"}").await;
    door.check(&unknown, 404);
    assert_eq!(unknown.code(), "unknown-peer");
    for bad in [
        "",
        "{}",
        "[]",
        "{\"add\":\"a:1\",\"remove\":\"b:1\"}",
        "{\"add\":\"7400\"}",
        "{\"add\":1}",
        "{\"clear\":true}",
    ] {
        let answer = post(bad).await;
        door.check(&answer, 400);
        assert_eq!(answer.code(), "bad-peer", "{bad}");
    }
    let foreign = [("host", "127.0.0.1:8081"), ("origin", "http://evil.example")];
    let answer = door.ask("POST /v1/cluster/peers", &foreign, "{\"add\":\"evil:1\"}").await;
    door.check(&answer, 403);
}

#[tokio::test]
async fn a_node_is_forgotten_only_if_it_is_known_and_silent() {
    let door = Door::new();
    feed(&door);
    let unknown = door.ask("DELETE /v1/cluster/nodes/lagos", &[], "").await;
    door.check(&unknown, 404);
    assert_eq!(unknown.code(), "unknown-node");
    assert!(unknown.text().contains("porto<1>"), "{}", unknown.text());
    let linked = door.ask("DELETE /v1/cluster/nodes/porto%3C1%3E", &[], "").await;
    door.check(&linked, 409);
    assert_eq!(linked.code(), "node-is-alive");
    let itself = door.ask("DELETE /v1/cluster/nodes/self", &[], "").await;
    door.check(&itself, 409);
    assert_eq!(itself.code(), "node-is-this-one");
    let status = door.node.replication().status();
    let mut members = status.members.clone();
    (members[1].linked, members[1].silent_ms) = (false, 60_000);
    door.node.replication().publish_status(Status { members, ..Status::clone(&status) });
    let busy = door.ask("DELETE /v1/cluster/nodes/porto%3C1%3E", &[], "").await;
    door.check(&busy, 503);
    door.node.replication().set_forgetter(Box::new(|origin| origin == Uuid::from_u128(2)));
    let forgotten = door.ask("DELETE /v1/cluster/nodes/porto%3C1%3E", &[], "").await;
    door.check(&forgotten, 200);
    assert_eq!(forgotten.json()["forgotten"], "porto<1>");
}

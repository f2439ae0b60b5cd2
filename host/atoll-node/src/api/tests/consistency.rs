//! Copies on other nodes, sessions, and nodes that refuse: the API over a board fed by hand.

use super::*;
use crate::replication::progress::Held;
use atoll_core::replica::status::{Readiness, Status};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const KEY: &str = "/v1/kv/b/k";

fn hold(door: &Door, holders: &[(&str, u64)], vector: &[(Uuid, u64)]) {
    let holders = holders.iter().map(|(name, seq)| (name.to_string(), *seq)).collect();
    let vector = vector.iter().copied().collect();
    door.node.replication().progress().publish(Held { holders, vector });
}

fn publish_readiness(door: &Door, readiness: Readiness) {
    let replication = door.node.replication();
    replication.publish_status(Status { readiness, ..Status::clone(&replication.status()) });
}

#[tokio::test]
async fn each_write_is_named_to_its_client() {
    let door = Door::new();
    let origin = door.node.store().origin();
    for (request, body, seq) in [
        ("PUT /v1/kv/b/k", "1", 1),
        ("PATCH /v1/kv/b/k", "{\"incr\":1}", 2),
        ("POST /v1/kv/b:batch", "{\"op\":\"put\",\"key\":\"x\",\"value\":\"1\"}", 3),
        ("DELETE /v1/kv/b/k", "", 4),
    ] {
        let answer = door.ask(request, &[], body).await;
        assert!(answer.status < 300, "{answer:?}");
        assert_eq!(answer.header("atoll-session"), format!("{origin}:{seq}"), "{request}");
        assert!(!answer.headers.contains_key("atoll-replicas"), "nobody asked");
    }
    assert!(!door.get("/v1/kv/b/x").await.headers.contains_key("atoll-session"));
    let refused = door.ask("PUT /v1/kv/b/k", &[("if-match", "*")], "").await;
    assert!(!refused.headers.contains_key("atoll-session"), "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn copies_are_waited_for_and_counted_truly() {
    let door = Door::new();
    hold(&door, &[("lisbon", 99), ("porto", 1)], &[]);
    let put = door.put("/v1/kv/b/k?wait=2&ttl=60", "1").await;
    door.check(&put, 201);
    assert_eq!(put.header("atoll-replicas"), "2");
    let begun = Instant::now();
    let put = door.put("/v1/kv/b/k?wait=2&timeout=250", "2").await;
    assert_eq!((put.status, put.header("atoll-replicas")), (202, "1"));
    assert!(put.headers.contains_key("etag") && put.headers.contains_key("atoll-session"));
    assert_eq!(begun.elapsed(), Duration::from_millis(250));
    assert_eq!(door.get(KEY).await.text(), "2", "the write was made all the same");
    let patch = door.ask("PATCH /v1/kv/b/k?wait=2&timeout=0", &[], "{\"incr\":1}").await;
    assert_eq!((patch.status, patch.json()["value"].as_i64()), (202, Some(3)));
    let delete = door.ask("DELETE /v1/kv/b/k?wait=1", &[], "").await;
    assert_eq!((delete.status, delete.header("atoll-replicas")), (204, "1"));
    let batch = door.ask("POST /v1/kv/b:batch?wait=2&timeout=1", &[], "").await;
    assert_eq!((batch.status, batch.header("atoll-replicas")), (202, "1"));
    for bad in ["wait=x", "timeout=1", "wait=1&timeout=99999999"] {
        for request in ["PUT /v1/kv/b/k", "DELETE /v1/kv/b/k", "POST /v1/kv/b:batch"] {
            door.check(&door.ask(&format!("{request}?{bad}"), &[], "").await, 400);
        }
    }
    door.check(&door.get("/v1/kv/b/k?wait=1").await, 400);
}

#[tokio::test]
async fn a_copy_that_arrives_ends_the_wait() {
    let door = Arc::new(Door::new());
    let asking = Arc::clone(&door);
    let put = tokio::spawn(async move { asking.put("/v1/kv/b/k?wait=1&timeout=60000", "1").await });
    door.node.replication().progress().wanted().await;
    hold(&door, &[("lisbon", 1)], &[]);
    let put = put.await.expect("it is answered");
    assert_eq!((put.status, put.header("atoll-replicas")), (201, "1"));
}

#[tokio::test]
async fn a_node_that_stops_tells_the_truth_so_far() {
    let door = Arc::new(Door::new());
    let asking = Arc::clone(&door);
    let put = tokio::spawn(async move { asking.put("/v1/kv/b/k?wait=1&timeout=60000", "1").await });
    door.node.replication().progress().wanted().await;
    door.shutdown.cancel();
    let put = put.await.expect("it is answered");
    assert_eq!((put.status, put.header("atoll-replicas")), (202, "0"));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_read_after_its_write_or_not_at_all() {
    let door = Door::new();
    door.put(KEY, "1").await;
    let (own, other) = (door.node.store().origin(), Uuid::from_u128(9));
    let ask = |request: &'static str, session: String| {
        let door = &door;
        async move { door.ask(request, &[("atoll-session", &session)], "v").await }
    };
    door.check(&ask("GET /v1/kv/b/k", format!("{own}:1")).await, 200);
    let begun = Instant::now();
    let answer = ask("GET /v1/kv/b/k", format!("{own}:2")).await;
    door.check(&answer, 503);
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody will tell this process of its own writes");
    for request in
        ["GET /v1/kv/b/k", "HEAD /v1/kv/b/k", "GET /v1/kv/b", "PUT /v1/kv/b/k", "DELETE /v1/kv/b/k"]
    {
        let begun = Instant::now();
        let answer = ask(request, format!("{own}:1,{other}:7")).await;
        assert_eq!(answer.status, 503, "{request}");
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }
    let answer = ask("GET /v1/kv/b/k", format!("{other}:7")).await;
    assert_eq!(answer.code(), "session-behind");
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("up to 0")));
    assert_eq!(door.get(KEY).await.text(), "1", "a write that is refused was not made");
    hold(&door, &[], &[(other, 7)]);
    door.check(&ask("GET /v1/kv/b/k", format!("{other}:7, {own}:1")).await, 200);
    door.check(&ask("PUT /v1/kv/b/k", format!("{other}:7")).await, 204);
    door.check(&ask("GET /v1/kv/b/k", "nonsense".to_owned()).await, 400);
}

#[tokio::test]
async fn a_session_waits_for_its_write_to_arrive() {
    let door = Arc::new(Door::new());
    door.put(KEY, "1").await;
    let (asking, other) = (Arc::clone(&door), Uuid::from_u128(9));
    let get = tokio::spawn(async move {
        let session = format!("{other}:3");
        asking.ask("GET /v1/kv/b/k", &[("atoll-session", &session)], "").await
    });
    door.node.replication().progress().wanted().await;
    hold(&door, &[], &[(other, 3)]);
    door.check(&get.await.expect("it is answered"), 200);
}

#[tokio::test]
async fn a_replica_serves_reads_and_refuses_writes() {
    let door = Door::with("role = \"replica\"");
    for request in [
        "PUT /v1/kv/b/k",
        "DELETE /v1/kv/b/k",
        "PATCH /v1/kv/b/k",
        "PUT /v1/handlers/h?route=/",
        "DELETE /v1/handlers/h",
    ] {
        let answer = door.ask(request, &[], "").await;
        door.check(&answer, 403);
        assert_eq!(answer.code(), "read-only-replica", "{request}");
    }
    let lines = "{\"op\":\"get\",\"key\":\"k\"}\n{\"op\":\"put\",\"key\":\"k\",\"value\":\"v\"}\n\
                 {\"op\":\"delete\",\"key\":\"k\"}";
    let batch = door.ask("POST /v1/kv/b:batch", &[], lines).await;
    door.check(&batch, 200);
    let statuses: Vec<_> = batch.lines().iter().map(|line| line["status"].clone()).collect();
    assert_eq!(statuses, [404, 403, 403]);
    door.check(&door.get(KEY).await, 404);
    door.check(&door.get("/v1/kv/b").await, 200);
    assert_eq!(door.node.store().seq(), 0);
}

#[tokio::test]
async fn a_node_in_a_bad_state_says_which_to_writers_and_balancers() {
    let door = Door::new();
    for (readiness, code, write) in [
        (Readiness::Joining, "joining", 204),
        (Readiness::Stale, "stale", 204),
        (Readiness::Skewed, "skewed", 503),
        (Readiness::Superseded, "superseded", 503),
    ] {
        publish_readiness(&door, readiness);
        let ready = door.get("/readyz").await;
        door.check(&ready, 503);
        assert_eq!(ready.code(), code);
        let delete = door.ask("DELETE /v1/kv/b/k", &[], "").await;
        assert_eq!(delete.status, write, "{code}");
        if write == 503 {
            assert_eq!(delete.header("retry-after"), "5");
        }
        door.check(&door.get("/livez").await, 200);
    }
    publish_readiness(&door, Readiness::Ready);
    door.check(&door.get("/readyz").await, 200);
}

#[tokio::test]
async fn who_serves_nothing_stale_is_not_ready_below_its_quorum() {
    let door = Door::with("serve_stale = \"no\"\npeers = [\"lisbon:7400\"]");
    for request in ["GET /v1/kv/b/k", "GET /v1/kv/b", "PUT /v1/kv/b/k", "GET /v1/kv/b?watch="] {
        let answer = door.ask(request, &[], "").await;
        door.check(&answer, 503);
        assert_eq!(answer.code(), "no-quorum", "{request}");
    }
    assert_eq!(door.get("/readyz").await.code(), "joining");
    // It has waited for its peers for long enough.
    publish_readiness(&door, Readiness::Ready);
    assert_eq!(door.get("/readyz").await.code(), "cut-off");
    door.node.replication().clear_peers();
    door.check(&door.put(KEY, "v").await, 201);
    door.check(&door.get("/readyz").await, 200);
}

//! What a client is told while the node loads, and while its disk fails.

use super::Door;
use atoll_core::store::gate::Obstacle;
use std::time::Duration;

#[tokio::test]
async fn while_the_node_loads_reads_are_served_and_writes_told_to_wait() {
    let door = Door::new();
    door.check(&door.put("/v1/kv/default/k", "v").await, 201);
    door.node.store().set_obstacle(Some(Obstacle::Loading));
    assert_eq!(door.get("/v1/kv/default/k").await.body, "v");
    for request in ["PUT /v1/kv/default/k", "DELETE /v1/kv/default/k", "PUT /v1/restore"] {
        let answer = door.ask(request, &[], "v").await;
        door.check(&answer, 503);
        assert_eq!(answer.json()["code"], "loading", "{request}");
        assert_eq!(answer.header("retry-after"), "1");
    }
    let body = r#"{"op":"put","key":"k","value":"v2"}"#;
    let batch = door.ask("POST /v1/kv/default:batch", &[], body).await;
    assert_eq!(batch.json()["code"], "loading");
    let ready = door.get("/readyz").await;
    door.check(&ready, 503);
    assert_eq!(ready.json()["code"], "loading");
    assert_eq!(door.get("/livez").await.status, 200);
    door.node.store().set_obstacle(None);
    door.check(&door.put("/v1/kv/default/k", "v2").await, 204);
    assert_eq!(door.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_node_waits_for_its_handlers_but_not_for_ever() {
    let door = Door::new();
    door.node.start_warming(Duration::from_secs(600));
    let ready = door.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["code"]), (503, &"warming".into()));
    door.check(&door.put("/v1/kv/default/k", "v").await, 201);
    door.node.end_warming();
    assert_eq!(door.get("/readyz").await.status, 200);
    door.node.start_warming(Duration::ZERO);
    assert_eq!(door.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn while_the_disk_fails_writes_are_refused_with_507() {
    let door = Door::new();
    door.node.store().set_obstacle(Some(Obstacle::Disk));
    let answer = door.put("/v1/kv/default/k", "v").await;
    door.check(&answer, 507);
    assert_eq!(answer.json()["code"], "disk");
    let counted = door.ask("PATCH /v1/kv/default/n", &[], r#"{"incr":1}"#).await;
    assert_eq!(counted.json()["code"], "disk");
    let ready = door.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["code"]), (503, &"disk".into()));
}

#[tokio::test]
async fn a_backup_is_restored_and_no_more_than_two_go_on_at_once() {
    let door = Door::new();
    door.check(&door.put("/v1/kv/default/k", "v").await, 201);
    let backup = door.get("/v1/backup").await;
    assert_eq!(backup.status, 200);
    let other = Door::new();
    let restored = other.ask("PUT /v1/restore", &[], backup.body.clone()).await;
    other.check(&restored, 200);
    assert_eq!(restored.json(), serde_json::json!({"keys": 1, "restored": 1, "known": 0}));
    assert_eq!(other.get("/v1/kv/default/k").await.body, "v");
    let cut = other.ask("PUT /v1/restore", &[], backup.body.slice(..backup.body.len() - 1)).await;
    other.check(&cut, 400);
    assert_eq!(cut.json()["code"], "bad-backup");

    // Answers that are not read to their end keep their places.
    let open = || super::build("GET /v1/backup", &[], "".into());
    let (first, second) = (door.send(open()).await, door.send(open()).await);
    let third = door.get("/v1/backup").await;
    door.check(&third, 503);
    drop((first, second));
    assert_eq!(door.get("/v1/backup").await.status, 200);
}

#[tokio::test]
async fn a_full_node_takes_no_more_of_a_backup() {
    let door = Door::new();
    for n in 0..40 {
        let value = axum::body::Body::from(vec![0; 100_000]);
        door.ask(&format!("PUT /v1/kv/default/k{n}"), &[], value).await;
    }
    let backup = door.get("/v1/backup").await;
    let small = Door::with("memory_max = \"1MiB\"");
    let answer = small.ask("PUT /v1/restore", &[], backup.body).await;
    small.check(&answer, 507);
    assert_eq!(answer.json()["code"], "memory-full");
}

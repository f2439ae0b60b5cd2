//! Changes as server-sent events: what a client is told, and how a watch ends.

use super::*;
use atoll_core::clock::Stamp;
use atoll_core::key::BucketName;
use http_body_util::BodyExt as _;
use std::time::Duration;
use tokio::time::timeout;

/// A client of a watch.
struct Client {
    body: Body,
    text: String,
}

impl Client {
    async fn new(door: &Door, path: &str, last_event_id: Option<&str>) -> Client {
        let headers: Vec<_> = last_event_id.iter().map(|id| ("last-event-id", *id)).collect();
        let response = door.send(build(&format!("GET {path}"), &headers, Body::empty())).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut client = Client { body: response.into_body(), text: String::new() };
        assert!(client.next_block().await.expect("a greeting").starts_with("retry: "));
        client
    }

    /// The text up to the next empty line, or `None` at the end of the stream.
    async fn next_block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let frame = timeout(Duration::from_secs(60), self.body.frame());
            let frame = frame.await.expect("the next event in time")?;
            let data = frame.expect("a frame").into_data().expect("data");
            self.text += std::str::from_utf8(&data).expect("text");
        }
    }

    /// Event, id and data of the next event.
    async fn next(&mut self) -> (String, String, serde_json::Value) {
        let block = self.next_block().await.expect("an event");
        let field = |name: &str| {
            let mut lines = block.lines().filter_map(|line| line.strip_prefix(name));
            lines.next().unwrap_or_else(|| panic!("no {name} in {block}")).to_owned()
        };
        let data = serde_json::from_str(&field("data: ")).expect("JSON");
        (field("event: "), field("id: "), data)
    }
}

#[tokio::test]
async fn a_watcher_is_told_of_changes_under_its_prefix() {
    let door = Door::new();
    let mut client = Client::new(&door, "/v1/kv/b?watch=a%2F", None).await;
    let tag = door.put("/v1/kv/b/a/1?ttl=60", "val").await.header("etag").to_owned();
    door.put("/v1/kv/b/other", "v").await;
    door.put("/v1/kv/other/a/1", "v").await;
    door.ask("PATCH /v1/kv/b/a/1", &[], r#"{"persist":true}"#).await;
    door.ask("PATCH /v1/kv/b/a/n", &[], r#"{"incr":1}"#).await;
    door.ask("DELETE /v1/kv/b/a/1", &[], "").await;
    let bucket = BucketName::new("b").expect("valid");
    let bucket = door.node.store().find_bucket(&bucket).expect("it holds keys");
    door.node.store().flush(&bucket, door.node.now());

    let (event, _, data) = client.next().await;
    assert_eq!(
        (&event[..], &data["name"], &data["change"]),
        ("put", &"a/1".into(), &"value".into())
    );
    assert_eq!((&data["etag"], &data["size"]), (&tag.into(), &3.into()));
    assert!(data["expires_at"].is_number());
    let (event, _, data) = client.next().await;
    assert_eq!((&event[..], &data["change"]), ("put", &"lifetime".into()));
    let (event, _, data) = client.next().await;
    assert_eq!(
        (&event[..], &data["name"], &data["change"]),
        ("put", &"a/n".into(), &"count".into())
    );
    let (event, _, data) = client.next().await;
    assert_eq!((&event[..], &data), ("delete", &serde_json::json!({"name": "a/1"})));
    assert_eq!(client.next().await.0, "flush");
}

#[tokio::test]
async fn a_watcher_is_told_of_what_came_by_a_sync_as_it_is_now() {
    let door = Door::new();
    let tag = door.put("/v1/kv/b/k", "val").await.header("etag").to_owned();
    let mut client = Client::new(&door, "/v1/kv/b?watch=k", None).await;
    let (store, now) = (door.node.store(), door.node.now());
    let bucket = store.find_bucket(&BucketName::new("b").expect("valid")).expect("it holds keys");
    for key in [&b"k"[..], b"k-gone", b"other"] {
        store.log_arrival(now, &bucket, key);
    }
    store.log_flush_arrival(now, &bucket, Stamp::ZERO);
    let (event, _, data) = client.next().await;
    let want = serde_json::json!({"name": "k", "etag": tag, "size": 3});
    assert_eq!((&event[..], data), ("put", want));
    let (event, _, data) = client.next().await;
    assert_eq!((&event[..], data), ("delete", serde_json::json!({"name": "k-gone"})));
    assert_eq!(client.next().await.0, "flush");
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_cut() {
    let door = Door::new();
    let mut client = Client::new(&door, "/v1/kv/b?watch=", None).await;
    for key in ["1", "2", "3"] {
        door.put(&format!("/v1/kv/b/{key}"), "v").await;
    }
    let (_, id, data) = client.next().await;
    assert_eq!(data["name"], "1");
    drop(client);
    let mut client = Client::new(&door, "/v1/kv/b?watch=", Some(&id)).await;
    assert_eq!(client.next().await.2["name"], "2");
    assert_eq!(client.next().await.2["name"], "3");
}

#[tokio::test]
async fn who_has_missed_changes_is_told_to_list_again() {
    let door = Door::with("log_max = \"1KiB\"");
    let origin = door.node.store().origin();
    let long_ago = format!("{origin}.0");
    let mut client = Client::new(&door, "/v1/kv/b?watch=", None).await;
    for n in 0..100 {
        door.put(&format!("/v1/kv/b/{n}"), "v").await;
    }
    let (event, id, _) = client.next().await;
    assert_eq!(event, "reset", "a slow reader falls off the log");
    assert_eq!(id, format!("{origin}.100"));
    door.put("/v1/kv/b/after", "v").await;
    assert_eq!(client.next().await.2["name"], "after", "and goes on from there");
    let other = "019318c4-0000-7000-8000-000000000000.5";
    let future = format!("{origin}.99999");
    for last in [&long_ago[..], other, &future, "", "nonsense", "1.2.3"] {
        let mut client = Client::new(&door, "/v1/kv/b?watch=", Some(last)).await;
        assert_eq!(client.next().await.0, "reset", "{last}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_says_that_it_is_alive_and_where_it_is() {
    let door = Door::new();
    let mut client = Client::new(&door, "/v1/kv/b?watch=none", None).await;
    door.put("/v1/kv/b/k", "v").await;
    let block = client.next_block().await.expect("a sign of life");
    let id = format!("id: {}.1", door.node.store().origin());
    assert!(block.starts_with(": keep-alive\n") && block.ends_with(&id), "{block}");
}

#[tokio::test]
async fn watches_end_with_the_node_and_are_bounded() {
    let door = Door::new();
    let mut clients = Vec::new();
    for _ in 0..WATCHER_COUNT_MAX {
        clients.push(Client::new(&door, "/v1/kv/b?watch=", None).await);
    }
    let answer = door.get("/v1/kv/b?watch=").await;
    door.check(&answer, 503);
    assert_eq!(answer.code(), "watchers-full");
    clients.pop();
    clients.push(Client::new(&door, "/v1/kv/b?watch=", None).await);
    door.shutdown.cancel();
    for mut client in clients {
        assert_eq!(client.next_block().await, None);
    }
}

#[tokio::test]
async fn a_watch_that_ends_stops_reading_the_log() {
    let door = Door::new();
    let store = door.node.store();
    drop(Client::new(&door, "/v1/kv/b?watch=", None).await);
    let head = door.ask("HEAD /v1/kv/b?watch=", &[], "").await;
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    // Long after the last reader has gone, ops are no longer kept.
    let later = door.node.now().millis() + 2 * atoll_core::store::log::LINGER_MS;
    let later = atoll_core::clock::Now::from_millis(later);
    store.flush(store.database(0), later);
    assert_eq!(store.log_bytes(), 0);
}

#[tokio::test]
async fn a_watch_takes_one_parameter() {
    let door = Door::new();
    door.check(&door.get("/v1/kv/b?watch=a&limit=1").await, 400);
    door.check(&door.get(&format!("/v1/kv/b?watch={}", "a".repeat(1_025))).await, 400);
    door.check(&door.get("/v1/kv/_sys?watch=").await, 403);
}

//! Listing a bucket: pages, folders, both forms, and names that are no text.

use super::*;

async fn filled() -> Door {
    let door = Door::new();
    for key in ["a", "b/1", "b/2", "b/3", "c%20d", "%ff"] {
        door.check(&door.put(&format!("/v1/kv/b/{key}"), "val").await, 201);
    }
    door
}

fn names(page: &serde_json::Value) -> Vec<String> {
    let keys = page["keys"].as_array().expect("keys");
    let name = |key: &serde_json::Value| {
        let name = key["name"].as_str().map(str::to_owned);
        name.unwrap_or_else(|| format!("b64:{}", key["name_b64"].as_str().expect("a name")))
    };
    keys.iter().map(name).collect()
}

#[track_caller]
fn check_names(answer: &Answer, want: &[&str]) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(names(&answer.json()), want);
}

#[tokio::test]
async fn a_page_holds_names_and_what_is_known_of_them() {
    let door = filled().await;
    let answer = door.get("/v1/kv/b").await;
    check_names(&answer, &["a", "b/1", "b/2", "b/3", "c d", "b64:/w=="]);
    let page = answer.json();
    assert_eq!(page["cursor"], serde_json::Value::Null);
    assert!(!answer.headers.contains_key("link"));
    let first = &page["keys"][0];
    assert_eq!(first["size"], 3);
    assert_eq!(first["expires_at"], serde_json::Value::Null);
    let tag = door.get("/v1/kv/b/a").await.header("etag").to_owned();
    assert_eq!(first["etag"], tag);
    let head = door.ask("HEAD /v1/kv/b", &[], "").await;
    door.check(&head, 200);
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn prefix_and_delimiter_make_folders() {
    let door = filled().await;
    check_names(&door.get("/v1/kv/b?prefix=b%2F").await, &["b/1", "b/2", "b/3"]);
    check_names(&door.get("/v1/kv/b?prefix=c+").await, &["c d"]);
    let answer = door.get("/v1/kv/b?delimiter=/").await;
    check_names(&answer, &["a", "c d", "b64:/w=="]);
    assert_eq!(answer.json()["prefixes"], serde_json::json!(["b/"]));
    let answer = door.get("/v1/kv/b?delimiter=%ff").await;
    assert_eq!(answer.json()["prefixes_b64"], serde_json::json!(["/w=="]));
}

#[tokio::test]
async fn following_the_links_visits_each_name_once() {
    let door = filled().await;
    let mut seen = Vec::new();
    let mut path = "/v1/kv/b?limit=2&delimiter=%2F".to_owned();
    for _ in 0..10 {
        let answer = door.get(&path).await;
        door.check(&answer, 200);
        let page = answer.json();
        assert!(page["keys"].as_array().expect("keys").len() <= 2);
        seen.extend(names(&page));
        seen.extend(page["prefixes"].as_array().expect("prefixes").iter().map(|p| p.to_string()));
        let Some(link) = answer.headers.get("link") else { break };
        let link = link.to_str().expect("visible ASCII");
        let target = link.strip_prefix('<').and_then(|l| l.strip_suffix(">; rel=\"next\""));
        path = target.expect("a link to the next page").to_owned();
        assert!(path.contains(page["cursor"].as_str().expect("a cursor")));
    }
    assert_eq!(seen, ["a", "\"b/\"", "c d", "b64:/w=="]);
}

#[tokio::test]
async fn lines_are_given_to_who_asks_for_them() {
    let door = filled().await;
    let accept = [("accept", "text/html, Application/X-NDJSON;q=0.9")];
    let answer = door.ask("GET /v1/kv/b?delimiter=/", &accept, "").await;
    door.check(&answer, 200);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines = answer.lines();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["name"], "a");
    assert_eq!(lines[1], serde_json::json!({"prefix": "b/"}));
    assert_eq!(lines[3]["name_b64"], "/w==");
}

#[tokio::test]
async fn an_unknown_bucket_is_empty_and_nonsense_is_refused() {
    let door = Door::new();
    check_names(&door.get("/v1/kv/unknown").await, &[]);
    for (query, code) in [
        ("limit=0", "bad-limit"),
        ("limit=1001", "bad-limit"),
        ("limit=x", "bad-limit"),
        ("cursor=", "bad-cursor"),
        ("cursor=%21", "bad-cursor"),
        ("cursor=YQ==", "bad-cursor"),
        ("prefx=a", "unknown-parameter"),
        ("prefix=%f", "bad-escape"),
    ] {
        let answer = door.get(&format!("/v1/kv/b?{query}")).await;
        door.check(&answer, 400);
        assert_eq!(answer.code(), code, "{query}");
    }
    let long = format!("/v1/kv/b?prefix={}", "a".repeat(1_025));
    door.check(&door.get(&long).await, 400);
}

//! Many operations in one request.

use super::*;

#[tokio::test]
async fn each_line_gets_its_answer_in_order() {
    let door = Door::new();
    let lines = [
        r#"{"op":"put","key":"a","value":"1","ttl":60,"content_type":"text/plain","tags":["t"]}"#,
        r#"{"op":"get","key":"a"}"#,
        r#"{"op":"put","key":"a","value":"2","if_none_match":"*"}"#,
        r#"nonsense"#,
        "",
        r#"{"op":"put","key_b64":"/w==","value_b64":"/wA=","meta":{"x":1}}"#,
        r#"{"op":"get","key_b64":"/w=="}"#,
        r#"{"op":"delete","key":"a"}"#,
        r#"{"op":"get","key":"a"}"#,
        r#"{"op":"delete","key":"a"}"#,
    ];
    let answer = door.ask("POST /v1/kv/b:batch", &[], lines.join("\n")).await;
    door.check(&answer, 200);
    let got = answer.lines();
    let statuses: Vec<_> = got.iter().map(|line| line["status"].as_u64().unwrap_or(0)).collect();
    assert_eq!(statuses, [201, 200, 412, 400, 201, 200, 204, 404, 204]);
    assert_eq!(got[1]["value"], "1");
    assert_eq!(got[1]["etag"], got[0]["etag"]);
    assert_eq!(got[1]["content_type"], "text/plain");
    assert!(got[1]["expires_at"].is_number());
    assert_eq!(got[2]["code"], "precondition-failed");
    assert_eq!(got[3]["code"], "bad-operation");
    assert_eq!((&got[5]["key_b64"], &got[5]["value_b64"]), (&"/w==".into(), &"/wA=".into()));
    assert_eq!(door.get("/v1/kv/b/%ff").await.header("atoll-meta"), "{\"x\":1}");
}

#[tokio::test]
async fn a_batch_can_compare_and_set() {
    let door = Door::new();
    let tag = door.put("/v1/kv/b/k", "1").await.header("etag").to_owned();
    let line = serde_json::json!({"op": "put", "key": "k", "value": "2", "if_match": tag});
    let body = format!("{line}\n{line}");
    let got = door.ask("POST /v1/kv/b:batch", &[], body).await.lines();
    assert_eq!((&got[0]["status"], &got[1]["status"]), (&204.into(), &412.into()));
}

#[tokio::test]
async fn a_line_that_is_no_operation_spoils_only_itself() {
    let door = Door::new();
    for line in [
        "{}",
        "[]",
        "1",
        "null",
        "\"",
        "\u{fffd}",
        r#"{"op":"get"}"#,
        r#"{"op":"what","key":"k"}"#,
        r#"{"op":"get","key":""}"#,
        r#"{"op":"get","key":"k","key_b64":"aw=="}"#,
        r#"{"op":"get","key_b64":"!"}"#,
        r#"{"op":"get","key":"k","value":"v"}"#,
        r#"{"op":"get","key":"k","if_match":"*"}"#,
        r#"{"op":"delete","key":"k","ttl":1}"#,
        r#"{"op":"put","key":"k"}"#,
        r#"{"op":"put","key":"k","value":1}"#,
        r#"{"op":"put","key":"k","value":"v","ttl":-1}"#,
        r#"{"op":"put","key":"k","value":"v","ttl":1,"expires_at":9999999999}"#,
        r#"{"op":"put","key":"k","value":"v","if_match":"v"}"#,
        r#"{"op":"put","key":"k","value":"v","content_type":"a\nb"}"#,
        r#"{"op":"put","key":"k","value":"v","tags":["a b"]}"#,
        r#"{"op":"put","key":"k","value":"v","tll":1}"#,
    ] {
        let body = format!("{line}\n{{\"op\":\"get\",\"key\":\"k\"}}");
        let got = door.ask("POST /v1/kv/b:batch", &[], body).await.lines();
        assert_eq!(got.len(), 2, "{line}");
        assert_eq!((&got[0]["status"], &got[1]["status"]), (&400.into(), &404.into()), "{line}");
    }
}

#[tokio::test]
async fn a_batch_has_a_bound_in_operations_and_in_what_it_answers() {
    let door = Door::new();
    let line = "{\"op\":\"put\",\"key\":\"k\",\"value\":\"v\"}\n";
    door.check(&door.ask("POST /v1/kv/b:batch", &[], line.repeat(1_001)).await, 413);
    door.check(&door.get("/v1/kv/b/k").await, 404);
    let answer = door.ask("POST /v1/kv/b:batch", &[], line.repeat(1_000)).await;
    assert_eq!(answer.lines().len(), 1_000);

    door.ask("PUT /v1/kv/b/large", &[], vec![b'a'; 9 << 20]).await;
    let get = "{\"op\":\"get\",\"key\":\"large\"}\n";
    let body = format!("{get}{get}{{\"op\":\"get\",\"key\":\"k\"}}");
    let got = door.ask("POST /v1/kv/b:batch", &[], body).await.lines();
    let statuses: Vec<_> = got.iter().map(|line| line["status"].as_u64().unwrap_or(0)).collect();
    assert_eq!(statuses, [200, 413, 200]);
}

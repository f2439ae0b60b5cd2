//! Routes through the API: live on every node, refused where another takes the same requests.

use super::origin::{Act, Origin, ask, node_before, response};
use crate::api::atoll;
use crate::node::{Answer, TestNode, wait_until};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

fn named(name: &'static str) -> Origin {
    Origin::start(move |_, _| Act::Send(response(200, &[FRESH], name)))
}

fn put(node: &TestNode, name: &str, path: &str, origin: &Origin) -> Answer {
    let body =
        format!(r#"{{"path": "{path}", "upstream": "http://{}", "cache": true}}"#, origin.address);
    node.http("PUT", node.api, &format!("/v1/routes/{name}"), body.as_bytes())
}

#[test]
fn a_route_is_live_on_every_node_and_its_successor_serves_nothing_old() {
    let (red, blue) = (named("red"), named("blue"));
    let one = TestNode::start();
    let two = TestNode::start_with(&["--name", "two", "--peer", &one.peers().to_string()]);
    assert_eq!(ask(&one, "GET", "/shop/a", &[]).status(), 404);
    assert_eq!(put(&one, "shop", "/shop/*", &red).status, 201);
    for number in 0..2 {
        let answer = ask(&one, "GET", "/shop/a", &[]);
        assert_eq!(answer.text(), "red", "live when it is answered");
        assert_eq!(answer.field("cache-status").contains("; hit"), number > 0);
    }
    wait_until("the other node has it", || {
        (ask(&two, "GET", "/shop/a", &[]).text() == "red").then_some(())
    });
    assert_eq!(put(&two, "shop", "/shop/*", &blue).status, 200);
    assert_eq!(ask(&two, "GET", "/shop/a", &[]).text(), "blue", "nothing that was cached");
    wait_until("the first node has it", || {
        (ask(&one, "GET", "/shop/a", &[]).text() == "blue").then_some(())
    });
    let listed = one.http("GET", one.api, "/v1/routes", b"").json();
    assert_eq!(listed["routes"][0]["name"], "shop");
    assert_eq!(listed["routes"][0]["route"]["cache"], true);
    assert!(listed["routes"][0]["error"].is_null(), "{listed}");
    // A more specific one takes over at once, and what it took over comes back when it goes.
    assert_eq!(put(&one, "a", "GET /shop/a", &red).status, 201);
    assert_eq!(ask(&one, "GET", "/shop/a", &[]).text(), "red");
    assert_eq!(one.http("DELETE", one.api, "/v1/routes/a", b"").status, 204);
    assert_eq!(ask(&one, "GET", "/shop/a", &[]).text(), "blue");
    assert_eq!(two.http("DELETE", two.api, "/v1/routes/shop", b"").status, 204);
    assert_eq!(ask(&two, "GET", "/shop/a", &[]).status(), 404);
    wait_until("the first node has let go of it", || {
        (ask(&one, "GET", "/shop/a", &[]).status() == 404).then_some(())
    });
    assert_eq!(one.http("DELETE", one.api, "/v1/routes/shop", b"").status, 404);
}

#[test]
fn what_another_takes_or_cannot_be_meant_is_refused_with_both_names() {
    let origin = named("x");
    let node = node_before(&origin, "");
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let path = guests.path("hello").display().to_string();
    let (success, _, stderr) = atoll(&node, &["deploy", &path, "--route", "/hello/*"]);
    assert!(success, "{stderr}");
    assert_eq!(put(&node, "shop", "/shop/*", &origin).status, 201);
    assert_eq!(put(&node, "shop", "/shop/*", &origin).status, 200, "again");
    for (name, path, other) in [
        ("mine", "/shop/*", "route shop (/shop/*)"),
        ("mine", "/*", "route /* of this node's atoll.toml"),
        ("mine", "/hello/*", "handler hello"),
    ] {
        let refused = put(&node, name, path, &origin);
        assert_eq!(refused.status, 409, "{path}: {refused:?}");
        let detail = refused.json()["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.contains(other) && detail.contains("route mine"), "{detail}");
    }
    let refused = put(&node, "port", "example.com:8080/x", &origin);
    assert!(refused.status == 400 && refused.text().contains("without a port"), "{refused:?}");
    for command in [
        &["deploy", &path, "--name", "other", "--route", "/shop/*"][..],
        &["route", "hello", "--add", "/shop/*"],
    ] {
        let (success, _, stderr) = atoll(&node, command);
        assert!(!success && stderr.contains("route shop (/shop/*)"), "{stderr}");
        assert!(stderr.contains("route /shop/* of handler"), "{stderr}");
    }
    for bad in ["", "[]", "{}", r#"{"path": "/a"}"#, r#"{"path": "/a", "upstream": "x"}"#] {
        let refused = node.http("PUT", node.api, "/v1/routes/bad", bad.as_bytes());
        assert_eq!(refused.status, 400, "{bad}: {refused:?}");
    }
    assert_eq!(put(&node, "Bad", "/a", &origin).status, 400);
    let long = format!(r#"{{"path": "/{}"}}"#, "x".repeat(100_000));
    assert_eq!(node.http("PUT", node.api, "/v1/routes/long", long.as_bytes()).status, 413);
    let listed = node.http("GET", node.api, "/v1/routes", b"").json();
    assert_eq!(listed["routes"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[test]
fn the_command_line_writes_lists_and_removes_routes() {
    let origin = named("x");
    let node = TestNode::start();
    let upstream = format!("upstream=http://{}", origin.address);
    let set = ["upstream", "set", "shop", "path=/shop/*", &upstream, "cache=true", "ttl_s=5"];
    let (success, said, stderr) = atoll(&node, &set);
    assert!(success && said == "shop is live\n", "{said}{stderr}");
    assert_eq!(ask(&node, "GET", "/shop/a", &[]).text(), "x");
    let (_, listed, _) = atoll(&node, &["upstream", "list"]);
    assert!(listed.starts_with("shop {") && listed.contains("\"ttl_s\":5"), "{listed}");
    let (success, _, stderr) = atoll(&node, &["upstream", "set", "shop", "path=/shop/*"]);
    assert!(!success && stderr.contains("upstream"), "{stderr}");
    let (success, said, _) = atoll(&node, &["upstream", "remove", "shop"]);
    assert!(success && said == "shop is removed\n", "{said}");
    assert_eq!(ask(&node, "GET", "/shop/a", &[]).status(), 404);
}

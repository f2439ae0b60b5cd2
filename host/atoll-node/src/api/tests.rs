//! The API as a client sees it, without a socket: every status of the table, and hostile input.

mod batch;
mod cluster;
mod consistency;
mod disk;
mod hostile;
mod keys;
mod list;
mod watch;

use super::*;
use crate::cache::Cache;
use crate::cache::purges::Purges;
use crate::config::{Config, FileConfig};
use crate::handlers::Settings;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request};
use tower::ServiceExt as _;

/// An API with a node of its own.
struct Door {
    node: Arc<Node>,
    router: Router,
    shutdown: CancellationToken,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Door {
    fn new() -> Door {
        Door::with("")
    }

    /// `toml` is a configuration file.
    fn with(toml: &str) -> Door {
        let values: FileConfig = toml::from_str(toml).expect("the test's configuration");
        let config = Config::resolve(values).expect("the test's configuration");
        let node = Node::new(&config).expect("a node");
        let shutdown = CancellationToken::new();
        let api = "127.0.0.1:8081".parse().ok();
        let cache = Arc::new(Cache::new(0));
        let purges = Purges::new(&node, &cache).expect("a bucket");
        let handlers =
            Handlers::new(Arc::clone(&purges), &Settings::of(&config)).expect("an engine");
        let settings = ApiSettings {
            proxy: Proxy::new(&node, (&cache, &handlers), &[], None).expect("no routes"),
            handlers,
            purges,
            token: config.api_token.clone(),
            addresses: Addresses { api, ..Addresses::default() },
            shutdown: shutdown.clone(),
        };
        Door { router: router(Arc::clone(&node), settings), node, shutdown }
    }

    /// Sends a request that has a Host, as every client's does.
    async fn send(&self, mut request: Request<Body>) -> Response {
        request.headers_mut().entry("host").or_insert(http::HeaderValue::from_static("localhost"));
        self.router.clone().oneshot(request).await.expect("a router always answers")
    }

    /// `request` is written as `METHOD PATH`.
    async fn ask(&self, request: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        read(self.send(build(request, headers, body.into())).await).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[], "").await
    }

    async fn put(&self, path: &str, body: &'static str) -> Answer {
        self.ask(&format!("PUT {path}"), &[], body).await
    }

    #[track_caller]
    fn check(&self, answer: &Answer, want: u16) {
        assert_eq!(answer.status, want, "{answer:?}");
        if want >= 400 {
            let problem = answer.json();
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert_eq!(problem["status"], want);
            for member in ["type", "title", "detail", "code"] {
                assert!(problem[member].is_string(), "{problem} has no {member}");
            }
        }
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(answer.headers.contains_key("content-security-policy"));
    }
}

use axum::response::Response;

fn build(request: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let (method, path) = request.split_once(' ').expect("METHOD PATH");
    let builder = Request::builder().method(method).uri(path);
    let builder =
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(body).expect("a request")
}

async fn read(response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 128 << 20).await.expect("a whole body");
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

impl Answer {
    #[track_caller]
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(|value| value.to_str().expect("visible ASCII"));
        value.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The body as NDJSON.
    fn lines(&self) -> Vec<serde_json::Value> {
        let lines = self.text().lines();
        lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_problems_too() {
    let door = Door::new();
    for path in ["/nothing", "/v1", "/v1/kv", "/livez/", "/v1/cluster/x", "/metrics/"] {
        let answer = door.get(path).await;
        door.check(&answer, 404);
        assert_eq!(answer.code(), "unknown-path", "{path}");
    }
    for (request, allow) in [
        ("POST /v1/kv/b/k", "GET, HEAD, PUT, PATCH, DELETE"),
        ("OPTIONS /v1/kv/b/k", "GET, HEAD, PUT, PATCH, DELETE"),
        ("PUT /v1/kv/b", "GET, HEAD"),
        ("GET /v1/kv/b:batch", "POST"),
        ("POST /livez", "GET,HEAD"),
        ("DELETE /v1/cluster", "GET,HEAD"),
        ("POST /", "GET,HEAD"),
    ] {
        let answer = door.ask(request, &[], "").await;
        door.check(&answer, 405);
        assert_eq!(answer.header("allow"), allow, "{request}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_everywhere_but_at_the_probes() {
    let door = Door::with("api_token = \"s3cret\"");
    for path in ["/livez", "/readyz"] {
        door.check(&door.get(path).await, 200);
    }
    for path in ["/", "/metrics", "/v1/cluster", "/v1/kv/b", "/v1/kv/b/k", "/nothing"] {
        let answer = door.get(path).await;
        door.check(&answer, 401);
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"atoll\"");
    }
    let answer = door.ask("GET /", &[("authorization", "Bearer wrong")], "").await;
    door.check(&answer, 401);
    assert!(answer.header("www-authenticate").contains("invalid_token"));
    let headers = [("authorization", "Bearer s3cret"), ("host", "api.example")];
    door.check(&door.ask("GET /v1/cluster", &headers, "").await, 200);
}

#[tokio::test]
async fn a_web_page_of_another_site_cannot_write() {
    let door = Door::new();
    let foreign = [("host", "127.0.0.1:8081"), ("origin", "http://evil.example")];
    let answer = door.ask("PUT /v1/kv/b/k", &foreign, "v").await;
    door.check(&answer, 403);
    assert_eq!(answer.code(), "foreign-site");
    let rebound = [("host", "evil.example:8081")];
    let answer = door.ask("PUT /v1/kv/b/k", &rebound, "v").await;
    door.check(&answer, 403);
    assert_eq!(answer.code(), "foreign-host");
    door.check(&door.get("/v1/kv/b/k").await, 404);
}

#[tokio::test]
async fn a_draining_node_is_alive_but_not_ready() {
    let door = Door::new();
    door.check(&door.get("/readyz").await, 200);
    door.node.start_draining();
    let answer = door.get("/readyz").await;
    door.check(&answer, 503);
    assert_eq!(answer.code(), "draining");
    door.check(&door.get("/livez").await, 200);
}

#[tokio::test]
async fn the_node_describes_itself() {
    let door = Door::with("name = \"node-<1>\"\nmemory_max = \"1GiB\"");
    door.put("/v1/kv/b/k?ttl=60", "v").await;
    let answer = door.get("/v1/cluster").await;
    door.check(&answer, 200);
    let node = &answer.json()["nodes"][0];
    assert_eq!(node["name"], "node-<1>");
    assert_eq!(node["origin"], door.node.store().origin().to_string());
    assert_eq!(node["ready"], true);
    assert_eq!(node["memory"]["max_bytes"], 1 << 30);
    assert_eq!(node["buckets"][0]["name"], "b");
    assert_eq!(node["buckets"][0]["keys"], 1);
    assert_eq!(node["buckets"][0]["volatile_keys"], 1);

    let page = door.get("/").await;
    door.check(&page, 200);
    assert!(page.text().contains("node-&lt;1&gt;"), "{}", page.text());
    assert!(!page.text().contains("node-<1>"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; style-src "));
}

#[tokio::test]
async fn figures_count_keys_memory_and_requests() {
    let door = Door::new();
    door.put("/v1/kv/b/k", "v").await;
    door.get("/nothing").await;
    let answer = door.get("/metrics").await;
    door.check(&answer, 200);
    for line in [
        "atoll_keys{bucket=\"b\"} 1",
        "atoll_ready 1",
        "atoll_api_requests_total{method=\"PUT\",route=\"/v1/kv/{*rest}\",status=\"201\"} 1",
        "atoll_api_requests_total{method=\"GET\",route=\"unknown\",status=\"404\"} 1",
        "atoll_api_latency_seconds_count 2",
    ] {
        assert!(answer.text().lines().any(|got| got == line), "no {line} in {}", answer.text());
    }
    assert!(answer.text().contains("atoll_memory_used_bytes "));
    assert!(answer.text().ends_with("# EOF\n"));
}

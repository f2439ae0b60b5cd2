//! The examples that promise something of several nodes keep it there.

use crate::api::atoll;
use crate::cluster::{Cluster, Shape};
use crate::node::{TestNode, wait_until};
use serde_json::Value;
use ureq::http;

/// Two linked nodes that both serve an example at `/x/*`.
fn pair_with(example: &str, arguments: &[&str]) -> Cluster {
    pair_at(example, "/x/*", arguments)
}

/// The same at another route.
fn pair_at(example: &str, route: &str, arguments: &[&str]) -> Cluster {
    let cluster = Cluster::start(Shape::Line(2));
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let component = guests.path(example).display().to_string();
    let deploy = ["deploy", &component, "--name", "x", "--route", route, "--wait", "all"];
    let (success, stdout, stderr) = atoll(cluster.node(0), &[&deploy[..], arguments].concat());
    assert!(success, "{stdout}{stderr}");
    cluster
}

/// What a browser would send: method, path, cookies, body.
struct Visit<'a>(&'a str, &'a str, &'a str, &'a str);

fn visit(node: &TestNode, visit: Visit<'_>) -> (u16, http::HeaderMap, String) {
    let Visit(method, path, cookie, body) = visit;
    let request =
        http::Request::builder().method(method).uri(format!("http://{}{path}", node.gateway));
    let request = match cookie {
        "" => request,
        cookie => request.header("cookie", cookie),
    };
    let request = request.body(body.to_owned()).expect("a request");
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build();
    let answer = ureq::Agent::from(agent).run(request).expect("the node answers");
    let (head, mut body) = answer.into_parts();
    (head.status.as_u16(), head.headers, body.read_to_string().expect("text"))
}

/// The cookie that an answer sets, as it is sent back.
#[track_caller]
fn cookie(headers: &http::HeaderMap) -> String {
    let cookie = headers.get("set-cookie").expect("a cookie").to_str().expect("text");
    cookie.split(';').next().expect("a pair").to_owned()
}

#[test]
fn a_session_is_known_and_ended_on_every_node() {
    let cluster = pair_with("sessions", &[]);
    let (here, there) = (cluster.node(0), cluster.node(1));
    let (status, headers, _) = visit(here, Visit("POST", "/x/login", "", r#"{"user":"ada"}"#));
    assert_eq!(status, 200);
    let cookie = cookie(&headers);
    let me = |node| visit(node, Visit("GET", "/x/me", &cookie, ""));
    wait_until("the session is known on the other node", || (me(there).0 == 200).then_some(()));
    let session: Value = serde_json::from_str(&me(there).2).expect("JSON");
    assert_eq!(session["user"], "ada");
    assert_eq!(visit(there, Visit("POST", "/x/logout", &cookie, "")).0, 204);
    wait_until("it is ended on the first node", || (me(here).0 == 401).then_some(()));
}

#[test]
fn a_rate_limit_counts_what_all_nodes_let_in() {
    let cluster = pair_with("rate-limiter", &["--config", "per_minute=10"]);
    let (here, there) = (cluster.node(0), cluster.node(1));
    let ask = |node| visit(node, Visit("GET", "/x/", "", ""));
    // Again in the rare case that the minute ends in between.
    wait_until("ten requests fall into one minute", || {
        let statuses: Vec<u16> = (0..11).map(|_| ask(here).0).collect();
        (statuses[..10] == [200; 10] && statuses[10] == 429).then_some(())
    });
    let (mut here_redis, mut there_redis) = (here.resp_client(), there.resp_client());
    let key = here_redis.list(&["KEYS", "limit:*"]).pop().expect("a counter");
    let key = key.trim_start_matches('$').to_owned();
    let ends = here_redis.command(&["PTTL", &key]);
    assert!(ends.trim_start_matches(':').parse::<i64>().is_ok_and(|ms| ms > 0), "{ends}");
    let count = here_redis.command(&["GET", &key]);
    wait_until("the count is known on the other node", || {
        (there_redis.command(&["GET", &key]) == count).then_some(())
    });
    let (status, headers, _) = ask(there);
    let windows = there_redis.list(&["KEYS", "limit:*"]);
    if windows.iter().all(|window| window.trim_start_matches('$') <= key.as_str()) {
        // No new minute has begun: this node has let in nothing yet, the other one all.
        assert_eq!(status, 429, "{windows:?}");
        assert!(headers.contains_key("retry-after"));
    }
}

#[test]
fn a_variant_is_kept_and_its_success_counted_wherever_it_was() {
    let cluster = pair_with("ab-test", &[]);
    let (here, there) = (cluster.node(0), cluster.node(1));
    here.resp_client().command(&["SET", "ab:share", "100"]);
    let (_, headers, page) = visit(here, Visit("GET", "/x/", "", ""));
    let cookie = cookie(&headers);
    assert_eq!(cookie, "variant=b");
    assert_eq!(visit(there, Visit("GET", "/x/", &cookie, "")).2, page);
    assert_eq!(visit(there, Visit("POST", "/x/buy", &cookie, "")).0, 204);
    for node in [here, there] {
        wait_until("both counts are on both nodes", || {
            let results = visit(node, Visit("GET", "/x/results", "", "")).2;
            let results: Value = serde_json::from_str(&results).expect("JSON");
            (results[1]["shown"] == 1 && results[1]["bought"] == 1).then_some(())
        });
    }
}

#[test]
fn sales_of_all_nodes_are_summed_up() {
    let cluster = pair_with("sales", &[]);
    let (here, there) = (cluster.node(0), cluster.node(1));
    let sale = r#"{"product":"apples","amount":3}"#;
    assert_eq!(visit(here, Visit("PUT", "/x/1", "", sale)).0, 204);
    assert_eq!(visit(there, Visit("PUT", "/x/2", "", sale)).0, 204);
    wait_until("both sales are there", || {
        (visit(here, Visit("GET", "/x/2", "", "")).0 == 200).then_some(())
    });
    let sums = visit(here, Visit("GET", "/x/", "", "")).2;
    let sums: Value = serde_json::from_str(&sums).expect("JSON");
    assert_eq!((&sums["sales"], &sums["by_product"]["apples"]), (&2.into(), &6.into()));
}

#[test]
fn a_proxy_shows_the_last_good_answer_on_any_node_while_its_api_is_gone() {
    let api = TestNode::start();
    api.http("PUT", api.api, "/v1/kv/default/a", b"from the API");
    let (origin, grant) = (format!("origin=http://{}", api.api), format!("http:{}", api.api));
    let grants = ["--config", &origin, "--grant", &grant, "--grant", "kv:default=rw"];
    let cluster = pair_at("stale-proxy", "/v1/kv/*", &grants);
    let (here, there) = (cluster.node(0), cluster.node(1));
    let get = |node| visit(node, Visit("GET", "/v1/kv/default/a", "", ""));
    let (status, headers, body) = get(here);
    assert_eq!((status, body.as_str()), (200, "from the API"), "{headers:?}");
    assert_eq!(headers["x-answered"], "fetched");
    wait_until("the answer is known on the other node", || {
        (get(there).1["x-answered"] == "hit").then_some(())
    });
    drop(api);
    wait_until("it is no longer fresh, and shown all the same", || {
        let (status, headers, body) = get(there);
        assert_eq!((status, body.as_str()), (200, "from the API"));
        (headers["x-answered"] == "stale").then_some(())
    });
}

#[test]
fn an_image_of_another_server_gets_its_type_and_a_lifetime() {
    let images = TestNode::start();
    images.http("PUT", images.api, "/v1/kv/default/logo.png", b"\x89PNG\r\n");
    let (origin, grant) = (format!("origin=http://{}", images.api), format!("http:{}", images.api));
    let cluster = pair_at("images", "/v1/kv/*", &["--config", &origin, "--grant", &grant]);
    let node = cluster.node(1);
    let answer = node.http("GET", node.gateway, "/v1/kv/default/logo.png", b"");
    assert_eq!((answer.status, answer.header("content-type")), (200, "image/png"));
    assert!(answer.header("cache-control").starts_with("public, max-age=3600"));
    let etag = answer.header("etag").to_owned();
    let url = format!("http://{}/v1/kv/default/logo.png", node.gateway);
    let again = ureq::get(&url).header("if-none-match", &etag).call().expect("an answer");
    assert_eq!(again.status(), 304);
}

//! Handlers whose answers are cached: what is kept of them, and what takes it back.

use super::origin::{Message, ask};
use crate::api::atoll;
use crate::node::{TestNode, wait_until};

#[track_caller]
fn deploy(node: &TestNode, guest: &str, arguments: &[&str]) {
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let path = guests.path(guest).display().to_string();
    let fixed = ["deploy", &path, "--name", "page", "--route", "/*"];
    let (success, stdout, stderr) = atoll(node, &[&fixed, arguments].concat());
    assert!(success, "{stdout}{stderr}");
}

fn node_with(arguments: &[&str]) -> TestNode {
    let node = TestNode::start();
    deploy(&node, "hostile", arguments);
    node
}

fn get(node: &TestNode, query: &str) -> Message {
    ask(node, "GET", &format!("/cached?{query}"), &[])
}

#[test]
fn nothing_is_cached_that_neither_the_record_nor_the_answer_allows() {
    let node = node_with(&[]);
    for count in 1..4 {
        let answer = get(&node, "control=max-age%3D60");
        assert_eq!(
            (answer.text(), answer.field("cache-status")),
            (count.to_string(), String::new())
        );
    }
    let node = node_with(&["--cache"]);
    let refused = ["id=1", "id=2&control=no-store", "id=3&control=private,max-age%3D60"];
    for query in refused {
        for count in 1..4 {
            let answer = get(&node, query);
            assert_eq!(answer.text(), count.to_string(), "{query}");
            assert!(answer.field("cache-status").starts_with("Atoll; fwd="), "{answer:?}");
        }
    }
    for number in 0..3 {
        let answer = get(&node, "id=4&control=max-age%3D60&tag=red&vary=foo");
        assert_eq!(answer.text(), "1");
        assert_eq!(answer.field("cache-status").contains("; hit"), number > 0, "{answer:?}");
        assert_eq!(answer.field("via"), "", "it is the node's own answer");
    }
    let path = "/cached?id=4&control=max-age%3D60&tag=red&vary=foo";
    assert_eq!(ask(&node, "GET", path, &[("Foo", "1")]).text(), "2", "another variant");
    let metrics = node.http("GET", node.api, "/metrics", b"");
    let text = metrics.text();
    let row = "atoll_proxy_requests_total{route=\"handler page\",outcome=\"hit\"} 2";
    assert!(text.contains(row), "{row} in {text}");
    assert_eq!(node.http("POST", node.api, "/v1/purge", br#"{"tags": ["red"]}"#).status, 200);
    assert_eq!(ask(&node, "GET", path, &[]).text(), "3", "purged");
}

#[test]
fn many_who_ask_at_once_are_one_call() {
    let node = node_with(&["--cache", "--cpu-ms", "5000", "--wall-ms", "60000"]);
    let query = "control=max-age%3D60&spin=300";
    let answers: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..30).map(|_| scope.spawn(|| get(&node, query).text())).collect();
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    assert_eq!(answers, vec!["1"; 30]);
}

#[test]
fn a_key_that_is_written_and_a_version_that_is_deployed_take_back_what_was_answered() {
    let node = node_with(&["--cache"]);
    let query = "control=max-age%3D60&keys=default/news:1";
    let settle = || {
        wait_until("a hit", || {
            let answer = get(&node, query);
            assert_eq!(answer.field("atoll-keys"), "");
            answer.field("cache-status").contains("; hit").then(|| answer.text())
        })
    };
    let before = settle();
    node.http("PUT", node.api, "/v1/kv/default/news:1", b"x");
    wait_until("it is called again", || (get(&node, query).text() != before).then_some(()));
    settle();
    for _ in 0..3 {
        // Whoever deploys waits for the node, and sees what is new from then on.
        deploy(&node, "hello", &["--cache"]);
        assert!(get(&node, query).text().starts_with("Hello"), "no old answer behind a deployment");
        deploy(&node, "hostile", &["--cache"]);
        let answer = get(&node, query).text();
        assert!(answer.parse::<u64>().is_ok(), "{answer}");
        settle();
    }
    let (success, _, stderr) = atoll(&node, &["remove", "page"]);
    assert!(success, "{stderr}");
    assert_eq!(get(&node, query).status(), 404);
}

#[test]
fn the_example_of_pages_makes_a_page_once_for_each_write() {
    let node = TestNode::start();
    deploy(&node, "pages", &[]);
    let plain = ask(&node, "GET", "/about", &[]);
    assert_eq!((plain.status(), plain.field("atoll-keys")), (404, String::new()));
    deploy(&node, "pages", &["--cache"]);
    // The first page that names a key makes the node listen: a write that it has yet to hear of would
    // make stale what is made after it.
    wait_until("a hit", || {
        let page = ask(&node, "GET", "/a%20b", &[]);
        assert_eq!(page.status(), 404);
        page.field("cache-status").contains("; hit").then_some(())
    });
    for number in 0..5 {
        let html = format!("<p>{number}</p>");
        node.http("PUT", node.api, "/v1/kv/default/page:/a%2520b", html.as_bytes());
        let page = wait_until("the new page", || {
            let page = ask(&node, "GET", "/a%20b", &[]);
            (page.text() == html).then_some(page)
        });
        assert_eq!(page.field("cache-control"), "max-age=0, s-maxage=3600");
        let again = ask(&node, "GET", "/a%20b", &[]);
        assert!(again.field("cache-status").contains("; hit") && again.text() == html);
    }
}

#[test]
fn a_handler_that_fails_says_how_and_stale_stands_in_where_its_answer_allows_it() {
    let node = node_with(&["--cache"]);
    assert_eq!(get(&node, "id=1&trap&control=no-store").text(), "1");
    let failed = get(&node, "id=1&trap&control=no-store");
    assert_eq!(failed.status(), 502);
    assert!(failed.text().contains("handler-trap"), "{failed:?}");
    let query = "id=2&trap&control=max-age%3D0,stale-if-error%3D60";
    for _ in 0..3 {
        let answer = get(&node, query);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "1"), "{answer:?}");
    }
    let answer = ask(&node, "POST", &format!("/cached?{query}"), &[]);
    assert_eq!(answer.status(), 502, "no method that may change something is answered for");
}

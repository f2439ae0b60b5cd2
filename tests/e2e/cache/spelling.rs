//! URLs that clients write in several ways: what is stored for one is purged, shown and made invalid
//! by each.

use super::origin::{Act, Message, Origin, ask, node_before, response};
use crate::node::{ATOLL, PATIENCE, TestNode, wait_until};
use crate::tools::{output, run, text};
use std::io::{Read, Write};
use std::net::TcpStream;

const FRESH: (&str, &str) = ("Cache-Control", "max-age=600");

fn is_hit(answer: &Message) -> bool {
    answer.field("cache-status").contains("; hit")
}

fn purge(node: &TestNode, query: &str, url: &str) -> (u16, serde_json::Value) {
    let order = serde_json::json!({ "urls": [url] }).to_string();
    let answer = node.http("POST", node.api, &format!("/v1/purge{query}"), order.as_bytes());
    (answer.status, answer.json())
}

/// Whether a request for exactly this is a hit.
fn hits(node: &TestNode, host: &str, path: &str) -> bool {
    let mut stream = TcpStream::connect(node.gateway).expect("the gateway is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).expect("the request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.contains("; hit")
}

#[test]
fn a_url_whose_parameters_are_sorted_or_ignored_is_found_by_the_name_that_clients_use() {
    let origin = Origin::start(|request, _| {
        let location = ("Location", "/q/a?b=2&a=1&utm_x=9");
        let fields = if request.start.starts_with("POST") { location } else { FRESH };
        Act::Send(response(200, &[fields], "x"))
    });
    let node = node_before(&origin, "ignore_query = [\"utm_*\"]\nsort_query = true");
    let path = "/q/a?b=2&a=1&utm_x=3";
    let is_hit = || is_hit(&ask(&node, "GET", path, &[]));
    let url = format!("http://example.com{path}");
    assert_eq!((is_hit(), is_hit()), (false, true));
    let shown = run(ATOLL, &["cache", "--api", &node.api.to_string(), "inspect", &url]);
    assert!(shown.starts_with("example.com/q/a?a=1&b=2: 200, "), "{shown}");
    for url in [&url, path, "http://EXAMPLE.com:80/q/a?a=1&b=2"] {
        assert_eq!(purge(&node, "", url).0, 200);
        assert_eq!((is_hit(), is_hit()), (false, true), "{url}");
    }
    ask(&node, "POST", "/q/other", &[]);
    assert_eq!((is_hit(), is_hit()), (false, true));
}

#[test]
fn a_default_port_and_letters_beyond_ascii_are_purged_however_they_are_written() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[FRESH], "x")));
    let node = node_before(&origin, "");
    for url in ["http://b.test:443/p", "https://b.test/p", "http://b.test:80/p"] {
        let twice = [hits(&node, "b.test:443", "/p"), hits(&node, "b.test:443", "/p")];
        assert_eq!(twice, [false, true]);
        assert_eq!(purge(&node, "", url).0, 200);
    }
    for url in ["http://b.test/utf\u{e9}", "http://b.test/utf%C3%A9", "/utf\u{e9}"] {
        let twice = [hits(&node, "b.test", "/utf\u{e9}"), hits(&node, "b.test", "/utf%C3%A9")];
        assert_eq!(twice, [false, true]);
        assert_eq!(purge(&node, "", url).0, 200, "{url}");
    }
    assert!(!hits(&node, "b.test", "/utf\u{e9}"));
    assert_eq!(origin.seen("/utf%C3%A9").len(), 4);
}

#[test]
fn a_purge_that_waits_names_who_was_linked_and_has_not_confirmed() {
    let one = TestNode::start_with(&["--name", "one"]);
    let peer = one.peers().to_string();
    let two = TestNode::start_with(&["--name", "two", "--peer", &peer]);
    wait_until("a link", || {
        let (_, done) = purge(&one, "?wait=all&timeout=2000", "/none");
        (done["confirmed"][0] == "two").then_some(())
    });
    two.signal("STOP");
    // Longer than a link that is silent lasts.
    let api = one.api.to_string();
    let done = output(ATOLL, &["purge", "--api", &api, "--url", "/a", "--wait"]);
    two.signal("CONT");
    let said = text(&done.stderr);
    assert!(!done.status.success(), "{} {said}", text(&done.stdout));
    assert!(said.contains("not confirmed yet by two,") && said.contains("atoll status"), "{said}");
}

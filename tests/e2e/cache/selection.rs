//! What selects a stored response: what the upstream was sent, and nothing else.

use super::origin::{Act, Message, Origin, ask, node_before, response};
use crate::node::{PATIENCE, TestNode};
use std::io::{Read, Write};
use std::net::TcpStream;

const FRESH: (&str, &str) = ("Cache-Control", "max-age=600");

fn is_hit(answer: &Message) -> bool {
    answer.field("cache-status").contains("; hit")
}

fn told(answer: &Message) -> (bool, String) {
    (is_hit(answer), answer.text())
}

/// The text of an answer to a request for exactly this host, and whether it was a hit.
fn ask_host(node: &TestNode, host: &str, path: &str) -> (bool, String) {
    let mut stream = TcpStream::connect(node.gateway).expect("the gateway is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).expect("the request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.contains("; hit"), body.to_owned())
}

/// An upstream that answers with the language it was asked for, and says so.
fn by_language() -> Origin {
    Origin::start(|request, _| {
        let language = request.field("accept-language");
        let vary = ("Vary", "Accept-Language, Origin");
        match language.as_str() {
            "xx" => Act::Send(response(200, &[("Cache-Control", "private"), vary], "xx")),
            "" => Act::Send(response(200, &[FRESH, vary], "default")),
            _ => Act::Send(response(200, &[FRESH, vary], &language)),
        }
    })
}

#[test]
fn a_field_that_connection_names_selects_no_variant() {
    let node = node_before(&by_language(), "");
    let de = ("Accept-Language", "de");
    for hit in [false, true] {
        let answer = ask(&node, "GET", "/a", &[de, ("Connection", "Accept-Language")]);
        assert_eq!(told(&answer), (hit, "default".to_owned()));
    }
    assert_eq!(told(&ask(&node, "GET", "/a", &[])), (true, "default".to_owned()));
    for hit in [false, true] {
        assert_eq!(told(&ask(&node, "GET", "/a", &[de])), (hit, "de".to_owned()));
    }
    let evil = [("Origin", "https://evil"), ("Connection", "close, origin")];
    assert_eq!(told(&ask(&node, "GET", "/a", &evil)), (true, "default".to_owned()));
    assert!(!is_hit(&ask(&node, "GET", "/a", &[("Origin", "https://evil")])));
}

#[test]
fn what_could_name_another_url_reaches_no_upstream_whose_answer_is_kept() {
    let origin = by_language();
    let node = node_before(&origin, "");
    let fields = [
        ("X_Forwarded_Host", "evil"),
        ("X_Original_URL", "/evil"),
        ("X-Forwarded-Ssl", "on"),
        ("X-HTTP-Method", "DELETE"),
        ("X-Method-Override", "DELETE"),
        ("X-Original-Host", "evil"),
        ("X-Forwarded-Uri", "/evil"),
        ("X-Original-URI", "/evil"),
        ("Accept_Language", "de"),
        ("X-Kept", "1"),
    ];
    assert_eq!(ask(&node, "GET", "/a", &fields).text(), "default");
    let seen = origin.seen("/a");
    for (name, _) in fields {
        let name = name.to_ascii_lowercase();
        assert_eq!(!seen[0].field(&name).is_empty(), name == "x-kept", "{name}");
    }
}

#[test]
fn a_response_that_is_for_one_alone_leaves_the_other_variants_where_they_are() {
    let origin = by_language();
    let node = node_before(&origin, "");
    let ask = |language: &str| told(&ask(&node, "GET", "/a", &[("Accept-Language", language)]));
    assert_eq!((ask("de").0, ask("fr").0), (false, false));
    for _ in 0..5 {
        assert_eq!(ask("xx"), (false, "xx".to_owned()));
        assert_eq!(ask("de"), (true, "de".to_owned()));
        assert_eq!(ask("fr"), (true, "fr".to_owned()));
    }
    assert_eq!(origin.request_count(), 7);
}

#[test]
fn a_response_without_vary_is_for_those_who_have_no_variant() {
    let origin = Origin::start(|request, _| {
        let language = request.field("accept-language");
        match language.as_str() {
            "de" => Act::Send(response(200, &[FRESH, ("Vary", "Accept-Language")], "de")),
            _ => Act::Send(response(200, &[FRESH], "default")),
        }
    });
    let node = node_before(&origin, "");
    let ask = |language: &str| told(&ask(&node, "GET", "/a", &[("Accept-Language", language)]));
    assert_eq!(ask("de"), (false, "de".to_owned()));
    assert_eq!(ask("en"), (false, "default".to_owned()));
    assert_eq!(ask("de"), (true, "de".to_owned()));
    assert_eq!(ask("fr"), (true, "default".to_owned()));
}

#[test]
fn cookies_that_come_in_pieces_are_one_line_for_the_upstream_and_for_vary() {
    let origin = Origin::start(|request, _| {
        let text = request.field("cookie");
        Act::Send(response(200, &[FRESH, ("Vary", "Cookie")], &text))
    });
    let node = node_before(&origin, "");
    let other = ask(&node, "GET", "/a", &[("Cookie", "a=1,b=2")]);
    assert_eq!(told(&other), (false, "a=1,b=2".to_owned()));
    let pieces = ask(&node, "GET", "/a", &[("Cookie", "a=1"), ("Cookie", "b=2")]);
    assert_eq!(told(&pieces), (false, "a=1; b=2".to_owned()));
    let whole = ask(&node, "GET", "/a", &[("Cookie", "a=1; b=2")]);
    assert_eq!(told(&whole), (true, "a=1; b=2".to_owned()));
}

#[test]
fn the_upstream_is_asked_for_the_host_that_the_key_has() {
    let origin =
        Origin::start(|request, _| Act::Send(response(200, &[FRESH], &request.field("host"))));
    let node = node_before(&origin, "");
    for (number, host) in ["A.TEST:80", "a.test", "a.test:443", "A.test"].into_iter().enumerate() {
        assert_eq!(ask_host(&node, host, "/a"), (number > 0, "a.test".to_owned()), "{host}");
    }
    assert_eq!(ask_host(&node, "a.test:81", "/a"), (false, "a.test:81".to_owned()));
}

#[test]
fn a_parameter_hides_in_none_that_is_ignored() {
    let origin = Origin::start(|request, _| Act::Send(response(200, &[FRESH], request.path())));
    let node = node_before(&origin, "ignore_query = [\"utm_*\"]");
    let evil = ask(&node, "GET", "/a?x=1&utm_s=1;x=evil", &[]);
    assert_eq!(told(&evil), (false, "/a?x=1&utm_s=1;x=evil".to_owned()));
    assert_eq!(told(&ask(&node, "GET", "/a?x=1", &[])), (false, "/a?x=1".to_owned()));
    assert_eq!(told(&ask(&node, "GET", "/a?x=1&utm_s=1", &[])), (true, "/a?x=1".to_owned()));
}

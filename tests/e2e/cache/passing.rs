//! Requests passed on: several addresses, time-outs, upgrades, and what the connection keeps.

use super::origin::{Act, Origin, ask, ask_with_body, node_before, response};
use crate::node::{PATIENCE, TestNode};
use crate::pace::Pace;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A node with this text as its configuration.
fn node_with(text: &str) -> TestNode {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("the file is written");
    TestNode::start_with(&["--config", file.path().to_str().expect("a path")])
}

#[test]
fn an_address_that_cannot_be_reached_costs_nobody_an_answer() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "x")));
    // Nobody listens there; a port that was free a moment ago another test may have by now.
    let node = node_with(&format!(
        "[[route]]\npath = \"/*\"\nupstream = [\"http://127.0.0.1:1\", \"http://{}\"]\n",
        origin.address
    ));
    for number in 0..20 {
        let answer = ask(&node, "GET", "/a", &[]);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "x"), "request {number}");
    }
    assert_eq!(origin.seen("/a").len(), 20);
    node.wait_for_log("upstream left alone");
}

#[test]
fn an_upstream_that_is_too_late_is_answered_for_with_504() {
    let origin = Origin::start(|request, _| {
        let wait = Duration::from_secs(600);
        match request.path() {
            "/quick" => Act::Send(response(200, &[], "x")),
            "/head" => Act::Slowly(vec![Vec::new(), response(200, &[], "late")], wait),
            _ => {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234".to_vec();
                Act::SlowlyAfter(head, b"56789".to_vec(), wait)
            }
        }
    });
    let node = node_before(&origin, "first_byte_ms = 3000\nbetween_bytes_ms = 300");
    let mut pace = Pace::default();
    for _ in 0..3 {
        pace.of(|| assert_eq!(ask(&node, "GET", "/quick", &[]).text(), "x"));
    }
    let started = Instant::now();
    let answer = ask(&node, "GET", "/head", &[]);
    assert_eq!(answer.status(), 504, "{answer:?}");
    assert!(answer.text().contains("upstream-timeout"), "{answer:?}");
    let answer = ask(&node, "GET", "/body", &[]);
    assert!(!answer.is_whole, "{answer:?}");
    let (took, bar) = (started.elapsed(), pace.bar(Duration::from_secs(10), 500));
    assert!(took < bar, "{took:?}, held against {bar:?}");
}

#[test]
fn an_upgrade_is_passed_on_and_bytes_go_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let upstream = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                      Upgrade: echo\r\nX-Answer: 1\r\n\r\n";
        stream.write_all(answer.as_bytes()).expect("the answer is taken");
        let mut text = [0; 5];
        stream.read_exact(&mut text).expect("what the client sends");
        stream.write_all(&text).expect("it goes back");
        String::from_utf8(head).expect("text").to_lowercase()
    });
    let node = node_with(&format!(
        "[[route]]\npath = \"/*\"\nupstream = \"http://{address}\"\ncache = true\n\
         upgrades = [\"echo\"]\n"
    ));
    let mut client = TcpStream::connect(node.gateway).expect("the gateway is open");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let request = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    client.write_all(request.as_bytes()).expect("the request is taken");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("x-answer: 1"), "{head}");
    client.write_all(b"hello").expect("it is taken");
    let mut echo = [0; 5];
    client.read_exact(&mut echo).expect("an echo");
    assert_eq!(&echo, b"hello");
    let seen = upstream.join().expect("no panic");
    assert!(seen.contains("connection: upgrade\r\n") && seen.contains("upgrade: echo"), "{seen}");
}

#[test]
fn fields_of_the_connection_stay_on_it_and_the_client_is_named() {
    let origin = Origin::start(|_, _| {
        let fields = [
            ("Connection", "X-Gone, close"),
            ("X-Gone", "1"),
            ("Keep-Alive", "timeout=5"),
            ("X-Stays", "2"),
        ];
        Act::SendAndClose(response(203, &fields, "x"))
    });
    let node =
        node_with(&format!("[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\n", origin.address));
    let asked = [
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("TE", "trailers"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Expect", "100-continue"),
    ];
    let answer = ask_with_body(&node, ("PROPFIND", "/a%2Fb//c?d=%zz&e"), &asked, "abc");
    // The body is asked for, and what follows is the answer.
    assert_eq!(answer.status(), 100);
    assert!(answer.text().starts_with("HTTP/1.1 203 "), "{answer:?}");
    let seen = crate::node::wait_until("the request", || {
        origin.seen("/a%2Fb//c?d=%zz&e").first().cloned()
    });
    assert!(seen.start.starts_with("PROPFIND /a%2Fb//c?d=%zz&e "), "{}", seen.start);
    assert_eq!((seen.field("x-hop").as_str(), seen.field("te").as_str()), ("", ""));
    assert_eq!(seen.field("x-forwarded-for"), "192.0.2.1, 127.0.0.1");
    assert_eq!((seen.text().as_str(), seen.field("expect").as_str()), ("abc", "100-continue"));
    let answer = ask(&node, "GET", "/fields", &[]);
    assert_eq!((answer.status(), answer.field("x-stays").as_str()), (203, "2"));
    assert_eq!((answer.field("x-gone").as_str(), answer.field("keep-alive").as_str()), ("", ""));
}

#[test]
fn a_request_that_comes_back_to_its_node_is_refused() {
    let node = TestNode::start();
    // Where its gateway is, is known once it runs.
    let route = format!(r#"{{"path": "/*", "upstream": "http://{}"}}"#, node.gateway);
    assert_eq!(node.http("PUT", node.api, "/v1/routes/back", route.as_bytes()).status, 201);
    assert_eq!(ask(&node, "GET", "/", &[]).status(), 508);
}

#[test]
fn a_request_whose_end_can_be_read_in_two_ways_is_never_two_requests_upstream() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[], "x")));
    let node = node_with(&format!(
        "[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\ncache = true\n",
        origin.address
    ));
    let send = |head: &str, body: &str, wait: Duration| {
        let mut client = TcpStream::connect(node.gateway).expect("the gateway is open");
        client.set_read_timeout(Some(wait)).expect("a time-out can be set");
        let text = format!("POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}\r\n{body}");
        client.write_all(text.as_bytes()).expect("the request is taken");
        let mut answer = Vec::new();
        // An end by time-out is one as well.
        let _ = client.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let cases = [
        ("Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(), format!("abcde{hidden}")),
        ("Content-Length: +5\r\n".to_owned(), "abcde".to_owned()),
        ("Transfer-Encoding: xchunked\r\n".to_owned(), format!("0\r\n\r\n{hidden}")),
        ("Transfer-Encoding: chunked, identity\r\n".to_owned(), format!("0\r\n\r\n{hidden}")),
        (chunked.to_owned(), format!("5x\r\nabcde\r\n0\r\n\r\n{hidden}")),
        (chunked.to_owned(), format!("-1\r\n\r\n{hidden}")),
        (format!("Content-Length: 5\r\n{chunked}"), format!("0\r\n\r\n{hidden}")),
    ];
    for (head, body) in &cases {
        let answer = send(head, body, Duration::from_secs(2));
        assert!(answer.matches("HTTP/1.1 200").count() <= 1, "{head}: {answer}");
    }
    assert!(origin.seen("/hidden").is_empty(), "{:?}", origin.seen("/hidden"));
    for seen in origin.seen("/a") {
        let lengths = !seen.field("content-length").is_empty();
        assert!(!lengths || seen.field("transfer-encoding").is_empty(), "{seen:?}");
        assert!(!seen.field("content-length").contains(','), "{seen:?}");
    }
    let answer = send("Content-Length: 3\r\n", "abc", PATIENCE);
    assert!(answer.contains("200"), "the node goes on: {answer}");
}

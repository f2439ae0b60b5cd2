//! Which upgrades go through a route: behind one, nobody looks at what is sent.

use super::origin::{Origin, ask, node_before};
use crate::node::{PATIENCE, TestNode};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Reads a head. `None` where none comes.
fn head_of(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).to_lowercase())
}

/// An upstream that goes on with `chosen` where an upgrade is asked for, and else answers with the
/// head of the request.
fn upstream(chosen: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while let Some(head) = head_of(&mut stream) {
                    let answer = match head.contains("\r\nupgrade:") {
                        true => format!(
                            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                             Upgrade: {chosen}\r\n\r\n"
                        ),
                        false => format!(
                            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\
                             Content-Length: {}\r\n\r\n{head}",
                            head.len()
                        ),
                    };
                    // A client that has gone wants no answer.
                    let _ = stream.write_all(answer.as_bytes());
                }
            });
        }
    });
    address
}

fn node(chosen: &'static str, more: &str) -> TestNode {
    node_before(&Origin::at(upstream(chosen)), more)
}

/// The status of the answer to a request to upgrade to `protocols`.
fn asked_for(node: &TestNode, protocols: &str) -> u16 {
    let mut client = TcpStream::connect(node.gateway).expect("the gateway is open");
    let request = format!(
        "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
         Upgrade: {protocols}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    );
    client.write_all(request.as_bytes()).expect("the request is taken");
    let head = head_of(&mut client).expect("an answer");
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

#[test]
fn only_an_upgrade_that_the_route_lets_through_is_asked_for_upstream() {
    let plain = node("websocket", "");
    assert_eq!(asked_for(&plain, "WebSocket"), 101);
    assert_eq!(asked_for(&plain, "h2c, websocket"), 101, "the other one is left out");
    // One that is not let through is a request as any other, and its answer is for all.
    assert_eq!(asked_for(&plain, "h2c"), 200);
    let answer = ask(&plain, "GET", "/up", &[("Upgrade", "h2c"), ("Connection", "upgrade")]);
    assert!(answer.text().starts_with("get /up") && !answer.text().contains("h2c"), "{answer:?}");
    assert_eq!(asked_for(&plain, "echo"), 200);
    let named = node("echo", "upgrades = [\"echo\"]");
    assert_eq!((asked_for(&named, "echo"), asked_for(&named, "websocket")), (101, 200));
    // An upstream that goes on with something else has not understood.
    assert_eq!(asked_for(&node("h2c", ""), "websocket"), 502);
}

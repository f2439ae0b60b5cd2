//! W3C Trace Context: into handlers, on to whom they ask, and in the request log.

use super::{deploy, get};
use crate::node::{TestNode, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// An upstream that answers everything with 200 and hands over the heads of requests.
fn upstream() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (sender, heads) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|n| n > 0) {}
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            let _ = reader.get_mut().write_all(answer.as_bytes());
            if sender.send(head).is_err() {
                return;
            }
        }
    });
    (address, heads)
}

fn get_traced(node: &TestNode, path: &str) -> String {
    let request = http::Request::get(format!("http://{}{path}", node.gateway))
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("tracestate", "vendor=1")
        .body(())
        .expect("a request");
    let mut answer = ureq::run(request).expect("the node answers");
    answer.body_mut().read_to_string().expect("text")
}

#[test]
fn a_trace_goes_through_a_handler_to_whom_it_asks_and_into_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("requests");
    let node = TestNode::start_with(&["--request-log", &log.display().to_string()]);
    let (address, heads) = upstream();
    deploy(&node, "hostile", &["--name", "h", "--route", "/h/*"]);
    let grant = format!("http:{address}");
    let standard =
        ["--name", "s", "--route", "/s/*", "--grant", "kv:default=rw", "--grant", &grant];
    deploy(&node, "standard", &standard);

    // A line is written once its answer has gone: the next request waits for it.
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    let wait_for_lines = |count| {
        wait_until("it is logged", || (lines().lines().count() == count).then_some(()));
    };
    let seen = get_traced(&node, "/h/trace");
    wait_for_lines(1);
    let (parent, state) = seen.split_once(' ').expect("two fields");
    let span =
        parent.strip_prefix(&format!("00-{TRACE}-")).and_then(|rest| rest.strip_suffix("-01"));
    let span = span.expect("the trace that was sent").to_owned();
    assert!(span.len() == 16 && span != PARENT && state == "vendor=1", "{seen}");

    assert_eq!(get_traced(&node, &format!("/s/fetch?{address}/x")), "200 ok");
    wait_for_lines(2);
    let head = heads.recv().expect("it was asked").to_ascii_lowercase();
    assert!(head.contains(&format!("traceparent: 00-{TRACE}-")), "{head}");
    assert!(!head.contains(PARENT) && head.contains("tracestate: vendor=1"), "{head}");

    // Where none is named, one begins, and what came with none is left out.
    let begun = get(&node, "/h/trace").text().to_owned();
    assert!(begun.starts_with("00-") && begun.ends_with("-02 none"), "{begun}");
    wait_for_lines(3);
    let lines: Vec<Value> =
        lines().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&lines[0]["trace"], &lines[0]["span"]), (&TRACE.into(), &span.into()));
    assert_eq!(lines[1]["trace"], TRACE);
    assert_eq!(lines[2]["trace"], begun[3..35]);
}

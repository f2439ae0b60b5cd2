//! What who runs a node sees of its routes: health checks, the request log, figures.

use super::origin::{Act, Origin, ask, ask_with_body, node_before, response};
use crate::node::{TestNode, wait_until};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

fn metrics(node: &TestNode) -> String {
    node.http("GET", node.api, "/metrics", b"").text().to_owned()
}

/// A node with this text as its configuration and more flags.
fn node_with(text: &str, flags: &[&str]) -> TestNode {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("the file is written");
    let path = file.path().to_str().expect("a path").to_owned();
    TestNode::start_with(&[&["--config", path.as_str()], flags].concat())
}

#[test]
fn an_address_that_fails_its_health_checks_is_passed_by_until_it_is_well() {
    let good = Origin::start(|_, _| Act::Send(response(200, &[], "good")));
    let is_well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_well);
    let other = Origin::start(move |request, _| {
        let fails = request.path() == "/health?x" && !told.load(Ordering::SeqCst);
        Act::Send(response(if fails { 503 } else { 200 }, &[], "other"))
    });
    let text = format!(
        "[[route]]\npath = \"/*\"\nupstream = [\"http://{}\", \"http://{}\"]\n\
         health_path = \"/health?x\"\nhealth_interval_ms = 1000\n",
        good.address, other.address
    );
    let node = node_with(&text, &[]);
    node.wait_for_log("upstream fails its health checks");
    for _ in 0..10 {
        assert_eq!(ask(&node, "GET", "/a", &[]).text(), "good");
    }
    let up = |origin: &Origin| {
        format!("atoll_upstream_up{{route=\"/*\",address=\"{}\"}}", origin.address)
    };
    let told = metrics(&node);
    assert!(told.contains(&format!("{} 0\n", up(&other))), "{told}");
    assert!(told.contains(&format!("{} 1\n", up(&good))), "{told}");
    is_well.store(true, Ordering::SeqCst);
    wait_until("both are used", || (ask(&node, "GET", "/a", &[]).text() == "other").then_some(()));
    assert!(metrics(&node).contains(&format!("{} 1\n", up(&other))));
}

#[test]
fn each_request_is_a_line_of_the_request_log() {
    let origin = Origin::start(|_, _| Act::Send(response(200, &[FRESH], "0123456789")));
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("requests");
    let text = format!(
        "[[route]]\npath = \"/a*\"\nupstream = \"http://{}\"\ncache = true\n",
        origin.address
    );
    let text = text.replace("/a*", "/a/*");
    let node = node_with(&text, &["--request-log", log.to_str().expect("a path")]);
    // A line is written once its answer has gone: the next request waits for it.
    let wait_for_lines = |count: usize| -> Vec<Value> {
        wait_until(&format!("line {count}"), || {
            let text = std::fs::read_to_string(&log).ok()?;
            let lines: Result<Vec<_>, _> = text.lines().map(serde_json::from_str).collect();
            lines.ok().filter(|lines| lines.len() == count)
        })
    };
    ask(&node, "GET", "/a/b?c=%22d", &[("User-Agent", "test \"1\"")]);
    wait_for_lines(1);
    ask(&node, "GET", "/a/b?c=%22d", &[("Range", "bytes=2-4")]);
    wait_for_lines(2);
    ask_with_body(&node, ("POST", "/a/b"), &[], "x");
    wait_for_lines(3);
    ask(&node, "GET", "/nothing", &[]);
    let lines = wait_for_lines(4);
    let of = |name: &str| lines.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("method"), ["GET", "GET", "POST", "GET"]);
    assert_eq!(of("status"), [200, 206, 200, 404]);
    assert_eq!(of("bytes")[..3], [10, 3, 10]);
    assert_eq!(of("path")[..2], ["/a/b?c=%22d", "/a/b?c=%22d"]);
    assert_eq!(of("host"), ["example.com"; 4]);
    assert_eq!(
        (of("client"), of("protocol")),
        (vec!["127.0.0.1".into(); 4], vec!["HTTP/1.1".into(); 4])
    );
    assert_eq!(lines[0]["user_agent"], "test \"1\"");
    let cache = |index: usize| lines[index]["cache"].as_str().expect("text").to_owned();
    assert!(cache(0).starts_with("fwd=uri-miss; ttl=") && cache(1).starts_with("hit; ttl="));
    assert_eq!((cache(2).as_str(), cache(3).as_str()), ("fwd=method", ""));
    for line in &lines {
        let (whole, head) = (line["ms"].as_f64(), line["head_ms"].as_f64());
        assert!(whole >= head && head > Some(0.0), "{line}");
        let time = line["time"].as_str().expect("text");
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }
}

#[test]
fn bytes_are_counted_by_route_and_by_where_they_came_from() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    let origin = Origin::start(|request, _| match request.path() {
        "/chunked" => Act::Send(chunked.to_vec()),
        _ => Act::Send(response(200, &[FRESH], "0123456789")),
    });
    let node = node_before(&origin, "");
    for (path, method) in [("/a", "GET"), ("/a", "GET"), ("/a", "HEAD"), ("/chunked", "GET")] {
        ask(&node, method, path, &[]);
    }
    ask(&node, "GET", "/a", &[("Range", "bytes=0-2")]);
    let told = metrics(&node);
    let count =
        |from: &str| format!("atoll_proxy_sent_bytes_total{{route=\"/*\",from=\"{from}\"}}");
    assert!(told.contains(&format!("{} 13\n", count("cache"))), "{told}");
    assert!(told.contains(&format!("{} 15\n", count("upstream"))), "{told}");
}

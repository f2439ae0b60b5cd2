//! Clients that speak HTTP/2 from the first byte.

use crate::node::TestNode;
use crate::tools::run;

/// Asks with curl, which prints heads and body.
fn curl(arguments: &[&str]) -> String {
    run("curl", &[&["-sSi", "--http2-prior-knowledge", "--max-time", "60"], arguments].concat())
}

#[test]
fn the_api_takes_and_gives_values_over_http_2() {
    let node = TestNode::start();
    let url = |key: &str| format!("http://{}/v1/kv/default/{key}", node.api);
    let value: Vec<u8> = (0..3_000_000_u32).map(|number| b'a' + (number % 23) as u8).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    std::fs::write(&sent, &value).expect("room");
    let (sent, got) = (sent.display().to_string(), got.display().to_string());
    let put = ["-T", &sent, &url("large"), "-H", "Expect: 100-continue"];
    let answer = curl(&put);
    assert!(answer.starts_with("HTTP/2 100"), "it waits to be asked: {answer}");
    assert!(answer.contains("HTTP/2 201") || answer.contains("HTTP/2 200"), "{answer}");
    run("curl", &["-sS", "--http2-prior-knowledge", &url("large"), "-o", &got]);
    assert!(std::fs::read(&got).expect("an answer") == value);
    let head = curl(&["-I", &url("large")]);
    assert!(head.starts_with("HTTP/2 200") && head.contains("content-length: 3000000"), "{head}");
    assert!(curl(&[&url("none")]).starts_with("HTTP/2 404"));
    let none = curl(&["-X", "DELETE", &url("large")]);
    assert!(none.starts_with("HTTP/2 20"), "{none}");
}

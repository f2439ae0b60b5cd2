//! The API door with curl, and the three doors on one store.

use crate::node::{ATOLL, TestNode, wait_until};
use crate::tools::{run, text};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

const MIB: usize = 1 << 20;

fn curl(arguments: &[&str]) -> String {
    run("curl", &[&["-sS", "--max-time", "120"], arguments].concat())
}

#[test]
fn curl_puts_gets_and_deletes_a_key() {
    let node = TestNode::start();
    let url = format!("http://{}/v1/kv/default/greeting", node.api);
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    let put = ["-X", "PUT", &url, "-H", "Content-Type: text/plain", "-d", "hello"];
    assert_eq!(curl(&[&status[..], &put].concat()), "201");
    assert_eq!(curl(&[&url]), "hello");
    assert_eq!(curl(&[&status[..], &put].concat()), "204", "replaced");
    let headers = curl(&["-I", &url]).to_lowercase();
    for want in ["content-type: text/plain", "content-length: 5", "etag: \"", "last-modified: "] {
        assert!(headers.contains(want), "{want} is missing: {headers}");
    }
    assert_eq!(curl(&[&status[..], &["-X", "DELETE", &url]].concat()), "204");
    let gone = curl(&["-w", " %{http_code} %{content_type}", &url]);
    assert!(gone.ends_with("404 application/problem+json"), "{gone}");
}

#[test]
fn a_key_is_the_same_through_every_door() {
    let node = TestNode::start();
    let mut redis = node.resp_client();
    node.http("PUT", node.api, "/v1/kv/default/from%20http", b"1");
    assert_eq!(redis.command(&["GET", "from http"]), "$1");
    assert_eq!(redis.command(&["INCR", "from http"]), ":2");
    assert_eq!(node.http("GET", node.api, "/v1/kv/default/from%20http", b"").text(), "2");
    assert_eq!(redis.command(&["SET", "b", "x", "PX", "60000"]), "+OK");
    let seen = node.http("GET", node.api, "/v1/kv/default/b", b"");
    assert!(seen.headers.contains_key("atoll-expires-at"), "{seen:?}");
    assert_eq!(redis.command(&["SELECT", "3"]), "+OK");
    assert_eq!(redis.command(&["SET", "k", "three"]), "+OK");
    assert_eq!(node.http("GET", node.api, "/v1/kv/3/k", b"").text(), "three");
    assert_eq!(node.http("GET", node.api, "/v1/kv/default/k", b"").status, 404);
}

#[test]
fn the_largest_value_goes_in_and_out_whole_and_a_larger_one_is_refused_unread() {
    let node = TestNode::start();
    let value: Vec<u8> = (0..64 * MIB).map(|n| (n % 251) as u8).collect();
    assert_eq!(node.http("PUT", node.api, "/v1/kv/default/large", &value).status, 201);
    let read = node.http("GET", node.api, "/v1/kv/default/large", b"");
    assert!(read.body == value, "{} bytes", read.body.len());
    let before = node.resident_bytes();
    for _ in 0..4 {
        assert_eq!(node.http("GET", node.api, "/v1/kv/default/large", b"").body.len(), 64 * MIB);
    }
    let grown = node.resident_bytes().saturating_sub(before) as usize;
    assert!(grown < 32 * MIB, "readers share the value: {grown} bytes more");

    let mut client = TcpStream::connect(node.api).expect("the API is open");
    let too_large = 64 * MIB + 1;
    write!(
        client,
        "PUT /v1/kv/default/k HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {too_large}\r\n\
         Expect: 100-continue\r\n\r\n"
    )
    .expect("the node reads");
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).expect("the node answers");
    assert!(line.starts_with("HTTP/1.1 413"), "no 100 Continue, no wait for the body: {line}");
}

#[test]
fn a_watch_tells_of_writes_through_other_doors() {
    let node = TestNode::start();
    let mut watch = TcpStream::connect(node.api).expect("the API is open");
    watch.set_read_timeout(Some(crate::node::PATIENCE)).expect("a time-out can be set");
    write!(watch, "GET /v1/kv/default?watch=user: HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        .expect("the node reads");
    let mut lines = BufReader::new(watch).lines().map(|line| line.expect("the stream goes on"));
    assert!(lines.any(|line| line.is_empty()), "the head of the answer");
    let mut redis = node.resp_client();
    redis.command(&["SET", "other", "unseen"]);
    redis.command(&["SET", "user:1", "ada"]);
    redis.command(&["DEL", "user:1"]);
    let mut events = lines.filter(|line| line.starts_with("event:") || line.starts_with("data:"));
    let mut next = || events.next().expect("the stream goes on");
    assert_eq!(next(), "event: put");
    assert!(next().contains("user:1"));
    assert_eq!(next(), "event: delete");
    assert!(next().contains("user:1"));
}

#[test]
fn probes_figures_and_the_page_for_people_are_there() {
    let node = TestNode::start();
    node.resp_client().command(&["SET", "k", "v"]);
    assert_eq!(node.http("GET", node.api, "/livez", b"").status, 200);
    assert_eq!(node.http("GET", node.api, "/readyz", b"").status, 200);
    let metrics = node.http("GET", node.api, "/metrics", b"");
    for name in ["atoll_keys", "atoll_resp_clients", "atoll_resp_commands_total"] {
        assert!(metrics.text().contains(&format!("\n{name}")), "{name}: {}", metrics.text());
    }
    let cluster = node.http("GET", node.api, "/v1/cluster", b"").json();
    assert!(cluster.to_string().contains("\"test\""), "{cluster}");
    let page = node.http("GET", node.api, "/", b"");
    assert!(page.header("content-type").starts_with("text/html") && page.text().contains("test"));
}

#[test]
fn a_token_is_asked_for_on_everything_but_the_probes() {
    let node = TestNode::start_with(&["--api-token", "s3cret"]);
    assert_eq!(node.http("GET", node.api, "/livez", b"").status, 200);
    let refused = node.http("PUT", node.api, "/v1/kv/default/k", b"v");
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    let url = format!("http://{}/v1/kv/default/k", node.api);
    let bearer = ["-H", "Authorization: Bearer s3cret"];
    curl(&[&bearer[..], &["-f", "-X", "PUT", &url, "-d", "v"]].concat());
    assert_eq!(curl(&[&bearer[..], &[&url]].concat()), "v");
}

/// `atoll ARGUMENTS` against the node: success, stdout, stderr.
pub(crate) fn atoll(node: &TestNode, arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(ATOLL)
        .args(arguments)
        .env("ATOLL_API_URL", format!("http://{}", node.api))
        .stdin(Stdio::null())
        .output()
        .expect("atoll runs");
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_command_line_reads_and_writes_keys() {
    let node = TestNode::start();
    let ok = |arguments: &[&str]| {
        let (success, stdout, stderr) = atoll(&node, arguments);
        assert!(success, "{arguments:?}: {stdout}{stderr}");
        stdout
    };
    ok(&["kv", "set", "user:1", "ada"]);
    ok(&["kv", "set", "user:2", "grace", "--ttl", "60"]);
    assert_eq!(ok(&["kv", "get", "user:1"]).trim_end(), "ada");
    let listed = ok(&["kv", "list", "--prefix", "user:"]);
    assert!(listed.contains("user:1") && listed.contains("user:2"), "{listed}");
    ok(&["kv", "del", "user:1"]);
    let (success, _, stderr) = atoll(&node, &["kv", "get", "user:1"]);
    assert!(!success && stderr.contains("user:1"), "{stderr}");
    assert!(ok(&["status"]).contains("test"));
    let gateway = node.gateway.to_string();
    let (success, _, stderr) = atoll(&node, &["kv", "--api", &gateway, "get", "k"]);
    assert!(!success && stderr.contains("is a gateway"), "{stderr}");
}

#[test]
fn the_command_line_watches_until_it_is_stopped() {
    let node = TestNode::start();
    let mut watch = Command::new(ATOLL)
        .args(["kv", "watch"])
        .env("ATOLL_API_URL", format!("http://{}", node.api))
        .stdout(Stdio::piped())
        .spawn()
        .expect("atoll runs");
    let mut stdout = watch.stdout.take().expect("stdout is piped");
    let mut seen = [0; 1];
    let writer = std::thread::scope(|threads| {
        let reader = threads.spawn(|| stdout.read(&mut seen).expect("stdout is read"));
        // The watch begins some time after its process does.
        wait_until("the watcher prints", || {
            node.resp_client().command(&["SET", "k", "v"]);
            reader.is_finished().then_some(())
        });
        reader.join().expect("the reader ends")
    });
    watch.kill().expect("it can be killed");
    watch.wait().expect("it ends");
    assert_eq!(writer, 1);
}

//! The RESP door with the programs that come with Redis.

use crate::node::TestNode;
use crate::tools::run;
use std::time::Instant;

fn redis_cli(node: &TestNode, arguments: &[&str]) -> String {
    let port = node.resp.port().to_string();
    run("redis-cli", &[&["-p", &port], arguments].concat())
}

#[test]
fn redis_cli_works_in_both_protocols() {
    let node = TestNode::start();
    for protocol in ["-2", "-3"] {
        let cli = |arguments: &[&str]| redis_cli(&node, &[&[protocol], arguments].concat());
        let began = Instant::now();
        assert_eq!(cli(&["SET", "k", "v", "EX", "100"]).trim(), "OK");
        assert_eq!(cli(&["GET", "k"]).trim(), "v");
        let ttl_s: u64 = cli(&["TTL", "k"]).trim().parse().expect("a number");
        // Rounded, and less by what three processes take to start.
        let least_s = 99_u64.saturating_sub(began.elapsed().as_secs());
        assert!((least_s..=100).contains(&ttl_s), "{ttl_s} s of 100");
        assert_eq!(cli(&["INCRBY", "n", "5"]).trim(), if protocol == "-2" { "5" } else { "10" });
        assert_eq!(cli(&["MGET", "k", "absent"]).trim(), "v");
        assert!(cli(&["INFO"]).contains("redis_version:7.4"));
        assert!(cli(&["NOSUCH", "a"]).contains("ERR unknown command 'NOSUCH'"));
    }
    let scanned = redis_cli(&node, &["--scan"]);
    let mut keys: Vec<&str> = scanned.lines().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["k", "n"]);
}

#[test]
fn redis_cli_pipes_a_mass_insertion() {
    let node = TestNode::start();
    let commands: String =
        (0..10_000).map(|n| format!("SET key:{n} value:{n}\r\n")).collect::<String>();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("commands");
    std::fs::write(&file, commands).expect("the file is written");
    let port = node.resp.port();
    let piped = run("sh", &["-c", &format!("redis-cli -p {port} --pipe < {}", file.display())]);
    assert!(piped.contains("errors: 0, replies: 10000"), "{piped}");
    assert_eq!(redis_cli(&node, &["DBSIZE"]).trim(), "10000");
    assert_eq!(redis_cli(&node, &["FLUSHALL"]).trim(), "OK");
    assert_eq!(redis_cli(&node, &["DBSIZE"]).trim(), "0");
}

#[test]
fn redis_benchmark_runs_through() {
    let node = TestNode::start();
    let port = node.resp.port().to_string();
    for pipeline in ["1", "16"] {
        let report = run(
            "redis-benchmark",
            &["-p", &port, "-n", "5000", "-c", "20", "-r", "1000", "-P", pipeline]
                .iter()
                .chain(&["-t", "ping,set,get,incr,mset", "--csv"])
                .copied()
                .collect::<Vec<_>>(),
        );
        assert!(report.contains("\"GET\"") && report.contains("\"MSET"), "{report}");
    }
}

#[test]
fn a_password_is_asked_for() {
    let node = TestNode::start_with(&["--resp-password", "s3cret"]);
    let mut client = node.resp_client();
    assert!(client.command(&["GET", "k"]).starts_with("-NOAUTH"));
    assert!(client.command(&["AUTH", "wrong"]).starts_with("-WRONGPASS"));
    assert_eq!(client.command(&["AUTH", "s3cret"]), "+OK");
    assert_eq!(client.command(&["GET", "k"]), "$-1");
}

#[test]
fn a_full_node_says_so_and_lets_keys_be_deleted() {
    let node = TestNode::start_with(&["--memory-max", "8MiB"]);
    let mut client = node.resp_client();
    let value = "x".repeat(100_000);
    let replies: Vec<String> =
        (0..200).map(|n| client.command(&["SET", &format!("k{n}"), &value])).collect();
    let refused = replies.iter().position(|reply| reply.starts_with("-OOM"));
    let refused = refused.expect("8 MiB do not hold 20 MB");
    assert!((50..100).contains(&refused), "after {refused}");
    assert_eq!(node.http("PUT", node.api, "/v1/kv/default/k", value.as_bytes()).status, 507);
    assert_eq!(client.command(&["GET", "k0"]).len(), value.len() + 1);
    assert_eq!(client.command(&["DEL", "k0", "k1"]), ":2");
    assert_eq!(client.command(&["SET", "k", &value]), "+OK");
}

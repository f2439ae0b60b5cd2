//! A node with a disk of its own: what a restart, a kill, damage and a full disk leave of it.

mod backup;
mod kill;
mod trouble;

use crate::node::{ATOLL, TestNode, serve, wait_until};
use crate::tools::text;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A node with this data directory and more flags.
fn start(data: &Path, flags: &[&str]) -> TestNode {
    let data = data.to_str().expect("a text path");
    TestNode::start_with(&[&["--data", data], flags].concat())
}

/// What `/v1/cluster` says of the node's disk.
fn disk(node: &TestNode) -> serde_json::Value {
    node.http("GET", node.api, "/v1/cluster", b"").json()["nodes"][0]["disk"].clone()
}

/// Waits until everything that was written so far is safe.
fn wait_until_saved(node: &TestNode) {
    let mut client = node.resp_client();
    wait_until("everything is saved", || {
        let info = client.command(&["INFO", "persistence"]);
        info.contains("rdb_changes_since_last_save:0").then_some(())
    });
}

/// Stops a node as a supervisor does.
fn stop(mut node: TestNode) {
    node.signal("TERM");
    assert_eq!(node.wait().code(), Some(0));
}

/// Writes a bit of everything.
fn write_everything(node: &TestNode) {
    let mut client = node.resp_client();
    for (command, want) in [
        (&["SET", "plain", "value"][..], "+OK"),
        (&["SET", "empty", ""], "+OK"),
        (&["SET", "binary\0key", "a\r\nb"], "+OK"),
        (&["SET", "lasting", "v", "EX", "10000"], "+OK"),
        (&["SET", "touched", "v"], "+OK"),
        (&["EXPIRE", "touched", "20000"], ":1"),
        (&["SET", "fleeting", "v", "PX", "1"], "+OK"),
        (&["INCRBY", "counter", "40"], ":40"),
        (&["SET", "number", "7"], "+OK"),
        (&["INCR", "number"], ":8"),
        (&["SET", "deleted", "v"], "+OK"),
        (&["DEL", "deleted"], ":1"),
        (&["SELECT", "5"], "+OK"),
        (&["SET", "elsewhere", "five"], "+OK"),
        (&["SELECT", "2"], "+OK"),
        (&["SET", "flushed", "v"], "+OK"),
        (&["FLUSHDB"], "+OK"),
        (&["SET", "after", "flush"], "+OK"),
    ] {
        assert_eq!(client.command(command), want, "{command:?}");
    }
    let (shared, large) = (vec![b's'; 100_000], vec![b'l'; 3_000_000]);
    for (path, value) in [("shared", &shared), ("large", &large)] {
        let path = format!("/v1/kv/named.bucket/{path}");
        assert_eq!(node.http("PUT", node.api, &path, value).status, 201);
    }
    let path = "/v1/kv/named.bucket/lived?ttl=5000";
    assert_eq!(node.http("PUT", node.api, path, b"http").status, 201);
}

/// Looks whether all of it is there, and nothing else.
fn check_everything(node: &TestNode) {
    let mut client = node.resp_client();
    // Expired keys count until they are collected, and a node that has just started waits a little
    // for peers that may dial it before it collects.
    wait_until("the expired key is collected", || {
        (client.command(&["DBSIZE"]) == ":7").then_some(())
    });
    for (command, want) in [
        (&["GET", "plain"][..], "$value"),
        (&["GET", "empty"], "$"),
        (&["GET", "binary\0key"], "$a\r\nb"),
        (&["GET", "fleeting"], "$-1"),
        (&["GET", "counter"], "$40"),
        (&["GET", "number"], "$8"),
        (&["GET", "deleted"], "$-1"),
        (&["TTL", "plain"], ":-1"),
        (&["DBSIZE"], ":7"),
        (&["SELECT", "5"], "+OK"),
        (&["GET", "elsewhere"], "$five"),
        (&["SELECT", "2"], "+OK"),
        (&["GET", "flushed"], "$-1"),
        (&["GET", "after"], "$flush"),
        (&["DBSIZE"], ":1"),
        (&["SELECT", "0"], "+OK"),
    ] {
        assert_eq!(client.command(command), want, "{command:?}");
    }
    for (key, least) in [("lasting", 9_000), ("touched", 19_000)] {
        let ttl = client.command(&["TTL", key]);
        let seconds: i64 = ttl.trim_start_matches(':').parse().expect("a number");
        assert!((least..=least + 1_000).contains(&seconds), "{key}: {ttl}");
    }
    let get = |path: &str| node.http("GET", node.api, &format!("/v1/kv/named.bucket/{path}"), b"");
    assert_eq!(get("shared").body, vec![b's'; 100_000]);
    assert_eq!(get("large").body, vec![b'l'; 3_000_000]);
    assert_eq!(get("lived").text(), "http");
    assert!(get("lived").headers.contains_key("atoll-expires-at"));
}

#[test]
fn what_was_written_is_there_after_a_restart_and_after_a_kill() {
    let folder = folder();
    let data = folder.path().join("data");
    let node = start(&data, &[]);
    write_everything(&node);
    stop(node);

    let node = start(&data, &[]);
    // A key that has expired is gone once it is swept.
    wait_until("what has expired is collected", || {
        (node.resp_client().command(&["DBSIZE"]) == ":7").then_some(())
    });
    check_everything(&node);
    let disk_now = disk(&node);
    assert_eq!(disk_now["state"], "ok");
    assert_eq!((&disk_now["damaged_records"], &disk_now["fsync"]), (&0.into(), &"everysec".into()));
    wait_until_saved(&node);
    drop(node);

    let node = start(&data, &[]);
    check_everything(&node);
    let mut client = node.resp_client();
    assert_eq!(client.command(&["INCR", "counter"]), ":41", "a counter goes on");
    assert_eq!(client.command(&["SET", "plain", "newer"]), "+OK");
    assert_eq!(client.command(&["GET", "plain"]), "$newer", "a write after the restart wins");
    let info = client.command(&["INFO", "persistence"]);
    for want in ["loading:0", "aof_enabled:1", "rdb_last_bgsave_status:ok", "atoll_disk:ok"] {
        assert!(info.contains(want), "{want} is missing: {info}");
    }
    let metrics = node.http("GET", node.api, "/metrics", b"");
    for want in ["atoll_disk_ok 1", "atoll_disk_outages_total 0"] {
        assert!(metrics.text().contains(want), "{want} is missing");
    }
}

#[test]
fn without_a_data_directory_nothing_is_kept_and_that_is_said() {
    let node = TestNode::start();
    assert_eq!(disk(&node), serde_json::Value::Null);
    let info = node.resp_client().command(&["INFO", "persistence"]);
    assert!(info.contains("aof_enabled:0") && info.contains("atoll_disk:none"), "{info}");
}

#[test]
fn an_old_copy_of_the_directory_starts_with_what_it_had() {
    let folder = folder();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let node = start(&data, &[]);
    write_everything(&node);
    stop(node);
    let copied = Command::new("cp").args(["-r"]).args([&data, &copy]).status();
    assert!(copied.expect("cp runs").success());
    let node = start(&data, &[]);
    let mut client = node.resp_client();
    assert_eq!(client.command(&["SET", "plain", "newer"]), "+OK");
    assert_eq!(client.command(&["DEL", "number"]), ":1");
    stop(node);
    std::fs::remove_dir_all(&data).expect("nobody uses it");
    std::fs::rename(&copy, &data).expect("it can be moved back");

    let node = start(&data, &[]);
    let mut client = node.resp_client();
    assert_eq!(client.command(&["GET", "plain"]), "$value");
    assert_eq!(client.command(&["GET", "number"]), "$8");
    assert_eq!(client.command(&["SET", "plain", "newest"]), "+OK");
    stop(node);
    let node = start(&data, &[]);
    assert_eq!(node.resp_client().command(&["GET", "plain"]), "$newest");
}

/// A start on `data` that must fail: the one line that it says.
#[track_caller]
fn check_refused(data: &Path, want: &str) {
    let data = data.to_str().expect("a text path");
    let output = serve(&["--data", data, "--log", "off"]).output().expect("atoll runs");
    let message = text(&output.stderr);
    assert!(!output.status.success(), "it should be refused");
    assert!(message.contains(want), "{message:?} should contain {want:?}");
    assert!(!message.contains("panicked"), "{message}");
    assert_eq!(message.trim().lines().count(), 1, "one line: {message}");
    assert!(output.stdout.is_empty(), "nothing was ready");
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let folder = folder();
    let node = start(folder.path(), &[]);
    check_refused(folder.path(), &format!("is in use by process {}", node.id()));
    let output = Command::new(ATOLL)
        .args(["restore", "/dev/null", "--data"])
        .arg(folder.path())
        .output()
        .expect("atoll runs");
    assert!(!output.status.success());
    assert_eq!(node.resp_client().command(&["SET", "k", "v"]), "+OK", "the first goes on");
}

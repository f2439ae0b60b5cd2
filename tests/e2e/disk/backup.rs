//! `atoll backup` and `atoll restore`, beside a running node and without one.

use super::{check_everything, folder, start, stop, write_everything};
use crate::node::{ATOLL, TestNode, wait_until};
use crate::tools::text;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

fn atoll(node: Option<&TestNode>, arguments: &[&str]) -> Output {
    let mut command = Command::new(ATOLL);
    command.args(arguments);
    if let Some(node) = node {
        command.env("ATOLL_API_URL", format!("http://{}", node.api));
    }
    command.output().expect("atoll runs")
}

#[track_caller]
fn check_ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn check_refused(output: &Output, want: &str) {
    let message = text(&output.stderr);
    assert!(!output.status.success(), "it should be refused");
    assert!(message.contains(want), "{message:?} should contain {want:?}");
    assert_eq!(message.trim().lines().count(), 1, "one line: {message}");
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

/// Waits until what has expired is collected, so that counts of keys are settled.
fn settle(node: &TestNode) {
    wait_until("what has expired is collected", || {
        (node.resp_client().command(&["DBSIZE"]) == ":7").then_some(())
    });
}

#[test]
fn a_backup_of_a_running_node_restores_into_another_and_into_a_directory() {
    let folder = folder();
    let file = folder.path().join("backup");
    let node = TestNode::start();
    write_everything(&node);
    settle(&node);
    // Writes go on meanwhile; other keys, so that what is checked is known.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = node.resp_client();
            client.command(&["SELECT", "9"]);
            for n in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                client.command(&["SET", &format!("busy-{n}"), "v"]);
            }
        });
        let backup = atoll(Some(&node), &["backup", path_text(&file)]);
        done.store(true, Ordering::Relaxed);
        assert!(check_ok(&backup).contains(" keys in "));
    });
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);

    let other = TestNode::start();
    let restored = check_ok(&atoll(Some(&other), &["restore", path_text(&file)]));
    assert!(restored.contains("keys restored; the node knew 0"), "{restored}");
    check_everything(&other);
    let again = check_ok(&atoll(Some(&other), &["restore", path_text(&file)]));
    assert!(again.starts_with("0 of "), "{again}");

    let data = folder.path().join("data");
    let offline = atoll(None, &["restore", path_text(&file), "--data", path_text(&data)]);
    assert!(check_ok(&offline).contains("start with: atoll serve --data"));
    let node = start(&data, &[]);
    check_everything(&node);
    stop(node);
    let occupied = atoll(None, &["restore", path_text(&file), "--data", path_text(&data)]);
    check_refused(&occupied, "holds data already");
    check_everything(&start(&data, &[]));
}

#[test]
fn what_is_newer_on_the_node_stays() {
    let folder = folder();
    let file = folder.path().join("backup");
    let data = folder.path().join("data");
    let node = start(&data, &[]);
    let mut client = node.resp_client();
    for key in ["kept", "changed", "deleted"] {
        assert_eq!(client.command(&["SET", key, "old"]), "+OK");
    }
    check_ok(&atoll(Some(&node), &["backup", path_text(&file)]));
    assert_eq!(client.command(&["SET", "changed", "new"]), "+OK");
    assert_eq!(client.command(&["SET", "added", "new"]), "+OK");
    check_ok(&atoll(Some(&node), &["restore", path_text(&file)]));
    for (key, want) in [("kept", "$old"), ("changed", "$new"), ("added", "$new")] {
        assert_eq!(client.command(&["GET", key]), want, "{key}");
    }
    assert_eq!(client.command(&["FLUSHALL"]), "+OK");
    let restored = check_ok(&atoll(Some(&node), &["restore", path_text(&file)]));
    assert!(restored.starts_with("0 of 3 keys restored"), "{restored}");
    assert_eq!(client.command(&["DBSIZE"]), ":0", "a flush made since stays");
    drop(node);

    // Into a node that has nothing, and from there onto its disk.
    fs::remove_dir_all(&data).expect("nobody uses it");
    let node = start(&data, &[]);
    check_ok(&atoll(Some(&node), &["restore", path_text(&file)]));
    stop(node);
    let node = start(&data, &[]);
    assert_eq!(node.resp_client().command(&["MGET", "kept", "changed", "deleted"]), "*3");
}

#[test]
fn a_file_that_is_no_whole_backup_is_refused_and_nothing_is_restored() {
    let folder = folder();
    let file = folder.path().join("backup");
    let node = TestNode::start();
    write_everything(&node);
    check_ok(&atoll(Some(&node), &["backup", path_text(&file)]));
    let whole = fs::read(&file).expect("it is there");
    let other = TestNode::start();
    let data = folder.path().join("data");
    let check = |bytes: &[u8], want: &str| {
        fs::write(&file, bytes).expect("it can be written");
        check_refused(&atoll(Some(&other), &["restore", path_text(&file)]), want);
        let offline = ["restore", path_text(&file), "--data", path_text(&data)];
        check_refused(&atoll(None, &offline), want);
        assert!(!data.exists(), "nothing was begun");
        assert_eq!(other.resp_client().command(&["DBSIZE"]), ":0");
    };
    check(&whole[..whole.len() - 1], "it was cut short");
    check(&whole[..whole.len() / 2], "it was cut short");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    check(&damaged, "the backup is damaged at byte");
    check(b"something else", "this is no backup of atoll");
    check_refused(&atoll(None, &["restore", "/nonexistent"]), "cannot read /nonexistent");
    // What somebody sends without the command is checked as well.
    let answer = other.http("PUT", other.api, "/v1/restore", &whole[..whole.len() / 2]);
    assert_eq!((answer.status, &answer.json()["code"]), (400, &"bad-backup".into()));
}

#[test]
fn a_backup_asks_for_the_token_and_leaves_nothing_behind_when_refused() {
    let folder = folder();
    let file = folder.path().join("backup");
    let node = TestNode::start_with(&["--api-token", "s3cret"]);
    check_refused(&atoll(Some(&node), &["backup", path_text(&file)]), "ATOLL_API_TOKEN");
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
    let output = atoll(Some(&node), &["backup", path_text(&file), "--token", "s3cret"]);
    assert!(check_ok(&output).starts_with("0 keys in "));
}

//! Torn, damaged and missing files; a disk that takes no more.

use super::{check_refused, disk, folder, start, stop, wait_until_saved};
use crate::node::{TestNode, wait_until};
use rlimit::{INFINITY, Resource, prlimit};
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The files below `folder` whose names end so, largest first.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it is a folder") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().expect("it is there").len()));
    found
}

/// A directory with `count` keys, whose node was killed.
fn killed_with_keys(data: &Path, count: usize) {
    let node = start(data, &[]);
    let mut client = node.resp_client();
    // In two portions, one after the other: at least two batches.
    for n in 0..count {
        if n == count / 2 {
            wait_until_saved(&node);
        }
        assert_eq!(client.command(&["SET", &format!("key-{n}"), &format!("value-{n}")]), "+OK");
    }
    wait_until_saved(&node);
}

/// How many of the keys are there, with their values.
fn present(node: &TestNode, count: usize) -> usize {
    let mut client = node.resp_client();
    let is_there = |n: &usize| {
        let got = client.command(&["GET", &format!("key-{n}")]);
        assert!(got == "$-1" || got == format!("$value-{n}"), "key-{n} is {got}");
        got != "$-1"
    };
    (0..count).filter(is_there).count()
}

/// Bytes of a log before the zeros that it was made with.
fn used_len(log: &Path) -> u64 {
    let mut bytes = Vec::new();
    fs::File::open(log).expect("it is there").read_to_end(&mut bytes).expect("it can be read");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

#[test]
fn a_log_with_a_torn_end_starts_with_what_comes_before() {
    let folder = folder();
    killed_with_keys(folder.path(), 300);
    let [log] = &files(folder.path(), ".jnl")[..] else { panic!("one log") };
    let len = used_len(log);
    // Cut within the last batch.
    OpenOptions::new().write(true).open(log).expect("it is there").set_len(len - 3).expect("cut");
    let node = start(folder.path(), &[]);
    assert!(present(&node, 300) >= 150, "the batches before the cut");
    assert_eq!(node.resp_client().command(&["SET", "key-0", "value-0"]), "+OK");
    wait_until_saved(&node);
    let before = present(&node, 300);
    drop(node);

    // And garbage behind the end, as a machine leaves it that lost its power.
    let [log] = &files(folder.path(), ".jnl")[..] else { panic!("one log") };
    let mut file = OpenOptions::new().write(true).open(log).expect("it is there");
    file.seek(SeekFrom::Start(used_len(log))).expect("it can be sought");
    file.write_all(&[0xA5; 5_000]).expect("it can be written");
    drop(file);
    let node = start(folder.path(), &[]);
    assert_eq!(present(&node, 300), before);
}

#[test]
fn missing_files_are_told_in_one_line_that_says_what_to_do() {
    let folder = folder();
    killed_with_keys(folder.path(), 10);
    fs::remove_file(folder.path().join("FORMAT")).expect("it is there");
    check_refused(folder.path(), "has data but no file FORMAT");
    fs::write(folder.path().join("FORMAT"), "atoll-data 9\n").expect("it can be written");
    check_refused(folder.path(), "start the version that wrote it");
    fs::write(folder.path().join("FORMAT"), "atoll-data 1\n").expect("it can be written");
    assert_eq!(present(&start(folder.path(), &[]), 10), 10, "it is well again");
    // The engine's own list of its files.
    let current = files(folder.path(), "current");
    for file in &current {
        fs::write(file, b"nonsense").expect("it can be written");
    }
    assert!(!current.is_empty());
    check_refused(folder.path(), "the data is damaged: move the directory aside");
}

#[test]
fn a_block_that_cannot_be_read_costs_its_keys_and_the_rest_is_written_anew() {
    let folder = folder();
    let count = 45;
    let node = start(folder.path(), &[]);
    for n in 0..count {
        let path = format!("/v1/kv/default/key-{n:02}");
        assert_eq!(node.http("PUT", node.api, &path, &vec![b'v'; 1 << 20]).status, 201);
    }
    let table = wait_until("a file is made of it", || {
        let keyspace = folder.path().join("store/keyspaces/1");
        let changed = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
        // One that is still being written is no part of the data yet.
        let listed = changed(&keyspace.join("current"))?;
        let is_whole = |table: &PathBuf| {
            let is_long = table.metadata().is_ok_and(|about| about.len() > 16 << 20);
            is_long && changed(table).is_some_and(|written| written <= listed)
        };
        files(&keyspace.join("tables"), "").into_iter().find(is_whole)
    });
    wait_until_saved(&node);
    drop(node);
    let mut file = OpenOptions::new().write(true).open(&table).expect("it is there");
    let middle = table.metadata().expect("it is there").len() / 2;
    file.seek(SeekFrom::Start(middle)).expect("it can be sought");
    file.write_all(&[0xA5; 64]).expect("it can be written");
    drop(file);

    let present = |node: &TestNode| -> Vec<u32> {
        let mut client = node.resp_client();
        let mut is_there =
            |n: &u32| client.command(&["STRLEN", &format!("key-{n:02}")]) == ":1048576";
        (0..count).filter(|n| is_there(n)).collect()
    };
    let node = start(folder.path(), &["--log", "off"]);
    let left = present(&node);
    // The engine reads ahead: up to two on either side go with it.
    assert!((40..45).contains(&left.len()), "{left:?} are left");
    assert_eq!(disk(&node)["damaged_records"], 1);
    stop(node);
    assert!(folder.path().join("store.damaged").exists());
    let node = start(folder.path(), &[]);
    assert_eq!(present(&node), left);
    assert_eq!(disk(&node)["damaged_records"], 0);
}

/// Limits how large a file the node may write, which then fails like a full disk.
fn limit_files(node: &TestNode, bytes: u64) {
    let id = i32::try_from(node.id()).expect("a small number");
    prlimit(id, Resource::FSIZE, Some((bytes, INFINITY)), None).expect("its parent may");
}

#[test]
fn while_the_disk_takes_nothing_writes_are_refused_reads_served_and_then_all_goes_on() {
    let folder = folder();
    let node = start(folder.path(), &[]);
    let mut client = node.resp_client();
    assert_eq!(client.command(&["SET", "before", "1"]), "+OK");
    wait_until_saved(&node);
    wait_until("no answer rather than a wrong one", || {
        limit_files(&node, 10);
        let answer = node.resp_client().command(&["SET", "unsaved", "1"]);
        if answer.is_empty() {
            return Some(());
        }
        // The node has found out by a write of its own: once more.
        assert!(answer.starts_with("-MISCONF"), "{answer}");
        limit_files(&node, INFINITY);
        wait_until("it is well", || (disk(&node)["state"] == "ok").then_some(()));
        None
    });
    wait_until("the disk is known to fail", || (disk(&node)["state"] == "failing").then_some(()));

    let mut client = node.resp_client();
    let refused = client.command(&["SET", "during", "1"]);
    assert!(refused.starts_with("-MISCONF"), "{refused}");
    assert!(client.command(&["FLUSHALL"]).starts_with("-MISCONF"));
    let answer = node.http("PUT", node.api, "/v1/kv/default/during", b"1");
    assert_eq!((answer.status, &answer.json()["code"]), (507, &"disk".into()));
    assert_eq!(client.command(&["GET", "unsaved"]), "$1");
    let ready = node.http("GET", node.api, "/readyz", b"");
    assert_eq!((ready.status, &ready.json()["code"]), (503, &"disk".into()));
    let info = client.command(&["INFO", "persistence"]);
    assert!(info.contains("aof_last_write_status:err"), "{info}");
    assert!(info.contains("atoll_disk_reason:File too large"), "{info}");
    let metrics = node.http("GET", node.api, "/metrics", b"");
    assert!(metrics.text().contains("atoll_disk_ok 0"));

    limit_files(&node, INFINITY);
    wait_until("the disk is well again", || (disk(&node)["state"] == "ok").then_some(()));
    assert_eq!(client.command(&["SET", "after", "1"]), "+OK");
    wait_until_saved(&node);
    drop(node);
    let node = start(folder.path(), &[]);
    let mut client = node.resp_client();
    for key in ["before", "unsaved", "after"] {
        assert_eq!(client.command(&["GET", key]), "$1", "{key}");
    }
    assert_eq!(client.command(&["GET", "during"]), "$-1");
}

#[test]
fn with_memory_writes_go_on_while_the_disk_takes_nothing() {
    let folder = folder();
    let node = start(folder.path(), &["--on-disk-error", "memory", "--fsync", "always"]);
    let mut client = node.resp_client();
    limit_files(&node, 10);
    for n in 0..200 {
        assert_eq!(client.command(&["SET", &format!("key-{n}"), &format!("value-{n}")]), "+OK");
    }
    assert_eq!(disk(&node)["state"], "failing");
    assert_eq!(node.http("GET", node.api, "/readyz", b"").status, 200);
    limit_files(&node, INFINITY);
    wait_until("the disk is well again", || (disk(&node)["state"] == "ok").then_some(()));
    stop(node);
    assert_eq!(present(&start(folder.path(), &[]), 200), 200);
}

#[test]
fn with_always_a_write_that_cannot_be_saved_is_not_answered_as_if_it_were() {
    let folder = folder();
    let node = start(folder.path(), &["--fsync", "always"]);
    let mut client = node.resp_client();
    assert_eq!(client.command(&["SET", "k", "saved"]), "+OK");
    limit_files(&node, 10);
    client.send(b"SET k unsaved\r\n");
    assert!(client.is_closed(), "no reply is better than a wrong one");
    let refused = node.resp_client().command(&["SET", "k", "refused"]);
    assert!(refused.starts_with("-MISCONF"), "{refused:?} {}", disk(&node));
}

/// As root: `cargo test -p atoll-node --test e2e -- --ignored a_full_disk`.
#[test]
#[ignore = "mounts a small file system, which takes root"]
fn a_full_disk_is_told_and_used_again_once_there_is_room() {
    let folder = folder();
    let mount = folder.path().join("mount");
    fs::create_dir(&mount).expect("a folder");
    let run = |program: &str, arguments: &[&str]| {
        let status = std::process::Command::new(program).args(arguments).status();
        assert!(status.expect("it runs").success(), "{program} {arguments:?}");
    };
    let path = mount.to_str().expect("a text path");
    run("mount", &["-t", "tmpfs", "-o", "size=64m", "tmpfs", path]);
    let data = mount.join("data");
    let node = start(&data, &[]);
    let ballast = mount.join("ballast");
    let value = vec![b'v'; 1_000_000];
    let mut number = 0;
    wait_until("the disk is full", || {
        let path = format!("/v1/kv/default/key-{number}");
        number += 1;
        fs::write(&ballast, vec![0; 40 << 20]).ok();
        (node.http("PUT", node.api, &path, &value).status == 507).then_some(())
    });
    let reason = disk(&node)["reason"].to_string();
    assert!(reason.contains("No space left") || reason.contains("MiB are free"), "{reason}");
    assert_eq!(node.resp_client().command(&["STRLEN", "key-0"]), ":1000000");
    fs::remove_file(&ballast).expect("it is there");
    wait_until("the disk is well again", || (disk(&node)["state"] == "ok").then_some(()));
    let kept = node.resp_client().command(&["DBSIZE"]);
    stop(node);
    let node = start(&data, &[]);
    assert_eq!(node.resp_client().command(&["DBSIZE"]), kept);
    stop(node);
    run("umount", &[path]);
}

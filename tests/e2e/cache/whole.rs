//! Whoever has had an answer whole finds it stored: of whatever length, in chunks or not, in memory or
//! on the disk.

use super::origin::{Act, Origin, ask, response};
use crate::node::{TestNode, wait_until};
use std::path::Path;

/// Each is asked for twice, one request right behind the other.
const ROUNDS: usize = 60;

fn origin() -> Origin {
    Origin::start(|request, count| {
        let fresh = ("Cache-Control", "max-age=3600");
        let bytes = match request.path().split('/').nth(1) {
            Some("empty") => 0,
            Some("long") => 1_200_000,
            _ => 10,
        };
        let body = format!("{count}").repeat(bytes);
        match request.path().split('/').nth(1) {
            Some("none") => Act::Send(response(204, &[fresh], "")),
            Some("chunked") => {
                let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\n\
                            Transfer-Encoding: chunked\r\n\r\n";
                Act::Send(format!("{head}a\r\n{body}\r\n0\r\n\r\n").into_bytes())
            }
            _ => Act::Send(response(200, &[fresh], &body)),
        }
    })
}

#[track_caller]
fn check(node: &TestNode, origin: &Origin) {
    for kind in ["short", "empty", "none", "chunked", "long"] {
        for round in 0..ROUNDS {
            let path = format!("/{kind}/{round}");
            let first = ask(node, "GET", &path, &[]);
            let again = ask(node, "GET", &path, &[]);
            assert!(
                again.field("cache-status").starts_with("Atoll; hit"),
                "{path}: {}",
                again.start
            );
            assert!(again.body == first.body && again.is_whole, "{path}");
            assert_eq!(origin.seen(&path).len(), 1, "{path}");
        }
    }
}

/// A node before `origin`, with its configuration in `folder`.
fn start(origin: &Origin, folder: &Path, flags: &[&str]) -> TestNode {
    let file = folder.join("atoll.toml");
    let route = format!(
        "[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\ncache = true\n",
        origin.address
    );
    std::fs::write(&file, route).expect("the file is written");
    TestNode::start_with(&[&["--config", file.to_str().expect("a path")], flags].concat())
}

#[test]
fn whoever_has_had_an_answer_whole_finds_it_stored() {
    let (origin, folder) = (origin(), tempfile::tempdir().expect("a folder"));
    check(&start(&origin, folder.path(), &[]), &origin);
}

#[test]
fn whoever_has_had_an_answer_whole_finds_it_stored_where_long_ones_go_to_the_disk() {
    let (origin, folder) = (origin(), tempfile::tempdir().expect("a folder"));
    let data = folder.path().join("data").display().to_string();
    let node = start(&origin, folder.path(), &["--data", &data, "--cache-disk", "256MiB"]);
    wait_until("the disk is served", || {
        (node.figure::<u64>("atoll_cache_disk_serving") == Some(1)).then_some(())
    });
    check(&node, &origin);
}

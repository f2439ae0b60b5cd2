//! Purges over many kills: whatever is purged, by whatever node and whatever dies when, nothing older
//! is served afterwards.

use super::origin::{Act, Origin, ask, response};
use crate::dice::Dice;
use crate::node::{TestNode, wait_until};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Short ones, those that vary, and such as go to the disk as they come.
const PATHS: [&str; 6] =
    ["/page/a", "/page/b", "/page/vary/a", "/page/vary/b", "/page/long/a", "/page/long/b"];

/// All that covers them.
const ORDERS: [&str; 5] = [
    r#"{"tags": ["page"]}"#,
    r#"{"prefixes": ["http://example.com/page/"]}"#,
    r#"{"hosts": ["example.com"]}"#,
    r#"{"all": true}"#,
    r#"{"urls": ["/page/a", "/page/b", "/page/vary/a", "/page/vary/b", "/page/long/a", "/page/long/b"]}"#,
];

fn origin(version: &Arc<AtomicU64>) -> Origin {
    let version = Arc::clone(version);
    Origin::start(move |request, _| {
        let version = version.load(Ordering::SeqCst);
        let zeros = if request.path().contains("long") { 1_200_000 } else { 10 };
        let fresh = ("Cache-Control", "max-age=3600");
        let vary = if request.path().contains("vary") { "Foo" } else { "" };
        let fields = [fresh, ("Cache-Tag", "page"), ("Vary", vary)];
        Act::Send(response(200, &fields, &format!("{}{version}", "0".repeat(zeros))))
    })
}

fn version_at(node: &TestNode, path: &str, kind: &str) -> (u64, bool) {
    let answer = ask(node, "GET", path, &[("Foo", kind)]);
    assert!(answer.is_whole && answer.status() == 200, "{path}: {}", answer.start);
    let hit = answer.field("cache-status").starts_with("Atoll; hit");
    (answer.text().parse().expect("a version"), hit)
}

fn purge(node: &TestNode, order: &str) {
    assert_eq!(node.http("POST", node.api, "/v1/purge", order.as_bytes()).status, 200);
}

fn start(config: &Path, data: &Path, name: &str, peer: Option<&str>) -> TestNode {
    let text = |path: &Path| path.to_str().expect("a text path").to_owned();
    let (config, data) = (text(config), text(data));
    let mut flags = vec!["--config", &config, "--data", &data, "--name", name];
    flags.extend(peer.iter().flat_map(|peer| ["--peer", peer]));
    TestNode::start_with(&flags)
}

#[test]
fn nothing_older_than_a_purge_is_served_over_many_kills() {
    let version = Arc::new(AtomicU64::new(1));
    let origin = origin(&version);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("atoll.toml");
    let text = format!(
        "cache_disk = \"64MiB\"\n[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\ncache = true\n",
        origin.address
    );
    std::fs::write(&config, text).expect("the file is written");
    let stays = start(&config, &folder.path().join("stays"), "stays", None);
    let peer = stays.peers().to_string();
    let data = folder.path().join("dies");
    let mut dies = start(&config, &data, "dies", Some(&peer));
    let mut dice = Dice::new(11);
    let seconds = std::env::var("ATOLL_PURGE_SECONDS").ok().and_then(|text| text.parse().ok());
    let ends = Instant::now() + Duration::from_secs(seconds.unwrap_or(8));
    let (mut floor, mut kills, mut hits, mut purges) = (0, 0, 0, 0);
    // Few of them would not mean anything.
    while Instant::now() < ends || kills <= 2 || purges <= 2 || hits <= 20 {
        for _ in 0..dice.below(30) {
            let (path, kind) = (dice.pick(&PATHS), dice.pick(&["1", "2"]));
            let (got, is_hit) = version_at(&dies, path, kind);
            assert!(got >= floor, "{path} is {got} after a purge of what is older than {floor}");
            hits += u64::from(is_hit);
        }
        match dice.below(4) {
            0 => {
                floor = version.fetch_add(1, Ordering::SeqCst) + 1;
                purge(&dies, dice.pick(&ORDERS));
                purges += 1;
            }
            1 => {
                drop(dies);
                kills += 1;
                if dice.below(2) == 0 {
                    floor = version.fetch_add(1, Ordering::SeqCst) + 1;
                    purge(&stays, dice.pick(&ORDERS));
                    purges += 1;
                }
                dies = start(&config, &data, "dies", Some(&peer));
                if dice.below(2) == 0 {
                    wait_until("the disk is served", || {
                        let metrics = dies.http("GET", dies.api, "/metrics", b"");
                        metrics.text().contains("\natoll_cache_disk_serving 1\n").then_some(())
                    });
                }
            }
            2 => {
                // Invalidated by a request that may have changed it.
                let path = dice.pick(&PATHS);
                version.fetch_add(1, Ordering::SeqCst);
                ask(&dies, "POST", path, &[]);
                let least = version.load(Ordering::SeqCst);
                if dice.below(2) == 0 {
                    drop(dies);
                    kills += 1;
                    dies = start(&config, &data, "dies", Some(&peer));
                }
                assert!(version_at(&dies, path, "1").0 >= least, "{path} is of before a POST");
            }
            _ => {}
        }
    }
    println!("{kills} kills, {purges} purges, {hits} hits");
}

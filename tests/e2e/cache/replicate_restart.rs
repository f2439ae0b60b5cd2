//! A node that comes back with what it had: what was purged while it was down, it takes from nobody.

use super::origin::{Act, Origin, ask, response};
use super::replicate::{check_shared, own_status, purge, settle};
use crate::node::{TestNode, wait_until};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
const PATHS: [&str; 20] = [
    "/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9", "/a", "/b", "/c", "/d", "/e", "/f",
    "/g", "/h", "/i", "/j",
];

fn start(config: &str, data: &Path, name: &str, peer: Option<&str>) -> TestNode {
    let data = data.to_str().expect("a text path");
    let mut flags = vec!["--config", config, "--data", data, "--name", name];
    flags.extend(peer.iter().flat_map(|peer| ["--peer", peer]));
    TestNode::start_with(&flags)
}

#[test]
fn a_node_that_was_down_takes_nothing_before_it_knows_what_was_purged_meanwhile() {
    let version = Arc::new(AtomicU64::new(0));
    let current = Arc::clone(&version);
    let origin = Origin::start(move |_, _| {
        Act::Send(response(200, &[FRESH], &current.load(Ordering::SeqCst).to_string()))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("atoll.toml");
    let text = format!(
        "cache_disk = \"off\"\n[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\n\
         cache = true\nreplicate = true\n",
        origin.address
    );
    std::fs::write(&config, text).expect("the file is written");
    let config = config.to_str().expect("a text path");
    let [stays_at, dies_at] = ["stays", "dies"].map(|name| folder.path().join(name));
    let stays = start(config, &stays_at, "stays", None);
    let peer = stays.peers().to_string();
    let dies = start(config, &dies_at, "dies", Some(&peer));
    settle(&dies, 1);
    for path in PATHS {
        assert_eq!(ask(&stays, "GET", path, &[]).text(), "0");
    }
    settle(&stays, 1);
    drop(dies);
    version.store(1, Ordering::SeqCst);
    purge(&stays, r#"{"all": true}"#);
    // Nobody can tell it: for as long as it waits for that, it asks the upstream.
    stays.signal("STOP");
    let dies = start(config, &dies_at, "dies", Some(&peer));
    for path in PATHS {
        let answer = ask(&dies, "GET", path, &[]);
        if dies.log().contains("peers are not reached") {
            // A machine so busy that it has waited for long enough.
            break;
        }
        assert_eq!(answer.text(), "1", "{path}: {}", own_status(&answer));
    }
    stays.signal("CONT");
    wait_until("it knows what it has missed", || {
        let fetched = ask(&stays, "GET", "/later", &[]);
        settle(&stays, 1);
        let status = own_status(&ask(&dies, "GET", "/later", &[]));
        let is_taken = status.ends_with("detail=replicated");
        if !is_taken {
            purge(&stays, r#"{"urls": ["/later"]}"#);
        }
        is_taken.then_some(fetched)
    });
    let fetched = ask(&stays, "GET", "/latest", &[]);
    settle(&stays, 1);
    check_shared(&dies, "/latest", &[], &fetched);
}

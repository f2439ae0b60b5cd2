//! The tests by which HTTP caches are compared: https://cache-tests.fyi, as their authors publish
//! them on npm.

use crate::node::TestNode;
use crate::tools::run;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const PACKAGE: &str = "http-cache-tests@0.4.5";

/// Required behaviours that we do not show, and why. None so far.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// Installs the package once, below the folder of the build.
fn package() -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache-tests");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let package = folder.join("node_modules/http-cache-tests");
    if !package.exists() {
        let prefix = folder.display().to_string();
        let arguments = ["install", "--silent", "--no-audit", "--no-fund", "--prefix", &prefix];
        run("npm", &[&arguments[..], &[PACKAGE]].concat());
    }
    package.display().to_string()
}

#[test]
#[ignore = "takes a minute and fetches a package; README says how to run it"]
fn every_required_behaviour_of_the_public_cache_tests_is_shown() {
    // Held until the node has its own ports.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("an address").port();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let route =
        format!("[[route]]\npath = \"/*\"\nupstream = \"http://localhost:{port}\"\ncache = true\n");
    // What RFC 9111 section 7.3 allows; the default is more careful.
    let route = route + "set_cookie = \"store\"\n";
    std::fs::write(file.path(), route).expect("the file is written");
    let node = TestNode::start_with(&["--config", file.path().to_str().expect("a path")]);
    drop(free);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/e2e/cache/suite.mjs");
    let base = format!("http://{}", node.gateway);
    let said = run("node", &["--no-warnings", script, &package(), &base, &port.to_string()]);
    // The package prints what it thinks of as it goes; the last line is ours.
    let line = said.lines().last().unwrap_or_default();
    let told: BTreeMap<String, Value> =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said}"));
    let text = |test: &Value, name: &str| test[name].as_str().unwrap_or_default().to_owned();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut missed = Vec::new();
    for (id, test) in &told {
        let (kind, verdict) = (text(test, "kind"), text(test, "verdict"));
        *counts.entry((kind.clone(), verdict.clone())).or_default() += 1;
        if verdict != "pass" && kind != "check" {
            println!("{kind} {id}: {verdict}: {}", text(test, "why"));
        }
        if kind == "required" && verdict != "pass" && !EXCEPTIONS.iter().any(|(is, _)| is == id) {
            missed.push(id.clone());
        }
    }
    for ((kind, verdict), count) in &counts {
        println!("{kind}: {count} {verdict}");
    }
    assert!(counts.len() > 1 && told.len() > 300, "the tests have not been run");
    assert_eq!(missed, Vec::<String>::new(), "required behaviours that are not shown");
}

//! The client libraries that people use, as they install them: redis-py and ioredis.
//!
//! Each is installed once, at a fixed version, below the folder of the build.

use crate::node::TestNode;
use crate::tools::run;
use std::path::{Path, PathBuf};

const REDIS_PY: &str = "redis==8.1.0";
const IOREDIS: &str = "ioredis@6.0.0";

/// A folder of the build for what a test installs; the same for every run.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

#[test]
fn redis_py_works() {
    let node = TestNode::start_with(&["--resp-password", "s3cret"]);
    let python = folder("redis-py").join("bin/python");
    let python = python.display().to_string();
    let folder = folder("redis-py").display().to_string();
    if !Path::new(&python).exists() {
        run("python3", &["-m", "venv", &folder]);
    }
    run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", REDIS_PY]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/e2e/clients/redis_py.py");
    let said = run(&python, &[script, &node.resp.port().to_string(), "s3cret"]);
    assert_eq!(said.trim(), "done");
}

#[test]
fn ioredis_works() {
    let node = TestNode::start_with(&["--resp-password", "s3cret"]);
    let folder = folder("ioredis").display().to_string();
    if !Path::new(&folder).join("node_modules/ioredis").exists() {
        run(
            "npm",
            &["install", "--silent", "--no-audit", "--no-fund", "--prefix", &folder, IOREDIS],
        );
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/e2e/clients/ioredis.js");
    let said = run("node", &[script, &folder, &node.resp.port().to_string(), "s3cret"]);
    assert_eq!(said.trim(), "done");
}

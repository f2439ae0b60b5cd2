//! Secrets: who gets one, and who never does.

use super::{check_refused, deploy, get, ok};
use crate::cluster::{Cluster, Shape};
use crate::node::{ATOLL, TestNode, wait_until};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const VALUE: &str = "hunter2-with-some-length";

/// `atoll secret set NAME`, with `value` on stdin: success and stderr.
fn set(node: &TestNode, name: &str, value: &str) -> (bool, String) {
    let mut child = Command::new(ATOLL)
        .args(["secret", "set", name])
        .env("ATOLL_API_URL", format!("http://{}", node.api))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("atoll starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(value.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn key_file(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, format!("{name}-is-a-key-of-32-bytes-or-so\n")).expect("written");
    path.display().to_string()
}

/// Whether any file below `folder` holds `text`.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).expect("a folder").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// Deploys one that is granted the secret `a`, and a standard one that is granted `b`.
fn deploy_readers(node: &TestNode) {
    let ours = ["--name", "ours", "--route", "/ours/*", "--grant", "secret:a", "--grant"];
    deploy(node, "hostile", &[&ours[..], &["kv:default=rw", "--wait", "all"]].concat());
    let theirs = ["--name", "theirs", "--route", "/theirs/*", "--grant", "secret:b", "--grant"];
    deploy(node, "standard", &[&theirs[..], &["kv:default=rw", "--wait", "all"]].concat());
}

#[test]
fn a_handler_reads_the_secrets_that_it_was_granted_on_every_node_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key_file(folder.path(), "cluster");
    let cluster =
        Cluster::start_with(Shape::Pair, |_| vec!["--cluster-key-file".to_owned(), key.clone()]);
    let (first, second) = (cluster.node(0), cluster.node(1));
    assert_eq!(set(first, "a", &format!("{VALUE}\n")), (true, String::new()));
    assert!(set(second, "b", "of another").0);
    deploy_readers(first);
    for node in [first, second] {
        wait_until("both secrets have come", || {
            (ok(node, &["secret", "list"]).lines().count() == 3).then_some(())
        });
        assert_eq!(get(node, "/ours/secret?name=a").text(), VALUE);
        let denied = get(node, "/ours/secret?name=b");
        assert_eq!(denied.status, 403);
        assert!(denied.text().contains("secret:b is not granted; deploy the handler with"));
        let other = get(node, "/theirs/config?secret:b").text().to_owned();
        assert!(other.starts_with(r#"Ok(Some("of another")) of Ok([])"#), "{other}");
        let denied = get(node, "/theirs/config?secret:a").text().to_owned();
        assert!(denied.contains("secret:a is not granted") && !denied.contains(VALUE), "{denied}");
    }
    let listed = ok(second, &["secret", "list"]);
    assert!(
        listed.contains("ours") && listed.contains("theirs") && !listed.contains(VALUE),
        "{listed}"
    );

    assert!(set(second, "a", "another value").0);
    wait_until("it is another", || {
        (get(first, "/ours/secret?name=a").text() == "another value").then_some(())
    });
    ok(first, &["secret", "remove", "a"]);
    wait_until("it is gone", || (get(second, "/ours/secret?name=a").status == 404).then_some(()));
    check_refused(first, &["secret", "remove", "a"], "no secret of this name");
    check_refused(first, &["secret", "set", "a", VALUE], "unexpected argument");
    let refused = |name: &str, value: &str| set(first, name, value).1;
    assert!(refused("a", "").contains("stdin is empty"));
    assert!(refused("A", "x").contains("a-z, 0-9 and -"));
    assert!(refused("a", &"x".repeat((64 << 10) + 1)).contains("65536"));
}

#[test]
fn a_secret_is_nowhere_in_clear() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key_file(folder.path(), "own");
    let data = folder.path().join("data");
    let flags = ["--data", &data.display().to_string(), "--secrets-key-file", &key];
    let mut node = TestNode::start_with(&[&flags[..], &["--log", "trace"]].concat());
    assert!(set(&node, "a", VALUE).0);
    deploy_readers(&node);
    assert_eq!(get(&node, "/ours/secret?name=a").text(), VALUE);
    let kept = folder.path().join("kept");
    ok(&node, &["backup", &kept.display().to_string()]);
    let paths = [
        "/v1/secrets",
        "/v1/secrets/a",
        "/v1/handlers",
        "/v1/handlers/ours",
        "/v1/handlers/ours/logs",
        "/v1/cluster",
        "/metrics",
        "/",
        "/v1/kv/_sys/secret/a",
        "/v1/kv/_sys?prefix=secret/",
        "/v1/kv/_sys?watch=secret/",
    ];
    for path in paths {
        let answer = node.http("GET", node.api, path, b"");
        assert!(!String::from_utf8_lossy(&answer.body).contains(VALUE), "{path}");
        let is_closed = path.contains("_sys");
        assert_eq!(answer.status == 403, is_closed, "{path}");
    }
    assert_eq!(node.http("GET", node.api, "/v1/secrets/a", b"").status, 405);
    let mut redis = node.resp_client();
    assert_eq!(redis.command(&["GET", "secret/a"]), "$-1");
    assert!(redis.command(&["SELECT", "_sys"]).starts_with('-'));
    check_refused(
        &node,
        &["deploy", &super::component("hello"), "--route", "/h", "--grant", "kv:_sys=r"],
        "write kv:BUCKET=rw",
    );
    node.signal("TERM");
    assert!(node.wait().success());
    assert!(!node.log().contains(VALUE));
    assert!(!holds(folder.path(), VALUE), "neither disk nor backup");

    // After a restart it is read again; with another key it is not, in clear words.
    let node = TestNode::start_with(&flags);
    wait_until("the handler is back", || (get(&node, "/ours/x").status == 200).then_some(()));
    assert_eq!(get(&node, "/ours/secret?name=a").text(), VALUE);
    drop(node);
    let flags = [flags[0], flags[1], flags[2], &key_file(folder.path(), "other")];
    let node = TestNode::start_with(&flags);
    wait_until("the handler is back", || (get(&node, "/ours/x").status == 200).then_some(()));
    let unreadable = get(&node, "/ours/secret?name=a").text().to_owned();
    assert!(unreadable.contains("set with another key than this node has"), "{unreadable}");
    assert!(ok(&node, &["secret", "list"]).contains("unreadable here"));
}

#[test]
fn a_node_takes_secrets_from_its_environment_and_needs_a_key_for_others() {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let environment = [variable("ATOLL_SECRET_A", VALUE), variable("ATOLL_SECRET_", "nameless")];
    let node = TestNode::start_in(&environment, &[]);
    deploy_readers(&node);
    assert_eq!(get(&node, "/ours/secret?name=a").text(), VALUE);
    let listed = ok(&node, &["secret", "list"]);
    assert!(listed.contains("environment") && listed.lines().count() == 2, "{listed}");
    let (success, stderr) = set(&node, "b", "x");
    assert!(!success && stderr.contains("--secrets-key-file"), "{stderr}");
}

#[test]
fn a_filter_reads_the_secrets_that_it_was_granted_as_a_handler_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = TestNode::start_with(&["--secrets-key-file", &key_file(folder.path(), "own")]);
    let (success, stderr) = set(&node, "a", VALUE);
    assert!(success, "{stderr}");
    deploy(&node, "hostile-filter", &["--name", "f", "--grant", "secret:a", "--grant", "secret:b"]);
    ok(&node, &["upstream", "set", "r", "path=/*", "upstream=http://127.0.0.1:1", "filter=f"]);
    let ask = |name: &str| {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build();
        let request = ureq::Agent::from(agent)
            .get(format!("http://{}/x", node.gateway))
            .header("x-hook", "on-request")
            .header("x-do", "secret")
            .header("x-name", name);
        let mut answer = request.call().expect("it is answered");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    };
    assert_eq!(ask("a"), (200, VALUE.to_owned()));
    assert_eq!(ask("b"), (404, "there is none\n".to_owned()));
    let (status, told) = ask("c");
    assert_eq!(status, 403);
    let want = "secret:c is not granted; deploy the handler with --grant secret:c";
    assert!(told.contains(want), "{told}");
}

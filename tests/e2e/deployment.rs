//! Deployed on any node, live on every node: joining late, restarting, rolling back, removing.

mod contested;
mod parted;

use crate::api::atoll;
use crate::cluster::{Cluster, Shape};
use crate::node::{TestNode, wait_until};
use std::path::PathBuf;

fn component(name: &str) -> PathBuf {
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    guests.path(name)
}

#[track_caller]
fn ok(node: &TestNode, arguments: &[&str]) -> String {
    let (success, stdout, stderr) = atoll(node, arguments);
    assert!(success, "{arguments:?}: {stdout}{stderr}");
    stdout
}

/// Deploys the crate `guest` as the handler `page` at `/page/*`.
#[track_caller]
fn deploy(node: &TestNode, guest: &str, arguments: &[&str]) -> String {
    let path = component(guest).display().to_string();
    let command = ["deploy", &path, "--name", "page", "--route", "/page/*"];
    ok(node, &[&command[..], arguments].concat())
}

fn page(node: &TestNode) -> (u16, String) {
    let answer = node.http("GET", node.gateway, "/page/x", b"");
    (answer.status, answer.text().to_owned())
}

#[track_caller]
fn wait_for_page(node: &TestNode, what: &str, want: impl Fn(&(u16, String)) -> bool) {
    wait_until(what, || want(&page(node)).then_some(()));
}

const HELLO: &str = "Hello, world!\n";

#[test]
fn what_is_deployed_on_one_node_is_live_on_all_and_rolls_back_on_all() {
    let cluster = Cluster::start(Shape::Line(3));
    let (first, last) = (cluster.node(0), cluster.node(2));
    let told = deploy(first, "hello", &["--wait", "all"]);
    for node in ["n0", "n1", "n2"] {
        assert!(told.contains(&format!("{node}  serves version 1")), "{told}");
    }
    for index in 0..3 {
        assert_eq!(page(cluster.node(index)), (200, HELLO.to_owned()), "node {index}");
    }

    let told = deploy(last, "standard", &["--wait", "all"]);
    assert!(told.contains("version 2"), "{told}");
    // Where it has not waited in vain, it is so.
    if !told.contains("n0  serves version 2") {
        wait_for_page(first, "it is live there", |page| page.1 == "hello from the standard\n");
    }
    assert_eq!(page(first).1, "hello from the standard\n");

    let told = ok(first, &["rollback", "page", "--wait", "all"]);
    assert!(told.contains("back at version 1, as version 3"), "{told}");
    assert_eq!(page(last).1, HELLO);
    let (success, _, stderr) = atoll(last, &["rollback", "page"]);
    assert!(!success && stderr.contains("no version before"), "{stderr}");
    let told = ok(last, &["rollback", "page", "--to", "2", "--wait", "all"]);
    assert!(told.contains("as version 4"), "{told}");
    assert_eq!(page(first).1, "hello from the standard\n");

    ok(first, &["remove", "page"]);
    assert_eq!(page(first).0, 404);
    wait_for_page(last, "it is gone everywhere", |(status, _)| *status == 404);
    let (success, _, stderr) = atoll(last, &["rollback", "page"]);
    assert!(!success && stderr.contains("no handler is called page"), "{stderr}");
}

#[test]
fn a_node_that_joins_later_or_comes_back_gets_the_handlers_by_itself() {
    let mut cluster = Cluster::start(Shape::Pair);
    deploy(cluster.node(0), "hello", &[]);
    wait_for_page(cluster.node(1), "it is live there too", |page| page.0 == 200);
    cluster.kill(1);
    deploy(cluster.node(0), "standard", &[]);
    cluster.start_node(1);
    wait_for_page(cluster.node(1), "it has what came meanwhile", |page| {
        page.1 == "hello from the standard\n"
    });
}

/// How many components the node has made ready, loaded from its disk or compiled.
fn components(node: &TestNode, how: &str) -> u64 {
    node.figure(&format!("atoll_handler_components_total{{how=\"{how}\"}}")).unwrap_or(0)
}

/// Waits until the node calls itself ready, and asks its handler then.
fn page_once_ready(node: &TestNode) -> (u16, String) {
    wait_until("the node is ready", || {
        (node.http("GET", node.api, "/readyz", b"").status == 200).then_some(())
    });
    page(node)
}

#[test]
fn a_restart_compiles_nothing_again_but_what_was_tampered_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    let mut node = TestNode::start_with(&["--data", &data]);
    deploy(&node, "hello", &[]);
    assert_eq!((components(&node, "compiled"), components(&node, "loaded")), (1, 0));
    let restart = |node: &mut TestNode| {
        node.signal("TERM");
        assert!(node.wait().success());
        *node = TestNode::start_with(&["--data", &data]);
    };
    restart(&mut node);
    assert_eq!(page_once_ready(&node), (200, HELLO.to_owned()), "ready is ready");
    assert_eq!((components(&node, "compiled"), components(&node, "loaded")), (0, 1));
    assert!(!node.log().contains("compiled"), "{}", node.log());

    let compiled = std::fs::read_dir(folder.path().join("compiled")).expect("the cache");
    let code = compiled.map(|entry| entry.expect("an entry").path());
    let code: Vec<PathBuf> =
        code.filter(|path| path.extension().is_some_and(|suffix| suffix == "code")).collect();
    let [code] = &code[..] else { panic!("one file: {code:?}") };
    let mut bytes = std::fs::read(code).expect("the code");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(code, &bytes).expect("it is changed");
    restart(&mut node);
    assert_eq!(page_once_ready(&node), (200, HELLO.to_owned()));
    assert_eq!((components(&node, "compiled"), components(&node, "loaded")), (1, 0));
    node.wait_for_log("its seal is broken");
    restart(&mut node);
    assert_eq!(page_once_ready(&node), (200, HELLO.to_owned()));
    assert_eq!((components(&node, "compiled"), components(&node, "loaded")), (0, 1));
}

#[test]
fn handlers_are_live_again_after_a_restart_with_a_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    let mut node = TestNode::start_with(&["--data", &data]);
    deploy(&node, "counter", &[]);
    assert_eq!(page(&node), (200, "x: 1\n".to_owned()));
    node.signal("TERM");
    assert!(node.wait().success());
    let node = TestNode::start_with(&["--data", &data]);
    wait_for_page(&node, "it is live again", |page| page.0 == 200);
    deploy(&node, "hello", &[]);
    assert!(ok(&node, &["handlers"]).contains('2'), "its versions go on");
    ok(&node, &["rollback", "page"]);
    assert!(page(&node).1.starts_with("x: "));
}

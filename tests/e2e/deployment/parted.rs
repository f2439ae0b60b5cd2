//! What is deployed and removed on both sides of a partition.

use super::{HELLO, component, ok, wait_for_page};
use crate::api::atoll;
use crate::cluster::{Cluster, Shape};
use crate::node::{TestNode, wait_until};

fn text(node: &TestNode, path: &str) -> String {
    node.http("GET", node.gateway, path, b"").text().to_owned()
}

/// Cuts the last of three nodes off, and waits until all have seen it.
fn part(cluster: &Cluster) {
    cluster.isolate(2);
    cluster.wait_unlinked(0, 2);
    cluster.wait_unlinked(1, 2);
}

#[test]
fn a_component_that_one_side_removes_and_the_other_deploys_is_there_for_all() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let data = |index: usize| folders[index].path().display().to_string();
    let mut cluster =
        Cluster::start_with(Shape::Mesh(3), |index| vec!["--data".to_owned(), data(index)]);
    let hello = component("hello").display().to_string();
    let deploy = |node: &TestNode, name: &str, more: &[&str]| {
        let route = format!("/{name}/*");
        let command = ["deploy", &hello, "--name", name, "--route", &route];
        ok(node, &[&command[..], more].concat());
    };
    deploy(cluster.node(0), "old", &["--wait", "all"]);
    part(&cluster);
    deploy(cluster.node(2), "new", &[]);
    // Later than what it is needed for: of the two, the removal wins.
    ok(cluster.node(0), &["remove", "old"]);
    cluster.heal();
    for index in 0..3 {
        let node = cluster.node(index);
        wait_until("it is live everywhere", || (text(node, "/new/x") == HELLO).then_some(()));
    }
    assert!(ok(cluster.node(2), &["route", "new", "/newer"]).contains("version 2"));
    cluster.kill(2);
    cluster.start_node(2);
    let node = cluster.node(2);
    wait_until("it is live after a restart", || (text(node, "/newer") == HELLO).then_some(()));
}

#[test]
fn a_version_that_one_side_forgets_and_the_other_brings_back_is_there_for_all() {
    let cluster = Cluster::start(Shape::Mesh(3));
    let first = component("hello").display().to_string();
    let other = component("standard").display().to_string();
    let deploy = |file: &str, more: &[&str]| {
        let command = ["deploy", file, "--name", "page", "--route", "/page/*"];
        ok(cluster.node(0), &[&command[..], more].concat());
    };
    deploy(&first, &[]);
    (0..3).for_each(|_| deploy(&other, &[]));
    deploy(&other, &["--wait", "all"]);
    part(&cluster);
    deploy(&other, &[]);
    let (success, _, stderr) = atoll(cluster.node(0), &["rollback", "page", "--to", "1"]);
    assert!(!success && stderr.contains("no version 1"), "{stderr}");
    ok(cluster.node(2), &["rollback", "page", "--to", "1"]);
    cluster.heal();
    for index in 0..3 {
        wait_for_page(cluster.node(index), "it is back everywhere", |page| page.1 == HELLO);
    }
}

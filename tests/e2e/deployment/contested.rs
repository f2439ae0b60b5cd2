//! Two deployments of one name at the same time.

use super::{component, ok, page};
use crate::cluster::{Cluster, Shape};
use crate::node::{ATOLL, TestNode, wait_until};
use std::process::{Child, Command, Stdio};

fn deploying(node: &TestNode, guest: &str) -> Child {
    let path = component(guest).display().to_string();
    let child = Command::new(ATOLL)
        .args(["deploy", &path, "--name", "page", "--route", "/page/*", "--wait", "all"])
        .env("ATOLL_API_URL", format!("http://{}", node.api))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    child.expect("atoll starts")
}

#[test]
fn who_has_lost_against_another_deployment_is_told() {
    let cluster = Cluster::start(Shape::Pair);
    // Nothing is left to compile when it counts.
    for guest in ["hello", "standard"] {
        let path = component(guest).display().to_string();
        let route = format!("/{guest}");
        let command = ["deploy", &path, "--name", guest, "--route", &route, "--wait", "all"];
        ok(cluster.node(0), &command);
    }
    cluster.cut(0, 1);
    cluster.wait_unlinked(0, 1);
    let guests = ["hello", "standard"];
    let both = [0, 1].map(|index| deploying(cluster.node(index), guests[index]));
    for index in 0..2 {
        wait_until("it is live there", || (page(cluster.node(index)).0 == 200).then_some(()));
    }
    cluster.heal();
    let ended = both.map(|child| child.wait_with_output().expect("it ends"));
    let won = ended.iter().position(|output| output.status.success()).expect("one has won");
    let lost = String::from_utf8_lossy(&ended[1 - won].stderr).into_owned();
    assert!(!ended[1 - won].status.success(), "{lost}");
    assert!(lost.contains("another deployment of page came at the same time"), "{lost}");
    let told = String::from_utf8_lossy(&ended[won].stdout).into_owned();
    assert!(told.contains("n0  serves version 1") && told.contains("n1  serves"), "{told}");
    assert_eq!(page(cluster.node(0)), page(cluster.node(1)));
    let want = ["Hello, world!\n", "hello from the standard\n"][won];
    assert_eq!(page(cluster.node(0)).1, want);
}

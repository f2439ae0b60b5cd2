//! A version on trial: its share of the requests, and how the trial ends.

use super::{check_refused, component, deploy, figure, get, ok};
use crate::cluster::{Cluster, Shape};
use crate::node::{PATIENCE, TestNode, wait_until};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

const LIVE: &str = "Hello, world!\n";
const CANARY: &str = "hello from the standard\n";

/// How many of `count` requests the canary answers; the live version answers the others.
#[track_caller]
fn canary_count(node: &TestNode, count: usize) -> usize {
    let answers = (0..count).map(|_| {
        let answer = get(node, "/page/x");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let is_canary = answer.text() == CANARY;
        assert!(is_canary || answer.text() == LIVE, "{}", answer.text());
        is_canary
    });
    answers.filter(|is_canary| *is_canary).count()
}

#[test]
fn a_canary_gets_its_share_on_every_node_until_it_is_promoted_or_rolled_back() {
    let cluster = Cluster::start(Shape::Pair);
    let (first, second) = (cluster.node(0), cluster.node(1));
    let standard = component("standard");
    let try_out = ["deploy", &standard, "--name", "page", "--canary", "25%", "--wait", "all"];
    check_refused(first, &try_out, "needs a live version beside it");
    deploy(first, "hello", &["--name", "page", "--route", "/page/*", "--wait", "all"]);
    let told = ok(first, &try_out);
    assert!(told.contains("version 2 gets 25% of the requests, version 1 the rest"), "{told}");
    for node in [first, second] {
        // 50 are expected of 200; that so few or so many come by chance happens once in 10^9.
        let count = canary_count(node, 200);
        assert!((16..=92).contains(&count), "{count} of 200");
        let answered = |release: &str| {
            let labels = format!("handler=\"page\",release=\"{release}\",outcome=\"answered\"");
            figure(node, &format!("atoll_handler_requests_total{{{labels}}}"))
        };
        // One that streams is counted when it has ended, which may be after its answer.
        let want = (count as u64, 200 - count as u64);
        wait_until("each is counted as what it is", || {
            ((answered("canary"), answered("live")) == want).then_some(())
        });
    }
    let listed = ok(second, &["handlers"]);
    assert!(listed.contains("canary, 25%"), "{listed}");

    // Routes are those of both.
    ok(second, &["route", "page", "/page/*", "/other", "--wait", "all"]);
    assert_eq!(get(first, "/other").status, 200);
    let count = canary_count(first, 200);
    assert!((16..=92).contains(&count), "{count} of 200 with another route");

    let told = ok(second, &["promote", "page", "--wait", "all"]);
    assert!(told.contains("version 2 gets all requests, as version 4"), "{told}");
    assert_eq!((canary_count(first, 20), canary_count(second, 20)), (20, 20));
    check_refused(first, &["promote", "page"], "has no canary");
    ok(first, &["rollback", "page", "--to", "1", "--wait", "all"]);
    assert_eq!((canary_count(first, 20), canary_count(second, 20)), (0, 0));

    ok(first, &try_out);
    let told = ok(second, &["rollback", "page", "--wait", "all"]);
    assert!(told.contains("back at version 1"), "{told}");
    assert_eq!((canary_count(first, 20), canary_count(second, 20)), (0, 0));
    assert!(!ok(first, &["handlers"]).contains("canary"));

    let routed = ["deploy", &standard, "--name", "page", "--canary", "5%", "--route", "/x"];
    check_refused(first, &routed, "cannot be used with");
    for bad in ["0%", "101", "few"] {
        let arguments = ["deploy", &standard, "--name", "page", "--canary", bad];
        check_refused(first, &arguments, "write 5% or 0.5%");
    }
}

#[test]
fn a_request_ends_on_the_version_that_it_began_with() {
    let node = TestNode::start();
    let standard = component("standard");
    deploy(&node, "hello", &["--name", "page", "--route", "/page/*"]);
    ok(&node, &["deploy", &standard, "--name", "page", "--canary", "100%"]);
    let mut slow = TcpStream::connect(node.gateway).expect("the gateway is open");
    slow.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    write!(slow, "POST /page/pipe HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst")
        .expect("sent");
    let mut answer = BufReader::new(slow.try_clone().expect("a second handle"));
    let mut head = String::new();
    answer.read_line(&mut head).expect("the canary answers before it has read everything");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");

    ok(&node, &["rollback", "page"]);
    assert_eq!(get(&node, "/page/x").text(), LIVE);
    write!(slow, "-last").expect("it is still read");
    let mut rest = String::new();
    wait_until("both halves come back", || {
        let mut piece = [0; 512];
        let count = answer.read(&mut piece).expect("the answer goes on");
        rest += &String::from_utf8_lossy(&piece[..count]);
        (rest.contains("first") && rest.contains("-last")).then_some(())
    });
}

#[test]
fn a_live_version_outlives_more_canaries_than_versions_are_kept() {
    let node = TestNode::start();
    let [hello, standard, counter] = ["hello", "standard", "counter"].map(component);
    ok(&node, &["deploy", &hello, "--name", "page", "--route", "/page/*"]);
    for canary in [&standard, &counter].into_iter().cycle().take(7) {
        ok(&node, &["deploy", canary, "--name", "page", "--canary", "1%"]);
    }
    // What is kept is enough for a node that knows nothing yet.
    let joined = TestNode::start_with(&["--name", "late", "--peer", &node.peers().to_string()]);
    wait_until("it answers there too", || (get(&joined, "/page/x").status == 200).then_some(()));
    ok(&node, &["rollback", "page"]);
    assert_eq!(canary_count(&node, 20), 0);
}

//! How soon what is said to one node holds on another, two links away.

use super::{component, deploy, get};
use crate::cluster::{Cluster, Shape};
use crate::node::{TestNode, wait_until};
use crate::pace::Pace;
use std::time::{Duration, Instant};

const LIVE: &str = "Hello, world!\n";
const OTHER: &str = "hello from the standard\n";
/// What is held: of the median, and beside what a request takes, because the machine has other work
/// too.
const REACH_MAX: Duration = Duration::from_millis(100);

/// A path, and the status and the text that it is to be answered with.
type Wanted<'w> = (&'w str, &'w dyn Fn(u16, &str) -> bool);

/// Asks the API of `node`; returns how long it took, from then on, until `there` answers `path` so,
/// and what a request took just before.
#[track_caller]
fn reach(
    (node, there): (&TestNode, &TestNode),
    (method, path): (&str, &str),
    (asked, want): Wanted<'_>,
) -> (Duration, Duration) {
    let began = Instant::now();
    get(there, asked);
    let (request, began) = (began.elapsed(), Instant::now());
    let answer = node.http(method, node.api, path, b"");
    assert!(answer.status < 300, "{path}: {}", answer.text());
    wait_until(&format!("{path} holds there"), || {
        let seen = get(there, asked);
        want(seen.status, seen.text()).then_some(())
    });
    (began.elapsed(), request)
}

#[track_caller]
fn check(what: &str, times: Vec<(Duration, Duration)>) {
    let (mut times, requests): (Vec<Duration>, Vec<Duration>) = times.into_iter().unzip();
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!("{what}: median {median:?}, worst {worst:?} of {}", times.len());
    // An order, two links, and who asks whether it has come.
    let bar = Pace::from(requests).bar(REACH_MAX, 50);
    assert!(median < bar, "{what}: {times:?}, held against {bar:?}");
}

#[test]
fn what_changes_a_handler_on_the_first_node_holds_on_the_third_within_a_tenth_of_a_second() {
    let cluster = Cluster::start(Shape::Line(3));
    let (first, third) = (cluster.node(0), cluster.node(2));
    deploy(first, "hello", &["--name", "page", "--route", "/page/*", "--wait", "all"]);
    deploy(first, "standard", &["--name", "page", "--route", "/page/*", "--wait", "all"]);
    let says = |want: &'static str| move |_: u16, text: &str| text == want;
    // Back and forth between two components that are compiled everywhere. Each is a version of its own.
    let rollbacks = (1..11).map(|to| {
        let want = if to % 2 == 1 { LIVE } else { OTHER };
        let path = format!("/v1/handlers/page/rollback?to={to}");
        reach((first, third), ("POST", &path), ("/page/x", &says(want)))
    });
    check("rollback", rollbacks.collect());

    let routes = (0..10).map(|round| {
        let path = format!("/v1/handlers/page/routes?route=/page/*&route=/extra{round}");
        let asked = format!("/extra{round}");
        reach((first, third), ("PUT", &path), (&asked, &|status, _| status == 200))
    });
    check("route", routes.collect());

    let standard = component("standard");
    let promotions = (0..4).map(|_| {
        deploy(first, "hello", &["--name", "page", "--route", "/page/*", "--wait", "all"]);
        let canary = ["deploy", &standard, "--name", "page", "--canary", "0.01%", "--wait", "all"];
        super::ok(first, &canary);
        let path = "/v1/handlers/page/promote";
        reach((first, third), ("POST", path), ("/page/x", &says(OTHER)))
    });
    check("promote", promotions.collect());

    let removals = (0..4).map(|_| {
        deploy(first, "hello", &["--name", "gone", "--route", "/gone", "--wait", "all"]);
        assert_eq!(get(third, "/gone").status, 200);
        let path = "/v1/handlers/gone";
        reach((first, third), ("DELETE", path), ("/gone", &|status, _| status == 404))
    });
    check("remove", removals.collect());
}

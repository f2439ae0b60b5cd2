//! Handlers in production: routes, canaries, secrets and watchers, changed while requests come.

mod bars;
mod canary;
mod figures;
mod logs;
mod reach;
mod routes;
mod secrets;
mod spans;
mod traces;
mod watchers;

use crate::api::atoll;
use crate::node::{Answer, TestNode};

/// The path of a built handler.
fn component(name: &str) -> String {
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    guests.path(name).display().to_string()
}

/// What a command prints that succeeds.
#[track_caller]
fn ok(node: &TestNode, arguments: &[&str]) -> String {
    let (success, stdout, stderr) = atoll(node, arguments);
    assert!(success, "{arguments:?}: {stdout}{stderr}");
    stdout
}

#[track_caller]
fn check_refused(node: &TestNode, arguments: &[&str], want: &str) {
    let (success, stdout, stderr) = atoll(node, arguments);
    assert!(!success, "{arguments:?} should be refused: {stdout}");
    assert!(stderr.contains(want), "{stderr:?} should contain {want:?}");
}

/// Deploys the crate `guest`; returns what is printed.
#[track_caller]
fn deploy(node: &TestNode, guest: &str, arguments: &[&str]) -> String {
    let path = component(guest);
    ok(node, &[&["deploy", &path], arguments].concat())
}

fn get(node: &TestNode, path: &str) -> Answer {
    node.http("GET", node.gateway, path, b"")
}

/// The value of a figure, 0 where it is not shown. `name` has its labels.
fn figure(node: &TestNode, name: &str) -> u64 {
    node.figure(name).unwrap_or(0)
}

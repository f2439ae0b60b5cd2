//! What a handler says, asked for by its name.

use super::{check, get, node_with_standard};
use crate::api::atoll;
use crate::node::{ATOLL, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn what_a_handler_says_is_kept_by_its_name_and_followed() {
    let node = node_with_standard(&[]);
    check(&node, "/s/log", "logged");
    get(&node, "/s/panic");
    let (success, told, stderr) = atoll(&node, &["logs", "standard"]);
    assert!(success, "{stderr}");
    for line in
        ["v1 warn  cart: nearly full", "v1 info  a line", "v1 error the handler failed: it p"]
    {
        assert!(told.contains(line), "{line:?} in {told}");
    }
    let (_, last, _) = atoll(&node, &["logs", "standard", "--tail", "1", "--json"]);
    let last: Value = serde_json::from_str(&last).expect("one object");
    assert_eq!((&last["level"], &last["version"]), (&"error".into(), &1.into()), "{last}");

    let api = node.api.to_string();
    let mut follower = Command::new(ATOLL)
        .args(["logs", "standard", "--tail", "0", "--follow", "--api", &api])
        .stdout(Stdio::piped())
        .spawn()
        .expect("atoll starts");
    let lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let (sender, followed) = std::sync::mpsc::channel();
    // It ends with the follower, or at the first line that nobody waits for any more.
    std::thread::spawn(move || {
        lines.map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
    });
    // It may begin to follow after the first of these.
    let first = wait_until("a line is followed", || {
        check(&node, "/s/log", "logged");
        followed.try_recv().ok()
    });
    follower.kill().expect("it runs");
    follower.wait().expect("it has ended");
    assert!(first.contains("nearly full") || first.contains("a line"), "{first}");

    let (success, _, stderr) = atoll(&node, &["logs", "nobody"]);
    assert!(!success && stderr.contains("no handler is called nobody"), "{stderr}");
}

//! Instances of standard handlers that answer more than one request.

use super::{check, deploy, get, node_with_standard, tools};
use crate::node::{TestNode, wait_until};
use crate::tools::output;
use serde_json::Value;

/// What the node says of the instances of its only handler.
pub(super) fn instances(node: &TestNode) -> Value {
    node.http("GET", node.api, "/v1/handlers", b"").json()["handlers"][0]["instances"].clone()
}

#[test]
fn an_instance_answers_again_and_keeps_no_connection_or_line_from_the_request_before() {
    let node = node_with_standard(&["--reuse", "1000", "--wall-ms", "5000"]);
    // The next request may come while the last one's answer is on its way: then it has another.
    let count = || get(&node, "/s/count").text().trim().parse::<u32>().expect("a number");
    wait_until("an instance has answered five", || (count() >= 5).then_some(()));
    assert!(instances(&node)["reused"].as_u64().is_some_and(|reused| reused >= 4));
    // Two requests on one connection, the bodies of which the guest never reads nor drops. Small
    // enough to be sent whole, whatever the node does with the connection meanwhile.
    let url = format!("http://{}/s/keep-request", node.gateway);
    let body = "x".repeat(20_000);
    let curl = ["--silent", "--max-time", "20", "--data", &body, &url, "--data", &body, &url];
    let came = output("curl", &curl);
    assert!(came.status.success(), "both are answered");
    assert_eq!(String::from_utf8_lossy(&came.stdout).lines().count(), 2);
    for _ in 0..5 {
        check(&node, "/s/unended-line", "printed\n");
    }
    let lines = || node.log().matches("without its end").count();
    wait_until("every line was ended", || (lines() == 5).then_some(()));
    assert!(!node.log().contains("its endrequest"), "{}", node.log());
}

#[test]
fn an_instance_that_does_not_end_its_answer_is_not_used_again() {
    let node = node_with_standard(&["--reuse", "1000", "--wall-ms", "3000"]);
    check(&node, "/s/count", "1\n");
    let url = format!("http://{}/s/keep-body", node.gateway);
    let curl = output("curl", &["--silent", "--max-time", "20", &url]);
    assert!(!curl.status.success(), "the answer broke off");
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "and no end");
    check(&node, "/s/count", "1\n");
    let panicked = get(&node, "/s/panic");
    assert_eq!(panicked.json()["code"], "handler-trap");
    check(&node, "/s/count", "1\n");
    assert_eq!(instances(&node)["given_up"], Value::Null);
}

#[test]
fn a_python_handler_is_used_again_and_a_javascript_one_cannot_be() {
    let node = TestNode::start_with(&["--log", "info"]);
    let often =
        ["--reuse", "1000", "--cpu-ms", "1000", "--wall-ms", "60000", "--memory-mib", "128"];
    deploy(
        &node,
        &tools::python(),
        &[&["--name", "app", "--route", "/app/*"], &often[..]].concat(),
    );
    // The next request may come while the last one's answer is on its way: then it has another.
    wait_until("an instance has answered often", || {
        assert_eq!(get(&node, "/app/hello").status, 200);
        instances(&node)["reused"].as_u64().filter(|reused| *reused >= 15)
    });
    let (success, _, stderr) = crate::api::atoll(&node, &["remove", "app"]);
    assert!(success, "{stderr}");

    deploy(
        &node,
        &tools::javascript(),
        &[&["--name", "app", "--route", "/app/*"], &often[..]].concat(),
    );
    wait_until("reuse is given up", || {
        let status = get(&node, "/app/hello").status;
        assert_eq!(status, 200, "what a used instance fails at, a fresh one answers");
        node.log().contains("reuse is given up").then_some(())
    });
    node.wait_for_log("reuse seems to break this handler");
    for _ in 0..3 {
        assert_eq!(get(&node, "/app/hello").status, 200, "and goes on so");
    }
    assert_eq!(node.log().matches("reuse seems to break").count(), 1, "it is said once");
    // Counted when a request has ended, which may be after its answer.
    let retries = "atoll_handler_retries_total{handler=\"app\",release=\"live\"}";
    wait_until("three retries are counted", || {
        (node.figure::<u64>(retries) == Some(3)).then_some(())
    });
    let about = instances(&node);
    assert_eq!(about["retried"], 3, "{about}");
    assert!(about["given_up"].as_str().is_some_and(|why| why.contains("3 instances")), "{about}");
}

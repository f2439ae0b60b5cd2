//! A standard component in C: wit-bindgen's bindings, clang, and the linker of rustup's toolchains.

use super::{check, check_large_pipe, check_streams_both_ways, deploy, get, tools};
use crate::node::TestNode;
use crate::tools::{output, text};

#[test]
fn a_component_in_c_answers_streams_and_shares_the_store() {
    let node = TestNode::start_with(&["--log", "info"]);
    deploy(&node, &tools::c(), &["--name", "c", "--route", "/x/*"]);
    check(&node, "/x/hello", "hello from C\n");

    let url = format!("http://{}/x/echo?a=b", node.gateway);
    let echo = output("curl", &["--silent", "-H", "X-Note: c d", "-d", "the body", &url]);
    let echo = text(&echo.stdout);
    assert!(echo.starts_with("POST /x/echo?a=b\n") && echo.ends_with("\nthe body"), "{echo}");
    assert!(echo.contains("\nx-note: c d\n"), "{echo}");
    check_streams_both_ways(&node, "/x/pipe");
    check_large_pipe(&node, "/x/pipe");

    let kv = |method, body: &str| node.http(method, node.gateway, "/x/kv/k", body.as_bytes());
    let mut redis = node.resp_client();
    assert_eq!(get(&node, "/x/kv/k").status, 404);
    assert_eq!(kv("PUT", "value").status, 200);
    assert_eq!(redis.command(&["GET", "k"]), "$value");
    check(&node, "/x/kv/k", "value");
    assert_eq!(kv("DELETE", "").status, 200);
    assert_eq!(redis.command(&["SET", "k", "40"]), "+OK");
    assert_eq!(kv("POST", "2").text(), "42\n");

    assert_eq!(get(&node, "/x/log").status, 200);
    node.wait_for_log("said on stdout");
}

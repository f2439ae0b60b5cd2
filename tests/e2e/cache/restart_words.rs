//! What lies on the disk after a restart is for routes that say what they said when it was stored.

use super::origin::{Act, Message, Origin, ask, response};
use crate::node::{TestNode, wait_until};
use std::path::Path;

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
const LONG_BYTES: usize = 17 << 20;

/// Answers with how often it was asked for a path, and with a long body where that says so.
fn origin() -> Origin {
    Origin::start(|request, count| {
        let text = match request.path().ends_with("/long") {
            true => format!("{count}{}", "x".repeat(LONG_BYTES)),
            false => format!("{} {count}", request.path()),
        };
        Act::Send(response(200, &[FRESH, ("Set-Cookie", "a=b")], &text))
    })
}

fn start(config: Option<&Path>, data: &Path) -> TestNode {
    let text = |path: &Path| path.to_str().expect("a text path").to_owned();
    let data = text(data);
    let config = config.map(text);
    let mut flags = vec!["--data", &data];
    flags.extend(config.iter().flat_map(|config| ["--config", config.as_str()]));
    let node = TestNode::start_with(&flags);
    wait_until("the disk is served", || {
        (node.figure::<u64>("atoll_cache_disk_serving") == Some(1)).then_some(())
    });
    node
}

/// Stops it as a supervisor does: what was stored is written.
fn stop(mut node: TestNode) {
    node.signal("TERM");
    assert_eq!(node.wait().code(), Some(0));
}

fn is_hit(answer: &Message) -> bool {
    answer.field("cache-status").contains("; hit")
}

#[test]
fn a_route_of_the_file_that_says_something_else_uses_nothing_that_was_stored_before() {
    let origin = origin();
    let folder = tempfile::tempdir().expect("a folder");
    let (config, data) = (folder.path().join("atoll.toml"), folder.path().join("data"));
    let say = |lines: [&str; 4]| {
        let route = |(name, line): (&str, &str)| {
            let upstream = format!("upstream = \"http://{}\"", origin.address);
            format!("[[route]]\npath = \"/{name}/*\"\n{upstream}\ncache = true\n{line}\n")
        };
        let names = ["same", "cookie", "prefix", "field"];
        let text: String = names.into_iter().zip(lines).map(route).collect();
        std::fs::write(&config, format!("cache_disk = \"64MiB\"\n{text}")).expect("written");
    };
    let store = "set_cookie = \"store\"\n";
    say([store, store, store, store]);
    let node = start(Some(&config), &data);
    for path in ["/same/a", "/cookie/a", "/prefix/a", "/field/a"] {
        assert!(!is_hit(&ask(&node, "GET", path, &[])));
        assert!(is_hit(&ask(&node, "GET", path, &[])), "{path}");
    }
    stop(node);
    // Patience is nothing that a response is made of.
    let prefix = format!("{store}add_prefix = \"/new\"");
    let field = format!("{store}response_headers = {{ set = {{ X-New = \"1\" }} }}");
    say([&format!("{store}connect_ms = 2000"), "set_cookie = \"refuse\"", &prefix, &field]);
    let node = start(Some(&config), &data);
    assert!(is_hit(&ask(&node, "GET", "/same/a", &[])));
    let cookie = ask(&node, "GET", "/cookie/a", &[]);
    assert_eq!((is_hit(&cookie), cookie.text()), (false, "/cookie/a 1".to_owned()));
    assert!(!is_hit(&ask(&node, "GET", "/cookie/a", &[])), "it is for one client");
    assert_eq!(ask(&node, "GET", "/prefix/a", &[]).text(), "/new/prefix/a 0");
    assert_eq!(ask(&node, "GET", "/field/a", &[]).field("x-new"), "1");
    // What they have stored themselves they use.
    for path in ["/prefix/a", "/field/a"] {
        assert!(is_hit(&ask(&node, "GET", path, &[])), "{path}");
    }
}

#[test]
fn routes_of_the_api_alone_have_a_disk_and_use_what_they_have_stored_there() {
    let origin = origin();
    let folder = tempfile::tempdir().expect("a folder");
    let put = |node: &TestNode, more: &str| {
        let text = format!(
            "{{\"path\": \"/*\", \"upstream\": \"http://{}\", \"cache\": true, \
             \"set_cookie\": \"store\"{more}}}",
            origin.address
        );
        let answer = node.http("PUT", node.api, "/v1/routes/all", text.as_bytes());
        assert!(answer.status < 300, "{}", answer.text());
    };
    let node = start(None, folder.path());
    put(&node, "");
    for path in ["/a", "/long"] {
        assert!(!is_hit(&ask(&node, "GET", path, &[])));
        assert!(is_hit(&ask(&node, "GET", path, &[])), "{path}");
    }
    stop(node);
    let node = start(None, folder.path());
    wait_until("the route is live", || {
        (ask(&node, "HEAD", "/a", &[]).status() == 200).then_some(())
    });
    for path in ["/a", "/long"] {
        assert!(is_hit(&ask(&node, "GET", path, &[])), "{path}");
        assert_eq!(origin.seen(path).len(), 1);
    }
    put(&node, ", \"add_prefix\": \"/new\"");
    assert_eq!(ask(&node, "GET", "/a", &[]).text(), "/new/a 0");
}

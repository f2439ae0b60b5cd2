//! Routes that change without a deployment.

use super::{check_refused, deploy, figure, get, ok};
use crate::cluster::{Cluster, Shape};
use crate::node::wait_until;

#[test]
fn routes_change_on_all_nodes_without_a_compilation_and_roll_back() {
    let cluster = Cluster::start(Shape::Pair);
    let (first, second) = (cluster.node(0), cluster.node(1));
    deploy(first, "hello", &["--name", "hello", "--route", "/a/*", "--wait", "all"]);
    deploy(first, "counter", &["--name", "counter", "--route", "/n/*", "--wait", "all"]);
    let compiled = "atoll_handler_components_total{how=\"compiled\"}";
    let before = [figure(first, compiled), figure(second, compiled)];
    assert_eq!(get(second, "/b/x").status, 404);

    let told = ok(second, &["route", "hello", "/b/*", "POST /c", "--wait", "all"]);
    assert!(told.contains("hello answers /b/*, POST /c, as version 2"), "{told}");
    for node in [first, second] {
        assert_eq!((get(node, "/a/x").status, get(node, "/b/x").status), (404, 200));
        assert_eq!(get(node, "/c").status, 404, "not with GET");
        assert_eq!(node.http("POST", node.gateway, "/c", b"").status, 200);
    }
    let told =
        ok(first, &["route", "hello", "--add", "/d", "--remove", "POST /c", "--wait", "all"]);
    assert!(told.contains("hello answers /b/*, /d, as version 3"), "{told}");
    assert_eq!((get(second, "/d").status, get(second, "/b/x").status), (200, 200));

    check_refused(
        first,
        &["route", "hello", "--add", "/n/*"],
        "route /n/* of handler hello is taken by handler counter",
    );
    check_refused(first, &["route", "hello", "--remove", "/z"], "it has /b/*, /d");
    check_refused(first, &["route", "hello", "--remove", "/b/*", "--remove", "/d"], "1 to 32");
    check_refused(first, &["route", "hello", "b"], "write e.g. /counter/*");
    check_refused(first, &["route", "nobody", "/b"], "no handler is called nobody");
    check_refused(first, &["route", "hello"], "atoll route --help");
    for method in ["PUT", "POST"] {
        let told =
            first.http(method, first.api, "/v1/handlers/hello/routes", b"{\"add\":[\"/x\"]}");
        assert_eq!((told.status, &told.json()["code"]), (400, &"unexpected-body".into()));
        assert!(told.text().contains("?route=PATTERN"), "{}", told.text());
    }
    assert_eq!(get(first, "/n/x").text(), "x: 1\n", "what was refused has changed nothing");

    ok(second, &["rollback", "hello", "--to", "1"]);
    wait_until("the first routes are back", || {
        (get(first, "/a/x").status == 200 && get(first, "/b/x").status == 404).then_some(())
    });
    assert_eq!([figure(first, compiled), figure(second, compiled)], before, "nothing compiled");
}

//! Components that are told of changes in the store.

use super::{check_refused, component, deploy, figure, ok};
use crate::cluster::{Cluster, Shape};
use crate::node::{TestNode, wait_until};

/// Waits until the node's key holds this.
#[track_caller]
fn wait_for(node: &TestNode, key: &str, want: &str) {
    let mut redis = node.resp_client();
    wait_until(&format!("{key} is {want}"), || {
        (redis.command(&["GET", key]) == format!("${want}")).then_some(())
    });
}

fn lost(node: &TestNode, handler: &str, why: &str) -> u64 {
    figure(node, &format!("atoll_watcher_lost_total{{handler=\"{handler}\",why=\"{why}\"}}"))
}

/// How many chains of a watcher each of two nodes has cut.
fn cut(cluster: &Cluster, handler: &str) -> (u64, u64) {
    let of = |index| lost(cluster.node(index), handler, "chain");
    (of(0), of(1))
}

#[test]
fn a_watcher_is_told_of_a_change_on_one_node_or_on_every_node() {
    let cluster = Cluster::start(Shape::Pair);
    let (first, second) = (cluster.node(0), cluster.node(1));
    let one = ["--name", "one", "--watch", "default/in:", "--watch", "default/other"];
    let told = deploy(first, "watcher", &[&one[..], &["--wait", "all"]].concat());
    assert!(told.contains("watches default/in:, default/other on one node"), "{told}");
    let every =
        ["--name", "every", "--watch", "2/in:", "--watch-on", "every", "--grant", "kv:2=rw"];
    deploy(first, "watcher", &[&every[..], &["--wait", "all"]].concat());

    let mut redis = second.resp_client();
    redis.command(&["SET", "in:a", "1"]);
    redis.command(&["SET", "elsewhere", "1"]);
    redis.command(&["INCRBY", "in:n", "40"]);
    redis.command(&["INCRBY", "in:n", "2"]);
    redis.command(&["DEL", "in:a"]);
    for node in [first, second] {
        wait_for(node, "out:a", "1");
        wait_for(node, "out:n", "42");
        wait_for(node, "gone:in:a", "");
        wait_for(node, "calls:in:a", "1");
        wait_for(node, "calls:in:n", "2");
        assert_eq!(node.resp_client().command(&["GET", "calls:elsewhere"]), "$-1");
    }
    redis.command(&["SELECT", "2"]);
    redis.command(&["SET", "in:b", "x"]);
    let mut there = first.resp_client();
    there.command(&["SELECT", "2"]);
    for redis in [&mut redis, &mut there] {
        wait_until("each node has told its own", || {
            (redis.command(&["GET", "calls:in:b"]) == "$2").then_some(())
        });
    }
    let calls = |node, handler: &str| {
        figure(
            node,
            &format!("atoll_watcher_calls_total{{handler=\"{handler}\",outcome=\"told\"}}"),
        )
    };
    // A call is counted once it has ended: behind what it has written.
    wait_until("all calls are counted", || {
        let one = (calls(first, "one"), calls(second, "one"));
        let every = (calls(first, "every"), calls(second, "every"));
        ((one, every) == ((0, 4), (1, 1))).then_some(())
    });
    assert!(ok(first, &["handlers"]).contains("watches 2/in: on every node"));

    ok(first, &["remove", "one"]);
    wait_until("it is gone", || (!ok(second, &["handlers"]).contains("one  ")).then_some(()));
    let mut redis = second.resp_client();
    redis.command(&["SET", "in:late", "1"]);
    redis.command(&["SELECT", "2"]);
    redis.command(&["SET", "in:late", "1"]);
    wait_until("the other is told of what came after", || {
        (redis.command(&["GET", "calls:in:late"]) == "$2").then_some(())
    });
    assert_eq!(second.resp_client().command(&["GET", "calls:in:late"]), "$-1");
}

#[test]
fn a_watcher_that_sets_itself_off_is_cut() {
    let cluster = Cluster::start(Shape::Pair);
    let (first, second) = (cluster.node(0), cluster.node(1));
    deploy(first, "watcher", &["--name", "one", "--watch", "default/again:", "--wait", "all"]);
    first.resp_client().command(&["SET", "again:x", "0"]);
    first.wait_for_log("a watcher sets itself off");
    for node in [first, second] {
        wait_for(node, "calls:again:x", "9");
        wait_for(node, "again:x", "0+++++++++");
    }
    wait_until("it is counted where it was cut", || (cut(&cluster, "one") == (1, 0)).then_some(()));
    assert!(ok(first, &["logs", "one"]).contains("the chain is cut"));

    // On every node the length of a chain is not known, so there is none: the write is denied.
    let every = ["--name", "every", "--watch", "2/again:", "--watch-on", "every", "--grant"];
    deploy(first, "watcher", &[&every[..], &["kv:2=rw", "--wait", "all"]].concat());
    let mut redis = first.resp_client();
    redis.command(&["SELECT", "2"]);
    redis.command(&["SET", "again:y", "0"]);
    wait_until("both were told", || {
        (redis.command(&["GET", "calls:again:y"]) == "$2").then_some(())
    });
    assert_eq!(redis.command(&["GET", "again:y"]), "$0");
    for node in [first, second] {
        node.wait_for_log("2/again:y is watched");
    }
}

/// Deploys a handler that passes on requests, and a watcher that sends the values of `ask:` to where
/// they lead, each allowed to ask these.
fn deploy_askers(node: &TestNode, allowed: &[&TestNode]) {
    let doors = allowed.iter().flat_map(|node| [node.api, node.gateway]);
    let grants: Vec<String> = doors.map(|door| format!("--grant=http:{door}")).collect();
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    let handler = ["--name", "h", "--route", "/h/*", "--grant", "kv:default=rw", "--wait", "all"];
    deploy(node, "hostile", &[&handler[..], &grants].concat());
    let watcher = ["--name", "w", "--watch", "default/ask:", "--grant", "kv:default=rw"];
    deploy(node, "watcher", &[&watcher[..], &["--wait", "all"], &grants].concat());
}

#[test]
fn a_watcher_that_sets_itself_off_over_http_is_cut_and_no_client_can_cut_it() {
    let node = TestNode::start();
    deploy_askers(&node, &[&node]);
    let mut redis = node.resp_client();
    let key = |name: &str| format!("http://{}/v1/kv/default/ask:{name}", node.api);
    redis.command(&["SET", "ask:api", &key("api")]);
    node.wait_for_log("a watcher sets itself off");
    wait_for(&node, "calls:ask:api", "9");
    wait_until("it is counted", || (lost(&node, "w", "chain") == 1).then_some(()));
    // Around by the gateway: a handler writes, not the watcher.
    let around = format!("http://{}/h/fetch?method=PUT&url={}", node.gateway, key("around"));
    redis.command(&["SET", "ask:around", &around]);
    wait_until("that is cut too", || (lost(&node, "w", "chain") == 2).then_some(()));
    wait_for(&node, "calls:ask:around", "9");

    for (number, forged) in
        ["200.one.99999999999999.AAAAAAAAAAAAAAAAAAAAAA", "8", ""].iter().enumerate()
    {
        let request = http::Request::put(key(&format!("forged{number}")))
            .header("atoll-cause", *forged)
            .body("no URL")
            .expect("a request");
        assert_eq!(ureq::run(request).expect("it is taken").status(), 201);
        wait_for(&node, &format!("calls:ask:forged{number}"), "1");
    }
    assert_eq!(lost(&node, "w", "chain"), 2);
}

#[test]
fn a_chain_that_goes_on_at_another_node_is_as_long_as_it_is() {
    let key = ["--cluster-key".to_owned(), "0123456789abcdef0123456789abcdef".to_owned()];
    let cluster = Cluster::start_with(Shape::Pair, |_| key.to_vec());
    let (first, second) = (cluster.node(0), cluster.node(1));
    deploy_askers(first, &[first, second]);
    let there = format!("http://{}/v1/kv/default/ask:x", second.api);
    first.resp_client().command(&["SET", "ask:x", &there]);
    second.wait_for_log("a watcher sets itself off");
    for node in [first, second] {
        wait_for(node, "calls:ask:x", "9");
    }
    wait_until("it is counted where it was cut", || (cut(&cluster, "w") == (0, 1)).then_some(()));
    // On every node a chain has no length: what it leads to is refused, over HTTP too.
    let every = ["--name", "w", "--watch", "default/ask:", "--watch-on", "every"];
    let grant = format!("http:{}", second.api);
    let grants = ["--grant", "kv:default=rw", "--grant", &grant, "--wait", "all"];
    deploy(first, "watcher", &[&every[..], &grants].concat());
    let there = format!("http://{}/v1/kv/default/ask:y", second.api);
    first.resp_client().command(&["SET", "ask:y", &there]);
    for node in [first, second] {
        wait_for(node, "calls:ask:y", "2");
    }
    assert_eq!(cut(&cluster, "w"), (0, 1));
}

#[test]
fn a_canary_is_told_of_its_share_of_the_changes() {
    let node = TestNode::start();
    deploy(&node, "watcher", &["--name", "w", "--watch", "default/live:"]);
    deploy(&node, "watcher", &["--name", "w", "--watch", "default/trial:", "--canary", "50%"]);
    let mut redis = node.resp_client();
    let mut told = |round: u32| {
        for number in 0..100 {
            redis.command(&["SET", &format!("live:{round}.{number}"), "x"]);
            redis.command(&["SET", &format!("trial:{round}.{number}"), "x"]);
        }
        // Its queue is in order: once a change of the end is told, so are all before it.
        let end = format!("trial:end{round}");
        wait_until("the end is told", || {
            redis.command(&["SET", &end, "x"]);
            std::thread::sleep(std::time::Duration::from_millis(20));
            (redis.command(&["GET", &format!("calls:{end}")]) != "$-1").then_some(())
        });
        let mut count = |kind: &str| {
            let keys = (0..100).map(|number| format!("calls:{kind}:{round}.{number}"));
            keys.filter(|key| redis.command(&["GET", key]) == "$1").count()
        };
        (count("live"), count("trial"))
    };
    // 50 are expected of each; that so few or so many come by chance happens once in 10^9.
    let (live, trial) = told(1);
    assert!((20..=80).contains(&live) && (20..=80).contains(&trial), "{live} and {trial}");
    ok(&node, &["promote", "w"]);
    assert_eq!(told(2), (0, 100));
}

#[test]
fn a_watcher_that_is_too_slow_loses_changes_and_says_how_many() {
    let node = TestNode::start();
    let watch = ["--name", "slow", "--watch", "default/spin:", "--watch", "default/in:"];
    deploy(&node, "watcher", &[&watch[..], &["--cpu-ms", "20"]].concat());
    let mut redis = node.resp_client();
    for number in 0..2_000 {
        redis.send_command(&["SET", &format!("spin:{number}"), "x"]);
    }
    (0..2_000).for_each(|_| assert_eq!(redis.reply(), "+OK"));
    // Writers and the node do not wait for it.
    wait_until("what does not fit is dropped", || {
        (lost(&node, "slow", "queue-full") > 900).then_some(())
    });
    wait_until("its queue is seen", || {
        (figure(&node, "atoll_watcher_waiting{handler=\"slow\"}") > 500).then_some(())
    });
    wait_until("its lag is seen", || {
        let lag = node.figure::<f64>("atoll_watcher_lag_seconds{handler=\"slow\"}");
        lag.is_some_and(|lag| lag > 0.1).then_some(())
    });
    node.wait_for_log("kind=\"cpu-limit\"");
    // A new version takes over what waits.
    deploy(&node, "watcher", &[&watch[..], &["--cpu-ms", "1"]].concat());
    wait_until("the queue is empty", || {
        (figure(&node, "atoll_watcher_waiting{handler=\"slow\"}") == 0).then_some(())
    });
    redis.command(&["SET", "in:after", "1"]);
    wait_for(&node, "out:after", "1");
}

#[test]
fn a_watch_that_cannot_work_is_refused() {
    let node = TestNode::start();
    let (watcher, hello) = (component("watcher"), component("hello"));
    let check = |component: &str, arguments: &[&str], want: &str| {
        check_refused(&node, &[&["deploy", component], arguments].concat(), want);
    };
    check(&watcher, &["--route", "/x"], "answers no requests");
    check(&watcher, &["--route", "/x", "--watch", "default"], "answers no requests");
    check(&hello, &["--route", "/x", "--watch", "default"], "exports no wasi:keyvalue/watcher");
    check(&watcher, &["--watch", "other"], "--grant kv:other=r");
    check(&watcher, &["--watch", "_sys/secret/"], "write BUCKET or BUCKET/PREFIX");
    check(&watcher, &["--watch", "default", "--watch-on", "some"], "watch_on is one");
    check(&watcher, &["--watch-on", "one"], "--watch");
}

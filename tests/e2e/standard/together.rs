//! Instances of 0.3 that are used again: for several requests at once, and what becomes of the others
//! when one of them fails.

use super::reuse::instances;
use super::service::{deploy, node_with_service};
use super::{Answer, check, get};
use crate::api::atoll;
use crate::node::{TestNode, wait_until};
use crate::tools::output;
use serde_json::Value;
use std::thread;
use std::time::Duration;

const IDLE_MS: &str = "50";
const SHARED: [&str; 6] = ["--reuse", "1000", "--reuse-at-once", "8", "--reuse-idle-ms", IDLE_MS];

/// Between two requests that are to meet, on a machine that has time.
const APART: Duration = Duration::from_millis(60);

/// Sends them a little one after the other, each while those before are under way. No instance waits
/// from before: it would be taken before another is shared.
fn ask(node: &TestNode, requests: &[(&str, &str)]) -> Vec<Answer> {
    ask_apart(node, requests, APART)
}

/// The same, so far apart.
fn ask_apart(node: &TestNode, requests: &[(&str, &str)], apart: Duration) -> Vec<Answer> {
    thread::sleep(Duration::from_millis(100));
    thread::scope(|scope| {
        let ask = |&(method, path): &(&str, &str)| {
            let (method, path) = (method.to_owned(), path.to_owned());
            let asked = scope.spawn(move || node.http(&method, node.gateway, &path, b""));
            thread::sleep(apart);
            asked
        };
        let asked: Vec<_> = requests.iter().map(ask).collect();
        asked.into_iter().map(|asked| asked.join().expect("it was asked")).collect()
    })
}

/// How many were in the instance at once, as one of them has seen it.
fn most(answer: &Answer) -> u32 {
    let text = answer.text();
    let number = text.strip_prefix("most ").and_then(|text| text.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn an_instance_works_on_several_requests_at_once_where_that_was_asked_for() {
    let node = node_with_service(&["--reuse", "1000"]);
    let waits = [("GET", "/s/wait?10,50"); 4];
    for answer in ask(&node, &waits) {
        assert_eq!(most(&answer), 1, "one after the other unless more was asked for");
    }
    deploy(&node, &SHARED);
    wait_until("four were in one instance", || {
        let answers = ask(&node, &waits);
        assert!(answers.iter().all(|answer| answer.status == 200));
        answers.iter().any(|answer| most(answer) == 4).then_some(())
    });
    check(&node, "/s/hello", "hello from 0.3\n");
    // One that never waits needs no task beside its caller's, and its answer is there before its head
    // is sent; now and then the clock interrupts it.
    let has_length = |_| get(&node, "/s/hello").headers.contains_key("content-length");
    assert!((0..50).any(has_length), "all of them were streamed");
    deploy(&node, &["--reuse", "1000", "--reuse-at-once", "2", "--reuse-idle-ms", IDLE_MS]);
    for _ in 0..3 {
        let answers = ask(&node, &waits);
        assert!(answers.iter().all(|answer| most(answer) <= 2), "no more than it may");
    }
    let requests = instances(&node)["started"].as_u64().expect("a number");
    assert!(requests < 12, "{requests} instances for 12 requests");
}

#[test]
fn only_what_can_share_an_instance_is_deployed_so() {
    let node = TestNode::start();
    let guests = atoll_guests::build().unwrap_or_else(|error| panic!("{error:#}"));
    let component = guests.path("hello").display().to_string();
    let deploy = |more: &[&str]| {
        atoll(&node, &[&["deploy", &component, "--route", "/*"][..], more].concat())
    };
    let (success, _, stderr) = deploy(&SHARED);
    assert!(!success && stderr.contains("without --reuse-at-once"), "{stderr}");
    let (success, _, stderr) = deploy(&["--reuse", "1", "--reuse-at-once", "65"]);
    assert!(!success && stderr.contains("reuse_at_once"), "{stderr}");
    let (success, _, stderr) = deploy(&["--reuse-at-once", "2"]);
    assert!(!success && stderr.contains("--reuse"), "{stderr}");
}

#[test]
fn each_request_of_a_shared_instance_has_a_budget_of_its_own() {
    let upstream = TestNode::start();
    upstream.http("PUT", upstream.api, "/v1/kv/default/a", b"a");
    let grant = format!("http:{}", upstream.api);
    let grants = ["--grant", "kv:default=r", "--grant", &grant];
    let limits = ["--cpu-ms", "400", "--wall-ms", "20000"];
    let node = node_with_service(&[&SHARED[..], &grants, &limits].concat());
    // Together they compute for longer than one may.
    wait_until("they were in one instance", || {
        let answers = ask(&node, &[("GET", "/s/slices?20,60"); 4]);
        assert!(answers.iter().all(|answer| answer.status == 200), "each has time of its own");
        answers.iter().any(|answer| most(answer) >= 3).then_some(())
    });
    // One that lets others run after each bit does not get more.
    let answer = get(&node, "/s/slices?1000");
    assert_eq!((answer.status, &answer.json()["code"]), (504, &"handler-cpu-limit".into()));
    // The lines that one may write are not those of the next.
    wait_until("both were in one instance", || {
        let answers = ask(&node, &[("GET", "/s/lines?300,first"), ("GET", "/s/lines?3,second")]);
        (answers.iter().all(|answer| most(answer) == 2)).then_some(())
    });
    node.wait_for_log("the end of second");
    assert!(!node.log().contains("the end of first"), "it had written as many as it may");
    assert!(!node.log().contains("line 256 of first"));
    // Nor are its requests: each may send 64.
    let url = format!("/s/fetches?40,{}/v1/kv/default/a", upstream.api);
    wait_until("three were in one instance", || {
        let answers = ask(&node, &[("GET", url.as_str()); 3]);
        assert!(answers.iter().all(|answer| answer.text().ends_with(" 200 a\n")));
        answers.iter().any(|answer| most(answer) == 3).then_some(())
    });
    let answer = get(&node, &format!("/s/fetches?65,{}/v1/kv/default/a", upstream.api));
    assert!(answer.text().contains("ConnectionLimitReached"), "{}", answer.text());
}

/// What others get of which one ends their instance, as `path` says.
#[track_caller]
fn check_others(node: &TestNode, path: &str, want: (u16, &str)) {
    let mut apart = APART;
    wait_until("the others were in its instance", || {
        // Ten times as long as they are apart: on a busy machine that is longer.
        let waits = format!("/s/wait?10,{}", apart.as_millis());
        let requests = [("GET", waits.as_str()), ("POST", &waits), ("GET", path)];
        let answers = ask_apart(node, &requests, apart);
        apart = (apart * 5 / 4).min(Duration::from_secs(1));
        let [get, post, ended] = &answers[..] else { panic!("three were asked") };
        assert_eq!((ended.status, &ended.json()["code"]), (want.0, &want.1.into()), "{path}");
        assert_eq!(get.status, 200, "it was made again: {}", get.text());
        let is_alone = post.status == 200;
        assert!(is_alone || post.json()["code"] == "handler-instance-lost", "{}", post.text());
        (!is_alone).then_some(())
    });
    check(node, "/s/hello", "hello from 0.3\n");
}

#[test]
fn one_that_ends_a_shared_instance_fails_alone_among_those_that_may_be_made_twice() {
    let limits = ["--cpu-ms", "200", "--wall-ms", "20000", "--memory-mib", "16"];
    let node = node_with_service(&[&SHARED[..], &limits].concat());
    check_others(&node, "/s/loop", (504, "handler-cpu-limit"));
    check_others(&node, "/s/panic", (502, "handler-trap"));
    check_others(&node, "/s/memory", (502, "handler-memory-limit"));
    node.wait_for_log("kind=\"instance-lost\"");
    assert!(instances(&node)["retried"].as_u64().is_some_and(|retried| retried >= 3));
    assert_eq!(instances(&node)["given_up"], Value::Null);
}

#[test]
fn one_that_is_ended_from_outside_leaves_the_others_of_its_instance_alone() {
    let node = node_with_service(&[&SHARED[..], &["--wall-ms", "3000"]].concat());
    let other = || node.http("POST", node.gateway, "/s/wait?10,100", b"");
    let pause = || thread::sleep(Duration::from_millis(100));
    // It is under way for some 400 ms after the first one's time is over.
    wait_until("both were in one instance", || {
        pause();
        thread::scope(|scope| {
            let first = scope.spawn(|| get(&node, "/s/wait?100,100"));
            thread::sleep(Duration::from_millis(2_400));
            let other = other();
            let first = first.join().expect("it was asked");
            assert_eq!(first.json()["code"], "handler-wall-limit", "{}", first.text());
            // On a busy machine its own time may be over too.
            let is_late = other.status == 504 && other.json()["code"] == "handler-wall-limit";
            (!is_late && most(&other) == 2).then_some(())
        })
    });
    let url = format!("http://{}/s/wait?10,100", node.gateway);
    wait_until("it was in the instance of one whose client left", || {
        pause();
        thread::scope(|scope| {
            scope.spawn(|| output("curl", &["--silent", "--max-time", "0.3", &url]));
            thread::sleep(Duration::from_millis(100));
            (most(&other()) == 2).then_some(())
        })
    });
    check(&node, "/s/hello", "hello from 0.3\n");
}

#[test]
fn what_a_used_instance_of_0_3_fails_at_a_fresh_one_answers() {
    let node = node_with_service(&["--reuse", "1000"]);
    for _ in 0..2 {
        check(&node, "/s/once", "once\n");
    }
    wait_until("one waits", || (instances(&node)["idle"] != 0).then_some(()));
    let post = || node.http("POST", node.gateway, "/s/once", b"");
    wait_until("one that may not be made twice had a used instance", || {
        let answer = post();
        let is_fresh = answer.status == 200;
        assert!(is_fresh || answer.json()["code"] == "handler-trap", "{}", answer.text());
        (!is_fresh).then_some(())
    });
    for _ in 0..8 {
        check(&node, "/s/once", "once\n");
    }
    node.wait_for_log("reuse seems to break this handler");
    assert!(instances(&node)["retried"].as_u64().is_some_and(|retried| retried >= 1));
}

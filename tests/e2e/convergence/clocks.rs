//! Clocks that disagree: what follows a write is newer than it, whatever the clocks say, and a node
//! whose clock is far off shows it and harms nobody.

use crate::cluster::{Cluster, Shape};
use crate::node::{ATOLL, wait_until};
use crate::tools::{output, run, text};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;
use tempfile::TempDir;

/// A library that stands between a process and its wall clock. Compiled with the C compiler that
/// Rust itself links with; time spans are left alone, as they are where a clock is wrong.
const CLOCK: &str = r#"
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, id, now);
    const char *ahead_s = getenv("CLOCK_AHEAD_S");
    if (!failed && id == CLOCK_REALTIME && ahead_s)
        now->tv_sec += atol(ahead_s);
    return (int)failed;
}
"#;

/// The compiled library.
fn clock() -> &'static Path {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
        std::fs::write(&source, CLOCK).expect("a file can be written");
        let paths = [&source, &library].map(|path| path.to_str().expect("a text path"));
        let built = output("cc", &["-shared", "-fPIC", paths[0], "-o", paths[1]]);
        assert!(built.status.success(), "{}", text(&built.stderr));
        (folder, library)
    });
    library
}

/// A cluster the clock of whose last node is so far ahead.
fn start(shape: Shape, ahead_s: i64, flags: &[&str]) -> Cluster {
    let environment = |index: usize| {
        let variable = |name: &str, value: String| (name.to_owned(), value);
        match index + 1 == shape.node_count() {
            true => vec![
                variable("LD_PRELOAD", clock().display().to_string()),
                variable("CLOCK_AHEAD_S", ahead_s.to_string()),
            ],
            false => Vec::new(),
        }
    };
    let words = |_| flags.iter().map(|word| (*word).to_owned()).collect();
    let cluster = Cluster::start_in(shape, environment, words);
    cluster.wait_linked();
    cluster
}

#[test]
fn a_node_whose_clock_is_two_minutes_ahead_shows_it_and_takes_no_writes() {
    let cluster = start(Shape::Mesh(3), 120, &[]);
    let near = |seconds: f64, want: f64| (seconds - want).abs() < 5.0;
    wait_until("the clock is measured on both sides", || {
        let own = cluster.metric(2, "atoll_clock_skew_seconds ");
        let others = cluster.metric(0, "atoll_link_clock_skew_seconds{peer=\"n2\"}");
        (near(own, 120.0) && near(others, 120.0)).then_some(())
    });
    assert!(near(cluster.metric(0, "atoll_clock_skew_seconds "), 0.0));
    let (ahead, healthy) = (cluster.node(2), cluster.node(0));
    let ready = wait_until("it is not ready", || {
        let ready = ahead.http("GET", ahead.api, "/readyz", b"");
        (ready.status == 503).then_some(ready)
    });
    assert_eq!(ready.json()["code"], "skewed");
    let shown = run(ATOLL, &["status", "--api", &format!("http://{}", ahead.api)]);
    assert!(shown.contains("ahead of the others': set it right"), "{shown}");
    let refused = cluster.command(2, &["SET", "k", "from-ahead"]);
    assert!(refused.starts_with("-SKEWED"), "{refused}");
    assert_eq!(ahead.http("PUT", ahead.api, "/v1/kv/default/k", b"v").status, 503);

    // The others do not notice, and it follows them.
    assert_eq!(healthy.http("GET", healthy.api, "/readyz", b"").status, 200);
    for number in 0..50 {
        cluster.command(number % 2, &["SET", "k", &number.to_string()]);
        cluster.wait_for((number + 1) % 2, &["GET", "k"], &format!("${number}"));
    }
    cluster.wait_for(2, &["GET", "k"], "$49");
    for (key, deadline_s) in [("short", "60"), ("long", "600")] {
        cluster.command(0, &["SET", key, "v", "EX", deadline_s]);
    }
    cluster.wait_for(2, &["GET", "long"], "$v");
    cluster.wait_for(1, &["GET", "short"], "$v");
    // Where the clock is wrong a deadline has passed early. Nothing of that reaches the others.
    cluster.wait_for(2, &["GET", "short"], "$-1");
    assert_eq!(cluster.command(0, &["GET", "short"]), "$v");
    assert_eq!(cluster.command(1, &["GET", "short"]), "$v");
}

#[test]
fn what_follows_a_write_is_newer_though_the_clock_there_is_two_minutes_ahead() {
    let cluster = start(Shape::Pair, 120, &["--max-skew-ms", "600000"]);
    for round in 0..20 {
        let key = format!("k{round}");
        assert_eq!(cluster.command(1, &["SET", &key, "ahead"]), "+OK");
        cluster.wait_for(0, &["GET", &key], "$ahead");
        assert_eq!(cluster.command(0, &["SET", &key, "after"]), "+OK");
        cluster.wait_for(1, &["GET", &key], "$after");
        assert_eq!(cluster.command(1, &["DEL", &key]), ":1");
        cluster.wait_for(0, &["GET", &key], "$-1");
        assert_eq!(cluster.command(0, &["SET", &key, "last"]), "+OK");
        cluster.wait_for(1, &["GET", &key], "$last");
    }
    let content = cluster.converge();
    assert!(content.len() == 20 && content.values().all(|(value, _)| value == "$last"));
}

#[test]
fn a_deadline_is_off_by_no_more_than_the_clocks_are() {
    let cluster = start(Shape::Pair, 1, &[]);
    for (node, other) in [(0, 1), (1, 0)] {
        let key = format!("k{node}");
        let begun = Instant::now();
        cluster.command(node, &["SET", &key, "v", "PX", "6000"]);
        let set = Instant::now();
        let mut client = cluster.client(other);
        // When the last look began that found it there, and when the first ended that did not.
        let (mut alive, mut is_gone) = (None, false);
        wait_until("it has come and gone", || {
            let look = Instant::now();
            match client.command(&["GET", &key]).as_str() {
                "$v" => alive = Some(look),
                _ => is_gone = alive.is_some(),
            }
            is_gone.then_some(())
        });
        // A second more or less.
        let alive = alive.expect("it was there").saturating_duration_since(set).as_millis();
        let gone = begun.elapsed().as_millis();
        assert!(gone >= 4_900 && alive <= 7_100, "{key} lived {alive} to {gone} ms there");
    }
}

#[test]
fn a_way_that_is_slow_in_one_direction_is_no_clock_that_is_wrong() {
    let cluster = Cluster::start(Shape::Pair);
    // Half of it is more than clocks may differ.
    let slow_ms = 4_600;
    cluster.delay_from(1, 0, slow_ms);
    wait_until("the way is measured", || {
        // On a busy machine this may be silence for too long, and no link is made over such a way.
        if !cluster.is_linked(0, 1) {
            cluster.delay_from(1, 0, 0);
            cluster.wait_linked();
            cluster.delay_from(1, 0, slow_ms);
        }
        let link = |index| cluster.view(index)["replication"]["links"][0].clone();
        let is_slow =
            |index| link(index)["rtt_us"].as_u64().is_some_and(|us| us > slow_ms * 1_000 - 100_000);
        (is_slow(0) && is_slow(1)).then_some(())
    });
    for index in cluster.up() {
        let node = cluster.node(index);
        assert_eq!(node.http("GET", node.api, "/readyz", b"").status, 200);
        assert_eq!(cluster.command(index, &["SET", &format!("k{index}"), "v"]), "+OK");
        assert!(cluster.metric(index, "atoll_clock_skew_seconds ").abs() < 1.0);
    }
    assert_eq!(cluster.converge().len(), 2);
}

//! What `/metrics` says of each handler.

use super::{deploy, figure, get};
use crate::node::{TestNode, wait_until};
use std::time::Instant;

/// A figure that is no whole number.
fn seconds(node: &TestNode, name: &str) -> f64 {
    node.figure(name).unwrap_or(0.0)
}

#[test]
fn figures_tell_what_each_handler_uses() {
    let node = TestNode::start();
    deploy(&node, "hello", &["--name", "hello", "--route", "/hello/*", "--reuse", "100"]);
    let loops = ["--name", "loops", "--route", "/hostile/*"];
    // Far apart: on a busy machine a guest that computes waits for its turns.
    deploy(&node, "hostile", &[&loops[..], &["--cpu-ms", "2000", "--wall-ms", "60000"]].concat());
    let calls = |handler: &str, instance: &str| {
        let labels = format!("handler=\"{handler}\",release=\"live\",instance=\"{instance}\"");
        figure(&node, &format!("atoll_handler_calls_total{{{labels}}}"))
    };
    let of =
        |what: &str, handler: &str| format!("{what}{{handler=\"{handler}\",release=\"live\"}}");
    // A deployment makes an instance to see whether it can be made.
    let tried = calls("hello", "fresh");
    for _ in 0..10 {
        assert_eq!(get(&node, "/hello/x").status, 200);
    }
    let made = calls("hello", "fresh") - tried;
    assert_eq!((made + calls("hello", "reused"), made), (10, 1), "new, and used again");
    assert_eq!(figure(&node, &of("atoll_handler_instances_idle", "hello")), 1);

    let cpu = of("atoll_handler_cpu_seconds_total", "loops");
    let (before, began) = (seconds(&node, &cpu), Instant::now());
    std::thread::scope(|threads| {
        let looping = threads.spawn(|| get(&node, "/hostile/loop").status);
        wait_until("it runs", || {
            (figure(&node, &of("atoll_handler_running", "loops")) == 1).then_some(())
        });
        assert_eq!(looping.join().expect("a client"), 504);
    });
    let spent = seconds(&node, &cpu) - before;
    // How far beyond its limit it comes depends on what else the machine does, and when it looks.
    let took = began.elapsed().as_secs_f64();
    assert!((2.0..=took).contains(&spent), "{spent} s of a loop that has 2, in {took} s");
    assert_eq!(figure(&node, &of("atoll_handler_running", "loops")), 0);
    assert!(seconds(&node, &of("atoll_handler_cpu_seconds_total", "hello")) < 0.1);
    let memory = |handler| figure(&node, &of("atoll_handler_memory_peak_bytes", handler));
    let small = memory("loops");
    assert!((64 << 10..8 << 20).contains(&small), "{small} bytes");
    assert_eq!(get(&node, "/hostile/memory").status, 502);
    assert!(memory("loops") > 32 << 20, "{} bytes", memory("loops"));
}

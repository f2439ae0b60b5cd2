//! What nodes share goes out at a pace: a purge behind it does not wait for megabytes.

use super::origin::{Act, Origin, ask, response};
use super::replicate::{count, node, purge, settle};
use crate::node::wait_until;
use crate::pace::Pace;
use crate::proxy::Proxy;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
/// Bytes a second: 100 Mbit/s.
const RATE: u64 = 12_500_000;
/// In each direction.
const DELAY_MS: u64 = 5;
/// Bodies that are shared at once, of a MiB each: 0.7 s of the link.
const BODY_COUNT: usize = 8;

#[test]
fn a_purge_behind_megabytes_that_are_shared_waits_for_a_moment_of_them() {
    let version = Arc::new(AtomicU64::new(0));
    let current = Arc::clone(&version);
    let origin = Origin::start(move |request, _| {
        let text = match request.path() {
            "/page" => current.load(Ordering::SeqCst).to_string(),
            _ => "x".repeat(1 << 20),
        };
        Act::Send(response(200, &[FRESH, ("Cache-Tag", "page")], &text))
    });
    let way = Proxy::start();
    let one = node(&origin, "one", &[], &[]);
    way.lead_to(one.peers());
    let peer = way.address().to_string();
    let two = node(&origin, "two", &[], &["--peer", &peer]);
    settle(&one, 1);
    way.delay_ms(DELAY_MS);
    way.limit(RATE);
    let version_at_two = || ask(&two, "GET", "/page", &[]).text().parse::<u64>().expect("a number");
    let (mut times, mut pace) = (Vec::new(), Pace::default());
    for round in 1..=8 {
        version_at_two();
        pace.of(version_at_two);
        let paths: Vec<String> = (0..BODY_COUNT).map(|n| format!("/big/{round}/{n}")).collect();
        paths.iter().for_each(|path| drop(ask(&one, "GET", path, &[])));
        version.store(round, Ordering::SeqCst);
        let began = Instant::now();
        let answer = one.http("POST", one.api, "/v1/purge", br#"{"urls": ["/page"]}"#);
        assert_eq!(answer.status, 200);
        wait_until("the purge", || (version_at_two() == round).then_some(()));
        times.push(began.elapsed());
        // And what is shared comes behind it.
        let asked = origin.request_count();
        settle(&one, 1);
        wait_until("all is shared", || {
            (count(&one, "written") >= round * BODY_COUNT as u64).then_some(())
        });
        settle(&one, 1);
        for path in &paths {
            assert_eq!(ask(&two, "GET", path, &[]).body.len(), 1 << 20, "{path}");
        }
        assert_eq!(origin.request_count(), asked, "the other node takes them");
    }
    times.sort_unstable();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{times:?} behind {BODY_COUNT} MiB at {RATE} bytes/s; load {}", load.trim());
    let half = times[times.len() / 2];
    let bar = pace.bar(Duration::from_millis(200), 50);
    assert!(half < bar, "half took {half:?}, held against {bar:?}");
    assert_eq!(purge(&one, r#"{"all": true}"#), Some(1));
}

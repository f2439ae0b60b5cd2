//! What replication costs on the wire, counted by the proxies: each receiver gets a write about
//! once, and nodes that were apart exchange what differs.

use crate::cluster::{Cluster, Shape, name};
use crate::dice::Dice;
use crate::node::{Ends, RespClient, wait_until};
use crate::pace::Pace;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bytes of each key, and of each value: 140 together.
const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 124;
const WRITE_BYTES: usize = KEY_BYTES + VALUE_BYTES;

/// Text that does not repeat itself.
fn value(dice: &mut Dice) -> String {
    (0..VALUE_BYTES).map(|_| char::from(b'!' + dice.below(90) as u8)).collect()
}

fn key(prefix: &str, number: usize) -> String {
    format!("{prefix}{number:0width$}", width = KEY_BYTES - prefix.len())
}

/// Sets so many keys, many at a time.
fn fill(client: &mut RespClient, prefix: &str, count: usize) {
    let mut dice = Dice::new(count as u64);
    for first in (0..count).step_by(500) {
        let some = first..count.min(first + 500);
        for number in some.clone() {
            client.send_command(&["SET", &key(prefix, number), &value(&mut dice)]);
        }
        some.for_each(|_| assert_eq!(client.reply(), "+OK"));
    }
}

/// Waits until nothing is under way any more but what nodes say to one another at all times.
fn settle(cluster: &Cluster) {
    // Said at once; all else that a node says of replication is a little older, and must not be
    // from before this.
    let seq_of = |index| cluster.view(index)["replication"]["seq"].as_u64();
    let written: BTreeMap<String, Option<u64>> =
        cluster.up().map(|index| (name(index), seq_of(index))).collect();
    wait_until("all is acknowledged", || {
        let is_settled = |index| {
            let view = cluster.view(index);
            let members = view["replication"]["members"].as_array()?;
            let has_all = members.iter().all(|member| {
                let written = member["name"].as_str().and_then(|name| written.get(name));
                written.is_some_and(|written| member["seq"].as_u64() >= *written)
            });
            let links = view["replication"]["links"].as_array()?;
            let is_idle = |link: &Value| link["behind"] == 0 && link["state"] == "streaming";
            Some(has_all && links.iter().all(is_idle))
        };
        cluster.up().all(|index| is_settled(index) == Some(true)).then_some(())
    });
}

/// Bytes that a write costs on all links together, for each node that receives it.
fn bytes_each(shape: Shape) -> f64 {
    const WRITE_COUNT: usize = 3_000;
    let flags = |_| vec!["--link-compression".to_owned(), "off".to_owned()];
    let cluster = Cluster::start_with(shape, flags);
    // The ways of this origin's writes are found, and others' copies declined.
    fill(&mut cluster.client(0), "first-", 500);
    settle(&cluster);
    let (mut dice, mut client) = (Dice::new(1), cluster.client(0));
    let (began, before) = (Instant::now(), cluster.bytes());
    for number in 0..WRITE_COUNT {
        let value = value(&mut dice);
        assert_eq!(client.command(&["SET", &key("then-", number), &value]), "+OK");
    }
    settle(&cluster);
    let (bytes, took) = (cluster.bytes() - before, began.elapsed());
    let always = idle_bytes_each_s(&cluster) * took.as_secs_f64();
    (bytes as f64 - always) / (WRITE_COUNT * (shape.node_count() - 1)) as f64
}

/// What nodes say to one another at all times, in bytes a second: on a busy machine writes take their
/// time, and it is not theirs.
fn idle_bytes_each_s(cluster: &Cluster) -> f64 {
    let (began, before) = (Instant::now(), cluster.bytes());
    // Nothing is waited for.
    std::thread::sleep(Duration::from_secs(2));
    (cluster.bytes() - before) as f64 / began.elapsed().as_secs_f64()
}

#[test]
fn a_write_costs_little_more_than_its_bytes_for_each_receiver() {
    for shape in [Shape::Pair, Shape::Ring(3), Shape::Mesh(3)] {
        let ratio = bytes_each(shape) / WRITE_BYTES as f64;
        eprintln!("{shape:?}: {ratio:.2} times the bytes written");
        assert!(ratio > 1.0, "{shape:?}: {ratio:.2}: the proxies do not see it all");
        assert!(ratio <= 1.6, "{shape:?}: {ratio:.2} times the bytes written");
    }
}

/// What each GET on a node took until `is_over`.
fn probe(mut client: RespClient, is_over: &AtomicBool) -> Vec<Duration> {
    let (mut dice, mut times) = (Dice::new(7), Vec::new());
    while !is_over.load(Relaxed) {
        let key = key("base-", dice.below(1_000));
        let begun = Instant::now();
        let got = client.command(&["GET", &key]);
        assert!(got.starts_with('$') && got.len() > 2, "{got}");
        times.push(begun.elapsed());
        // Few enough to be no load, and no write: the bytes are counted.
        std::thread::sleep(Duration::from_millis(1));
    }
    times
}

#[track_caller]
fn check_rejoin(log_max: &str, comparisons: RangeInclusive<u64>) {
    const NEW_COUNT: usize = 1_000;
    let flags = ["--log-max", log_max, "--link-compression", "off"].map(str::to_owned);
    // One of them dials. Where both do, at the same moment, one link replaces the other while it
    // carries the difference.
    let cluster = Cluster::start_with(Shape::Star(2), |_| flags.to_vec());
    fill(&mut cluster.client(0), "base-", 50_000);
    settle(&cluster);
    let syncs = cluster.sum("syncs_received");
    cluster.cut(0, 1);
    cluster.wait_unlinked(0, 1);
    fill(&mut cluster.client(0), "left-", NEW_COUNT);
    fill(&mut cluster.client(1), "right-", NEW_COUNT);
    let (before, is_over) = (cluster.bytes(), AtomicBool::new(false));
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let probes: Vec<_> = (0..2)
            .map(|index| {
                let (client, is_over) = (cluster.client(index), &is_over);
                scope.spawn(move || probe(client, is_over))
            })
            .collect();
        let ends = Ends(&is_over);
        cluster.heal();
        cluster.wait_linked();
        for node in cluster.up() {
            cluster.wait_for(node, &["DBSIZE"], ":52000");
        }
        settle(&cluster);
        drop(ends);
        probes.into_iter().flat_map(|probe| probe.join().expect("it ends")).collect()
    });
    let moved = cluster.bytes() - before;
    let compared = cluster.sum("syncs_received") - syncs;
    assert!(comparisons.contains(&compared), "{compared} comparisons");
    let worst = times.iter().max().copied().unwrap_or_default();
    let ratio = moved as f64 / (2 * NEW_COUNT * WRITE_BYTES) as f64;
    eprintln!("{ratio:.2} times the difference, {compared} comparisons, {worst:?} the longest GET");
    assert!(ratio <= 2.0, "{ratio:.2} times the difference");
    // A machine that is busy with other tests takes its time, for most of them too.
    let bar = Pace::from(times).bar(Duration::from_secs(1), 500);
    assert!(worst < bar, "a GET took {worst:?}, held against {bar:?}");
}

#[test]
fn nodes_that_were_apart_send_what_differs_from_their_logs() {
    check_rejoin("16MiB", 0..=0);
}

#[test]
fn nodes_that_were_apart_for_longer_than_their_logs_send_what_differs() {
    check_rejoin("64KiB", 2..=4);
}

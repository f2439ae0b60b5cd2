//! The same with a peer: what a node had answered before it was killed, both have once it is back.

use super::{Acknowledged, Load, folder, round_count, write};
use crate::cluster::{Cluster, Shape, name};
use crate::node::{PATIENCE, RespClient};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Connections that write to each of the two.
const WRITER_COUNT: usize = 3;
/// How long they write before one node is killed.
const LOAD: Duration = Duration::from_millis(700);
/// How long a write may take to leave the process that has answered it: it goes to the peer and to the
/// disk behind the answer.
const MOMENT: Duration = Duration::from_millis(100);
/// How much longer those of the other node write.
const AFTER: Duration = Duration::from_millis(100);

/// What one connection wrote and was answered.
#[derive(Debug)]
struct Written {
    key: String,
    acknowledged: Vec<Acknowledged>,
    /// What was answered later than this may be missing.
    safe_until: Instant,
}

/// Writes on both until one, each in turn, is killed, and on the other a little longer.
fn load_and_kill(cluster: &mut Cluster, (round, lost): (usize, Option<Duration>)) -> Vec<Written> {
    let (victim, load) = (round % 2, Load::of(2 * WRITER_COUNT));
    let mut writers = Vec::new();
    for node in 0..2 {
        for writer in 0..WRITER_COUNT {
            let (key, address) = (format!("r{round}-n{node}-w{writer}"), cluster.node(node).resp);
            let (name, load) = (key.clone(), Arc::clone(&load));
            let write = move |number| write(address, name, (&load, number));
            let number = writers.len();
            writers.push((node, key, std::thread::spawn(move || write(number))));
        }
    }
    load.last(LOAD);
    let killed_at = Instant::now();
    cluster.kill(victim);
    std::thread::sleep(AFTER);
    load.is_over.store(true, Ordering::Relaxed);
    let ended: Vec<_> = writers
        .into_iter()
        .map(|(node, key, writer)| (node, key, writer.join().expect("a writer ends")))
        .collect();
    let answered: Vec<&[Acknowledged]> = ended.iter().map(|(_, _, of)| &of[..]).collect();
    let lost = lost.map(|least| super::lost(least, &answered));
    let mut written = Vec::new();
    for (node, key, acknowledged) in ended {
        let safe_until = match lost {
            Some(lost) if node == victim => killed_at - lost,
            _ => Instant::now(),
        };
        written.push(Written { key, acknowledged, safe_until });
    }
    written
}

impl Written {
    /// The first write that a node does not hold as it should, if there is one.
    fn missing(&self, client: &mut RespClient) -> Option<String> {
        let Written { key, acknowledged, safe_until } = self;
        let safe: Vec<&Acknowledged> =
            acknowledged.iter().filter(|one| one.at <= *safe_until).collect();
        for some in safe.chunks(500) {
            let names: Vec<String> =
                some.iter().map(|one| format!("{key}-{}", one.number)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let values = client.list(&[&["MGET"], &names[..]].concat());
            for ((one, name), got) in some.iter().zip(names).zip(values) {
                let number = one.number;
                let want = if number % 5 == 4 { "$-1".to_owned() } else { format!("${number}") };
                if got != want {
                    let count = acknowledged.len();
                    return Some(format!("{name} of {count}: {got:?}, not {want:?}"));
                }
            }
        }
        let counted = client.command(&["GET", &format!("{key}-count")]);
        let counted: usize = counted.trim_start_matches('$').parse().unwrap_or(0);
        // One more may have been made than was answered, and none twice.
        let fits = (safe.len()..=acknowledged.len() + 1).contains(&counted);
        (!fits).then(|| format!("{key}: {counted} of {} increments", acknowledged.len()))
    }
}

/// Waits until both nodes hold all that they must.
#[track_caller]
fn wait_whole(cluster: &Cluster, written: &[Written]) {
    let deadline = Instant::now() + PATIENCE;
    for node in cluster.up() {
        let mut client = cluster.client(node);
        while let Some(missing) = written.iter().find_map(|one| one.missing(&mut client)) {
            assert!(Instant::now() < deadline, "{} lacks {missing}", name(node));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// `lost` is how much of what the killed node had answered may be missing; `None` is nothing.
#[track_caller]
fn check_rounds(fsync: &str, lost: Option<Duration>) {
    let disks = [folder(), folder()];
    let flags = |node: usize| {
        let data = disks[node].path().join("data").display().to_string();
        ["--data", &data, "--fsync", fsync].map(str::to_owned).to_vec()
    };
    let mut cluster = Cluster::start_with(Shape::Pair, flags);
    for round in 0..round_count() {
        let written = load_and_kill(&mut cluster, (round, lost));
        cluster.start_node(round % 2);
        cluster.wait_linked();
        wait_whole(&cluster, &written);
    }
}

#[test]
fn with_always_a_pair_lacks_no_answered_write_after_a_kill_of_one() {
    check_rounds("always", None);
}

#[test]
fn with_everysec_a_pair_lacks_no_answered_write_after_a_kill_of_one() {
    check_rounds("everysec", None);
}

#[test]
fn with_never_a_pair_lacks_at_most_the_last_moment_after_a_kill_of_one() {
    check_rounds("never", Some(MOMENT));
}

//! Links that break at random under load from all sides: afterwards no key differs, and every
//! increment that was answered counts.
//!
//! The dice come from ATOLL_CHAOS_SEED, or from the clock; a failure prints the seed. What they
//! meet, they meet in real time: the same seed breaks the same links, no more.

use crate::cluster::{Cluster, Content, Shape, difference, name};
use crate::dice::Dice;
use crate::node::{PATIENCE, RespClient, wait_until};
use crate::pace::Pace;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

/// Keys that all nodes write.
const KEY_COUNT: usize = 2_000;
/// Most nodes that write.
const NODE_COUNT_MAX: usize = 3;
/// Keys that are incremented and nothing else.
const COUNTER_COUNT: usize = 20;
/// Longest time from the last heal until nothing differs.
const EQUAL_WITHIN: Duration = Duration::from_secs(2);
/// Rounds of the long form where nothing else is said.
const ROUND_COUNT: u64 = 10;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later");
    number_from("ATOLL_CHAOS_SEED").unwrap_or(since.as_nanos() as u64)
}

/// What all who write share.
#[derive(Debug)]
struct Load {
    is_over: AtomicBool,
    /// Bytes by which each value is longer.
    padding: AtomicUsize,
    /// Writes of each node so far, and how many it may make before it waits.
    write_counts: [AtomicU64; NODE_COUNT_MAX],
    limits: [AtomicU64; NODE_COUNT_MAX],
    /// What was added and answered, by counter.
    added: [AtomicU64; COUNTER_COUNT],
}

impl Default for Load {
    fn default() -> Load {
        Load {
            is_over: AtomicBool::new(false),
            padding: AtomicUsize::new(0),
            write_counts: Default::default(),
            limits: [const { AtomicU64::new(u64::MAX) }; NODE_COUNT_MAX],
            added: Default::default(),
        }
    }
}

impl Load {
    /// Writes so far, of all nodes.
    fn write_count(&self) -> u64 {
        self.write_counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Waits until each node has made so many more writes, and lets them make no others.
    fn write_and_pause(&self, cluster: &Cluster, count: u64) {
        for node in cluster.up() {
            self.limits[node].store(self.write_counts[node].load(Relaxed) + count, Relaxed);
        }
        for node in cluster.up() {
            let has = || self.write_counts[node].load(Relaxed) >= self.limits[node].load(Relaxed);
            wait_until("more was written", || has().then_some(()));
        }
    }

    fn go_on(&self) {
        self.limits.iter().for_each(|limit| limit.store(u64::MAX, Relaxed));
    }

    /// Writes a bit of everything on a node, one after the other, until it is over.
    fn write(&self, node: usize, mut client: RespClient, mut dice: Dice) {
        while !self.is_over.load(Relaxed) {
            if self.write_counts[node].load(Relaxed) >= self.limits[node].load(Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let key = format!("k{}", dice.below(KEY_COUNT));
            let value = "x".repeat(self.padding.load(Relaxed) + dice.below(100));
            let (counter, both) = (dice.below(COUNTER_COUNT), format!("m{}", dice.below(5)));
            // A deadline is long past, or far away, when nodes are compared.
            let (soon, late) = (50 + dice.below(300), 600_000 + dice.below(1_000));
            let reply = match dice.below(12) {
                0..=3 => client.command(&["SET", &key, &value]),
                4 => client.command(&["DEL", &key]),
                5 => client.command(&["SET", &key, &value, "PX", &soon.to_string()]),
                6 => client.command(&["SET", &key, &value, "PX", &late.to_string()]),
                7 => client.command(&["PEXPIRE", &key, &late.to_string()]),
                8 => client.command(&["SET", &both, &dice.below(1_000).to_string()]),
                9 => client.command(&["DECRBY", &both, "3"]),
                _ => {
                    let reply = client.command(&["INCRBY", &format!("c{counter}"), "2"]);
                    self.added[counter].fetch_add(2, Relaxed);
                    reply
                }
            };
            assert!(!reply.starts_with('-'), "{reply}");
            self.write_counts[node].fetch_add(1, Relaxed);
        }
    }

    /// Writes on every node while `trouble` runs.
    fn during<T>(
        &self,
        cluster: &Cluster,
        dice: &mut Dice,
        trouble: impl FnOnce(&mut Dice) -> T,
    ) -> T {
        std::thread::scope(|scope| {
            for node in cluster.up() {
                let (client, dice) = (cluster.client(node), Dice::new(dice.below(1 << 60) as u64));
                scope.spawn(move || self.write(node, client, dice));
            }
            // Whatever comes of it: who writes must be told to stop.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trouble(dice)));
            self.is_over.store(true, Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    #[track_caller]
    fn check_counters(&self, content: &Content) {
        for (counter, added) in self.added.iter().enumerate() {
            let got = content.get(&format!("c{counter}")).map(|(value, _)| value.clone());
            assert_eq!(got, Some(format!("${}", added.load(Relaxed))), "c{counter}");
        }
    }
}

/// Breaks and mends links at random for so long. Returns how often one broke.
fn break_links(cluster: &Cluster, dice: &mut Dice, length: Duration) -> u64 {
    let count = cluster.up().count();
    let (end, mut broken) = (Instant::now() + length, 0);
    while Instant::now() < end {
        let one = dice.below(count);
        let other = (one + 1 + dice.below(count - 1)) % count;
        match dice.below(8) {
            0..=2 => cluster.cut(one, other),
            3 => cluster.isolate(one),
            4 => cluster.mute(one, other),
            5 => cluster.heal(),
            _ => cluster.mend(one, other),
        }
        broken += u64::from(cluster.network().any(|proxy| proxy.is_broken()));
        // The time between two troubles; nothing is waited for.
        std::thread::sleep(Duration::from_millis(20 + dice.below(280) as u64));
    }
    cluster.heal();
    broken
}

/// Everything that a node holds, as its two doors show it.
type Whole = (Content, BTreeMap<String, Value>);

/// Waits until all nodes hold the same: values, deadlines, stamps; for so long after `healed` as they
/// may take, or a few looks where the machine is too busy for that. Returns it, and how long it took
/// until the look that found it so began.
#[track_caller]
fn wait_equal(cluster: &Cluster, healed: Instant) -> (Content, Duration) {
    let (deadline, mut pace) = (Instant::now() + PATIENCE, Pace::default());
    loop {
        let begun = Instant::now();
        let look = |index| (index, (cluster.content(index, 0), cluster.listing(index)));
        let wholes: Vec<(usize, Whole)> = pace.of(|| cluster.up().map(look).collect());
        let (first, whole) = &wholes[0];
        let Some((odd, other)) = wholes.iter().find(|(_, other)| other != whole) else {
            let took = begun.saturating_duration_since(healed);
            let bar = pace.bar(EQUAL_WITHIN, 4);
            assert!(took <= bar, "equal only {took:?} after the last heal, held against {bar:?}");
            return (whole.0.clone(), took);
        };
        assert!(
            begun < deadline,
            "{} and {} differ: {}; {}",
            name(*first),
            name(*odd),
            difference(&whole.0, &other.0),
            difference(&whole.1, &other.1)
        );
    }
}

/// One mesh of three, its links broken at random for so long.
#[track_caller]
fn check_mesh(length: Duration, seed: u64) {
    eprintln!("ATOLL_CHAOS_SEED={seed}");
    let (mut dice, load) = (Dice::new(seed), Load::default());
    // A log that reaches back over every trouble, or over few.
    let log_max = dice.pick(&["64MiB", "256KiB"]);
    let flags = |_| vec!["--log-max".to_owned(), log_max.to_owned()];
    let cluster = Cluster::start_with(Shape::Mesh(3), flags);
    let (broken, healed) = load.during(&cluster, &mut dice, |dice| {
        let mut broken = break_links(&cluster, dice, length);
        // On a busy machine it takes longer until there is something to compare.
        while load.write_count() < KEY_COUNT as u64 {
            broken += break_links(&cluster, dice, Duration::from_secs(1));
        }
        (broken, Instant::now())
    });
    let (content, took) = wait_equal(&cluster, healed);
    let writes = load.write_count();
    let syncs = cluster.sum("syncs_received");
    eprintln!("{writes} writes, {broken} troubles, {syncs} comparisons, equal after {took:?}");
    load.check_counters(&content);
    assert!(content.len() > KEY_COUNT / 4 && broken > 0, "{} keys", content.len());
    assert_eq!(cluster.sum("divergence_total"), 0);
}

#[test]
fn a_mesh_whose_links_break_at_random_ends_equal_and_loses_no_increment() {
    check_mesh(Duration::from_secs(4), seed());
}

#[test]
#[ignore = "takes ten minutes: cargo test -p atoll-node --test e2e chaos -- --ignored --nocapture"]
fn a_mesh_whose_links_break_for_a_minute_ends_equal_every_time() {
    let seed = seed();
    for round in 0..number_from("ATOLL_CHAOS_ROUNDS").unwrap_or(ROUND_COUNT) {
        check_mesh(Duration::from_secs(60), seed.wrapping_add(round));
    }
}

/// Cuts a pair until each has made so many more writes, each longer by so many bytes, and waits until
/// it is linked again. How long that takes depends on the machine, and how much is written does not.
fn cut_for(cluster: &Cluster, load: &Load, (write_count, padding): (u64, usize)) {
    load.write_and_pause(cluster, 1);
    cluster.cut(0, 1);
    cluster.wait_unlinked(0, 1);
    load.padding.store(padding, Relaxed);
    load.write_and_pause(cluster, write_count);
    load.padding.store(0, Relaxed);
    cluster.heal();
    cluster.wait_linked();
    load.go_on();
}

/// Whether nothing but the newest writes is under way between two nodes.
fn keeps_up(cluster: &Cluster) -> bool {
    cluster.up().all(|index| {
        let view = cluster.view(index);
        let link = &view["replication"]["links"][0];
        link["state"] == "streaming" && link["behind"].as_u64().is_some_and(|ops| ops < 500)
    })
}

#[test]
fn a_pair_resumes_from_its_log_where_that_reaches_back_and_compares_where_not() {
    let small = |_| vec!["--log-max".to_owned(), "2MiB".to_owned()];
    let cluster = Cluster::start_with(Shape::Pair, small);
    let (mut dice, load) = (Dice::new(seed()), Load::default());
    let syncs = || cluster.sum("syncs_received");
    let healed = load.during(&cluster, &mut dice, |_| {
        for round in 0..3 {
            wait_until("each keeps up with the other", || keeps_up(&cluster).then_some(()));
            let before = syncs();
            cut_for(&cluster, &load, (50, 0));
            assert_eq!(syncs(), before, "round {round}: the log reached back");
            // More than twice the log, on each side.
            cut_for(&cluster, &load, (1_000, 10_000));
            wait_until("both have compared", || (syncs() >= before + 2).then_some(()));
        }
        Instant::now()
    });
    let (content, _) = wait_equal(&cluster, healed);
    load.check_counters(&content);
    assert_eq!(cluster.sum("divergence_total"), 0);
}

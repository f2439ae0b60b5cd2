//! Purges: what they cover, on one node and on three.

use super::origin::{Act, Origin, ask, node_before, response};
use crate::dice::Dice;
use crate::node::{ATOLL, TestNode, wait_until};
use crate::pace::Pace;
use crate::tools::run;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");

fn order(node: &TestNode, query: &str, order: &str) -> (u16, serde_json::Value) {
    let answer = node.http("POST", node.api, &format!("/v1/purge{query}"), order.as_bytes());
    (answer.status, answer.json())
}

#[test]
fn each_kind_of_purge_takes_what_it_names_and_nothing_else() {
    let origin = Origin::start(|request, _| {
        let tag = if request.path().starts_with("/a") { "red blue" } else { "green" };
        Act::Send(response(200, &[FRESH, ("Surrogate-Key", tag), ("Vary", "Foo")], "x"))
    });
    let node = node_before(&origin, "");
    let paths = ["/a/1", "/a/2?q", "/b"];
    let counts = || {
        paths.map(|path| {
            ask(&node, "GET", path, &[("Foo", "1")]);
            origin.seen(path).len()
        })
    };
    assert_eq!(counts(), [1, 1, 1]);
    assert_eq!(counts(), [1, 1, 1]);
    let steps = [
        (r#"{"urls": ["http://example.com/a/1"]}"#, [2, 1, 1]),
        (r#"{"urls": ["/a/2?q", "http://other.com/b"]}"#, [2, 2, 1]),
        (r#"{"tags": ["blue", "gree"]}"#, [3, 3, 1]),
        (r#"{"prefixes": ["http://EXAMPLE.com/a/"]}"#, [4, 4, 1]),
        (r#"{"hosts": ["other.com"]}"#, [4, 4, 1]),
        (r#"{"hosts": ["example.com:80"]}"#, [5, 5, 2]),
        (r#"{"all": true}"#, [6, 6, 3]),
    ];
    for (text, want) in steps {
        let (status, done) = order(&node, "", text);
        assert_eq!(status, 200, "{done}");
        assert_eq!((counts(), counts()), (want, want), "{text}");
    }
    let api = node.api.to_string();
    let inspect = |url: &str| run(ATOLL, &["cache", "--api", &api, "inspect", url]);
    let told = inspect("http://example.com/a/2?q");
    assert!(told.starts_with("example.com/a/2?q: 200, 1 bytes, fresh: it is "), "{told}");
    assert!(told.ends_with("  differs by Foo\n  tags blue, red\n"), "{told}");
    assert_eq!(inspect("http://example.com/c"), "example.com/c: nothing is stored\n");
    let told = run(ATOLL, &["purge", "--api", &api, "--tag", "green"]);
    assert_eq!(told, "purged 1\n");
    assert_eq!(counts(), [6, 6, 4]);
}

#[test]
fn a_soft_purge_leaves_it_in_use_while_it_is_validated() {
    let origin = Origin::start(|_, count| {
        let answer = response(200, &[FRESH, ("ETag", &format!("\"{count}\""))], &count.to_string());
        Act::Slowly(vec![answer], Duration::from_millis(200))
    });
    let node = node_before(&origin, "");
    assert_eq!(ask(&node, "GET", "/a", &[]).text(), "0");
    order(&node, "", r#"{"urls": ["/a"], "soft": true}"#);
    assert_eq!(ask(&node, "GET", "/a", &[]).text(), "0", "at once");
    wait_until("the new one", || (ask(&node, "GET", "/a", &[]).text() == "1").then_some(()));
    assert_eq!(ask(&node, "GET", "/a", &[]).text(), "1");
    assert_eq!(origin.seen("/a").len(), 2);
}

#[test]
fn what_was_on_its_way_when_it_was_purged_is_not_stored_and_not_joined() {
    let origin = Origin::start(|_, count| {
        let answer = response(200, &[FRESH], &count.to_string());
        Act::Slowly(vec![answer], Duration::from_millis(if count == 0 { 600 } else { 0 }))
    });
    let node = node_before(&origin, "");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(&node, "GET", "/a", &[]).text());
        wait_until("the first request", || (origin.seen("/a").len() == 1).then_some(()));
        order(&node, "", r#"{"tags": ["any"]}"#);
        order(&node, "", r#"{"urls": ["/a"]}"#);
        assert_eq!(ask(&node, "GET", "/a", &[]).text(), "1", "it asked after the purge");
        assert_eq!(first.join().expect("no panic"), "0", "it asked before");
    });
    assert_eq!(ask(&node, "GET", "/a", &[]).text(), "1", "the old one did not replace it");
    assert_eq!(origin.seen("/a").len(), 2);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let node = TestNode::start();
    for bad in ["{}", "x", r#"{"urls": [""]}"#, r#"{"tags": [""]}"#, r#"{"colour": 1}"#] {
        assert_eq!(order(&node, "", bad).0, 400, "{bad}");
    }
    assert_eq!(order(&node, "?wait=some", r#"{"all": true}"#).0, 400);
    let (status, done) = order(&node, "?wait=all", r#"{"all": true}"#);
    assert_eq!((status, done["missing"].as_array().map(Vec::len)), (200, Some(0)));
}

/// Three linked nodes with one cached route to an upstream that answers with its version, and that
/// version.
struct Trio {
    nodes: [TestNode; 3],
    version: Arc<AtomicU64>,
    /// A write through one node takes what all have.
    writes_count: bool,
}

impl Trio {
    fn start() -> Trio {
        Trio::start_with("")
    }

    /// With more lines for the route.
    fn start_with(more: &str) -> Trio {
        let version = Arc::new(AtomicU64::new(0));
        let current = Arc::clone(&version);
        let origin = Origin::start(move |_, _| {
            let version = current.load(Ordering::SeqCst).to_string();
            Act::Send(response(200, &[FRESH, ("Cache-Tag", "page")], &version))
        });
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = format!(
            "[[route]]\npath = \"/*\"\nupstream = \"http://{}\"\ncache = true\n{more}\n",
            origin.address
        );
        std::fs::write(file.path(), text).expect("the file is written");
        let config = file.path().to_str().expect("a path").to_owned();
        let start = |name: &str, peers: &[String]| {
            let mut flags = vec!["--config", &config, "--name", name];
            flags.extend(peers.iter().flat_map(|peer| ["--peer", peer]));
            TestNode::start_with(&flags)
        };
        let one = start("one", &[]);
        let two = start("two", &[one.peers().to_string()]);
        let three = start("three", &[one.peers().to_string(), two.peers().to_string()]);
        let nodes = [one, two, three];
        for node in &nodes {
            wait_until("links to both others", || {
                let (status, done) = order(node, "?wait=all&timeout=2000", r#"{"tags": ["none"]}"#);
                let confirmed = done["confirmed"].as_array().map_or(0, Vec::len);
                (status == 200 && confirmed == 2).then_some(())
            });
        }
        Trio { nodes, version, writes_count: more.contains("replicate") }
    }

    /// A new version, and a purge of all older ones by a node. Returns once all have confirmed.
    fn publish(&self, version: u64) {
        self.version.store(version, Ordering::SeqCst);
        let from = &self.nodes[version as usize % 3];
        let (status, done) = order(from, "?wait=all&timeout=60000", r#"{"tags": ["page"]}"#);
        assert_eq!(status, 200, "{done}");
    }
}

fn version_at(node: &TestNode) -> u64 {
    ask(node, "GET", "/page", &[]).text().parse().expect("a version")
}

#[test]
fn a_purge_that_all_nodes_have_confirmed_is_effective_on_each() {
    let trio = Trio::start();
    for round in 1..=30_u64 {
        for node in &trio.nodes {
            version_at(node);
        }
        trio.publish(round);
        for node in &trio.nodes {
            assert_eq!(version_at(node), round, "at once");
        }
    }
}

/// How long purges go on under load: 4 s, or as many as the variable says.
fn duration() -> Duration {
    let told = std::env::var("ATOLL_PURGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(told.unwrap_or(4))
}

/// All that covers `/page`.
const ORDERS: [&str; 6] = [
    r#"{"tags": ["page"]}"#,
    r#"{"urls": ["http://example.com/page"]}"#,
    r#"{"prefixes": ["http://example.com/pa"]}"#,
    r#"{"hosts": ["example.com"]}"#,
    r#"{"all": true}"#,
    r#"{"tags": ["other", "page"], "urls": ["/other"]}"#,
];

/// A purge, in time from the start.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    version: u64,
    /// By which node.
    from: usize,
    /// When it was ordered, and when that was answered.
    began: Duration,
    answered: Duration,
    /// Every node has confirmed it by then.
    is_confirmed: bool,
}

/// An answer of a node.
#[derive(Clone, Copy, Debug)]
struct Seen {
    node: usize,
    version: u64,
    /// When it was asked for, from the start.
    asked: Duration,
}

/// A new version and a purge of what is older, of any kind and from any node.
fn purge_at_random(trio: &Trio, dice: &mut Dice, (version, start): (u64, Instant)) -> Ordered {
    trio.version.store(version, Ordering::SeqCst);
    let (from, text) = (dice.below(3), dice.pick(&ORDERS));
    let node = &trio.nodes[from];
    let (is_write, waits) = (trio.writes_count && dice.below(4) == 0, dice.below(2) == 0);
    let began = start.elapsed();
    let status = match is_write {
        true => ask(node, "POST", "/page", &[]).status(),
        false if waits => order(node, "?wait=all&timeout=60000", text).0,
        false => order(node, "", text).0,
    };
    assert_eq!(status, 200, "{text}");
    let answered = start.elapsed();
    for node in &trio.nodes {
        wait_until("the purge", || (version_at(node) >= version).then_some(()));
    }
    Ordered { version, from, began, answered, is_confirmed: waits && !is_write }
}

#[test]
fn under_load_nothing_older_than_a_purge_is_served_once_a_node_has_it() {
    println!("{}", purge_under_load(&Trio::start()));
}

#[test]
fn nor_where_one_node_fetches_for_all_and_may_know_less_of_purges_than_the_one_that_asks_it() {
    let trio = Trio::start_with("shield = true");
    wait_until("a node is asked by another", || {
        version_at(&trio.nodes[0]);
        let asked = trio.nodes.iter().map(|node| shielded(node, "answered"));
        order(&trio.nodes[0], "", r#"{"all": true}"#);
        (asked.sum::<u64>() > 0).then_some(())
    });
    println!("{}", purge_under_load(&trio));
    let outdated: u64 = trio.nodes.iter().map(|node| shielded(node, "outdated")).sum();
    println!("{outdated} answers of nodes that knew less were dropped");
}

#[test]
fn nor_where_nodes_share_what_they_fetch() {
    let trio = Trio::start_with("replicate = true");
    println!("{}", purge_under_load(&trio));
    let shared = |outcome: &str| -> u64 {
        let name = format!("atoll_cache_replicated_total{{route=\"/*\",outcome=\"{outcome}\"}}");
        let counts = trio.nodes.iter().map(|node| node.figure(&name).unwrap_or(0_u64));
        counts.sum()
    };
    let (written, taken, outdated) = (shared("written"), shared("taken"), shared("outdated"));
    println!("{written} written, {taken} taken, {outdated} were too old to be");
    // On a busy machine each was perhaps fetched in the moment of a purge, and too old for others.
    wait_until("one is taken", || {
        let [one, two, three] = &trio.nodes;
        version_at(one);
        order(one, "?wait=all&timeout=2000", r#"{"tags": ["none"]}"#);
        version_at(two);
        version_at(three);
        let taken = shared("taken");
        order(one, "?wait=all&timeout=2000", r#"{"all": true}"#);
        (shared("written") > 0 && taken > 0).then_some(())
    });
}

#[test]
fn nor_where_the_node_that_fetches_for_all_shares_what_it_has_fetched() {
    let trio = Trio::start_with("shield = true\nreplicate = true");
    wait_until("a node is asked by another", || {
        version_at(&trio.nodes[0]);
        order(&trio.nodes[0], "", r#"{"all": true}"#);
        let asked = trio.nodes.iter().map(|node| shielded(node, "answered"));
        (asked.sum::<u64>() > 0).then_some(())
    });
    println!("{}", purge_under_load(&trio));
    let told = ["answered", "outdated", "refused", "failed"]
        .map(|outcome| trio.nodes.iter().map(|node| shielded(node, outcome)).sum::<u64>());
    println!("asked the owner: {told:?} answered, outdated, refused, failed");
    assert!(told[0] > 0);
}

/// How many requests to the node that fetches for all ended so.
fn shielded(node: &TestNode, outcome: &str) -> u64 {
    let name = format!("atoll_shield_requests_total{{outcome=\"{outcome}\"}}");
    node.figure(&name).expect("a figure")
}

/// Returns how long the purges took: until no node was asked any more that still answered with what
/// was older.
fn purge_under_load(trio: &Trio) -> String {
    let start = Instant::now();
    let ends = start + duration();
    let (mut orders, mut pace): (Vec<Ordered>, _) = (Vec::new(), Pace::default());
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let read = move |node: usize| {
            let mut seen = Vec::new();
            while Instant::now() < ends {
                let asked = start.elapsed();
                seen.push(Seen { node, version: version_at(&trio.nodes[node]), asked });
            }
            seen
        };
        let readers: Vec<_> = (0..6).map(|reader| scope.spawn(move || read(reader % 3))).collect();
        let mut dice = Dice::new(5);
        while Instant::now() < ends {
            let version = orders.len() as u64 + 1;
            orders.push(purge_at_random(trio, &mut dice, (version, start)));
            pace.of(|| version_at(&trio.nodes[dice.below(3)]));
            std::thread::sleep(Duration::from_millis(dice.below(40) as u64));
        }
        readers.into_iter().flat_map(|reader| reader.join().expect("no panic")).collect()
    });
    let mut times: Vec<Duration> = orders.iter().map(|purge| purge.took(&seen)).collect();
    times.sort_unstable();
    let count = times.len();
    let at = |percent: usize| times[(count - 1) * percent / 100];
    let late = times.iter().filter(|took| **took >= Duration::from_millis(50)).count();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let told = format!(
        "{count} purges, {} answers: half in {:?}, 99 of 100 in {:?}, all in {:?}, {late} in 50 ms or \
         more; load {}",
        seen.len(),
        at(50),
        at(99),
        at(100),
        load.trim()
    );
    orders.iter().for_each(|purge| purge.check(&seen));
    // The machine is busy with the load of this very test, and with others.
    let bar = pace.bar(Duration::from_millis(50), 50);
    assert!(at(50) < bar, "{told}; held against {bar:?}");
    told
}

impl Ordered {
    /// The answers that were older, although they were asked for after it was ordered.
    fn older<'s>(&self, seen: &'s [Seen]) -> impl Iterator<Item = &'s Seen> {
        let (version, began) = (self.version, self.began);
        seen.iter().filter(move |seen| seen.version < version && seen.asked >= began)
    }

    fn took(&self, seen: &[Seen]) -> Duration {
        let last = self.older(seen).map(|seen| seen.asked - self.began).max();
        last.unwrap_or_default()
    }

    /// Where it was answered it is in force, on all nodes where they have confirmed it.
    fn check(&self, seen: &[Seen]) {
        let bound = |seen: &&Seen| self.is_confirmed || seen.node == self.from;
        let wrong = self.older(seen).filter(bound).find(|seen| seen.asked >= self.answered);
        assert!(wrong.is_none(), "{wrong:?} after {self:?}");
    }
}

//! Clusters of real nodes, each link through a proxy of its own.

use crate::node::{PATIENCE, RespClient, TestNode, wait_until};
use crate::proxy::{Proxy, Toward};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Who dials whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Two that dial one another.
    Pair,
    /// Each dials the next.
    Ring(usize),
    /// Each dials all others.
    Mesh(usize),
    /// All others dial node 0.
    Star(usize),
    /// Each but the last dials the next.
    Line(usize),
}

impl Shape {
    /// How many nodes.
    pub(crate) fn node_count(self) -> usize {
        match self {
            Shape::Pair => 2,
            Shape::Ring(count) | Shape::Mesh(count) | Shape::Star(count) | Shape::Line(count) => {
                count
            }
        }
    }

    /// Who dials whom, by index.
    fn dials(self) -> Vec<(usize, usize)> {
        let count = self.node_count();
        match self {
            Shape::Pair => vec![(0, 1), (1, 0)],
            Shape::Ring(_) => (0..count).map(|from| (from, (from + 1) % count)).collect(),
            Shape::Mesh(_) => {
                let others = |from| (0..count).filter(move |to| *to != from);
                (0..count).flat_map(|from| others(from).map(move |to| (from, to))).collect()
            }
            Shape::Star(_) => (1..count).map(|from| (from, 0)).collect(),
            Shape::Line(_) => (1..count).map(|to| (to - 1, to)).collect(),
        }
    }
}

/// What a database of a node holds: key to value and deadline (ms since the epoch; -1 is none).
pub(crate) type Content = BTreeMap<String, (String, String)>;

/// Running nodes and the network between them.
#[derive(Debug)]
pub(crate) struct Cluster {
    shape: Shape,
    /// `None` while a node is down.
    nodes: Vec<Option<TestNode>>,
    flags: Vec<Vec<String>>,
    environments: Vec<Vec<(String, String)>>,
    /// By who dials whom.
    proxies: BTreeMap<(usize, usize), Proxy>,
}

impl Cluster {
    /// A cluster whose links are all up.
    pub(crate) fn start(shape: Shape) -> Cluster {
        Cluster::start_with(shape, |_| Vec::new())
    }

    /// The same, with more flags for each node.
    pub(crate) fn start_with(shape: Shape, flags: impl Fn(usize) -> Vec<String>) -> Cluster {
        let cluster = Cluster::start_unlinked(shape, flags);
        cluster.wait_linked();
        cluster
    }

    /// The same, without waiting for links: for those that must not come up.
    pub(crate) fn start_unlinked(shape: Shape, flags: impl Fn(usize) -> Vec<String>) -> Cluster {
        Cluster::start_in(shape, |_| Vec::new(), flags)
    }

    /// The same, with more variables in the environment of each node.
    pub(crate) fn start_in(
        shape: Shape,
        environment: impl Fn(usize) -> Vec<(String, String)>,
        flags: impl Fn(usize) -> Vec<String>,
    ) -> Cluster {
        let dials = shape.dials();
        let proxies = dials.into_iter().map(|dial| (dial, Proxy::start())).collect();
        let count = shape.node_count();
        let flags = (0..count).map(flags).collect();
        let environments = (0..count).map(environment).collect();
        let nodes = (0..count).map(|_| None).collect();
        let mut cluster = Cluster { shape, nodes, flags, environments, proxies };
        for index in 0..count {
            cluster.start_node(index);
        }
        cluster
    }

    /// Starts a node that is down, under its old name and with its old flags.
    pub(crate) fn start_node(&mut self, index: usize) {
        assert!(self.nodes[index].is_none(), "node {index} is up");
        let mut flags = vec!["--name".to_owned(), name(index), "--log".into(), "info".into()];
        for (_, proxy) in self.proxies.iter().filter(|((from, _), _)| *from == index) {
            flags.extend(["--peer".to_owned(), proxy.address().to_string()]);
        }
        flags.extend(self.flags[index].iter().cloned());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let node = TestNode::start_in(&self.environments[index], &flags);
        for (_, proxy) in self.proxies.iter().filter(|((_, to), _)| *to == index) {
            proxy.lead_to(node.peers());
        }
        self.nodes[index] = Some(node);
    }

    /// Kills a node as `kill -9` does. Its memory is gone.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].take().expect("the node is up");
    }

    /// Stops a node in an orderly way.
    pub(crate) fn stop(&mut self, index: usize) {
        let mut node = self.nodes[index].take().expect("the node is up");
        node.signal("TERM");
        assert!(node.wait().success(), "an orderly end");
    }

    /// A node that is up.
    pub(crate) fn node(&self, index: usize) -> &TestNode {
        self.nodes[index].as_ref().expect("the node is up")
    }

    /// Indices of the nodes that are up.
    pub(crate) fn up(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].is_some())
    }

    /// An open connection to a node's RESP port.
    pub(crate) fn client(&self, index: usize) -> RespClient {
        self.node(index).resp_client()
    }

    /// The reply of a node to one command, on a connection of its own.
    pub(crate) fn command(&self, index: usize, arguments: &[&str]) -> String {
        self.client(index).command(arguments)
    }

    /// What a node says of the cluster.
    pub(crate) fn view(&self, index: usize) -> Value {
        let node = self.node(index);
        node.http("GET", node.api, "/v1/cluster", b"").json()
    }

    /// The network over which `from` dials `to`.
    pub(crate) fn proxy(&self, from: usize, to: usize) -> &Proxy {
        &self.proxies[&(from, to)]
    }

    /// All of it between two nodes, whoever dials.
    pub(crate) fn between(&self, one: usize, other: usize) -> impl Iterator<Item = &Proxy> {
        [(one, other), (other, one)].into_iter().filter_map(|dial| self.proxies.get(&dial))
    }

    /// All of it.
    pub(crate) fn network(&self) -> impl Iterator<Item = &Proxy> {
        self.proxies.values()
    }

    /// Resets every connection between two nodes, and every new one.
    pub(crate) fn cut(&self, one: usize, other: usize) {
        self.between(one, other).for_each(Proxy::cut);
    }

    /// What `from` sends does not reach `to`, and neither is told.
    pub(crate) fn mute(&self, from: usize, to: usize) {
        if let Some(proxy) = self.proxies.get(&(from, to)) {
            proxy.hold(Toward::Target);
        }
        if let Some(proxy) = self.proxies.get(&(to, from)) {
            proxy.hold(Toward::Dialler);
        }
    }

    /// Cuts a node off from all others.
    pub(crate) fn isolate(&self, index: usize) {
        let touches = |(from, to): &(usize, usize)| *from == index || *to == index;
        self.proxies.iter().filter(|(dial, _)| touches(dial)).for_each(|(_, proxy)| proxy.cut());
    }

    /// Nothing is cut or muted any more.
    pub(crate) fn heal(&self) {
        self.network().for_each(Proxy::heal);
    }

    /// Nothing between two nodes is cut or muted any more.
    pub(crate) fn mend(&self, one: usize, other: usize) {
        self.between(one, other).for_each(Proxy::heal);
    }

    /// Everything between nodes arrives so much later.
    pub(crate) fn delay_ms(&self, delay_ms: u64) {
        self.network().for_each(|proxy| proxy.delay_ms(delay_ms));
    }

    /// What `from` sends to `to` arrives so much later.
    pub(crate) fn delay_from(&self, from: usize, to: usize, delay_ms: u64) {
        if let Some(proxy) = self.proxies.get(&(from, to)) {
            proxy.delay_toward(Toward::Target, delay_ms);
        }
        if let Some(proxy) = self.proxies.get(&(to, from)) {
            proxy.delay_toward(Toward::Dialler, delay_ms);
        }
    }

    /// Bytes that have passed between all nodes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.network().map(Proxy::bytes).sum()
    }

    /// Whether two nodes are linked, as both see it.
    pub(crate) fn is_linked(&self, one: usize, other: usize) -> bool {
        let sees = |from: usize, to: usize| {
            let view = self.view(from);
            let links = view["replication"]["links"].as_array().expect("links are listed");
            links.iter().any(|link| link["node"] == name(to))
        };
        sees(one, other) && sees(other, one)
    }

    /// Waits until every link between nodes that are up is up, and none is about to give way to
    /// another between the same two.
    #[track_caller]
    pub(crate) fn wait_linked(&self) {
        for (from, to) in self.shape.dials() {
            if self.nodes[from].is_some() && self.nodes[to].is_some() {
                let what = format!("{} has dialled {}", name(from), name(to));
                wait_until(&what, || self.has_dialled(from, to).then_some(()));
                let what = format!("{} and {} are linked", name(from), name(to));
                wait_until(&what, || self.is_linked(from, to).then_some(()));
            }
        }
    }

    /// Whether a node's dial has come to an end that it is content with: a link of its own, or one
    /// that was there before.
    pub(crate) fn has_dialled(&self, from: usize, to: usize) -> bool {
        let view = self.view(from);
        let peers = view["replication"]["peers"].as_array().expect("peers are listed");
        let endpoint = self.proxy(from, to).address().to_string();
        let dialled = peers.iter().find(|peer| peer["endpoint"] == *endpoint);
        // It may have been removed meanwhile.
        dialled.is_none_or(|peer| peer["state"] == "up")
    }

    /// Waits until two nodes are not linked any more, as both see it.
    #[track_caller]
    pub(crate) fn wait_unlinked(&self, one: usize, other: usize) {
        let sees = |from: usize, to: usize| {
            self.view(from)["replication"]["links"]
                .as_array()
                .is_some_and(|links| links.iter().any(|link| link["node"] == name(to)))
        };
        wait_until("the link is gone", || (!sees(one, other) && !sees(other, one)).then_some(()));
    }

    /// Waits until a node answers a command with `want`.
    #[track_caller]
    pub(crate) fn wait_for(&self, index: usize, arguments: &[&str], want: &str) {
        let mut client = self.client(index);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let got = client.command(arguments);
            if got == want {
                return;
            }
            let node = name(index);
            assert!(Instant::now() < deadline, "{node}: {arguments:?} is {got:?}, not {want:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What database `number` of a node holds.
    pub(crate) fn content(&self, index: usize, number: u8) -> Content {
        let mut client = self.client(index);
        assert_eq!(client.command(&["SELECT", &number.to_string()]), "+OK");
        let keys = client.list(&["KEYS", "*"]);
        let mut content = Content::new();
        for some in keys.chunks(500) {
            let some: Vec<&str> = some.iter().map(|key| &key[1..]).collect();
            let values = client.list(&[&["MGET"], &some[..]].concat());
            for key in &some {
                client.send_command(&["PEXPIRETIME", key]);
            }
            for (key, value) in some.iter().zip(values) {
                content.insert((*key).to_owned(), (value, client.reply()));
            }
        }
        content
    }

    /// What the API lists of database 0 of a node: each key with its stamp, its size, its times.
    pub(crate) fn listing(&self, index: usize) -> BTreeMap<String, Value> {
        let (node, mut listing) = (self.node(index), BTreeMap::new());
        let mut path = "/v1/kv/default".to_owned();
        loop {
            let page = node.http("GET", node.api, &path, b"").json();
            for key in page["keys"].as_array().expect("keys are listed") {
                let name = key["name"].as_str().expect("keys are text here");
                listing.insert(name.to_owned(), key.clone());
            }
            let Some(cursor) = page["cursor"].as_str() else { return listing };
            path = format!("/v1/kv/default?cursor={cursor}");
        }
    }

    /// The value of a metric of a node, by the beginning of its line.
    #[track_caller]
    pub(crate) fn metric(&self, index: usize, beginning: &str) -> f64 {
        let node = self.node(index);
        let answer = node.http("GET", node.api, "/metrics", b"");
        let line = answer.text().lines().find(|line| line.starts_with(beginning));
        let line = line.unwrap_or_else(|| panic!("no {beginning} in {}", answer.text()));
        let value = line.rsplit(' ').next().and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{line} has no number"))
    }

    /// Sum of a count of replication over all nodes, by its name in `/v1/cluster`.
    pub(crate) fn sum(&self, count: &str) -> u64 {
        let count_of = |index| self.view(index)["replication"]["counts"][count].as_u64();
        self.up().map(|index| count_of(index).expect("a count")).sum()
    }

    /// Waits until all nodes that are up hold the same in database 0, and returns it.
    #[track_caller]
    pub(crate) fn converge(&self) -> Content {
        self.converge_in(0)
    }

    /// The same for another database.
    #[track_caller]
    pub(crate) fn converge_in(&self, number: u8) -> Content {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let contents: Vec<_> =
                self.up().map(|index| (index, self.content(index, number))).collect();
            let Some((first, content)) = contents.first() else { return Content::new() };
            let odd = contents.iter().find(|(_, other)| other != content);
            let Some((index, other)) = odd else { return content.clone() };
            assert!(
                Instant::now() < deadline,
                "{} and {} differ: {}",
                name(*first),
                name(*index),
                difference(content, other)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A node's name: its index, behind a letter.
pub(crate) fn name(index: usize) -> String {
    format!("n{index}")
}

/// The first few keys in which two nodes differ.
pub(crate) fn difference<T: Debug + PartialEq>(
    one: &BTreeMap<String, T>,
    other: &BTreeMap<String, T>,
) -> String {
    let keys = one.keys().chain(other.keys());
    let odd = keys.filter(|key| one.get(*key) != other.get(*key));
    let shown = |key: &String| format!("{key}: {:?} and {:?}", one.get(key), other.get(key));
    odd.take(5).map(shown).collect::<Vec<_>>().join("; ")
}

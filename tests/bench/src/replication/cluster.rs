//! Clusters of real nodes on this machine.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::node::Node;
use super::proxy::Proxy;
use crate::server;

/// Longer than links take to come up on a busy machine.
const LINK_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Who dials whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A node that dials nobody, but could be dialled.
    Alone,
    /// Two that dial one another.
    Pair,
    /// Each dials the next.
    Ring(usize),
    /// Each dials all others.
    Mesh(usize),
}

/// What lies between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// Nothing.
    Direct,
    /// A proxy for each dial.
    Proxied,
}

/// What to start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'p> {
    pub(super) atoll: &'p Path,
    pub(super) shape: Shape,
    pub(super) network: Network,
    /// More flags for each node.
    pub(super) flags: &'p [&'p str],
}

/// Running nodes, linked.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    proxies: Vec<Proxy>,
}

impl Shape {
    pub(super) fn node_count(self) -> usize {
        match self {
            Shape::Alone => 1,
            Shape::Pair => 2,
            Shape::Ring(count) | Shape::Mesh(count) => count,
        }
    }

    /// Whom a node dials, by index.
    fn dials(self, from: usize) -> Vec<usize> {
        let count = self.node_count();
        match self {
            Shape::Ring(_) => vec![(from + 1) % count],
            Shape::Alone | Shape::Pair | Shape::Mesh(_) => {
                (0..count).filter(|to| *to != from).collect()
            }
        }
    }

    /// How many nodes each is linked with.
    fn neighbour_count(self) -> usize {
        match self {
            Shape::Ring(count) if count > 2 => 2,
            _ => self.node_count() - 1,
        }
    }

    /// Links between all of them: two nodes that dial one another have one.
    pub(super) fn link_count(self) -> usize {
        self.node_count() * self.neighbour_count() / 2
    }

    pub(super) fn name(self) -> String {
        match self {
            Shape::Alone => "alone".to_owned(),
            Shape::Pair => "pair".to_owned(),
            Shape::Ring(count) => format!("ring of {count}"),
            Shape::Mesh(count) => format!("mesh of {count}"),
        }
    }
}

impl Cluster {
    /// Starts all nodes and waits until every link is up.
    ///
    /// # Errors
    /// If a node does not start, or a link does not come up within 30 s.
    pub(super) fn start(plan: Plan<'_>) -> anyhow::Result<Cluster> {
        let count = plan.shape.node_count();
        let peers =
            (0..count).map(|_| server::free_address()).collect::<anyhow::Result<Vec<_>>>()?;
        let mut cluster = Cluster { nodes: Vec::new(), proxies: Vec::new() };
        for index in 0..count {
            let mut flags = vec!["--name".to_owned(), format!("n{index}")];
            flags.extend(["--peers-listen".to_owned(), peers[index].to_string()]);
            for to in plan.shape.dials(index) {
                let dialled = cluster.way_to(peers[to], plan.network)?;
                flags.extend(["--peer".to_owned(), dialled.to_string()]);
            }
            flags.extend(plan.flags.iter().map(|flag| (*flag).to_owned()));
            let (server, doors) = server::start_atoll_with(plan.atoll, &flags)?;
            cluster.nodes.push(Node { server, doors });
        }
        let deadline = Instant::now() + LINK_WAIT_MAX;
        for node in &cluster.nodes {
            while !is_linked(node, plan.shape)? {
                ensure!(Instant::now() < deadline, "not linked: {}", node.view()?);
                thread::sleep(POLL_EVERY);
            }
        }
        Ok(cluster)
    }

    fn way_to(&mut self, peer: SocketAddr, network: Network) -> anyhow::Result<SocketAddr> {
        if network == Network::Direct {
            return Ok(peer);
        }
        let proxy = Proxy::start(peer)?;
        let address = proxy.address();
        self.proxies.push(proxy);
        Ok(address)
    }

    /// Bytes that passed through the proxies so far.
    pub(super) fn bytes(&self) -> u64 {
        self.proxies.iter().map(Proxy::bytes).sum()
    }

    /// Cuts every link, until [`Cluster::heal`].
    pub(super) fn cut(&self) {
        self.proxies.iter().for_each(Proxy::cut);
    }

    /// Nothing is cut any more.
    pub(super) fn heal(&self) {
        self.proxies.iter().for_each(Proxy::heal);
    }

    /// Waits until every node holds all that any of them has written.
    ///
    /// # Errors
    /// If one does not within half a minute.
    pub(super) fn settle(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            node.connect()?.wait(self.nodes.len() - 1)?;
        }
        Ok(())
    }

    /// The sum of a metric over all nodes.
    pub(super) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        self.nodes.iter().map(|node| node.metric(name)).sum()
    }
}

/// Whether a node has all its links, and no dial of it is under way that would replace one.
fn is_linked(node: &Node, shape: Shape) -> anyhow::Result<bool> {
    let view = node.view()?;
    let replication = &view["replication"];
    let links = replication["links"].as_array().context("links are not listed")?;
    let peers = replication["peers"].as_array().context("peers are not listed")?;
    let is_quiet = links.iter().all(|link| link["state"] == "streaming")
        && peers.iter().all(|peer| peer["state"] == "up")
        && replication["readiness"] == "ready"
        && replication["floor_held"] == false;
    Ok(is_quiet && links.len() == shape.neighbour_count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shape: Shape, want: &[&[usize]], link_count: usize) {
        let dials: Vec<Vec<usize>> = (0..shape.node_count()).map(|at| shape.dials(at)).collect();
        assert_eq!(dials, want);
        assert_eq!(shape.link_count(), link_count);
    }

    #[test]
    fn nobody_dials_itself_and_a_ring_is_closed() {
        check(Shape::Alone, &[&[]], 0);
        check(Shape::Pair, &[&[1], &[0]], 1);
        check(Shape::Ring(3), &[&[1], &[2], &[0]], 3);
        check(Shape::Mesh(3), &[&[1, 2], &[0, 2], &[0, 1]], 3);
    }
}

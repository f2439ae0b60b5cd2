//! Other nodes, as a person wants to see them: what is wrong first, then each link, then everyone.

use super::answer::{Cluster, Link, Member, Peer, Replication};
use crate::cli::output::visible;
use crate::cli::paint::{Cell, Colours, Paint, Side, Table};
use crate::units::{bytes, duration};

/// From here on a clock's distance from the others' is said to be wrong, in ms.
const SKEW_SHOWN_MS: i64 = 500;
/// From here on what every member has lies back so far that it is said, in ms: deleted keys are
/// kept for as long.
const FLOOR_SHOWN_MS: u64 = 60_000;

/// Everything about other nodes.
pub(super) fn render(cluster: &Cluster, colours: Colours) -> String {
    let status = &cluster.replication;
    let missing: Vec<&Peer> = missing(status).collect();
    let mut parts = vec![headline(status, colours)];
    if !status.links.is_empty() {
        parts.push(links(&status.links, cluster.now_ms).text(colours));
    }
    if !missing.is_empty() {
        parts.push(unlinked(&missing, cluster.now_ms).text(colours));
    }
    if status.members.len() > 1 {
        parts.push(members(status).text(colours));
    }
    parts.join("\n")
}

/// The peers that should be linked and are not.
fn missing(status: &Replication) -> impl Iterator<Item = &Peer> {
    status.peers.iter().filter(|peer| !matches!(peer.state.as_str(), "up" | "itself"))
}

/// One line on how it stands, and one for each thing that somebody should see to.
fn headline(status: &Replication, colours: Colours) -> String {
    let mut text = format!("cluster  {}", status.role);
    if !status.cluster.is_empty() {
        text += &format!(" of {}", visible(&status.cluster));
    }
    if status.links.is_empty() && status.peers.is_empty() {
        text += ", linked with nobody; add a peer with --peer HOST:PORT\n";
    } else {
        let (reached, nodes) = (status.quorum.reached, status.quorum.nodes);
        text += &format!(", {reached} of {nodes} configured nodes reached, ");
        text += &format!("{} linked\n", status.links.len());
    }
    if let Some(audit) = &status.audit {
        let (age, node) = (duration(audit.age_ms / 1_000), visible(&audit.node));
        let found = match audit.divergent_keys {
            0 => "no key differs".to_owned(),
            keys => format!("{keys} keys differed"),
        };
        text += &format!("  compared with {node} {age} ago: {found}\n");
    }
    for trouble in troubles(status) {
        text += &Paint::Bad.on(&format!("  ! {trouble}"), colours);
        text.push('\n');
    }
    text
}

fn troubles(status: &Replication) -> Vec<String> {
    let mut troubles = Vec::new();
    if !status.quorum.has_quorum {
        troubles.push("fewer than half of the configured nodes are reached".to_owned());
    }
    if status.counts.divergence_total > 0 {
        let keys = status.counts.divergence_total;
        troubles
            .push(format!("{keys} keys differed between nodes where none may: please report it"));
    }
    if status.skew_ms.abs() >= SKEW_SHOWN_MS {
        let side = if status.skew_ms > 0 { "ahead of" } else { "behind" };
        let skew = status.skew_ms.unsigned_abs();
        troubles.push(format!("this node's clock is {skew} ms {side} the others': set it right"));
    }
    // One that has no peers waits a few seconds after its start for whoever may dial it: no trouble.
    if status.floor_held && !status.peers.is_empty() {
        let words = "a configured peer was never met: deleted keys are kept until it is";
        troubles.push(words.to_owned());
    } else if status.floor_age_ms >= FLOOR_SHOWN_MS {
        let age = duration(status.floor_age_ms / 1_000);
        troubles.push(format!("some member has received nothing for {age}: deleted keys are kept"));
    }
    for member in status.members.iter().filter(|member| member.readiness != "ready") {
        let (name, state) = (visible(&member.name), visible(&member.readiness));
        troubles.push(format!("{name} is {state}"));
    }
    troubles
}

fn links(links: &[Link], now_ms: u64) -> Table {
    let mut table = Table::new(&[
        ("link", Side::Left),
        ("address", Side::Left),
        ("state", Side::Left),
        ("lag", Side::Right),
        ("behind", Side::Right),
        ("round trip", Side::Right),
        ("clock", Side::Right),
        ("sent", Side::Right),
        ("received", Side::Right),
        ("up for", Side::Right),
    ]);
    for link in links {
        let replica = if link.role == "replica" { " (replica)" } else { "" };
        let state = match link.state.as_str() {
            "streaming" => Paint::Good,
            "paused-memory-full" => Paint::Bad,
            _ => Paint::Plain,
        };
        table.push(vec![
            Cell::new(format!("{}{replica}", link.node)),
            Cell::new(&link.address),
            Cell::new(&link.state).painted(state),
            Cell::new(format!("{} ms", link.lag_ms)),
            Cell::new(link.behind.to_string()),
            Cell::new(format!("{:.1} ms", link.rtt_us as f64 / 1_000.0)),
            Cell::new(format!("{:+} ms", link.skew_ms)),
            Cell::new(bytes(link.sent_bytes)),
            Cell::new(bytes(link.received_bytes)),
            Cell::new(since(link.since_ms, now_ms)),
        ]);
    }
    table
}

fn unlinked(peers: &[&Peer], now_ms: u64) -> Table {
    let mut table = Table::new(&[
        ("not linked", Side::Left),
        ("state", Side::Left),
        ("for", Side::Right),
        ("why", Side::Left),
    ]);
    for peer in peers {
        let name = if peer.target == peer.endpoint {
            peer.endpoint.clone()
        } else {
            format!("{} ({})", peer.endpoint, peer.target)
        };
        table.push(vec![
            Cell::new(name),
            Cell::new(&peer.state).painted(Paint::Bad),
            Cell::new(since(peer.since_ms, now_ms)),
            Cell::new(peer.reason.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

fn members(status: &Replication) -> Table {
    let mut table = Table::new(&[
        ("member", Side::Left),
        ("role", Side::Left),
        ("state", Side::Left),
        ("reached", Side::Left),
        ("lacks of ours", Side::Right),
        ("we lack", Side::Right),
        ("heard", Side::Right),
    ]);
    for member in &status.members {
        let Member { name, role, readiness, .. } = member;
        let name = if name.is_empty() { "?" } else { name };
        let paint = if readiness == "ready" { Paint::Good } else { Paint::Bad };
        let mut row = vec![Cell::new(name), Cell::new(role), Cell::new(readiness).painted(paint)];
        if member.is_self {
            row.push(Cell::new("this node").painted(Paint::Faint));
        } else {
            row.push(Cell::new(if member.linked { "directly" } else { "through others" }));
            row.push(Cell::new(status.seq.saturating_sub(member.holds_seq).to_string()));
            row.push(Cell::new(member.own_seq.saturating_sub(member.seq).to_string()));
            row.push(Cell::new(format!("{} ago", duration(member.silent_ms / 1_000))));
        }
        table.push(row);
    }
    table
}

fn since(since_ms: u64, now_ms: u64) -> String {
    match since_ms {
        0 => String::new(),
        _ => duration(now_ms.saturating_sub(since_ms) / 1_000),
    }
}

//! The part of the status page about other nodes: what is wrong, the links, who is known.

use super::{ANY_TEXT, escape};
use crate::api::cluster::replication::{LinkReport, MemberReport, PeerStatus, ReplicationStatus};
use crate::units::{bytes, duration};
use std::fmt::Write as _;

/// The section's content.
pub(super) fn render(status: &ReplicationStatus, now_ms: u64) -> String {
    let missing: Vec<&PeerStatus> =
        status.peers.iter().filter(|peer| !matches!(peer.state, "up" | "itself")).collect();
    let mut text = summary(status);
    if status.links.is_empty() && missing.is_empty() {
        text += "<p>Linked with nobody: give it peers with <code>--peer HOST:PORT</code>, or while \
                 it runs with <code>REPLICAOF</code> or <code>POST /v1/cluster/peers</code>.</p>\n";
    }
    if !missing.is_empty() {
        text += &unlinked(&missing, now_ms);
    }
    if !status.links.is_empty() {
        text += &links(&status.links, now_ms);
    }
    if status.members.len() > 1 {
        text += &members(status);
    }
    text
}

fn summary(status: &ReplicationStatus) -> String {
    let mut text = format!("<p>A {}", status.role);
    if !status.cluster.is_empty() {
        write!(text, " of the cluster {}", escape(&status.cluster)).expect(ANY_TEXT);
    }
    let quorum = &status.quorum;
    if quorum.nodes > 1 {
        let (class, word) =
            if quorum.has_quorum { ("good", "a majority") } else { ("bad", "no majority") };
        let (reached, nodes) = (quorum.reached, quorum.nodes);
        write!(text, "; {reached} of {nodes} nodes reached, <span class=\"{class}\">{word}</span>")
            .expect(ANY_TEXT);
    }
    text += ".";
    if status.counts.divergence_total > 0 {
        let keys = status.counts.divergence_total;
        write!(text, " <span class=\"bad\">{keys} keys differed where none may.</span>")
            .expect(ANY_TEXT);
    }
    if status.skew_ms.abs() >= SKEW_SHOWN_MS {
        let (skew, side) =
            (status.skew_ms.unsigned_abs(), if status.skew_ms > 0 { "ahead of" } else { "behind" });
        write!(text, " <span class=\"bad\">Its clock is {skew} ms {side} the others'.</span>")
            .expect(ANY_TEXT);
    }
    text + "</p>\n"
}

/// From here on a clock's distance from the others' is worth a sentence, in ms.
const SKEW_SHOWN_MS: i64 = 500;

fn unlinked(peers: &[&PeerStatus], now_ms: u64) -> String {
    let mut table =
        "<h3 class=\"bad\">Not linked</h3>\n<div class=\"wide\"><table>\n<tr><th>Peer</th>\
                     <th>State</th><th class=\"n\">For</th><th>Why</th></tr>\n"
            .to_owned();
    for peer in peers {
        let mut shown = escape(&peer.endpoint);
        if peer.target != peer.endpoint {
            write!(shown, " ({})", escape(&peer.target)).expect(ANY_TEXT);
        }
        let (state, since) = (peer.state, since(peer.since_ms, now_ms));
        let why = escape(peer.reason.as_deref().unwrap_or_default());
        writeln!(
            table,
            "<tr><td>{shown}</td><td>{state}</td><td class=\"n\">{since}</td><td>{why}</td></tr>"
        )
        .expect(ANY_TEXT);
    }
    table + "</table></div>\n"
}

fn links(links: &[LinkReport], now_ms: u64) -> String {
    let mut table = "<h3>Links</h3>\n<div class=\"wide\"><table>\n<tr><th>Node</th><th>Address</th>\
                     <th>State</th><th class=\"n\">Lag</th><th class=\"n\">Behind</th>\
                     <th class=\"n\">Round trip</th><th class=\"n\">Clock</th>\
                     <th class=\"n\">Sent</th><th class=\"n\">Received</th><th class=\"n\">Up for</th>\
                     </tr>\n"
        .to_owned();
    for link in links {
        let (node, address) = (escape(&link.node), escape(&link.address));
        let replica = if link.role == "replica" { " (replica)" } else { "" };
        let (state, lag, behind) = (link.state, link.lag_ms, link.behind);
        let (rtt, skew) = (link.rtt_us as f64 / 1_000.0, link.skew_ms);
        let (sent, received) = (bytes(link.sent_bytes), bytes(link.received_bytes));
        let since = since(link.since_ms, now_ms);
        writeln!(
            table,
            "<tr><td>{node}{replica}</td><td>{address}</td><td>{state}</td>\
             <td class=\"n\">{lag} ms</td><td class=\"n\">{behind}</td>\
             <td class=\"n\">{rtt:.1} ms</td><td class=\"n\">{skew:+} ms</td>\
             <td class=\"n\">{sent}</td><td class=\"n\">{received}</td><td class=\"n\">{since}</td>\
             </tr>"
        )
        .expect(ANY_TEXT);
    }
    table + "</table></div>\n"
}

fn members(status: &ReplicationStatus) -> String {
    let mut table = "<h3>Members</h3>\n<div class=\"wide\"><table>\n<tr><th>Node</th><th>Role</th>\
                     <th>State</th><th>Link</th><th class=\"n\">Lacks of ours</th>\
                     <th class=\"n\">We lack of its</th><th class=\"n\">Heard</th></tr>\n"
        .to_owned();
    for member in &status.members {
        let MemberReport { role, readiness, linked, silent_ms, .. } = member;
        let name = if member.name.is_empty() { "?".to_owned() } else { escape(&member.name) };
        let link = if *linked { "direct" } else { "through others" };
        let lacks = status.seq.saturating_sub(member.holds_seq);
        let lacked = member.own_seq.saturating_sub(member.seq);
        let class = if *readiness == "ready" { "good" } else { "bad" };
        if member.is_self {
            writeln!(
                table,
                "<tr><td>{name}</td><td>{role}</td><td class=\"{class}\">{readiness}</td>\
                 <td>this node</td><td></td><td></td><td></td></tr>"
            )
            .expect(ANY_TEXT);
            continue;
        }
        let heard = silent_ms / 1_000;
        writeln!(
            table,
            "<tr><td>{name}</td><td>{role}</td><td class=\"{class}\">{readiness}</td>\
             <td>{link}</td><td class=\"n\">{lacks}</td><td class=\"n\">{lacked}</td>\
             <td class=\"n\">{heard} s ago</td></tr>"
        )
        .expect(ANY_TEXT);
    }
    table + "</table></div>\n"
}

/// How long something has lasted.
fn since(since_ms: u64, now_ms: u64) -> String {
    if since_ms == 0 {
        return String::new();
    }
    duration(now_ms.saturating_sub(since_ms) / 1_000)
}

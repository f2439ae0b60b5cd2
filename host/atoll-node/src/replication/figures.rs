//! What replication looks like in figures, read at each scrape.

use super::Replication;
use crate::node::Node;
use atoll_core::replica::status::{LinkState, LinkStatus, Readiness, Role, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Weak;

/// Figures of a node's replication for as long as the node lives.
#[derive(Debug)]
pub(crate) struct Figures {
    node: Weak<Node>,
}

impl Figures {
    pub(crate) fn new(node: Weak<Node>) -> Figures {
        Figures { node }
    }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(node) = self.node.upgrade() else { return Ok(()) };
        let (replication, status) = (node.replication(), node.replication().status());
        let mut sheet = Sheet { encoder };
        state(&mut sheet, replication, &status)?;
        sheet.counter("ops_written", "Changes made on this node", node.store().seq())?;
        for (name, help, value) in counts(&status) {
            sheet.counter(name, help, value)?;
        }
        links(&mut sheet, &status)?;
        peers(&mut sheet, replication)?;
        messages(&mut sheet, replication)
    }
}

/// Writes one figure after the other.
struct Sheet<'e> {
    encoder: DescriptorEncoder<'e>,
}

/// One label and its value.
type Label<'l> = (&'static str, &'l str);

impl Sheet<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        let help = format!("{help}.");
        gauge.encode(self.encoder.encode_descriptor(name, &help, None, gauge.metric_type())?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        let help = format!("{help}.");
        counter.encode(self.encoder.encode_descriptor(name, &help, None, counter.metric_type())?)
    }

    fn gauges<'l>(
        &mut self,
        (name, help): (&str, &str),
        rows: impl Iterator<Item = (Label<'l>, f64)>,
    ) -> fmt::Result {
        let (kind, help) = (ConstGauge::new(0.0).metric_type(), format!("{help}."));
        let mut family = self.encoder.encode_descriptor(name, &help, None, kind)?;
        for (label, value) in rows {
            ConstGauge::new(value).encode(family.encode_family(&[label])?)?;
        }
        Ok(())
    }

    fn counters<'l>(
        &mut self,
        (name, help): (&str, &str),
        rows: impl Iterator<Item = (Label<'l>, u64)>,
    ) -> fmt::Result {
        let (kind, help) = (ConstCounter::new(0_u64).metric_type(), format!("{help}."));
        let mut family = self.encoder.encode_descriptor(name, &help, None, kind)?;
        for (label, value) in rows {
            ConstCounter::new(value).encode(family.encode_family(&[label])?)?;
        }
        Ok(())
    }
}

/// The states that a node can be in; one of them is 1.
const STATES: [Readiness; 5] = [
    Readiness::Ready,
    Readiness::Joining,
    Readiness::Stale,
    Readiness::Skewed,
    Readiness::Superseded,
];

fn seconds(millis: f64) -> f64 {
    millis / 1_000.0
}

fn state(sheet: &mut Sheet<'_>, replication: &Replication, status: &Status) -> fmt::Result {
    let is = |yes: bool| i64::from(yes);
    let peers = replication.peers().links();
    sheet.gauges(
        ("readiness", "1 for the state that the node is in"),
        STATES.iter().map(|state| {
            (("state", state.as_str()), f64::from(u8::from(*state == status.readiness)))
        }),
    )?;
    sheet.gauge("replica", "Whether the node only follows", is(status.role == Role::Replica))?;
    sheet.gauge(
        "members",
        "Processes of the cluster, this one included",
        status.members.len() as i64,
    )?;
    sheet.gauge("links", "Links that are up", status.links.len() as i64)?;
    sheet.gauge("peers", "Nodes that this one should be linked with", peers.configured as i64)?;
    sheet.gauge("peers_up", "Those of them that it is linked with", peers.up as i64)?;
    sheet.gauge(
        "quorum",
        "Whether this node and those it reaches are a majority",
        is(peers.has_quorum()),
    )?;
    let floor_age = seconds(status.floor_age_ms as f64);
    sheet.gauge("floor_age_seconds", "Age of what every member is known to have", floor_age)?;
    sheet.gauge(
        "floor_held",
        "Whether the floor waits for a peer that was never met",
        is(status.holds),
    )?;
    let skew = seconds(status.skew_ms as f64);
    sheet.gauge("clock_skew_seconds", "How far this clock is ahead of the others' median", skew)?;
    sheet.gauge(
        "replication_log_bytes",
        "Memory of changes kept for links",
        status.log_bytes as i64,
    )?;
    if let Some(audit) = &status.audit {
        let help = "Keys that differed in the last comparison with a neighbour";
        sheet.gauge("divergent_keys", help, audit.divergent_keys as i64)?;
        let help = "Time since the last comparison with a neighbour";
        sheet.gauge("audit_age_seconds", help, seconds(audit.age_ms as f64))?;
    }
    let waiters = replication.progress().waiter_count() as i64;
    sheet.gauge("waiters", "Clients that wait for other nodes to hold a write", waiters)
}

/// Sums by name and help.
fn counts(status: &Status) -> [(&'static str, &'static str, u64); 14] {
    let counts = &status.counts;
    [
        ("ops_received", "Changes of others applied", counts.ops_received),
        ("ops_duplicate", "Changes of others received again", counts.ops_duplicate),
        ("ops_sent", "Changes sent, once for each link", counts.ops_sent),
        ("syncs_received", "Comparisons received to the end", counts.syncs_received),
        ("syncs_stale", "Those after which forgotten keys were dropped", counts.syncs_stale),
        ("syncs_sent", "Comparisons served to the end", counts.syncs_sent),
        ("syncs_broken", "Comparisons broken off by a lost link", counts.syncs_broken),
        ("sync_entries_sent", "Entries sent in comparisons", counts.entries_sent),
        ("sync_entries_received", "Entries received in comparisons", counts.entries_received),
        ("late_adopted", "Values from beyond the horizon, written anew", counts.late_adopted),
        ("skew_refused", "Changes refused because of a clock", counts.skew_refused),
        ("audits", "Comparisons with a neighbour made to the end", counts.audits),
        ("divergence", "Keys that differed where they must not: a bug", counts.divergence_total),
        ("links_refused", "Links refused because of who asked", counts.links_refused),
    ]
}

/// A figure of each link: name, help, and where it is.
type OfLink<T> = (&'static str, &'static str, fn(&LinkStatus) -> T);

const LINK_GAUGES: [OfLink<f64>; 8] = [
    ("link_lag_seconds", "Age of the oldest change of this node that the peer lacks", |link| {
        seconds(link.lag_ms as f64)
    }),
    ("link_behind_ops", "Changes that the peer has not acknowledged", |link| link.behind as f64),
    ("link_silent_seconds", "Time since the peer was heard", |link| seconds(link.silent_ms as f64)),
    ("link_round_trip_seconds", "Time to the peer and back", |link| {
        link.rtt_us as f64 / 1_000_000.0
    }),
    ("link_clock_skew_seconds", "How far the peer's clock is ahead of this one", |link| {
        seconds(link.skew_ms as f64)
    }),
    ("link_sending_sync", "Whether the peer is sent what it lacks", |link| {
        f64::from(u8::from(link.state == LinkState::Sending))
    }),
    ("link_receiving_sync", "Whether the peer sends what this node lacks", |link| {
        f64::from(u8::from(link.state == LinkState::Receiving))
    }),
    ("link_paused", "Whether what the peer sends waits for room in this node's memory", |link| {
        f64::from(u8::from(link.state == LinkState::Full))
    }),
];

const LINK_COUNTERS: [OfLink<u64>; 2] = [
    ("link_sent_bytes", "Bytes sent over the link since it is up", |link| link.sent_bytes),
    ("link_received_bytes", "Bytes received over the link since it is up", |link| {
        link.received_bytes
    }),
];

fn links(sheet: &mut Sheet<'_>, status: &Status) -> fmt::Result {
    // A name without a row is no figure.
    if status.links.is_empty() {
        return Ok(());
    }
    for (name, help, pick) in LINK_GAUGES {
        let rows = status.links.iter().map(|link| (("peer", link.name.as_str()), pick(link)));
        sheet.gauges((name, help), rows)?;
    }
    for (name, help, pick) in LINK_COUNTERS {
        let rows = status.links.iter().map(|link| (("peer", link.name.as_str()), pick(link)));
        sheet.counters((name, help), rows)?;
    }
    Ok(())
}

fn peers(sheet: &mut Sheet<'_>, replication: &Replication) -> fmt::Result {
    let peers = replication.peers().all();
    if peers.is_empty() {
        return Ok(());
    }
    let rows: Vec<(String, f64)> = peers
        .iter()
        .map(|peer| {
            let up = peer.dials.iter().filter(|dial| dial.is_up()).count();
            (peer.endpoint.to_string(), up as f64)
        })
        .collect();
    let rows = rows.iter().map(|(endpoint, up)| (("endpoint", endpoint.as_str()), *up));
    sheet.gauges(("peer_links", "Links with the nodes behind a configured peer"), rows)
}

fn messages(sheet: &mut Sheet<'_>, replication: &Replication) -> fmt::Result {
    let (counts, names) = (replication.messages().counts(), replication.messages().name_counts());
    sheet.gauge("subscribers", "Connections that listen to messages", counts.listeners as i64)?;
    sheet.gauge("channels", "Channels that somebody listens to", names.channels as i64)?;
    sheet.gauge("channel_patterns", "Patterns that somebody listens to", names.patterns as i64)?;
    let queued = counts.queued_bytes as i64;
    sheet.gauge("message_queue_bytes", "Messages that wait for their subscribers", queued)?;
    sheet.counter("messages_delivered", "Messages handed to a subscription", counts.delivered)?;
    sheet.counter("subscribers_cut_off", "Subscribers that were too slow", counts.cut_off)
}

//! Replication as `/v1/cluster` shows it: this node's links, its peers, and whom it knows of.

use crate::node::Node;
use crate::replication::peers::{Dial, Peer};
use atoll_core::permission::Links;
use atoll_core::replica::status::{AuditStatus, Counts, LinkStatus, MemberStatus, Status};
use serde::Serialize;
use uuid::Uuid;

/// All of it.
#[derive(Debug, Serialize)]
pub(in crate::api) struct ReplicationStatus {
    /// Name of the cluster.
    pub(in crate::api) cluster: String,
    /// `master` or `replica`.
    pub(in crate::api) role: &'static str,
    /// `ready`, or why the node should not be sent requests.
    pub(in crate::api) readiness: &'static str,
    /// Number of this process's latest write.
    pub(in crate::api) seq: u64,
    /// Up to here every member has everything, in ms since the epoch.
    floor_ms: u64,
    pub(in crate::api) floor_age_ms: u64,
    /// Whether the floor stands still until a configured peer was met.
    pub(in crate::api) floor_held: bool,
    /// How far this node's clock is ahead of the others'.
    pub(in crate::api) skew_ms: i64,
    log_bytes: usize,
    pub(in crate::api) quorum: QuorumStatus,
    pub(in crate::api) peers: Vec<PeerStatus>,
    pub(in crate::api) links: Vec<LinkReport>,
    pub(in crate::api) members: Vec<MemberReport>,
    /// What the last comparison with a neighbour found; `null` before the first.
    pub(in crate::api) audit: Option<AuditReport>,
    pub(in crate::api) counts: Counts,
}

/// A comparison of this node's keys with a neighbour's.
#[derive(Debug, Serialize)]
pub(in crate::api) struct AuditReport {
    pub(in crate::api) age_ms: u64,
    /// The neighbour.
    pub(in crate::api) node: String,
    /// Keys that differed although they must not; they were made equal.
    pub(in crate::api) divergent_keys: u64,
    /// Whether there was more to compare than one comparison does.
    is_partial: bool,
    /// A few of those keys.
    sample: Vec<KeyReport>,
}

/// Where a key is; bytes that are no text are replaced.
#[derive(Debug, Serialize)]
struct KeyReport {
    bucket: String,
    key: String,
}

/// How many of the configured nodes are there, this one included.
#[derive(Debug, Serialize)]
pub(in crate::api) struct QuorumStatus {
    pub(in crate::api) nodes: usize,
    pub(in crate::api) reached: usize,
    /// Whether that is a majority.
    pub(in crate::api) has_quorum: bool,
    /// `yes`, or `no` where reads are refused without a quorum.
    serve_stale: &'static str,
}

/// One address that this node dials.
#[derive(Debug, Serialize)]
pub(in crate::api) struct PeerStatus {
    /// As it was configured.
    pub(in crate::api) endpoint: String,
    /// What is dialled for it: one of its addresses.
    pub(in crate::api) target: String,
    /// `connecting`, `up`, `itself`, `refused` or `failed`.
    pub(in crate::api) state: &'static str,
    /// Why there is no link.
    pub(in crate::api) reason: Option<String>,
    /// The node that answered last.
    pub(in crate::api) node: Option<String>,
    /// Since when it stands so, in ms since the epoch; 0 before the first attempt.
    pub(in crate::api) since_ms: u64,
}

/// A link that is up.
#[derive(Debug, Serialize)]
pub(in crate::api) struct LinkReport {
    /// Name of the node at the other end.
    pub(in crate::api) node: String,
    origin: Uuid,
    pub(in crate::api) role: &'static str,
    endpoint: Option<String>,
    pub(in crate::api) address: String,
    pub(in crate::api) since_ms: u64,
    /// `streaming`, `sending-sync`, `receiving-sync` or `paused-memory-full`.
    pub(in crate::api) state: &'static str,
    pub(in crate::api) lag_ms: u64,
    pub(in crate::api) behind: u64,
    pub(in crate::api) silent_ms: u64,
    pub(in crate::api) rtt_us: u64,
    pub(in crate::api) skew_ms: i64,
    pub(in crate::api) sent_bytes: u64,
    pub(in crate::api) received_bytes: u64,
}

/// A process of the cluster, this one included.
#[derive(Debug, Serialize)]
pub(in crate::api) struct MemberReport {
    pub(in crate::api) name: String,
    origin: Uuid,
    /// Whether it is the one that answers.
    pub(in crate::api) is_self: bool,
    pub(in crate::api) role: &'static str,
    /// Up to which of its writes this node holds all.
    pub(in crate::api) seq: u64,
    /// Its latest write, by its last report.
    pub(in crate::api) own_seq: u64,
    /// Up to which of this node's writes it holds all, by its last report.
    pub(in crate::api) holds_seq: u64,
    pub(in crate::api) linked: bool,
    pub(in crate::api) silent_ms: u64,
    pub(in crate::api) readiness: &'static str,
}

impl ReplicationStatus {
    /// What the node knows now.
    pub(in crate::api) fn of(node: &Node) -> ReplicationStatus {
        let replication = node.replication();
        let status = replication.status();
        let Status { floor, floor_age_ms, skew_ms, log_bytes, .. } = *status;
        let links = replication.peers().links();
        let Links { configured, up } = links;
        let own = node.store().origin();
        let members = status.members.iter().map(|member| MemberReport::of(member, own));
        ReplicationStatus {
            cluster: status.cluster.clone(),
            role: replication.role().as_str(),
            readiness: status.readiness.as_str(),
            // Younger than the status.
            seq: node.store().seq(),
            floor_ms: floor.millis(),
            floor_age_ms,
            floor_held: status.holds,
            skew_ms,
            log_bytes,
            quorum: QuorumStatus {
                nodes: configured + 1,
                reached: up + 1,
                has_quorum: links.has_quorum(),
                serve_stale: replication.stale_reads().as_str(),
            },
            peers: peers(node),
            links: status.links.iter().map(LinkReport::from).collect(),
            members: members.collect(),
            audit: status.audit.as_ref().map(AuditReport::from),
            counts: status.counts,
        }
    }
}

/// Every address that the node dials, by endpoint in the order of configuration.
pub(in crate::api) fn peers(node: &Node) -> Vec<PeerStatus> {
    let peers = node.replication().peers().all();
    let dials = peers.iter().flat_map(|peer| peer.dials.iter().map(move |dial| (peer, dial)));
    dials.map(PeerStatus::from).collect()
}

impl From<(&Peer, &Dial)> for PeerStatus {
    fn from((peer, dial): (&Peer, &Dial)) -> PeerStatus {
        PeerStatus {
            endpoint: peer.endpoint.to_string(),
            target: dial.target.clone(),
            state: dial.state.as_str(),
            reason: dial.state.reason().map(str::to_owned),
            node: dial.node.clone(),
            since_ms: dial.since_ms,
        }
    }
}

impl From<&AuditStatus> for AuditReport {
    fn from(audit: &AuditStatus) -> AuditReport {
        let sample = audit.sample.iter().map(|(bucket, key)| KeyReport {
            bucket: bucket.as_str().to_owned(),
            key: String::from_utf8_lossy(key).into_owned(),
        });
        AuditReport {
            age_ms: audit.age_ms,
            node: audit.peer.clone(),
            divergent_keys: audit.divergent_keys,
            is_partial: audit.is_partial,
            sample: sample.collect(),
        }
    }
}

impl From<&LinkStatus> for LinkReport {
    fn from(link: &LinkStatus) -> LinkReport {
        LinkReport {
            node: link.name.clone(),
            origin: link.origin,
            role: link.role.as_str(),
            endpoint: link.endpoint.clone(),
            address: link.address.clone(),
            since_ms: link.since_ms,
            state: link.state.as_str(),
            lag_ms: link.lag_ms,
            behind: link.behind,
            silent_ms: link.silent_ms,
            rtt_us: link.rtt_us,
            skew_ms: link.skew_ms,
            sent_bytes: link.sent_bytes,
            received_bytes: link.received_bytes,
        }
    }
}

impl MemberReport {
    fn of(member: &MemberStatus, own: Uuid) -> MemberReport {
        MemberReport {
            name: member.name.clone(),
            origin: member.origin,
            is_self: member.origin == own,
            role: member.role.as_str(),
            seq: member.seq,
            own_seq: member.own_seq,
            holds_seq: member.holds_seq,
            linked: member.linked,
            silent_ms: member.silent_ms,
            readiness: member.readiness.as_str(),
        }
    }
}

//! The answer of `/v1/cluster`, as far as it is shown.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Cluster {
    /// The node's own clock: what `since` is counted from.
    pub(super) now_ms: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) replication: Replication,
}

#[derive(Debug, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) origin: String,
    pub(super) version: String,
    pub(super) uptime_s: u64,
    pub(super) unready: Option<String>,
    pub(super) addresses: Addresses,
    pub(super) memory: Memory,
    pub(super) disk: Option<Disk>,
    pub(super) buckets: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Addresses {
    pub(super) gateway: Option<String>,
    pub(super) api: Option<String>,
    pub(super) resp: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Memory {
    pub(super) used_bytes: u64,
    pub(super) max_bytes: u64,
    pub(super) log_bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Disk {
    pub(super) directory: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) fsync: String,
    pub(super) on_error: String,
    pub(super) used_bytes: u64,
    pub(super) free_bytes: Option<u64>,
    pub(super) loaded_percent: u64,
    pub(super) damaged_records: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) keys: u64,
    pub(super) volatile_keys: u64,
    pub(super) used_bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Replication {
    pub(super) cluster: String,
    pub(super) role: String,
    pub(super) seq: u64,
    pub(super) floor_age_ms: u64,
    pub(super) floor_held: bool,
    pub(super) skew_ms: i64,
    pub(super) quorum: Quorum,
    pub(super) peers: Vec<Peer>,
    pub(super) links: Vec<Link>,
    pub(super) members: Vec<Member>,
    pub(super) audit: Option<Audit>,
    pub(super) counts: Counts,
}

#[derive(Debug, Deserialize)]
pub(super) struct Quorum {
    pub(super) nodes: u64,
    pub(super) reached: u64,
    pub(super) has_quorum: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Peer {
    pub(super) endpoint: String,
    pub(super) target: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) since_ms: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Link {
    pub(super) node: String,
    pub(super) role: String,
    pub(super) address: String,
    pub(super) since_ms: u64,
    pub(super) state: String,
    pub(super) lag_ms: u64,
    pub(super) behind: u64,
    pub(super) rtt_us: u64,
    pub(super) skew_ms: i64,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) is_self: bool,
    pub(super) role: String,
    pub(super) seq: u64,
    pub(super) own_seq: u64,
    pub(super) holds_seq: u64,
    pub(super) linked: bool,
    pub(super) silent_ms: u64,
    pub(super) readiness: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Audit {
    pub(super) age_ms: u64,
    pub(super) node: String,
    pub(super) divergent_keys: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Counts {
    pub(super) divergence_total: u64,
}

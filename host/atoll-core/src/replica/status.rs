//! What replication looks like at one moment: for INFO, `/v1/cluster`, `atoll status`, metrics.
//!
//! Plain data, owned: made under the machine's lock, read without it.

use crate::clock::Hlc;
use crate::key::BucketName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whether a node takes writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Takes reads and writes, and counts in the cluster's floor.
    #[default]
    Master,
    /// Follows masters or other replicas; takes reads only.
    Replica,
}

impl Role {
    /// Whether a node of this role passes on what others wrote to one of role `to`. A master takes
    /// nothing from a replica: nobody waits for replicas before something is forgotten, so what
    /// only they have left may contradict what the masters have agreed on.
    pub fn feeds(self, to: Role) -> bool {
        self == Role::Master || to == Role::Replica
    }

    /// The word for it: `master` or `replica`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Replica => "replica",
        }
    }
}

/// Why a node should not be sent requests, or why it refuses writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// Serves everything.
    #[default]
    Ready,
    /// Has not yet received the cluster's state for the first time.
    Joining,
    /// Was away for so long that it must first drop what the cluster has forgotten.
    Stale,
    /// Its clock is further from the others' than `--max-skew-ms`: writes are refused.
    Skewed,
    /// A newer process carries its name: writes are refused.
    Superseded,
}

impl Readiness {
    /// The word for it, as in `/v1/cluster`.
    pub fn as_str(self) -> &'static str {
        match self {
            Readiness::Ready => "ready",
            Readiness::Joining => "joining",
            Readiness::Stale => "stale",
            Readiness::Skewed => "skewed",
            Readiness::Superseded => "superseded",
        }
    }

    /// Whether writes must be refused.
    pub fn refuses_writes(self) -> bool {
        matches!(self, Readiness::Skewed | Readiness::Superseded)
    }
}

/// Replication as this node sees it.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Stable name of this node.
    pub name: String,
    /// Name of the cluster.
    pub cluster: String,
    /// This process.
    pub origin: Uuid,
    /// Whether this node takes writes.
    pub role: Role,
    /// Whether this node should be sent requests.
    pub readiness: Readiness,
    /// Number of this process's latest op.
    pub seq: u64,
    /// Up to here every member has everything.
    pub floor: Hlc,
    /// How far the floor lies behind the present, in ms.
    pub floor_age_ms: u64,
    /// Whether the floor is frozen because this node has yet to meet a configured peer.
    pub holds: bool,
    /// How far this node's clock is ahead of the others' (their median), in ms.
    pub skew_ms: i64,
    /// Bytes of ops kept for links.
    pub log_bytes: usize,
    /// Links that are up, by name of the node at the other end.
    pub links: Vec<LinkStatus>,
    /// Every process of the cluster that this node knows of and that is not gone, itself included,
    /// by name.
    pub members: Vec<MemberStatus>,
    /// What the last comparison with a neighbour found; `None` before the first.
    pub audit: Option<AuditStatus>,
    /// Sums since the start.
    pub counts: Counts,
}

/// What a comparison of this node's store with a neighbour's found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditStatus {
    /// Milliseconds since it ended.
    pub age_ms: u64,
    /// Name of the neighbour.
    pub peer: String,
    /// Keys in which the two differed, 0 unless there is a bug. They were made equal, so the next
    /// comparison should find none.
    pub divergent_keys: u64,
    /// Whether more seemed to differ than one comparison looks at: the next one goes on. Under a
    /// heavy load of writes that is nothing to worry about.
    pub is_partial: bool,
    /// A few of those keys, by bucket.
    pub sample: Vec<(BucketName, Box<[u8]>)>,
}

/// One link that is up.
#[derive(Clone, Debug, Default)]
pub struct LinkStatus {
    /// Name of the node at the other end.
    pub name: String,
    /// The process there.
    pub origin: Uuid,
    /// Whether it takes writes.
    pub role: Role,
    /// The configured peer that this node dialled, if it did.
    pub endpoint: Option<String>,
    /// Address at the other end, for people.
    pub address: String,
    /// Since when the link is up, ms since the epoch.
    pub since_ms: u64,
    /// What passes over it beside live ops.
    pub state: LinkState,
    /// Age of the oldest op of this process that the peer has not acknowledged, in ms; 0 where it
    /// has all. Where it lacks more than is kept for links, at the least.
    pub lag_ms: u64,
    /// Ops of any origin that this node holds and the peer has not acknowledged.
    pub behind: u64,
    /// Milliseconds since the peer was last heard.
    pub silent_ms: u64,
    /// Round trip, in microseconds.
    pub rtt_us: u64,
    /// The shortest of the last few, in microseconds: what the way takes when nothing is busy.
    pub rtt_lowest_us: Option<u64>,
    /// How far the peer's clock is ahead of ours, in ms.
    pub skew_ms: i64,
    /// Bytes of frames sent and received, before any compression or encryption.
    pub sent_bytes: u64,
    /// See `sent_bytes`.
    pub received_bytes: u64,
}

/// What passes over a link beside live ops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing.
    #[default]
    Streaming,
    /// The peer receives what its version vector lacks.
    Sending,
    /// This node receives what its own lacks.
    Receiving,
    /// What the peer sends waits until this node has room for it.
    Full,
}

impl LinkState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            LinkState::Streaming => "streaming",
            LinkState::Sending => "sending-sync",
            LinkState::Receiving => "receiving-sync",
            LinkState::Full => "paused-memory-full",
        }
    }
}

/// One process of the cluster.
#[derive(Clone, Debug, Default)]
pub struct MemberStatus {
    /// Its stable name; empty where only its id is known.
    pub name: String,
    /// The process.
    pub origin: Uuid,
    /// Whether it takes writes.
    pub role: Role,
    /// Number of its latest op that this node holds.
    pub seq: u64,
    /// Its own latest op by its last report.
    pub own_seq: u64,
    /// Number of this node's latest op that it holds, by its last report or acknowledgement.
    pub holds_seq: u64,
    /// Whether a link of this node leads there.
    pub linked: bool,
    /// Milliseconds since its last report; 0 for this node itself.
    pub silent_ms: u64,
    /// Whether it said that it should be sent requests.
    pub readiness: Readiness,
}

/// Sums since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Ops of others applied.
    pub ops_received: u64,
    /// Ops of others that had been applied before.
    pub ops_duplicate: u64,
    /// Ops sent, counted once for each link.
    pub ops_sent: u64,
    /// Syncs received to the end.
    pub syncs_received: u64,
    /// Those of them after which forgotten state was dropped.
    pub syncs_stale: u64,
    /// Syncs served to the end.
    pub syncs_sent: u64,
    /// Syncs that a lost link broke off.
    pub syncs_broken: u64,
    /// Entries sent in syncs.
    pub entries_sent: u64,
    /// Entries received in syncs.
    pub entries_received: u64,
    /// Values from beyond the horizon that were written anew.
    pub late_adopted: u64,
    /// Ops or entries refused because of their stamp's distance from the clock.
    pub skew_refused: u64,
    /// Comparisons with a neighbour that this node made to the end.
    pub audits: u64,
    /// Keys in which this node and a neighbour differed although they must not.
    pub divergence_total: u64,
    /// Links refused because of who was at the other end.
    pub links_refused: u64,
}

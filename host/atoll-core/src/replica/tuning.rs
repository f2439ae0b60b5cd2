//! Times, sizes and rules of replication.

/// Times and sizes. The defaults suit production; the simulator shrinks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Bytes of ops kept for links, own and others'.
    pub log_bytes_max: usize,
    /// Ops that are stamped further than this ahead of the clock wait, in ms.
    pub max_skew_ms: u64,
    /// The floor stays at least this far behind the clock, in ms.
    pub min_age_ms: u64,
    /// A report is sent at least this often, in ms.
    pub report_ms: u64,
    /// Reports are at least this far apart, in ms.
    pub report_gap_ms: u64,
    /// An origin that nobody has heard of for so long is gone, in ms.
    pub horizon_ms: u64,
    /// A link on which nothing was heard for so long is closed, in ms.
    pub silence_ms: u64,
    /// How often a link is measured, in ms.
    pub ping_ms: u64,
    /// How long a neighbour may have more of an origin before this node asks for it, in ms.
    pub graft_ms: u64,
    /// How long ops that came too early by the clock wait before they are sent again, in ms.
    pub nack_ms: u64,
    /// How long a starting node waits for its configured peers before it is ready, in ms.
    pub start_grace_ms: u64,
    /// Bytes of live ops under way on a link.
    pub live_window_bytes: u64,
    /// Bytes of syncs and large values under way on a link.
    pub bulk_window_bytes: u64,
    /// Bytes of entries in a chunk.
    pub chunk_bytes: usize,
    /// About how often a store is compared with a neighbour's, in ms.
    pub audit_ms: u64,
    /// How long after a sync, or after a comparison that came to nothing, the next begins, in ms.
    pub audit_retry_ms: u64,
    /// A comparison that takes longer is given up, in ms. What expires within that time is not
    /// compared.
    pub audit_patience_ms: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            log_bytes_max: 64 << 20,
            max_skew_ms: 2_000,
            min_age_ms: 5_000,
            report_ms: 1_000,
            report_gap_ms: 200,
            horizon_ms: 24 * 3_600 * 1_000,
            silence_ms: 10_000,
            ping_ms: 1_000,
            graft_ms: 50,
            nack_ms: 1_000,
            start_grace_ms: 5_000,
            live_window_bytes: crate::limits::LINK_WINDOW_BYTES,
            bulk_window_bytes: crate::limits::BULK_WINDOW_BYTES,
            chunk_bytes: crate::limits::CHUNK_BYTES,
            audit_ms: 10 * 60 * 1_000,
            audit_retry_ms: 10_000,
            audit_patience_ms: 5 * 60 * 1_000,
        }
    }
}

/// The protective rules. Each can be switched off in a test, which must then fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What is dead is dropped by proof that everyone has it, not by age.
    pub proof: bool,
    /// It waits until what was written before its author knew has arrived, too.
    pub second_order: bool,
    /// Parts of entries that the own vector covers are not merged.
    pub receiver: bool,
    /// A node that may have missed what others forgot drops what they do not list.
    pub stale: bool,
    /// While it does so, or has yet to hear whether it must, it takes nothing from elsewhere.
    pub exclusive: bool,
    /// A node that has not met its configured peers holds the floor.
    pub hold: bool,
    /// Effects that no vector covers get a place in a stream before their origin is let go.
    pub relay: bool,
    /// Nothing is dropped while a sync is under way, out or in.
    pub pin: bool,
    /// A receiver takes over the sender's floor.
    pub floor_travels: bool,
    /// Nothing at or below the floor is streamed.
    pub above_floor: bool,
    /// What is new and at or below the floor is written anew.
    pub adopt: bool,
    /// An origin is announced before its first op is applied.
    pub join: bool,
    /// An origin is left out of the floor only once everyone has all of it.
    pub retire: bool,
    /// Ops that come over a second way are not asked for again.
    pub prune: bool,
}

impl Rules {
    /// All of them.
    pub const ALL: Rules = Rules {
        proof: true,
        second_order: true,
        receiver: true,
        stale: true,
        exclusive: true,
        hold: true,
        relay: true,
        pin: true,
        floor_travels: true,
        above_floor: true,
        adopt: true,
        join: true,
        retire: true,
        prune: true,
    };
}

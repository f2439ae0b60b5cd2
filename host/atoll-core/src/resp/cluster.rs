//! What commands ask of replication, and what they may change there.

use crate::messages::Messages;
use crate::permission::StaleReads;
use crate::replica::status::Status;
use bytes::Bytes;
use std::sync::Arc;

/// Replication, as commands see it.
pub trait Cluster {
    /// What it looked like a moment ago.
    fn status(&self) -> Arc<Status>;
    /// The nodes that this one was told to link with, in the order in which it was told: one for
    /// each address.
    fn peers(&self) -> Vec<Peer>;
    /// Adds, removes or forgets peers. The error is worded for a person.
    fn change_peers(&self, change: PeerChange<'_>) -> Result<(), String>;
    /// How many other nodes hold this process's ops up to `seq`.
    fn holder_count(&self, seq: u64) -> usize;
    /// Who listens to messages here.
    fn messages(&self) -> &Arc<Messages>;
    /// Whether a message may be published. The error is worded for a person.
    fn check_message(&self, channel: &[u8], payload: &[u8]) -> Result<(), String>;
    /// Publishes a message on the other nodes.
    fn tell_others(&self, channel: &Bytes, payload: &Bytes);
    /// Whether reads are served while the node is cut off.
    fn stale_reads(&self) -> StaleReads;
    /// Changes that while the node runs.
    fn set_stale_reads(&self, stale_reads: StaleReads);
}

/// A node that this one should be linked with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Name or address.
    pub host: String,
    /// Where it listens for peers.
    pub port: u16,
    /// Its name, once it has answered.
    pub node: Option<String>,
    /// Whether there is a link with it.
    pub is_up: bool,
    /// Since when that is so, in ms since the epoch; 0 where it was never tried.
    pub since_ms: u64,
}

/// What REPLICAOF asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange<'a> {
    /// To link with one node more.
    Add {
        /// Name or address.
        host: &'a str,
        /// 1 to 65535.
        port: u16,
    },
    /// To link with one less.
    Remove {
        /// As it was added.
        host: &'a str,
        /// As it was added.
        port: u16,
    },
    /// To link with nobody.
    Clear,
}

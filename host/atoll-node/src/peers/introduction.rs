//! What both ends of a new connection say of themselves before either has proved anything.

use super::limits::REASON_BYTES_MAX;
use atoll_core::limits::NODE_NAME_BYTES_MAX;
use atoll_core::wire::frame::Versions;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 32;
/// Bytes of a ticket.
pub(super) const TICKET_BYTES: usize = 16;

/// A map on the wire: what a later version says beside is passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Introduction {
    /// Versions of the protocol that the node speaks.
    pub(super) versions: Versions,
    /// The cluster that it belongs to.
    pub(super) cluster: String,
    /// Its stable name.
    pub(super) name: String,
    /// Its process.
    pub(super) origin: Uuid,
    /// Drawn for this connection, so that no proof serves twice.
    pub(super) nonce: [u8; NONCE_BYTES],
    /// What the connection is for. The dialler's counts.
    pub(super) purpose: Purpose,
    /// Whether it reads compressed messages.
    pub(super) reads_zstd: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// A new link.
    Link,
    /// The second connection of the link for which the accepter gave this ticket.
    Bulk(Ticket),
}

/// Names a link to the end that accepted it. Nobody else can guess it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Ticket(pub(super) [u8; TICKET_BYTES]);

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub(super) struct NoDice;

impl Ticket {
    pub(super) fn draw() -> Result<Ticket, NoDice> {
        draw().map(Ticket)
    }
}

/// A nonce.
pub(super) fn nonce() -> Result<[u8; NONCE_BYTES], NoDice> {
    draw()
}

fn draw<const N: usize>() -> Result<[u8; N], NoDice> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoDice)?;
    Ok(bytes)
}

impl Introduction {
    /// Appends its bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
        self.serialize(&mut serializer).expect("memory takes everything");
    }

    /// Reads what a stranger sent.
    pub(super) fn decode(bytes: &[u8]) -> Result<Introduction, String> {
        let introduction: Introduction = rmp_serde::from_slice(bytes)
            .map_err(|error| format!("not an introduction: {error}"))?;
        for name in [&introduction.name, &introduction.cluster] {
            let fits = (1..=NODE_NAME_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic());
            if !fits {
                return Err("not an introduction: a name that is none".to_owned());
            }
        }
        Ok(introduction)
    }

    /// Why these two cannot talk, in words for both, if so.
    pub(super) fn conflict(&self, other: &Introduction) -> Option<String> {
        if self.cluster != other.cluster {
            return Some(format!(
                "node {:?} belongs to the cluster {:?} and node {:?} to {:?}; --cluster says which",
                self.name, self.cluster, other.name, other.cluster
            ));
        }
        if self.versions.common(other.versions).is_none() {
            let (ours, theirs) = (self.versions, other.versions);
            return Some(format!(
                "node {:?} speaks versions {} to {} of the protocol and node {:?} {} to {}; upgrade \
                 the older one",
                self.name, ours.oldest, ours.newest, other.name, theirs.oldest, theirs.newest
            ));
        }
        None
    }
}

const _: () = assert!(REASON_BYTES_MAX >= 4 * NODE_NAME_BYTES_MAX, "the conflict's words fit");
